"""The status document and the environment of `lab exec`: exactly what was promised."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.parse
from pathlib import Path
from typing import Any

import pytest

from drengine.lab import commands

TEXT, LIST = str, list
PROMISED: dict[str, Any] = {
    "proxy": TEXT,
    "ca": TEXT,
    "subscription": TEXT,
    "tenant": TEXT,
    "client_id": TEXT,
    "object_id": TEXT,
    "resource_group": TEXT,
    "source_hsm": {"name": TEXT, "location": TEXT},
    "security_domain": {"file": TEXT, "certificates": LIST, "keys": LIST, "required": int},
    "storage": {"account": TEXT, "container": TEXT, "sas": TEXT},
    "backup": {"folder": TEXT},
    "instances": [
        {
            "name": TEXT,
            "resource_group": TEXT,
            "location": TEXT,
            "role": TEXT,
            "databases": LIST,
        }
    ],
    "failover_groups": LIST,
}


@pytest.fixture(scope="module")
def printed(lab: Any) -> dict[str, Any]:
    """What the command prints, as a program reads it."""
    command = [sys.executable, "-m", "drengine", "lab", "status", "--home", str(lab.home)]
    done = subprocess.run([*command, "-o", "json"], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    return dict(found)


def check(wanted: Any, found: Any, where: str) -> None:
    if isinstance(wanted, dict):
        assert isinstance(found, dict), where
        assert set(wanted) <= set(found), where
        for name, part in wanted.items():
            check(part, found[name], f"{where}.{name}")
    elif isinstance(wanted, list):
        assert isinstance(found, list), where
        assert found, where
        for one in found:
            check(wanted[0], one, where)
    else:
        assert isinstance(found, wanted), where
        assert found != "", where


def test_the_promised_members_are_at_the_top_with_their_types(printed: dict[str, Any]) -> None:
    check(PROMISED, printed, "")


def test_inner_objects_have_the_promised_members_and_no_others(printed: dict[str, Any]) -> None:
    for name in ("source_hsm", "security_domain", "storage", "backup"):
        assert set(printed[name]) == set(PROMISED[name])
    for one in printed["instances"]:
        assert set(PROMISED["instances"][0]) == set(one)


def test_files_are_absolute_and_there(printed: dict[str, Any]) -> None:
    domain = printed["security_domain"]
    files = [printed["ca"], domain["file"], *domain["certificates"], *domain["keys"]]
    assert all(Path(one).is_absolute() and Path(one).is_file() for one in files)
    assert len(domain["certificates"]) == len(domain["keys"]) >= domain["required"] >= 2


def test_roles_are_the_three_words(printed: dict[str, Any]) -> None:
    roles = {one["name"]: one["role"] for one in printed["instances"]}
    assert roles == {"sqlmi-a": "Primary", "sqlmi-b": "Secondary", "sqlmi-c": "Standalone"}


def test_the_sas_has_its_rights_in_effect(lab: Any, printed: dict[str, Any]) -> None:
    """Not only in its letters: each of them is used; none that is missing works."""
    storage = printed["storage"]
    granted = dict(urllib.parse.parse_qsl(storage["sas"]))["sp"]
    assert sorted(granted) == sorted("crdwl")
    base = f"https://{storage['account']}.blob.core.windows.net/{storage['container']}"
    name, sas = f"{base}/probe", storage["sas"]

    def send(method: str, url: str, **headers: str) -> int:
        return int(lab.call(method, url, token="", **headers)[0])

    put = {"x-ms-blob-type": "BlockBlob", "x-ms-version": "2022-11-02"}
    assert send("PUT", f"{name}?{sas}", **put) == 201  # create
    assert send("PUT", f"{name}?{sas}", **put) == 201  # write: overwrite
    assert send("GET", f"{name}?{sas}") == 200  # read
    assert send("GET", f"{base}?restype=container&comp=list&{sas}") == 200  # list
    assert send("DELETE", f"{name}?{sas}") == 202  # delete
    assert send("PUT", f"{name}?comp=tags&{sas}") in {400, 403}
    assert send("PUT", f"{base}-other?restype=container&{sas}") == 403


def test_the_environment_is_made_of_exactly_these_names(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AZURE_AUTHORITY_HOST", "NO_PROXY", "no_proxy", "SSL_CERT_DIR", "ARM_CLIENT_ID"):
        monkeypatch.setenv(name, "of-the-caller")
    monkeypatch.setenv("AZURE_CLI_DISABLE_CONNECTION_VERIFICATION", "1")
    found = commands.env(lab.home)
    proxies = {"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"}
    assert set(found) - {"PATH", "HOME", "LANG", "TERM"} == {
        *proxies,
        *(name.lower() for name in proxies),
        *("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"),
        *("AZURE_CONFIG_DIR", "AZURE_CORE_COLLECT_TELEMETRY"),
        "AZURE_EXTENSION_USE_DYNAMIC_INSTALL",
        *("AZURE_TENANT_ID", "AZURE_SUBSCRIPTION_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"),
        "DRENGINE_LAB",
    }
    assert "of-the-caller" not in found.values()
    assert Path(found["REQUESTS_CA_BUNDLE"]).read_text().count("BEGIN CERTIFICATE") == 1
    assert Path(found["AZURE_CONFIG_DIR"]).parent == lab.home
    assert Path(found["AZURE_CONFIG_DIR"]).stat().st_mode & 0o077 == 0
