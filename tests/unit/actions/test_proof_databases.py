"""A database that is not listed is not recovered, and where there is none nothing was proved."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from looked import context

from drengine.actions.contract import Verified
from drengine.actions.registry import KIT
from drengine.model.cloud import Database, Protector
from drengine.model.findings import Severity, all_hold

MI = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Sql/managedInstances"
KEY = "https://target.managedhsm.azure.net/keys/k/1"
PROTECTOR = Protector("k", "AzureKeyVault", KEY, "AA", auto_rotation=False)


class World:
    """Instances by name, each with the databases that it lists."""

    def __init__(self, **listed: list[str]) -> None:
        self.listed = listed
        self.status = "Online"

    async def databases(self, instance: str) -> list[Database]:
        names = self.listed[instance.rsplit("/", 1)[-1]]
        return [Database(name, self.status) for name in names]

    async def protector(self, _: str) -> Protector:
        return PROTECTOR

    async def canary(self, fqdn: str, database: str) -> Any:
        return f"{fqdn}/{database.lower()}"


def recorded(name: str, *databases: str) -> dict[str, Any]:
    rows = [{"name": d, "status": "Online", "canary": f"{name}.x/{d.lower()}"} for d in databases]
    one = {"id": f"{MI}/{name.upper()}", "fqdn": f"{name}.x", "protector": {"thumbprint": "AA"}}
    return {**one, "databases": rows}


def planned(name: str, *databases: str) -> dict[str, Any]:
    found = [{"name": database, "status": "Inaccessible"} for database in databases]
    return {"members": [{"id": f"{MI}/{name}", "databases": found}]}


def prove(world: World, groups: list[Any], instances: list[Any], **more: Any) -> Verified:
    ctx = context(
        SimpleNamespace(sql=world, rows=world),
        inventory={"instances": instances},
        values={"groups": groups, "watch_ms": more.pop("watch_ms", 0)},
        **more,
    )
    return asyncio.run(KIT.actions["proof.databases"].verify(ctx))


def test_databases_that_are_all_there_are_proved():
    found = prove(World(mi1=["pay", "HR"]), [planned("mi1", "pay", "hr")], [recorded("mi1", "pay")])
    assert all_hold(found.findings)
    assert [finding.severity for finding in found.findings] == [Severity.OK]
    assert [row["before"] for row in found.evidence["databases"]] == ["Inaccessible"] * 2


@pytest.mark.parametrize(
    ("in_plan", "in_inventory"),
    [(("pay", "hr"), ()), ((), ("pay", "hr")), (("pay",), ("hr",)), (("PAY", "hr"), ("pay", "HR"))],
)
@pytest.mark.parametrize("listed", [[], ["hr"]])
def test_a_database_that_plan_or_inventory_names_and_nobody_lists_is_not_recovered(
    in_plan, in_inventory, listed
):
    world = World(mi1=listed)
    found = prove(world, [planned("mi1", *in_plan)], [recorded("mi1", *in_inventory)])
    assert not all_hold(found.findings)
    first = found.findings[0]
    assert f"{2 - len(listed)} of 2 databases are not recovered" in first.message
    assert "it is not listed" in first.message
    assert "mark-done" in first.advice
    gone = [row["name"].lower() for row in found.evidence["databases"] if row["status"] != "Online"]
    assert gone == sorted({"hr", "pay"} - set(listed))


def test_all_that_are_gone_are_named_beside_those_that_are_inaccessible():
    world = World(mi1=["hr"])
    world.status = "Inaccessible"
    (found,) = prove(world, [planned("mi1", "pay", "hr")], []).findings
    assert "mi1/hr: it is Inaccessible; not listed by their instances: mi1/pay" in found.message


@pytest.mark.parametrize(("groups", "says"), [([planned("mi1")], "listed by mi1"), ([], "no inst")])
def test_an_estate_without_databases_is_no_proof_of_any_and_needs_no_watch(groups, says):
    found = prove(World(mi1=[]), groups, [], watch_ms=1_200_000)
    (finding,) = found.findings
    assert finding.severity is Severity.WARN
    assert "no databases, nothing to prove" in finding.message
    assert says in finding.message
    assert "Online" not in finding.message
    assert found.evidence == {"databases": []}


def test_an_instance_without_databases_is_named_beside_those_with_some():
    world = World(mi1=["pay"], mi2=[])
    groups = [planned("mi1", "pay"), planned("mi2")]
    proved, bare = prove(world, groups, [recorded("mi1", "pay"), recorded("mi2")]).findings
    assert proved.severity is Severity.OK
    assert "nothing to prove of them: mi2" in bare.message


def test_an_instance_of_the_inventory_that_the_plan_does_not_know_is_pointed_out():
    known, groups = [recorded("mi1", "pay"), recorded("mi9", "hr")], [planned("mi1", "pay")]
    whole = prove(World(mi1=["pay"]), groups, known, plan={"groups": groups}).findings
    assert [finding.severity for finding in whole] == [Severity.OK, Severity.WARN]
    assert "MI9" in whole[1].message
    of_one_group = prove(World(mi1=["pay"]), groups, known).findings
    assert len(of_one_group) == 1


def test_rows_that_were_not_read_are_not_said_to_have_been():
    (found,) = prove(World(mi1=["pay"]), [planned("mi1", "pay")], [recorded("mi1")]).findings
    assert found.message.endswith("0 of them return a row known from before")
