"""Only a protector that is a key of the lost HSM is switched, by whatever name the key has."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from looked import context, ours

from drengine.actions.contract import Absent, Present
from drengine.actions.discover import discover_groups
from drengine.actions.observe import OBSERVERS
from drengine.actions.registry import KIT
from drengine.errors import AzureError, GuardError
from drengine.model.cloud import (
    Database,
    FailoverGroup,
    Instance,
    InstanceKey,
    Operation,
    OperationKind,
    Protector,
)
from drengine.model.findings import Severity, all_hold

SUFFIX = "managedhsm.azure.net"
SOURCE, REGIONAL = f"https://source.{SUFFIX}/keys/tde/1", f"https://weu.source.{SUFFIX}/keys/tde/1"
TARGET, THIRD = f"https://target.{SUFFIX}/keys/tde/1", f"https://third.{SUFFIX}/keys/tde/1"
MI = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Sql/managedInstances/mi-1"
GROUP = {"name": "mi-1", "members": [{"id": MI, "name": "mi-1"}]}


def row(uri: str) -> InstanceKey:
    host = uri.split("/")[2].split(".", maxsplit=1)[0]
    return InstanceKey(f"{host}_tde_1", "AzureKeyVault", uri, "AA")


class World:
    """One instance with a protector and some key rows; what is sent is kept."""

    def __init__(self, protector: str, *rows: str, rotates: bool = False) -> None:
        kind = "AzureKeyVault" if protector else "ServiceManaged"
        self.now = Protector("name", kind, protector, "AA", auto_rotation=rotates)
        self.rows = [row(uri) for uri in rows]
        self.sent: list[Any] = []

    async def protector(self, _: str) -> Protector:
        return self.now

    async def keys(self, _: str) -> Sequence[InstanceKey]:
        return self.rows

    async def databases(self, _: str) -> list[Database]:
        return [Database("pay", "Online")]

    async def busy(self, _: str) -> list[str]:
        return []

    async def instances(self) -> list[Instance]:
        return [Instance(MI, "mi-1", "rg", "westeurope", "Ready", "GP", "mi-1.x", ("p",))]

    async def failover_groups(self, _: Any) -> list[FailoverGroup]:
        return []

    async def get(self, *_: str) -> Any:
        return ours()

    async def put_key(self, *sent: str) -> Operation:
        self.sent.append(sent[1:])
        return Operation(OperationKind.ARM, "u")

    put_protector = start_validate = put_key

    def given(self, **more: Any) -> Any:
        values = {"group": GROUP, "role": "Primary", "hsm": "source"}
        return context(SimpleNamespace(sql=self, rows=self, hsms=self), values=values, **more)


@pytest.mark.parametrize("uri", [THIRD, "https://contoso.vault.azure.net/keys/other/2", ""])
def test_a_protector_that_is_no_key_of_the_lost_hsm_is_left_as_it_is(uri):
    world = World(uri, SOURCE, TARGET, THIRD)
    switch, ask = KIT.actions["sql.set_protector"], KIT.actions["sql.validate"]
    probed = asyncio.run(switch.probe(world.given()))
    assert isinstance(probed, Present)
    assert "no key of the lost HSM" in probed.why
    for action in (switch, ask):
        assert asyncio.run(action.before(world.given())) == {}
        assert asyncio.run(action.start(world.given())) == {}
        verified = asyncio.run(action.verify(world.given()))
        assert all_hold(verified.findings)
        assert "left as it is" in verified.findings[0].message
    assert world.sent == []


def linked(world: World) -> dict[str, Any]:
    """Send the first missing link, and return what was noted before it."""
    link = KIT.actions["sql.link_keys"]
    before = dict(asyncio.run(link.before(world.given())))
    asyncio.run(link.start(world.given(before=before)))
    return before


def test_a_link_that_is_not_listed_yet_is_no_part_that_is_done():
    """Found by the simulation: the rollback did not see it, and deleted the HSM under it."""
    world = World(SOURCE, SOURCE, f"https://source.{SUFFIX}/keys/log/1")
    before = linked(world)
    verify = KIT.actions["sql.link_keys"].verify
    late = asyncio.run(verify(world.given(before=before)))
    assert (all_hold(late.findings), late.more) == (False, False)
    world.rows.append(row(TARGET))
    seen = asyncio.run(verify(world.given(before=before)))
    assert (all_hold(seen.findings), seen.more) == (True, True)


@pytest.mark.parametrize("uri", [SOURCE, REGIONAL])
def test_a_key_of_the_lost_hsm_is_switched_by_its_global_name(uri):
    world = World(uri, uri)
    assert isinstance(asyncio.run(KIT.actions["sql.link_keys"].probe(world.given())), Absent)
    linked(world)
    world.rows.append(row(TARGET))
    assert isinstance(asyncio.run(KIT.actions["sql.link_keys"].probe(world.given())), Present)
    assert isinstance(asyncio.run(KIT.actions["sql.set_protector"].probe(world.given())), Absent)
    asyncio.run(KIT.actions["sql.set_protector"].start(world.given()))
    assert world.sent == [("target_tde_1", TARGET), ("target_tde_1",)]


def test_a_row_without_a_version_is_linked_without_one_and_then_found():
    world = World(SOURCE, f"https://source.{SUFFIX}/keys/tde")
    linked(world)
    assert world.sent == [("target_tde", f"https://target.{SUFFIX}/keys/tde")]
    shown = InstanceKey("target_tde", "AzureKeyVault", f"https://target.{SUFFIX}/keys/tde/9", "AA")
    world.rows.append(shown)
    assert isinstance(asyncio.run(KIT.actions["sql.link_keys"].probe(world.given())), Present)


def test_that_a_key_rotated_by_itself_is_kept_before_the_switch_and_missed_after_it():
    switch = KIT.actions["sql.set_protector"]
    before = asyncio.run(switch.before(World(SOURCE, SOURCE, TARGET, rotates=True).given()))
    assert before == {"auto_rotation": True}
    switched = World(TARGET, SOURCE, TARGET)
    found = asyncio.run(switch.verify(switched.given(before=before))).findings
    assert [each.severity for each in found] == [Severity.OK, Severity.WARN]
    assert "--auto-rotation-enabled" in found[1].advice
    assert len(asyncio.run(switch.verify(switched.given())).findings) == 1


@pytest.mark.parametrize(("protector", "moves"), [(SOURCE, True), (REGIONAL, True), (THIRD, False)])
def test_the_plan_says_of_each_protector_whether_it_moves(protector, moves):
    world = World(protector, REGIONAL, protector)
    (group,) = asyncio.run(discover_groups(world.given()))
    assert group["members"][0]["protector"]["moves"] is moves
    shown = asyncio.run(OBSERVERS["planned-groups"](world.given(plan={"groups": [group]})))
    said = shown["groups"][0]["instances"][0].get("protector", "")
    assert ("left as it is" in said) is not moves


def prove(world: World, before: str) -> bool:
    member = {**GROUP["members"][0], "databases": [], "protector": {"uri": before}}
    groups = [{"name": "mi-1", "members": [member]}]
    given = context(
        SimpleNamespace(sql=world, rows=world), values={"groups": groups, "watch_ms": 0}
    )
    return all_hold(asyncio.run(KIT.actions["proof.databases"].verify(given)).findings)


def test_databases_are_recovered_under_a_protector_that_was_never_to_move_and_under_no_other():
    assert prove(World(TARGET), SOURCE)
    assert prove(World(THIRD), THIRD)
    assert not prove(World(THIRD), SOURCE)
    assert not prove(World(SOURCE), SOURCE)
    assert prove(World(""), "")


@pytest.mark.parametrize("host", ["target", "weu.target"])
def test_a_target_whose_keys_an_instance_has_is_not_deleted_by_whatever_name(host):
    world = World(SOURCE, f"https://{host}.{SUFFIX}/keys/tde/1")
    with pytest.raises(GuardError, match="Nothing was deleted"):
        asyncio.run(KIT.actions["hsm.create"].may_undo(world.given()))


@pytest.mark.parametrize("code", ["ResourceNotFound", ""])
def test_an_instance_that_went_away_meanwhile_uses_no_key_and_one_that_cannot_be_read_may(code):
    class Gone(World):
        async def keys(self, _: str) -> Sequence[InstanceKey]:
            raise AzureError("404", status=404, service_code=code)

    world = Gone(SOURCE)
    looks = (discover_groups, KIT.actions["hsm.create"].may_undo)
    for look in looks:
        if code:
            assert not asyncio.run(look(world.given()))
        else:
            with pytest.raises(AzureError):
                asyncio.run(look(world.given()))


class Regions(World):
    """Two regions, each with its own view of who is primary."""

    def __init__(self, **views: Any) -> None:
        super().__init__(SOURCE)
        self.views = views

    async def failover_groups(self, instances: Any) -> list[FailoverGroup]:
        view = self.views[instances[0].location]
        if isinstance(view, Exception):
            raise view
        if not view:
            return []
        role, *pair = view
        return [FailoverGroup("f", "fog", "rg", "x", role, "", *pair, "y")]

    def roles(self) -> Any:
        members = [
            {"id": f"/mi/{place}", "name": place, "resource_group": "rg", "location": place}
            for place in ("north", "west")
        ]
        group = {"name": "fog", "failover_group": {"name": "fog"}, "members": members}
        given = context(SimpleNamespace(sql=self), values={"group": group})
        return asyncio.run(KIT.actions["sql.roles"].start(given))


DOWN = AzureError("region down", status=503, transient=True)


def test_the_region_that_answers_tells_the_roles():
    told = {"primary": "/mi/north", "secondary": "/mi/west"}
    pair = ("/mi/north", "/mi/west")
    north, west = ("Primary", *pair), ("secondary", *pair)
    for one, other in ((north, west), (DOWN, west), (north, DOWN), (None, west)):
        assert Regions(north=one, west=other).roles() == told


def test_each_region_may_name_itself_first_because_the_role_decides():
    north, west = ("Primary", "/mi/north", "/mi/west"), ("Secondary", "/mi/west", "/mi/north")
    told = {"primary": "/mi/north", "secondary": "/mi/west"}
    assert Regions(north=north, west=west).roles() == told
    assert Regions(north=DOWN, west=west).roles() == told


def test_regions_that_do_not_agree_yet_stop_nothing_and_the_first_counts():
    views = [("Primary", "/mi/north", "/mi/west"), ("Primary", "/mi/west", "/mi/north")]
    told = Regions(north=views[0], west=views[1])
    assert told.roles() == {"primary": "/mi/north", "secondary": "/mi/west"}


def test_a_group_of_other_members_than_planned_is_told_as_it_is():
    pair = ("/mi/north", "/mi/new")
    view = ("Primary", *pair)
    told = {"primary": "/mi/north", "secondary": "/mi/new"}
    assert Regions(north=view, west=None).roles() == told


@pytest.mark.parametrize(
    ("north", "west", "error", "said"),
    [
        (DOWN, DOWN, AzureError, "region down"),
        (DOWN, None, AzureError, "region down"),
        (None, None, GuardError, "is gone now"),
    ],
)
def test_roles_that_nobody_can_tell_for_certain_are_not_guessed(north, west, error, said):
    with pytest.raises(error, match=said):
        Regions(north=north, west=west).roles()
