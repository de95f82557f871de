"""What a reader wants to see of a plan before approving it.

Figures are planning figures: along the longest chain of dependencies, worst case
where a condition is not known yet, with the source of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from drengine.model.canonical import Json, JsonObject
from drengine.model.catalogue import Catalogue
from drengine.model.runbook import Foreach, RunClass, Step, StepKind
from drengine.runbook.branches import Branch
from drengine.runbook.durations import format_duration
from drengine.runbook.graph import in_order


@dataclass(frozen=True, slots=True)
class _Entry:
    """A step of the plan in its place.

    Attributes:
        path: ids from the root runbook down, joined by `/`.
        times: how many children run it.
        conditions: what must be true for it to run, as far as only the run knows.
    """

    path: str
    prefix: str
    branch: Branch
    step: Step
    times: int
    conditions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Leg:
    """A step of the critical path."""

    path: str
    expected_ms: int
    source: str
    times: int

    def to_json(self) -> dict[str, Json]:
        return {
            "step": self.path,
            "expected_ms": self.expected_ms,
            "source": self.source,
            "times": self.times,
        }


def summarize(
    root: Branch, catalogue: Catalogue, *, run_class: RunClass, is_lab: bool
) -> JsonObject:
    """Return the summary of a plan.

    Raises:
        InputError: when an `irreversible` is neither true nor false.
    """
    entries = list(_entries(root, "", 1, ()))
    running = [entry for entry in entries if entry.times]
    legs = _critical_path(root, catalogue, "", 1)
    total_ms = sum(leg.expected_ms * leg.times for leg in legs)
    objectives = root.runbook.objectives
    return {
        "title": root.runbook.title,
        "objectives": {"rto_ms": objectives.rto_ms, "rpo_ms": objectives.rpo_ms},
        "steps": sum(entry.times for entry in entries),
        "skipped": [f"{prefix}{step}" for prefix, step in _skipped(root, "")],
        "points_of_no_return": [found for entry in running if (found := _point(entry))],
        "gates": [_gate(entry) for entry in running if entry.step.gate],
        "deliveries": [
            _delivery(entry) for entry in entries if entry.step.delivery and entry.times
        ],
        "foreach": {
            entry.path: _fan_out(entry.branch, entry.step, entry.step.foreach)
            for entry in entries
            if entry.step.foreach
        },
        "expected_ms": total_ms,
        "critical_path": [leg.to_json() for leg in legs],
        "runbooks": dict(sorted(_digests(root))),
        "warnings": [
            *_class_warnings(run_class, is_lab=is_lab),
            *_time_warnings(root, entries, total_ms),
        ],
    }


def _entries(
    branch: Branch, prefix: str, times: int, conditions: tuple[str, ...]
) -> Iterator[_Entry]:
    for step in branch.runbook.steps:
        if step.id in branch.skipped:
            continue
        late = (step.when,) if step.when is not None and branch.is_late(step.when) else ()
        path = f"{prefix}{step.id}"
        yield _Entry(path, prefix, branch, step, times, conditions + late)
        if child := branch.children.get(step.id):
            count = len(branch.items[step.id]) if step.foreach else 1
            yield from _entries(child, f"{path}/", times * count, conditions + late)


def _skipped(branch: Branch, prefix: str) -> Iterator[tuple[str, str]]:
    for step in branch.runbook.steps:
        if step.id in branch.skipped:
            yield prefix, step.id
        if child := branch.children.get(step.id):
            yield from _skipped(child, f"{prefix}{step.id}/")


def _point(entry: _Entry) -> dict[str, Json] | None:
    step, branch, conditions = entry.step, entry.branch, entry.conditions
    if step.irreversible is None:
        return None
    if branch.is_late(step.irreversible):
        conditions = (*conditions, step.irreversible)
    elif not branch.truth(step.irreversible, f"`irreversible` of step '{step.id}'"):
        return None
    gates = [need for need in step.needs if branch.runbook.step(need).kind is StepKind.GATE]
    return {
        "step": entry.path,
        "title": step.title,
        "gate": f"{entry.prefix}{gates[0]}" if gates else None,
        "when": " and ".join(conditions) or None,
        "times": entry.times,
    }


def _gate(entry: _Entry) -> dict[str, Json]:
    gate = entry.step.gate
    assert gate is not None  # noqa: S101 - asked for by the caller
    return {
        "step": entry.path,
        "title": entry.step.title,
        "approvals": gate.approvals,
        "roles": list(gate.roles),
        "facts": list(gate.facts),
        "rules": list(gate.rules),
        "ask": _ask(entry, gate.ask),
        "when": " and ".join(entry.conditions) or None,
        "times": entry.times,
    }


def _delivery(entry: _Entry) -> dict[str, Json]:
    delivery = entry.step.delivery
    assert delivery is not None  # noqa: S101 - asked for by the caller
    return {
        "step": entry.path,
        "title": entry.step.title,
        "kind": delivery.kind,
        "ask": _ask(entry, delivery.ask),
        "when": " and ".join(entry.conditions) or None,
        "times": entry.times,
    }


def _ask(entry: _Entry, ask: str) -> Json:
    """Show the question as far as it is known; what only the run knows stays an expression."""
    if entry.branch.is_late(ask):
        return ask
    return entry.branch.value(ask, f"`ask` of step '{entry.step.id}'")


def _fan_out(branch: Branch, step: Step, foreach: Foreach) -> dict[str, Json]:
    return {
        "runbook": step.runbook,
        "items": [item["name"] for item in branch.items[step.id]],
        "parallel": foreach.parallel,
        "canary": foreach.canary,
        "stop_after_failures": foreach.stop_after_failures,
    }


def _digests(branch: Branch) -> Iterator[tuple[str, str]]:
    yield branch.runbook.name, branch.runbook.sha256
    for child in branch.children.values():
        yield from _digests(child)


def _critical_path(branch: Branch, catalogue: Catalogue, prefix: str, times: int) -> list[_Leg]:
    """Return the legs of the longest dependency path, in order."""
    best: dict[str, int] = {}
    before: dict[str, str | None] = {}
    legs: dict[str, list[_Leg]] = {}
    for step in in_order(branch.runbook):
        legs[step.id] = _legs(branch, step, catalogue, prefix, times)
        previous = max(step.needs, key=lambda need: best[need], default=None)
        before[step.id] = previous
        own = sum(leg.expected_ms * leg.times for leg in legs[step.id])
        best[step.id] = own + (best[previous] if previous else 0)
    at = max(best, key=lambda step_id: best[step_id], default=None)
    path: list[_Leg] = []
    while at is not None:
        path = legs[at] + path
        at = before[at]
    return path


def _legs(branch: Branch, step: Step, catalogue: Catalogue, prefix: str, times: int) -> list[_Leg]:
    if step.id in branch.skipped:
        return []
    path = f"{prefix}{step.id}"
    rounds = times * (_rounds(step.foreach, len(branch.items[step.id])) if step.foreach else 1)
    if step.expected_ms is not None:
        return [_Leg(path, step.expected_ms, step.expected_source, rounds)]
    if child := branch.children.get(step.id):
        return _critical_path(child, catalogue, f"{path}/", rounds) if rounds else []
    if spec := catalogue.actions.get(step.action):
        return [_Leg(path, spec.expected_ms, spec.expected_source, rounds)]
    return []


def _rounds(foreach: Foreach, items: int) -> int:
    """Return how many children run one after another: the canaries first, then the others."""
    canaries = min(foreach.canary, items)
    return -(-canaries // foreach.parallel) + -(-(items - canaries) // foreach.parallel)


def _class_warnings(run_class: RunClass, *, is_lab: bool) -> Iterator[str]:
    if is_lab and run_class is RunClass.INCIDENT:
        yield "the plan is for an incident, but it was made against a lab"


def _time_warnings(root: Branch, entries: list[_Entry], total_ms: int) -> Iterator[str]:
    for entry in entries:
        step = entry.step
        if step.foreach and not entry.branch.items[step.id]:
            yield f"step '{entry.path}' has no items; it starts no child run"
    unknown = [
        entry.path
        for entry in entries
        if entry.step.kind in (StepKind.GATE, StepKind.DELIVERY) and entry.step.expected_ms is None
    ]
    if unknown:
        yield f"how long people take is not counted for: {', '.join(unknown)}"
    rto_ms = root.runbook.objectives.rto_ms
    if rto_ms is not None and total_ms > rto_ms:
        yield (
            f"the expected duration {format_duration(total_ms)} is longer than the objective "
            f"{format_duration(rto_ms)}"
        )
