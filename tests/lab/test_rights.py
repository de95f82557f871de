"""What the operator lacks is refused, and told to whoever asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from drengine.lab import commands

KEYS = "Microsoft.Sql/managedInstances/keys/*"
ASSIGN = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"
ARM = "https://management.azure.com"


@pytest.fixture(scope="module")
def lacking(tmp_path_factory: pytest.TempPathFactory, prepare_home: Any) -> Iterator[Any]:
    home = tmp_path_factory.mktemp("lacking") / "home"
    prepare_home(home)
    try:
        commands.up(home, fast=True, settings={"operator_lacks": f"{KEYS}, {ASSIGN}"})
        yield home
    finally:
        commands.down(home)


@pytest.fixture
def lab(lab: Any, lacking: Any) -> Any:
    """A lab whose operator lacks two rights, with the methods of the usual one."""
    return type(lab)(lacking)


def test_what_the_operator_lacks_is_refused_and_told(lab: Any) -> None:
    status = lab.status
    group = (
        f"{ARM}/subscriptions/{status['subscription']}/resourceGroups/{status['resource_group']}"
    )
    version = "?api-version=2022-04-01"
    told = lab.call("GET", f"{group}/providers/Microsoft.Authorization/permissions{version}")
    assert told[2]["value"][0]["notActions"] == [KEYS, ASSIGN]

    instance = f"{group}/providers/Microsoft.Sql/managedInstances/sqlmi-c"
    assert lab.call("GET", f"{instance}{version}")[0] == 200
    code, _, refused = lab.call("PUT", f"{instance}/keys/k{version}", {})
    assert (code, refused["error"]["code"]) == (403, "AuthorizationFailed")
    assert "'Microsoft.Sql/managedInstances/keys/write' over scope" in refused["error"]["message"]

    hsm = f"{group}/providers/Microsoft.KeyVault/managedHSMs/no--hsm{version}"
    wanted = {
        "location": "northeurope",
        "sku": {"family": "B", "name": "Standard_B1"},
        "properties": {
            "tenantId": status["tenant"],
            "initialAdminObjectIds": [status["object_id"]],
            "softDeleteRetentionInDays": 7,
        },
    }
    identity = {"type": "UserAssigned", "userAssignedIdentities": {status["identity"]["id"]: {}}}
    code, _, refused = lab.call("PUT", hsm, {**wanted, "identity": identity})
    assert (code, refused["error"]["code"]) == (403, "LinkedAuthorizationFailed")
    assert lab.call("PUT", hsm, wanted)[0] == 202
