"""What a plan can say ahead: guards of the steps that nothing but people and reads precede."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from drengine.actions.base import BaseAction
from drengine.actions.contract import Kit, StepContext
from drengine.engine.judging import foreseen
from drengine.errors import AzureError
from drengine.model.catalogue import ActionSpec, Catalogue, Repeat
from drengine.model.findings import block, ok, warn
from drengine.model.ids import RunId
from drengine.model.plan import CloudIdentity, PlanPart
from drengine.model.runbook import RunClass
from drengine.rules.contract import Rule
from drengine.runbook.loader import load_runbook

TEXT = """
apiVersion: drengine/v1
kind: Runbook
name: ahead
title: A look, a question, two changes
steps:
  - id: look
    action: thing.look
    guards: {before: [fits]}
  - id: ask
    needs: [look]
    gate: {approvals: 1, ask: really?}
  - id: first
    needs: [ask]
    action: thing.change
    guards: {before: [fits, seen], after: [fits]}
  - id: second
    needs: [first]
    action: thing.change
    guards: {before: [fits], after: [fits]}
"""
SPECS = {
    "thing.look": ActionSpec("thing.look", "Look", (), (), Repeat.READ),
    "thing.change": ActionSpec("thing.change", "Change", (), (), Repeat.NEVER),
}
CATALOGUE = Catalogue(
    actions=SPECS,
    rules=frozenset({"fits", "seen"}),
    observations=frozenset({"thing"}),
    discoveries={},
)
WHERE = CloudIdentity("AzureCloud", "t", "s", "p", "managedhsm.azure.net", "core.windows.net", True)
PORTS = ("identity", "rows", "operations", "hsms", "subscription", "sql", "storage")


async def ahead(*, fits: bool, seen: Any, found: Any = block) -> dict[str, list[str]]:
    async def thing(ctx: StepContext) -> str:
        if isinstance(seen, Exception):
            raise seen
        return f"{ctx.inputs['name']} is {seen}"

    rules = {
        "fits": Rule(
            "fits", "", (), "", "", lambda _, ctx: ((ok if fits else block)("fits", ctx.step),)
        ),
        "seen": Rule(
            "seen", "", ("thing",), "", "", lambda facts, _: (found("seen", facts["thing"]),)
        ),
    }
    kit = Kit(
        {name: BaseAction(spec) for name, spec in SPECS.items()}, rules, {"thing": thing}, {}, {}
    )
    looking = StepContext(
        run=RunId("r-0123456789ab"),
        root=RunId("r-0123456789ab"),
        step="",
        run_class=RunClass.DRILL,
        cloud=SimpleNamespace(**dict.fromkeys(PORTS)),
        where=WHERE,
        objects=None,
        secret=None,
        now_ms=0,
    )
    part = PlanPart("ahead", TEXT, "0", {"name": "contoso--new"})
    runbook = load_runbook(TEXT, "ahead.yaml", CATALOGUE)
    against = await foreseen(kit, runbook, part, looking)
    return {step: [finding.message for finding in each] for step, each in against.items()}


async def test_what_the_first_changes_would_be_refused_for_is_told_with_their_inputs():
    assert await ahead(fits=True, seen="in use") == {"first": ["contoso--new is in use"]}


async def test_what_they_would_be_warned_of_is_told_too_and_what_holds_is_not():
    assert await ahead(fits=True, seen="old", found=warn) == {"first": ["contoso--new is old"]}
    assert await ahead(fits=True, seen="free", found=ok) == {}


async def test_a_step_behind_a_change_is_left_to_the_run():
    found = await ahead(fits=False, seen="in use")
    assert found == {"look": ["look"], "first": ["first", "contoso--new is in use"]}


async def test_a_guard_that_cannot_look_now_is_left_to_the_run_and_hides_no_other():
    assert await ahead(fits=True, seen=AzureError("no answer")) == {}
    found = await ahead(fits=False, seen=AzureError("no answer"))
    assert found == {"look": ["look"], "first": ["first"]}
