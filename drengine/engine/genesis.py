"""Record 0: what a run is, fixed before anything happens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from drengine.engine.chain import draft
from drengine.engine.world import World
from drengine.model.canonical import JsonObject, digest
from drengine.model.ids import RunId
from drengine.model.plan import Plan, PlanPart
from drengine.model.records import RecordType
from drengine.model.runbook import Runbook


def part_of(plan: Plan, path: Sequence[str]) -> PlanPart:
    """Return the plan part that the sub-runbook at `path` (step ids from the root) runs."""
    part = plan.root
    for step in path:
        part = part.children[step]
    return part


def targets_of(plan: Plan) -> list[str]:
    """Return what the run claims for itself: the target HSM and every item of its fan-outs."""
    targets = set(_items_of(plan.root))
    hsm = plan.root.inputs.get("target_hsm")
    if isinstance(hsm, str):
        targets.add(f"hsm:{hsm.lower()}")
    return sorted(targets)


def _items_of(part: PlanPart) -> Iterator[str]:
    for answer in part.discovery.values():
        if isinstance(answer, (list, tuple)):
            ids = [item.get("id") for item in answer if isinstance(item, dict)]
            yield from (str(item).lower() for item in ids if item)
    for child in part.children.values():
        yield from _items_of(child)


def create_run(
    world: World,
    run: RunId,
    runbook: Runbook,
    *,
    part: PlanPart,
    inputs: JsonObject,
    initiator: str,
    tool: JsonObject,
    path: Sequence[str] = (),
    item: JsonObject | None = None,
    parent: RunId | None = None,
    targets: Sequence[str] = (),
) -> None:
    """Write record 0 of a run or child run; the same again changes nothing.

    Parameters:
        targets: claimed in the same commit, so that no crash leaves a claim without its run.

    Raises:
        Locked: a run of that id exists with another record 0, or another run holds a target.
    """
    if world.store.exists(run):
        return
    body = {
        "class": str(world.plan.run_class),
        "title": runbook.title,
        "plan": world.plan.digest,
        "runbook": {"name": runbook.name, "sha256": part.runbook_sha256},
        "inputs": dict(inputs),
        "inputs_digest": digest(inputs),
        "objectives": {"rto_ms": runbook.objectives.rto_ms, "rpo_ms": runbook.objectives.rpo_ms},
        "steps": [step.id for step in runbook.steps],
        "path": list(path),
        "item": item,
        "parent": parent,
        "cloud": world.plan.cloud.to_json(),
        "initiator": initiator,
        "tool": dict(tool),
    }
    if world.approvers:
        body["approvers"] = world.approvers
    record = draft(world.clock, RecordType.RUN_CREATED, body, actor=initiator)
    world.store.create(run, runbook.title, str(world.plan.run_class), record, targets)
