"""Failover groups as each region sees them, and what failover refuses."""

from __future__ import annotations

from typing import Any

from drengine.lab.sql import state


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
