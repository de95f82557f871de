"""Signals of people and other processes, taken from the inbox into the chain.

Rules: peek, append with the signal's id, then delete. A crash in between leaves the
signal in the inbox; the fold ignores an id it has seen. A signal that does not fit is
recorded as a note: nothing that a person sent is lost without a trace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from drengine.engine.chain import Chain
from drengine.engine.world import World
from drengine.errors import JournalDamaged
from drengine.model.findings import all_hold
from drengine.model.records import RecordType as R
from drengine.model.records import Signal
from drengine.model.run import StepState
from drengine.model.run import StepStatus as S


def absorb(world: World, chain: Chain) -> tuple[R, ...]:
    """Record every waiting signal; return the types of the records made."""
    done: list[str] = []
    taken: list[R] = []
    for signal in world.store.peek_signals(chain.run):
        if signal.id not in chain.state.signals:
            kind, body = _record_of(world, chain, signal)
            chain.append(kind, {**body, "signal": signal.id}, actor=signal.actor)
            taken.append(kind)
        done.append(signal.id)
    chain.drop_signals(done)
    return tuple(taken)


Outcome = tuple[R, dict[str, Any]]


def _record_of(world: World, chain: Chain, signal: Signal) -> Outcome:
    if chain.state.status.is_over:
        return _ignored(signal, f"the run is {chain.state.status}")
    if signal.kind in _RUN_SIGNALS:
        return _RUN_SIGNALS[signal.kind], {"reason": signal.body.get("reason", "")}
    step = chain.state.steps.get(str(signal.body.get("step")))
    take = _STEP_SIGNALS.get(signal.kind)
    if step is None or take is None:
        return _ignored(signal, "no such step or kind of signal")
    return take(world, step, signal)


def _ignored(signal: Signal, why: str, **more: object) -> Outcome:
    body: dict[str, Any] = {"ignored": signal.kind, "why": why, "said": dict(signal.body), **more}
    return R.NOTE, body


def _decision(world: World, step: StepState, signal: Signal) -> Outcome:
    del world
    gate = step.gate
    if step.status is not S.AWAITING_APPROVAL or gate is None:
        return _ignored(signal, f"step {step.id} is {step.status}")
    if signal.body.get("request_seq") != gate.seq or signal.body.get("digest") != gate.digest:
        return _ignored(signal, f"it decides on another request than record {gate.seq}")
    body: dict[str, Any] = {
        "step": step.id,
        "request_seq": gate.seq,
        "digest": gate.digest,
        "reason": signal.body.get("reason", ""),
        "role": signal.body.get("role", ""),
        "sent_at": signal.at_ms,
    }
    if signal.kind == "approve":
        return R.GATE_APPROVED, body
    why = body["reason"] or "no reason given"
    body["error"] = {
        "kind": "GuardError",
        "code": "DR-G020",
        "message": f"gate {step.id} was rejected by {signal.actor}: {why}",
        "hint": "Resume the run to ask again.",
        "exit_code": 8,
    }
    return R.GATE_REJECTED, body


def _delivery(world: World, step: StepState, signal: Signal) -> Outcome:
    if step.status is not S.AWAITING_DELIVERY:
        return _ignored(signal, f"step {step.id} is {step.status}")
    try:
        data = world.store.get_object(str(signal.body.get("sha256")))
    except JournalDamaged as error:
        return _ignored(signal, error.message)
    check = world.kit.deliveries[str(signal.body.get("kind"))]
    findings = check(data, step.expects)
    listed = [finding.to_json() for finding in findings]
    if not all_hold(findings):
        return _ignored(signal, "the delivered file does not fit", findings=listed)
    outputs = {"sha256": signal.body["sha256"], "size": len(data)}
    return R.DELIVERY_ACCEPTED, {"step": step.id, "outputs": outputs, "findings": listed}


def _resolution(world: World, step: StepState, signal: Signal) -> Outcome:
    del world
    if step.status is not S.UNKNOWN:
        return _ignored(signal, f"step {step.id} is {step.status}")
    body: dict[str, Any] = {"step": step.id, "reason": signal.body.get("reason", "")}
    if signal.body.get("found"):
        return R.OUTCOME_FOUND, {**body, "outputs": signal.body.get("outputs", {})}
    return R.OUTCOME_ABSENT, body


_RUN_SIGNALS: Final[Mapping[str, R]] = {
    "cancel": R.RUN_CANCELLED,
    "pause": R.RUN_PAUSED,
    "continue": R.RUN_CONTINUED,
}

_STEP_SIGNALS: Final[Mapping[str, Callable[[World, StepState, Signal], Outcome]]] = {
    "approve": _decision,
    "reject": _decision,
    "deliver": _delivery,
    "resolve": _resolution,
}
