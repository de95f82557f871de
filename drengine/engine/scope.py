"""The names that a runbook's expressions see in a run."""

from __future__ import annotations

from dataclasses import dataclass

from drengine.model.canonical import Json
from drengine.model.plan import PlanPart
from drengine.model.run import RunState, StepStatus
from drengine.model.runbook import Runbook, Step
from drengine.runbook.expressions import evaluate


def scope_of(state: RunState, part: PlanPart) -> dict[str, Json]:
    """Return inputs, frozen discovery, outputs of steps and the run's own facts."""
    return {
        "inputs": state.genesis["inputs"],
        "plan": dict(part.discovery),
        "steps": {
            step.id: {"outputs": dict(step.outputs), "status": str(step.status)}
            for step in state.steps.values()
        },
        "run": {"id": str(state.run), "class": str(state.run_class)},
    }


def items_of(step: Step, scope: dict[str, Json]) -> list[dict[str, Json]]:
    """Return the items of a fan-out; a step without `foreach` has one, named as the step."""
    if step.foreach is None:
        return [{"name": step.id}]
    items = evaluate(step.foreach.items, scope)
    if not isinstance(items, (list, tuple)):
        return []
    return [dict(item) for item in items if isinstance(item, dict)]


def is_irreversible(step: Step, scope: dict[str, Json]) -> bool:
    """Whether the step cannot be undone under these inputs."""
    return step.irreversible is not None and bool(evaluate(step.irreversible, scope))


def held_by(state: RunState) -> str:
    """Return what a run is by a person's word, where nothing may be sent for that; else nothing."""
    if state.status.is_over:
        return str(state.status)
    return "rolling back" if state.rolling_back else "paused" if state.paused else ""


@dataclass(frozen=True, slots=True)
class Fallen:
    """A gate that does not stand any more, and why.

    Attributes:
        is_new: it was decided on anew while it was read; that decision stands.
    """

    gate: str
    why: str
    is_new: bool = False


def standing_gates(step: Step, runbook: Runbook, state: RunState, now_ms: int) -> Fallen | None:
    """Return the first gate before a step that does not stand by its own records, if one is.

    A gate that the run left out (`when`) was asked of nobody.
    """
    for gate in gates_of(step, runbook):
        st = state.steps[gate.id]
        if st.status is StepStatus.SKIPPED:
            continue
        if st.gate is None or st.status is not StepStatus.SUCCEEDED:
            return Fallen(gate.id, f"{gate.id} is not approved any more")
        if st.gate.expires_ms is not None and now_ms > st.gate.expires_ms:
            return Fallen(gate.id, f"the approval of {gate.id} has expired")
    return None


def gates_of(step: Step, runbook: Runbook) -> tuple[Step, ...]:
    """Return the gate steps that a step directly needs: their facts are read again at its send."""
    return tuple(need for need in map(runbook.step, step.needs) if need.gate is not None)
