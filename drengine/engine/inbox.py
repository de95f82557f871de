"""Signals of people and other processes, taken from the inbox into the chain.

Rules: peek, append with the signal's id, then delete. A crash in between leaves the
signal in the inbox; the fold ignores an id it has seen. A signal that does not fit is
recorded as a note: nothing that a person sent is lost without a trace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from drengine.engine.chain import Chain
from drengine.engine.world import World
from drengine.errors import JournalDamaged
from drengine.model.findings import all_hold
from drengine.model.records import RecordType as R
from drengine.model.records import Signal
from drengine.model.run import StepState
from drengine.model.run import StepStatus as S
from drengine.model.runbook import Runbook, RunClass, Step, StepKind


def absorb(world: World, chain: Chain, runbook: Runbook) -> tuple[R, ...]:
    """Record every waiting signal; return the types of the records made."""
    done: list[str] = []
    taken: list[R] = []
    for signal in world.store.peek_signals(chain.run):
        if signal.id not in chain.state.signals:
            kind, body = _record_of(world, chain, runbook, signal)
            chain.append(kind, {**body, "signal": signal.id}, actor=signal.actor)
            taken.append(kind)
        done.append(signal.id)
    chain.drop_signals(done)
    return tuple(taken)


Outcome = tuple[R, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Letter:
    """A signal to one step, with what decides about it."""

    world: World
    step: Step
    st: StepState
    signal: Signal
    run_class: RunClass

    def refused(self, why: str, **more: object) -> Outcome:
        return _ignored(self.signal, why, **more)

    def in_status(self) -> str:
        return f"step {self.step.id} is {self.st.status}"


def _record_of(world: World, chain: Chain, runbook: Runbook, signal: Signal) -> Outcome:
    if chain.state.status.is_over:
        return _ignored(signal, f"the run is {chain.state.status}")
    if signal.kind in _RUN_SIGNALS:
        return _RUN_SIGNALS[signal.kind], {"reason": signal.body.get("reason", "")}
    st = chain.state.steps.get(str(signal.body.get("step")))
    take = _STEP_SIGNALS.get(signal.kind)
    if st is None or take is None:
        return _ignored(signal, "no such step or kind of signal")
    return take(_Letter(world, runbook.step(st.id), st, signal, chain.state.run_class))


def _ignored(signal: Signal, why: str, **more: object) -> Outcome:
    body: dict[str, Any] = {"ignored": signal.kind, "why": why, "said": dict(signal.body), **more}
    return R.NOTE, body


def _decision(letter: _Letter) -> Outcome:
    gate, signal = letter.st.gate, letter.signal
    if letter.st.status is not S.AWAITING_APPROVAL or gate is None:
        return letter.refused(letter.in_status())
    if signal.body.get("request_seq") != gate.seq or signal.body.get("digest") != gate.digest:
        return letter.refused(f"it decides on another request than record {gate.seq}")
    body: dict[str, Any] = {
        "step": letter.step.id,
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
        "message": f"gate {letter.step.id} was rejected by {signal.actor}: {why}",
        "hint": "Resume the run to ask again.",
        "exit_code": 8,
    }
    return R.GATE_REJECTED, body


def _delivery(letter: _Letter) -> Outcome:
    body = letter.signal.body
    if letter.st.status is not S.AWAITING_DELIVERY or letter.step.delivery is None:
        return letter.refused(letter.in_status())
    try:
        data = letter.world.store.get_object(str(body.get("sha256")))
    except JournalDamaged as error:
        return letter.refused(error.message)
    check = letter.world.kit.deliveries[letter.step.delivery.kind]
    findings = check(data, letter.st.expects)
    listed = [finding.to_json() for finding in findings]
    if not all_hold(findings):
        return letter.refused("the delivered file does not fit", findings=listed)
    accepted: dict[str, Any] = {
        "step": letter.step.id,
        "outputs": {"sha256": body["sha256"], "size": len(data)},
        "findings": listed,
    }
    proven = letter.st.transcripts.get(str(body["sha256"]))
    if ceremony := proven or body.get("ceremony"):
        accepted["ceremony"] = ceremony
    return R.DELIVERY_ACCEPTED, accepted


def _attachment(letter: _Letter) -> Outcome:
    """Note a document that people attach to a step: it moves nothing, and counts."""
    body = letter.signal.body
    if letter.step.delivery is None:
        return letter.refused("nothing is attached to a step that waits for no delivery")
    kind = str(body.get("kind"))
    check = letter.world.kit.attachments.get(kind)
    if check is None:
        return letter.refused(f"{kind!r} is nothing that this version can attach")
    try:
        data = letter.world.store.get_object(str(body.get("sha256")))
    except JournalDamaged as error:
        return letter.refused(error.message)
    found = check(data, letter.st.expects, letter.run_class)
    listed = [finding.to_json() for finding in found.findings]
    if not all_hold(found.findings):
        return letter.refused("the attached document does not fit", findings=listed)
    noted: dict[str, Any] = {
        "step": letter.step.id,
        "attached": kind,
        "sha256": body["sha256"],
        "size": len(data),
        "facts": dict(found.facts),
        "findings": listed,
        "why": "; ".join(finding.message for finding in found.findings),
    }
    return R.NOTE, noted


def _resolution(letter: _Letter) -> Outcome:
    said = letter.signal.body
    if letter.st.status is not S.UNKNOWN:
        return letter.refused(letter.in_status())
    body: dict[str, Any] = {"step": letter.step.id, "reason": said.get("reason", "")}
    if said.get("found"):
        return R.OUTCOME_FOUND, {**body, "outputs": said.get("outputs", {})}
    return R.OUTCOME_ABSENT, body


_NOT_BY_HAND: Final = "a decision or a delivery is neither skipped nor done by hand"
_PEOPLE: Final = (StepKind.GATE, StepKind.DELIVERY)


def _skip(letter: _Letter) -> Outcome:
    """Leave a step out: never a person's, never one that may be taking effect."""
    if letter.step.kind in _PEOPLE:
        return letter.refused(_NOT_BY_HAND)
    if letter.st.status not in (S.PENDING, S.FAILED, S.REFUSED):
        return letter.refused(letter.in_status())
    body = {"step": letter.step.id, "reason": letter.signal.body["reason"]}
    return R.STEP_SKIPPED, {**body, "by": letter.signal.actor}


def _mark(letter: _Letter) -> Outcome:
    """Take a person's word, and read it back; a second person's where that cannot be read."""
    st, signal = letter.st, letter.signal
    evidence = str(signal.body["evidence"])
    if letter.step.kind in _PEOPLE:
        return letter.refused(_NOT_BY_HAND)
    if not letter.world.store.has_object(evidence):
        return letter.refused("the evidence is not beside the journal")
    body = {
        "step": letter.step.id,
        "evidence": evidence,
        "reason": signal.body.get("reason", ""),
    }
    second = st.marked_by not in ("", signal.actor) and st.marked_evidence == evidence
    if second and st.status in (S.FAILED, S.REFUSED):
        return R.STEP_ATTESTED, {**body, "first": st.marked_by}
    if st.status not in (S.PENDING, S.FAILED, S.REFUSED, S.UNKNOWN):
        return letter.refused(letter.in_status())
    return R.STEP_MARKED, body


_RUN_SIGNALS: Final[Mapping[str, R]] = {
    "cancel": R.RUN_CANCELLED,
    "pause": R.RUN_PAUSED,
    "continue": R.RUN_CONTINUED,
}

_STEP_SIGNALS: Final[Mapping[str, Callable[[_Letter], Outcome]]] = {
    "approve": _decision,
    "reject": _decision,
    "deliver": _delivery,
    "attach": _attachment,
    "resolve": _resolution,
    "skip": _skip,
    "mark": _mark,
}
