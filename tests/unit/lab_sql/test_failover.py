"""Failover groups as each region sees them, and what failover refuses."""

from __future__ import annotations

from typing import Any

import pytest

from drengine.lab.sql import failover, state


def roles(world: Any) -> dict[str, str]:
    return {
        region: world.arm("GET", world.group(region))[1]["properties"]["replicationRole"]
        for region in ("westeurope", "northeurope")
    }


def test_each_region_sees_its_own_role_and_display_name(world: Any) -> None:
    west = world.arm("GET", world.group("westeurope"))[1]
    north = world.arm("GET", world.group("northeurope"))[1]
    assert "/locations/West Europe/" in west["id"]
    assert "/locations/North Europe/" in north["id"]
    assert roles(world) == {"westeurope": "Primary", "northeurope": "Secondary"}
    assert west["properties"]["managedInstancePairs"] == north["properties"]["managedInstancePairs"]
    assert "failoverWithDataLossGracePeriodMinutes" not in west["properties"]["readWriteEndpoint"]


def test_a_planned_failover_swaps_roles_and_ids(world: Any) -> None:
    before = world.arm("GET", world.group("westeurope"))[1]["properties"]["managedInstancePairs"][0]
    status, first, headers = world.arm("POST", world.group("northeurope") + "/failover")
    assert (status, first["operation"]) == (202, "FailoverManagedFailoverGroup")
    assert "/resourceGroups/" not in headers["location"]
    world.advance(40)
    assert world.arm("GET", headers["azure-asyncoperation"])[1]["status"] == "Succeeded"
    final = world.arm("GET", headers["location"])[1]
    assert final["properties"]["replicationRole"] == "Primary"
    after = final["properties"]["managedInstancePairs"][0]
    assert after["primaryManagedInstanceId"] == before["partnerManagedInstanceId"]
    assert roles(world) == {"westeurope": "Secondary", "northeurope": "Primary"}


def test_a_failover_is_asked_of_the_secondary(world: Any) -> None:
    status, answer, _ = world.arm("POST", world.group("westeurope") + "/failover")
    assert (status, answer["error"]["code"]) == (
        400,
        "InstanceFailoverGroupFailoverRequestOnPrimary",
    )


def test_a_second_failover_is_refused_while_one_runs(world: Any) -> None:
    assert world.arm("POST", world.group("northeurope") + "/failover")[0] == 202
    status, answer, _ = world.arm("POST", world.group("northeurope") + "/failover")
    assert (status, answer["error"]["code"]) == (409, "InstanceFailoverGroupBusy")


def test_a_planned_failover_is_refused_with_inaccessible_databases(world: Any) -> None:
    world.kill_hsm()
    world.advance(700)
    status, answer, _ = world.arm("POST", world.group("northeurope") + "/failover")
    assert (status, answer["error"]["code"]) == (
        409,
        "ManagedInstanceContainsInaccessibleDatabases",
    )
    assert roles(world)["westeurope"] == "Primary"


def test_a_forced_failover_with_inaccessible_databases_blocks_their_reevaluation(
    world: Any,
) -> None:
    world.kill_hsm()
    world.advance(4000)
    forced = world.group("northeurope") + "/forceFailoverAllowDataLoss"
    assert world.finished("POST", forced)["status"] == "Succeeded"
    world.revive_hsm()
    again = f"{world.instance('sqlmi-a')}/reevaluateInaccessibleDatabaseState"
    ended = world.finished("POST", again)
    assert ended["error"]["code"] == "CloudLifterFogInaccessibleDbRoleMismatch"
    back = world.group("westeurope") + "/forceFailoverAllowDataLoss"
    assert world.finished("POST", back)["status"] == "Succeeded"
    assert world.finished("POST", again)["status"] == "Succeeded"


def test_a_forced_failover_can_be_refused_too(world: Any) -> None:
    world.kill_hsm()
    world.advance(700)
    world.set(fog_forced_with_inaccessible="refuse")
    status, _, _ = world.arm("POST", world.group("northeurope") + "/forceFailoverAllowDataLoss")
    assert status == 409


def test_a_group_can_be_deleted_and_made_again(world: Any) -> None:
    assert world.arm("DELETE", world.group("northeurope"))[0] == 400
    assert world.finished("DELETE", world.group("westeurope"))["status"] == "Succeeded"
    assert world.arm("GET", world.group("westeurope"))[0] == 404
    body = {
        "properties": {
            "readWriteEndpoint": {"failoverPolicy": "Manual"},
            "managedInstancePairs": [
                {
                    "primaryManagedInstanceId": world.instance("sqlmi-a"),
                    "partnerManagedInstanceId": world.instance("sqlmi-b"),
                }
            ],
        }
    }
    status, answer, _ = world.arm("PUT", world.group("westeurope"), body)
    assert (status, answer["error"]["code"]) == (409, "GeoDrSecondaryInstanceNotEmpty")
    with world.lab.store.transaction() as tx:
        for key, _ in state.databases(tx, world.instance("sqlmi-b").lower()):
            tx.delete(state.DATABASES, key)
    assert world.finished("PUT", world.group("westeurope"), body)["status"] == "Succeeded"
    assert world.canary("sqlmi-b", "orders") == world.canary("sqlmi-a", "orders")


def test_a_policy_can_be_changed_on_the_primary_only(world: Any) -> None:
    body = {
        "properties": {
            "readWriteEndpoint": {
                "failoverPolicy": "Automatic",
                "failoverWithDataLossGracePeriodMinutes": 60,
            }
        }
    }
    assert world.arm("PUT", world.group("northeurope"), body)[0] == 400
    assert world.finished("PUT", world.group("westeurope"), body)["status"] == "Succeeded"
    shown = world.arm("GET", world.group("northeurope"))[1]["properties"]["readWriteEndpoint"]
    assert shown == body["properties"]["readWriteEndpoint"]


@pytest.mark.parametrize(
    ("method", "region", "tail", "body"),
    [
        ("POST", "northeurope", "/failover", None),
        ("POST", "northeurope", "/forceFailoverAllowDataLoss", None),
        ("PUT", "westeurope", "", {"properties": {}}),
        ("DELETE", "westeurope", "", None),
    ],
)
def test_an_operation_of_a_group_that_is_dropped_meanwhile_ends(
    world: Any, method: str, region: str, tail: str, body: object
) -> None:
    """A late heal may take the group away; nobody must poll for ever."""
    status, _, headers = world.arm(method, world.group(region) + tail, body)
    assert status == 202
    drop(world)
    world.advance(40)
    ended = world.arm("GET", headers["azure-asyncoperation"])[1]
    assert (ended["status"], ended["error"]["code"]) == (
        "Failed",
        "InstanceFailoverGroupDoesNotExist",
    )
    assert "'contoso-fog' does not exist in 'westeurope'" in ended["error"]["message"]


@pytest.mark.parametrize("part", ["before", "within"])
def test_a_switch_ends_when_the_group_of_its_instance_is_dropped(
    world: Any, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = world.key_uri("contoso--hsm", version=0)
    wanted = {"serverKeyName": key_name(new), "serverKeyType": "AzureKeyVault"}
    path = f"{world.instance('sqlmi-a')}/encryptionProtector/current"
    status, _, headers = world.arm("PUT", path, {"properties": wanted})
    assert status == 202
    drop(world) if part == "before" else drop_at_the_next_call_of_the_hsm(world, monkeypatch)
    world.advance(200)
    assert world.arm("GET", headers["azure-asyncoperation"])[1]["status"] == "Succeeded"
    assert world.arm("GET", world.group("westeurope"))[0] == 404
    assert world.arm("GET", path)[1]["properties"]["uri"] == new
    assert world.canary("sqlmi-a", "orders")[0] == 200
    status, _, _ = world.arm("PUT", path, {"properties": wanted})
    assert status == 202  # the instance is not taken for busy


def key_name(uri: str) -> str:
    host, _, name, version = uri.removeprefix("https://").split("/")
    return f"{host.split('.')[0]}_{name}_{version}"


def drop(world: Any) -> None:
    with world.lab.store.transaction() as tx:
        failover.drop_configuration(tx, world.instance("sqlmi-a").lower())


def drop_at_the_next_call_of_the_hsm(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = world.wire.request

    def request(*arguments: Any, **named: Any) -> Any:
        monkeypatch.undo()
        drop(world)
        return real(*arguments, **named)

    monkeypatch.setattr(world.lab.https, "request", request)
