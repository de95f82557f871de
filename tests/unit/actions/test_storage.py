"""How az is told the same way to the storage that a run goes."""

from __future__ import annotations

import asyncio
import shlex
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from looked import context, ours

from drengine.actions.discover import discover_backup
from drengine.actions.observe import OBSERVERS
from drengine.actions.registry import KIT
from drengine.actions.sas import sas_facts
from drengine.actions.storage import az_options
from drengine.errors import AzureError, NotAuthorized
from drengine.model.cloud import BlobItem, Operation, OperationKind
from drengine.model.secret import Secret

URL = "https://contosobackups.blob.core.windows.net/hsm"
NOW_MS = 1_795_341_600_000  # 2026-11-22T10:00:00Z


def options(rights: str = "rl", **inputs: Any) -> str:
    ctx = SimpleNamespace(inputs={"container_url": URL, **inputs}, now_ms=NOW_MS)
    return az_options(ctx, rights)  # type: ignore[arg-type]


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
        *("--permissions", "rl", "--expiry", "2026-11-23T10:00:00Z"),
    ]


@pytest.mark.parametrize("sas", [None, "env:SAS", "mint:user-delegation"])
def test_what_an_address_holds_is_never_a_command(sas):
    said = options(container_url="https://a$(id).blob.x/c;reboot`id`", storage_sas=sas)
    assert "'https://a$(id).blob.x/c;reboot`id`'" in said
    if sas == "mint:user-delegation":
        assert "--account-name 'a$(id)' --name 'c;reboot`id`'" in said


FOLDER = "mhsm-source-2026111810120000"


class Minting:
    """A storage that makes SAS, and an HSM that takes them; with which rights is kept."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.used: list[str] = []

    async def get(self, *_: str) -> Any:
        return ours(activation_status="Active")

    async def delegated_sas(self, _url: str, rights: str, _now_ms: int) -> Secret:
        self.made.append(rights)
        return Secret(f"sr=c&sp={rights}&se=2026-11-23&sig=x")

    async def list_folders(self, target: Any, _: str) -> list[str]:
        self.used.append(sas_facts(target.sas)["rights"])
        return [FOLDER]

    async def list_blobs(self, target: Any, prefix: str) -> list[BlobItem]:
        self.used.append(sas_facts(target.sas)["rights"])
        return [BlobItem(f"{prefix}b", 1, "e")]

    async def start(self, target: Any, *_: str) -> Operation:
        self.used.append(sas_facts(target.sas)["rights"])
        return Operation(OperationKind.HSM_JOB, "u")

    start_backup = start_restore = start_restore_check = start

    def given(self, **values: Any) -> Any:
        cloud = SimpleNamespace(storage=self, hsms=self, hsm=lambda _: self)
        values = {"folder": FOLDER, "source_hsm": "source", "container_url": URL, **values}
        sas = "mint:user-delegation"
        return context(cloud, values={**values, "storage_sas": sas}, inputs={"storage_sas": sas})


@pytest.mark.parametrize(
    ("action", "rights"),
    [("hsm.backup", "crdw"), ("hsm.restore", "rl"), ("hsm.restore_check", "crdwl")],
)
def test_a_sas_that_is_made_for_the_hsm_allows_what_is_documented_for_that_use(action, rights):
    world = Minting()
    asyncio.run(KIT.actions[action].start(world.given()))
    assert world.used == ["".join(sorted(rights))]


def test_a_sas_that_is_made_for_our_own_looks_lists_only():
    world = Minting()
    asyncio.run(discover_backup(world.given(folder="latest")))
    asyncio.run(OBSERVERS["backup-folder"](world.given()))
    asyncio.run(OBSERVERS["storage-access"](world.given()))
    outputs = {"step": {"folder": FOLDER}}
    asyncio.run(KIT.actions["hsm.backup"].verify(replace(world.given(), outputs=outputs)))
    asyncio.run(KIT.actions["hsm.backup"].probe(replace(world.given(), intent_at_ms=1, sends=1)))
    assert set(world.made) == {"l"}


IDENTITY = (
    "/subscriptions/s/resourceGroups/rg/providers"
    "/Microsoft.ManagedIdentity/userAssignedIdentities/backups"
)


def seen_of_an_identity(answer: bool | AzureError) -> dict[str, Any]:
    async def has_identity(identity: str) -> bool:
        assert identity == IDENTITY
        if isinstance(answer, AzureError):
            raise answer
        return answer

    cloud = SimpleNamespace(subscription=SimpleNamespace(has_identity=has_identity))
    given = context(cloud, inputs={"storage_identity": IDENTITY})
    return asyncio.run(OBSERVERS["storage-access"](given))


def test_whether_an_identity_exists_is_read():
    assert seen_of_an_identity(answer=True)["exists"] is True
    assert seen_of_an_identity(answer=False)["exists"] is False


def test_an_identity_that_may_not_be_read_is_not_known_and_one_that_cannot_be_is_asked_again():
    seen = seen_of_an_identity(NotAuthorized("no right", status=403))
    assert (seen["problems"], seen["exists"], seen["unread"]) == ([], True, "no right")
    with pytest.raises(AzureError, match="later"):
        seen_of_an_identity(AzureError("later", status=503, transient=True))
