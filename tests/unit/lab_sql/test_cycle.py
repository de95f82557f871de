"""The check cycle: refusals against outages, the activity log, one chain for an instance."""

from __future__ import annotations

from typing import Any

import pytest

from drengine.lab.hsm import rotation
from drengine.lab.sql import cycle
from drengine.lab.sql import protector as protectors

HSM = "contoso--hsm.managedhsm.azure.net"
DAY = 86_400


def test_an_outage_turns_databases_inaccessible_only_in_the_second_cycle(world: Any) -> None:
    world.wire.down.add(HSM)
    world.advance(600)
    assert set(world.statuses("sqlmi-c").values()) == {"Online"}
    world.advance(600)
    assert set(world.statuses("sqlmi-c").values()) == {"Inaccessible"}


def test_an_outage_is_bridged_by_a_linked_key_of_the_same_material(world: Any) -> None:
    world.copy_hsm("contoso--dr")
    world.link("sqlmi-c", world.key_uri("contoso--dr", "sqlmi-tde-hr"))
    world.wire.down.add(HSM)
    world.advance(3000)
    assert set(world.statuses("sqlmi-c").values()) == {"Online"}


def test_a_refusal_is_not_bridged_by_another_linked_key(world: Any) -> None:
    world.copy_hsm("contoso--dr")
    world.link("sqlmi-c", world.key_uri("contoso--dr", "sqlmi-tde-hr"))
    world.kill_hsm()
    world.advance(700)
    assert set(world.statuses("sqlmi-c").values()) == {"Inaccessible"}


def test_healing_takes_no_longer_than_it_may(world: Any) -> None:
    world.set(heal_within=100)
    world.kill_hsm()
    world.advance(700)
    world.revive_hsm()
    world.advance(101)
    assert set(world.statuses("sqlmi-c").values()) == {"Online"}


def test_an_expired_key_makes_databases_inaccessible(world: Any) -> None:
    with world.lab.store.transaction() as tx:
        doc = tx.get("hsm.key", "contoso--hsm/sqlmi-tde-hr")
        doc["versions"][-1]["attributes"]["exp"] = tx.now_ms // 1000 + 60
        tx.put("hsm.key", "contoso--hsm/sqlmi-tde-hr", doc)
    world.advance(1300)
    assert set(world.statuses("sqlmi-c").values()) == {"Inaccessible"}
    assert set(world.statuses("sqlmi-a").values()) == {"Online"}


def test_a_role_that_is_taken_away_shows_as_missing_permissions(world: Any) -> None:
    principal = world.arm("GET", world.instance("sqlmi-c"))[1]["identity"]["principalId"]
    with world.lab.store.transaction() as tx:
        for key, doc in list(tx.find("hsm.role", "contoso--hsm/")):
            if doc["principal"] == principal:
                tx.delete("hsm.role", key)
    world.advance(700)
    row = world.arm("GET", f"{world.instance('sqlmi-c')}/databases/hr")[1]
    found = row["properties"]["extendedAccessibilityInfo"]
    assert found["inaccessibilityReasonErrorCode"] == "AzureKeyVaultMissingPermissions"
    assert set(world.statuses("sqlmi-a").values()) == {"Online"}


def test_the_activity_log_tells_when_databases_went_and_came(world: Any) -> None:
    world.kill_hsm()
    world.advance(700)
    world.revive_hsm()
    world.advance(700)
    subscription = world.instance("x").split("/")[2]
    path = (
        f"/subscriptions/{subscription}/providers/Microsoft.Insights/eventtypes/management/values"
    )
    events = world.arm("GET", path)[1]["value"]
    told = {(e["eventName"]["value"], e["status"]["value"]) for e in events}
    assert told == {
        ("MakeManagedDbInaccessible", "Started"),
        ("MakeManagedDbInaccessible", "Succeeded"),
        ("MakeManagedDatabaseAccessible", "Started"),
        ("MakeManagedDatabaseAccessible", "Succeeded"),
    }
    assert len(events) == 6 * 4
    since = events[-1]["eventTimestamp"]
    narrowed = world.arm(
        "GET", f"{path}?$filter=eventTimestamp%20ge%20'{since}'&api-version=2015-04-01"
    )
    assert len(narrowed[1]["value"]) == 24
    later = f"{path}?$filter=eventTimestamp%20ge%20'2999-01-01T00:00:00Z'&api-version=2015-04-01"
    assert world.arm("GET", later)[1]["value"] == []


def test_an_old_link_of_the_chain_of_checks_does_nothing(world: Any) -> None:
    key = world.instance("sqlmi-c").lower()
    with world.lab.store.transaction() as tx:
        before = len([job for job in tx.jobs() if job.name == "sql.check"])
    cycle.check_job(world.lab, {"instance": key, "due_ms": 1})
    with world.lab.store.transaction() as tx:
        assert len([job for job in tx.jobs() if job.name == "sql.check"]) == before


def test_the_operation_history_lists_what_was_done(world: Any) -> None:
    world.finished("PATCH", world.instance("sqlmi-c"), {"tags": {"drill": "true"}})
    value = world.arm("GET", f"{world.instance('sqlmi-c')}/operations")[1]["value"]
    assert [row["properties"]["state"] for row in value] == ["Succeeded"]
    assert value[0]["properties"]["percentComplete"] == 100
    assert world.arm("GET", world.instance("sqlmi-c"))[1]["tags"] == {"drill": "true"}
    one = world.arm("GET", f"{world.instance('sqlmi-c')}/operations/{value[0]['name']}")[1]
    assert one == value[0]


def test_lists_are_limited_to_the_group_that_was_asked(world: Any) -> None:
    subscription = world.instance("x").split("/")[2]
    found = world.arm(
        "GET", f"/subscriptions/{subscription}/providers/Microsoft.Sql/managedInstances"
    )[1]
    assert [row["name"] for row in found["value"]] == ["sqlmi-a", "sqlmi-b", "sqlmi-c"]
    other = f"/subscriptions/{subscription}/resourceGroups/other/providers/Microsoft.Sql/managedInstances"
    assert world.arm("GET", other)[1] == {"value": []}
    assert world.arm("GET", world.instance("nobody"))[0] == 404


def rotate(world: Any, name: str = "sqlmi-tde-hr") -> str:
    """Have the policy of a key make a new version by itself; return its identifier."""
    trigger = {"trigger": {"timeAfterCreate": "P30D"}, "action": {"type": "Rotate"}}
    before = world.key_uri("contoso--hsm", name)
    with world.lab.store.transaction() as tx:
        document = tx.get("hsm.key", f"contoso--hsm/{name}")
        document["rotation_policy"] = {
            "lifetimeActions": [trigger],
            "attributes": {"expiryTime": "P90D"},
        }
        rotation.plan(tx, tx.get("hsm", "contoso--hsm"), document)
    with world.lab.store.transaction() as tx:
        (job,) = (one for one in tx.jobs() if one.name == rotation.JOB)
    world.set(check_cycle=DAY, auto_rotation_check=DAY / 2)
    world.advance((job.due_ms - world.lab.clock.now_ms()) // 1000 - 1)
    assert world.key_uri("contoso--hsm", name) == before
    world.advance(2)
    after = str(world.key_uri("contoso--hsm", name))
    assert after != before
    with world.lab.store.transaction() as tx:
        newest = tx.get("hsm.key", f"contoso--hsm/{name}")["versions"][-1]["attributes"]
    assert newest["exp"] - newest["created"] == 90 * DAY
    return after


def follows(world: Any, instance: str) -> None:
    path = f"{world.instance(instance)}/encryptionProtector/current"
    found = world.arm("GET", path)[1]["properties"]
    wanted = {
        "serverKeyName": found["serverKeyName"],
        "serverKeyType": "AzureKeyVault",
        "autoRotationEnabled": True,
    }
    assert world.finished("PUT", path, {"properties": wanted})["status"] == "Succeeded"


def protector(world: Any, instance: str) -> str:
    path = f"{world.instance(instance)}/encryptionProtector/current"
    return str(world.arm("GET", path)[1]["properties"]["uri"])


def test_a_key_rotates_by_its_policy_and_a_protector_follows_it_where_it_may(world: Any) -> None:
    old = protector(world, "sqlmi-c")
    new = rotate(world)
    world.advance(2 * DAY)
    assert protector(world, "sqlmi-c") == old
    follows(world, "sqlmi-c")
    world.advance(2 * DAY)
    assert protector(world, "sqlmi-c") == new
    assert world.canary("sqlmi-c", "hr")[0] == 200
    names = [
        one["name"] for one in world.arm("GET", f"{world.instance('sqlmi-c')}/keys")[1]["value"]
    ]
    assert len(names) == 3  # the service-managed one, the old one and the new one


def test_the_primary_of_a_group_follows_after_its_secondary_only(world: Any) -> None:
    old = protector(world, "sqlmi-a")
    follows(world, "sqlmi-a")
    new = rotate(world, "sqlmi-tde")
    world.advance(2 * DAY)
    assert protector(world, "sqlmi-a") == old
    follows(world, "sqlmi-b")
    world.advance(2 * DAY)
    assert (protector(world, "sqlmi-b"), protector(world, "sqlmi-a")) == (new, new)
    assert world.canary("sqlmi-a", "orders")[0] == 200


def test_a_protector_that_a_client_changes_meanwhile_is_left_to_the_client(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = protector(world, "sqlmi-c")
    follows(world, "sqlmi-c")
    real, said = protectors._rewrap, []

    def rewrap(lab: Any, switch: Any) -> Any:
        monkeypatch.undo()
        path = f"{world.instance('sqlmi-c')}/encryptionProtector/current"
        name = world.arm("GET", path)[1]["properties"]["serverKeyName"]
        wanted = {"serverKeyName": name, "serverKeyType": "AzureKeyVault"}
        said.append(world.arm("PUT", path, {"properties": wanted})[0])
        return real(lab, switch)

    monkeypatch.setattr(protectors, "_rewrap", rewrap)
    rotate(world)
    world.advance(2 * DAY)
    assert said == [202]
    with world.lab.store.transaction() as tx:
        assert "sql.protector.rotated sqlmi-c" not in tx.count_effects()
    assert protector(world, "sqlmi-c") == old
    assert world.canary("sqlmi-c", "hr")[0] == 200


def test_a_late_heal_may_cost_the_history_of_backups(world: Any) -> None:
    world.set(late_heal_drops="group-tags-and-history")
    path = f"{world.instance('sqlmi-c')}/databases/hr"
    before = world.arm("GET", path)[1]["properties"]["earliestRestorePoint"]
    world.kill_hsm()
    world.advance(700 + 1900)
    world.revive_hsm()
    tail = "reevaluateInaccessibleDatabaseState"
    assert world.finished("POST", f"{world.instance('sqlmi-c')}/{tail}")["status"] == "Succeeded"
    after = world.arm("GET", path)[1]["properties"]["earliestRestorePoint"]
    assert after > before
