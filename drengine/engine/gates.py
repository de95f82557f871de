"""Gates: asking for a decision on facts, and whether a decision still stands.

What was approved is read again before each send that rests on it; where it changed, the
approval is taken back and asked for anew.
"""

from __future__ import annotations

from typing import Any

from drengine.engine.bench import Bench, evaluate_rules, fail, observe, with_exchanges
from drengine.engine.scope import Fallen, gates_of, standing_gates
from drengine.errors import DrError
from drengine.model.canonical import digest
from drengine.model.records import RecordType as R
from drengine.model.run import StepStatus
from drengine.model.runbook import Step


async def request_gate(bench: Bench, step_id: str) -> None:
    """Read the facts of a gate and record what is to be approved."""
    step, st = bench.step(step_id)
    gate = step.gate
    if gate is None:
        raise TypeError(f"step {step_id} is no gate")
    with bench.world.collect() as exchanges:
        try:
            facts, _ = await observe(bench, step_id, gate.facts)
            findings = await evaluate_rules(bench, step_id, gate.rules)
        except DrError as error:
            fail(bench, step_id, error, exchanges)
            return
    shown: dict[str, Any] = {
        "step": step_id,
        "ask": gate.ask,
        "facts": facts,
        "findings": [finding.to_json() for finding in findings],
        "generation": st.generation,
        "approvals": gate.approvals,
        "roles": list(gate.roles),
    }
    if gate.break_glass:
        shown["break_glass"] = True
    shown["digest"] = digest(shown)
    bench.chain.append(R.GATE_REQUESTED, with_exchanges(shown, exchanges))


async def drifted_gate(bench: Bench, step: Step) -> Fallen | None:
    """Return the gate before a step that does not stand any more; its facts are read again."""
    state, now_ms = bench.chain.state, bench.world.clock.now_ms()
    if (fallen := standing_gates(step, bench.runbook, state, now_ms)) is not None:
        return fallen
    for gate_step in gates_of(step, bench.runbook):
        asked = state.steps[gate_step.id].gate
        if gate_step.gate is None or asked is None:
            continue
        facts, _ = await observe(bench, gate_step.id, gate_step.gate.facts)
        if bench.chain.state.steps[gate_step.id].gate != asked:
            return Fallen(
                gate_step.id, f"{gate_step.id} was decided on anew meanwhile", is_new=True
            )
        changed = [name for name, fact in facts.items() if fact != asked.facts.get(name)]
        if changed:
            return Fallen(gate_step.id, f"changed since the approval: {', '.join(changed)}")
    return None


def void(bench: Bench, fallen: Fallen) -> None:
    """Take back what a gate gave, so that it is asked again; one that is open stays as it is."""
    is_given = bench.chain.state.steps[fallen.gate].status is StepStatus.SUCCEEDED
    if is_given and not fallen.is_new:
        bench.chain.append(R.GATE_VOIDED, {"step": fallen.gate, "why": fallen.why})
