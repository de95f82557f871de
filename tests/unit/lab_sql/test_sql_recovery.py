"""The story that the lab exists for: the HSM dies, the databases go, the keys come back."""

from __future__ import annotations

import base64
from typing import Any

from drengine.lab.sql import deks, protector, state


def lose_all(world: Any) -> None:
    world.kill_hsm()
    world.advance(700)


def test_every_database_can_be_read_while_the_hsm_lives(world: Any) -> None:
    for instance, database in (("sqlmi-a", "orders"), ("sqlmi-b", "orders"), ("sqlmi-c", "hr")):
        status, body = world.canary(instance, database)
        assert status == 200
        assert len(body["rows"]) == 3
    assert (
        world.canary("sqlmi-a", "orders")[1]["rows"] == world.canary("sqlmi-b", "orders")[1]["rows"]
    )


def test_databases_stay_online_over_many_cycles_while_the_hsm_lives(world: Any) -> None:
    world.advance(6000)
    assert set(world.statuses("sqlmi-a").values()) == {"Online"}


def test_databases_turn_inaccessible_within_one_cycle_after_the_hsm_is_gone(world: Any) -> None:
    lose_all(world)
    for instance in ("sqlmi-a", "sqlmi-b", "sqlmi-c"):
        assert set(world.statuses(instance).values()) == {"Inaccessible"}
    assert world.canary("sqlmi-c", "hr")[0] == 503
    value = world.arm("GET", f"{world.instance('sqlmi-c')}/inaccessibleManagedDatabases")[1][
        "value"
    ]
    found = value[0]["properties"]["extendedAccessibilityInfo"]
    assert found["inaccessibilityReasonErrorCode"] == "AkvKeyDeleted"
    assert found["inaccessibilityReasonKind"] == "TransparentDataEncryption"
    assert found["inaccessibilityReasonTdeKeyUri"] == world.key_uri("contoso--hsm", "sqlmi-tde-hr")


def test_an_hsm_that_returns_within_the_window_heals_the_databases(world: Any) -> None:
    before = world.canary("sqlmi-c", "hr")[1]
    lose_all(world)
    world.revive_hsm()
    world.advance(700)
    assert set(world.statuses("sqlmi-c").values()) == {"Online"}
    assert world.canary("sqlmi-c", "hr")[1] == before


def test_an_hsm_that_returns_late_needs_a_reevaluation(world: Any) -> None:
    lose_all(world)
    world.advance(3600)
    world.revive_hsm()
    world.advance(1300)
    assert set(world.statuses("sqlmi-c").values()) == {"Inaccessible"}
    ended = world.finished(
        "POST", f"{world.instance('sqlmi-c')}/reevaluateInaccessibleDatabaseState"
    )
    assert ended["status"] == "Succeeded"
    assert set(world.statuses("sqlmi-c").values()) == {"Online"}


def test_a_late_heal_may_cost_the_failover_group(world: Any) -> None:
    world.set(late_heal_drops="group-and-tags")
    lose_all(world)
    world.advance(3600)
    world.revive_hsm()
    world.finished("POST", f"{world.instance('sqlmi-a')}/reevaluateInaccessibleDatabaseState")
    with world.lab.store.transaction() as tx:
        assert list(tx.find(state.GROUPS)) == []
        assert {doc["group"] for _, doc in tx.find(state.INSTANCES)} == {None}


def test_the_same_material_on_another_hsm_brings_the_rows_back(world: Any) -> None:
    before = {i: world.canary(i, "orders")[1] for i in ("sqlmi-a", "sqlmi-b")}
    lose_all(world)
    world.advance(3600)
    world.copy_hsm("contoso--dr")
    new = world.key_uri("contoso--dr")
    for instance in ("sqlmi-b", "sqlmi-a"):
        assert world.link(instance, new)["status"] == "Succeeded"
    for instance in ("sqlmi-b", "sqlmi-a"):
        assert world.protect(instance, new)["status"] == "Succeeded"
        assert set(world.statuses(instance).values()) == {"Inaccessible"}
        path = f"{world.instance(instance)}/reevaluateInaccessibleDatabaseState"
        assert world.finished("POST", path)["status"] == "Succeeded"
        assert set(world.statuses(instance).values()) == {"Online"}
        assert world.canary(instance, "orders")[1] == before[instance]


def test_a_reevaluation_alone_uses_a_linked_key_of_the_same_material(world: Any) -> None:
    lose_all(world)
    world.advance(3600)
    world.copy_hsm("contoso--dr")
    world.link("sqlmi-c", world.key_uri("contoso--dr", "sqlmi-tde-hr"))
    path = f"{world.instance('sqlmi-c')}/databases/hr/reevaluateInaccessibleDatabaseState"
    assert world.finished("POST", path)["status"] == "Succeeded"
    assert world.statuses("sqlmi-c") == {"archive": "Inaccessible", "hr": "Online"}
    assert world.canary("sqlmi-c", "hr")[0] == 200


def test_a_reevaluation_without_any_key_fails_and_says_why(world: Any) -> None:
    lose_all(world)
    ended = world.finished(
        "POST", f"{world.instance('sqlmi-c')}/reevaluateInaccessibleDatabaseState"
    )
    assert ended["status"] == "Failed"
    assert ended["error"]["code"] == "ManagedInstanceNoConditionToMakeDatabaseAccessible"
    assert set(world.statuses("sqlmi-c").values()) == {"Inaccessible"}


def test_other_key_material_does_not_open_the_databases(world: Any) -> None:
    lose_all(world)
    world.copy_hsm("contoso--dr", fresh_keys=True)
    new = world.key_uri("contoso--dr")
    world.link("sqlmi-b", new)
    ended = world.protect("sqlmi-b", new)
    assert ended["status"] == "Failed"
    assert ended["error"]["code"] == "CMKOperationNotAllowed"
    current = world.arm("GET", f"{world.instance('sqlmi-b')}/encryptionProtector/current")[1]
    assert current["properties"]["uri"] == world.key_uri("contoso--hsm")


def test_a_switch_while_the_hsm_lives_wraps_the_keys_anew(world: Any) -> None:
    before = world.canary("sqlmi-c", "hr")[1]
    tde = world.key_uri("contoso--hsm", "sqlmi-tde")
    world.link("sqlmi-c", tde)
    assert world.protect("sqlmi-c", tde)["status"] == "Succeeded"
    with world.lab.store.transaction() as tx:
        doc = tx.get("hsm.key", "contoso--hsm/sqlmi-tde-hr")
        tx.delete("hsm.key", "contoso--hsm/sqlmi-tde-hr")
    assert doc is not None
    assert world.canary("sqlmi-c", "hr")[1] == before


def test_no_key_of_a_database_is_stored_in_the_clear(world: Any) -> None:
    with world.lab.store.transaction() as tx:
        key = world.instance("sqlmi-c").lower()
        ring = deks.ring_of(world.lab, tx, key, state.instance(tx, key))
        rows = state.databases(tx, key)
    assert ring is not None
    dek, _ = ring.open_dek(rows[0][1], spares=False)
    raw = (world.lab.home / "lab.db").read_bytes()
    wal = world.lab.home / "lab.db-wal"
    raw += wal.read_bytes() if wal.exists() else b""
    for form in (dek, base64.b64encode(dek), base64.urlsafe_b64encode(dek), dek.hex().encode()):
        assert form not in raw


def test_a_killed_switch_that_runs_again_leaves_readable_databases(world: Any) -> None:
    tde = world.key_uri("contoso--hsm", "sqlmi-tde")
    world.link("sqlmi-c", tde)
    world.protect("sqlmi-c", tde)
    with world.lab.store.transaction() as tx:
        guid = next(k for k, d in tx.find("sql.operation") if "Protector" in d["operation"])
    payload = {"operation": guid, "instance": world.instance("sqlmi-c").lower()}
    protector.set_job(world.lab, payload)
    assert world.canary("sqlmi-c", "hr")[0] == 200
