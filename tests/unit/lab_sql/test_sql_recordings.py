"""The lab's answers have the same members and types as recorded answers of Azure.

The recordings are no part of the project: they lie beside it, and the tests say so when
they do not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

RECORDINGS = Path(__file__).resolve().parents[4] / "shared" / "azure" / "recordings" / "sql"

pytestmark = pytest.mark.skipif(
    not RECORDINGS.is_dir(), reason="the recordings of Azure are not beside the repository"
)


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: shape(part) for name, part in value.items()}
    if isinstance(value, list):
        return [shape(part) for part in value[:1]]
    return type(value).__name__


def recorded(name: str, fragment: str) -> dict[str, Any]:
    document = json.loads((RECORDINGS / f"{name}.trimmed.json").read_bytes())
    found = [one for one in document["interactions"] if fragment in one["command"]]
    assert found, fragment
    return dict(found[0]["response"])


TDE = "test_sql_mi_tdebyok"
FOG = "test_sql_instance_failover_group_mgmt"
LRO_HEADERS = ("azure-asyncoperation", "location", "content-type")


def name_of(uri: str) -> str:
    _, _, host, _, key, version = uri.split("/")
    return f"{host.split('.')[0]}_{key}_{version}"


def test_linking_a_key(world: Any) -> None:
    uri = world.key_uri("contoso--hsm", "sqlmi-tde-hr")
    path = f"{world.instance('sqlmi-a')}/keys/{name_of(uri)}"
    body = {"properties": {"serverKeyType": "AzureKeyVault", "uri": uri}}
    status, answer, headers = world.arm("PUT", path, body)
    real = recorded(TDE, "sql mi key create")
    assert (status, shape(answer)) == (real["status"], shape(real["body"]))
    assert answer["operation"] == real["body"]["operation"]
    for name in LRO_HEADERS:
        assert route(headers[name]) == route(real["headers"][name])
    poll = world.arm("GET", headers["azure-asyncoperation"])[1]
    assert shape(poll) == shape(recorded(TDE, "first of ~80 polls")["body"])
    assert poll["status"] == "InProgress"
    world.advance(5)
    poll = world.arm("GET", headers["azure-asyncoperation"])[1]
    assert shape(poll) == shape(recorded(TDE, "last poll")["body"])
    assert poll["status"] == "Succeeded"
    shown = world.arm("GET", path)[1]
    assert shape(shown) == shape(recorded(TDE, "sql mi key show")["body"])
    assert list(shown) == list(recorded(TDE, "sql mi key show")["body"])


def route(text: str) -> list[str]:
    """Return what stays the same in a URL: its words, not its names and ids."""
    words = ("https:", "subscriptions", "resourceGroups", "providers", "Microsoft.Sql", "locations")
    return [
        part
        for part in text.split("?", maxsplit=1)[0].split("/")
        if part in words or "Operation" in part
    ]


def test_the_list_of_keys(world: Any) -> None:
    rows = world.arm("GET", f"{world.instance('sqlmi-a')}/keys")[1]
    real = recorded(TDE, "sql mi key list")["body"]
    assert shape(rows["value"][0]) == shape(real["value"][0])
    assert shape(rows["value"][-1]) == shape(real["value"][-1])
    assert rows["value"][-1]["properties"] == real["value"][-1]["properties"]


def test_the_protector(world: Any) -> None:
    path = f"{world.instance('sqlmi-c')}/encryptionProtector/current"
    assert shape(world.arm("GET", path)[1]) == shape(
        recorded(TDE, "tde-key set (final GET)")["body"]
    )
    body = {"properties": {"serverKeyName": "ServiceManaged", "serverKeyType": "ServiceManaged"}}
    status, answer, headers = world.arm("PUT", path, body)
    real = recorded(TDE, "tde-key set -g --mi -t -k")
    assert (status, shape(answer)) == (real["status"], shape(real["body"]))
    assert answer["operation"] == real["body"]["operation"]
    assert route(headers["location"]) == route(real["headers"]["location"])
    world.advance(200)
    shown = world.arm("GET", path)[1]
    real = recorded(TDE, "tde-key show")["body"]
    assert shape(shown) == shape(real)
    assert shown["properties"] == real["properties"]


def test_an_instance(world: Any) -> None:
    shown = world.arm("GET", world.instance("sqlmi-a"))[1]
    real = recorded(FOG, "create: GET primary MI")["body"]
    theirs, ours = shape(real), shape(shown)
    assert theirs["properties"].pop("administrators")
    assert ours["properties"].pop("keyId") == "str"
    theirs["tags"], ours["tags"] = {}, {}
    assert ours == theirs
    creating = json.loads((RECORDINGS / "managed_instance_creating.json").read_bytes())["body"]
    assert list(shown) == list(creating)


def test_a_failover_group_before_and_after_failover(world: Any) -> None:
    secondary = world.group("northeurope")
    assert shape(world.arm("GET", secondary)[1]) == shape(
        recorded(FOG, "GET from secondary")["body"]
    )
    assert shape(world.arm("GET", world.group("westeurope"))[1]) == shape(
        recorded(FOG, "final GET")["body"]
    )
    status, answer, headers = world.arm("POST", f"{secondary}/failover")
    real = recorded(FOG, "sql instance-failover-group set-primary")
    assert (status, shape(answer)) == (real["status"], shape(real["body"]))
    assert answer["operation"] == real["body"]["operation"]
    for name in ("azure-asyncoperation", "location"):
        assert route(headers[name]) == route(real["headers"][name])
    world.advance(40)
    final = world.arm("GET", headers["location"])[1]
    assert shape(final) == shape(recorded(FOG, "final: Location")["body"])


def test_a_failure_in_the_body_of_a_poll(world: Any) -> None:
    uri = world.key_uri("contoso--hsm", "sqlmi-tde-hr")
    world.link("sqlmi-a", uri)
    ended = world.protect("sqlmi-a", uri)
    file = RECORDINGS / "lro_failed_SameKeyMaterialNotFoundOnRemoteServer.json"
    real = json.loads(file.read_bytes())["poll_response"]
    assert shape(ended) == shape(real)
    assert list(ended) == list(real)
    assert ended["error"]["code"] == real["error"]["code"]
