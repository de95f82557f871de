"""How az is told the same way to the storage that a run goes."""

from __future__ import annotations

import shlex
from types import SimpleNamespace
from typing import Any

import pytest

from drengine.actions.storage import az_options

URL = "https://contosobackups.blob.core.windows.net/hsm"
NOW_MS = 1_795_341_600_000  # 2026-11-22T10:00:00Z


def options(**inputs: Any) -> str:
    ctx = SimpleNamespace(inputs={"container_url": URL, **inputs}, now_ms=NOW_MS)
    return az_options(ctx)  # type: ignore[arg-type]


def test_an_identity_and_a_given_sas_are_named_as_az_names_them():
    assert options() == f"--storage-resource-uri {URL} --use-managed-identity true"
    assert options(storage_sas="env:SAS") == f"--storage-resource-uri {URL} -t $SAS"


def test_a_sas_that_the_sign_in_makes_is_made_by_az_in_place():
    said = options(storage_sas="mint:user-delegation")
    place, _, made = said.partition(" -t ")
    assert place == f"--storage-resource-uri {URL}"
    assert shlex.split(made[3:-2]) == [
        *("az", "storage", "container", "generate-sas", "--as-user", "--auth-mode", "login"),
        *("--https-only", "-o", "tsv", "--account-name", "contosobackups", "--name", "hsm"),
        *("--permissions", "crdwl", "--expiry", "2026-11-23T10:00:00Z"),
    ]


@pytest.mark.parametrize("sas", [None, "env:SAS", "mint:user-delegation"])
def test_what_an_address_holds_is_never_a_command(sas):
    said = options(container_url="https://a$(id).blob.x/c;reboot`id`", storage_sas=sas)
    assert "'https://a$(id).blob.x/c;reboot`id`'" in said
    if sas == "mint:user-delegation":
        assert "--account-name 'a$(id)' --name 'c;reboot`id`'" in said
