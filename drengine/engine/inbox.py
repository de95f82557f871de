"""Signals of people and other processes, taken from the inbox into the chain.

Rules: peek, append with the signal's id, then delete. A crash in between leaves the
signal in the inbox; the fold ignores an id it has seen. A signal that does not fit is
recorded as a note: nothing that a person sent is lost without a trace. What is too long for
any record leaves its SHA-256.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from drengine.engine.chain import Chain
from drengine.engine.world import World
from drengine.errors import JournalDamaged, Unwritable
from drengine.model.canonical import JsonObject, canonical, sha256_hex
from drengine.model.findings import Findings, all_hold, warn
from drengine.model.ids import root_of
from drengine.model.records import RecordType as R
from drengine.model.records import Signal
from drengine.model.run import Effect, GateState, RunState, StepState
from drengine.model.run import StepStatus as S
from drengine.model.runbook import Runbook, Step, StepKind
from drengine.trust.approval import Asked, Terms


def absorb(world: World, chain: Chain, runbook: Runbook) -> tuple[R, ...]:
    """Record every waiting signal; return the types of the records made."""
    done: list[str] = []
    taken: list[R] = []
    # What is attached to a file tells how it was made: it counts whichever was handed in first.
    waiting = sorted(world.store.peek_signals(chain.run), key=lambda s: s.kind != "attach")
    for signal in waiting:
        if signal.id not in chain.state.signals:
            kind, body = _record_of(world, chain, runbook, signal)
            taken.append(_recorded(chain, kind, body, signal))
        done.append(signal.id)
    chain.drop_signals(done)
    return tuple(taken)


def _recorded(chain: Chain, kind: R, body: dict[str, Any], signal: Signal) -> R:
    """Append the record of a signal, or a short note of it where its content fits into none.

    The store's door refuses such a signal; one of an older version must not block the run.
    """
    try:
        chain.append(kind, {**body, "signal": signal.id}, actor=signal.actor)
    except Unwritable as unfit:
        chain.append(R.NOTE, _unwritable(signal, unfit.message), actor=_cut(signal.actor))
        return R.NOTE
    return kind


def _unwritable(signal: Signal, why: str) -> dict[str, Any]:
    content = canonical(signal.body)
    return {
        "ignored": _cut(signal.kind),
        "why": f"it fits into no record: {_cut(why)}",
        "said": {"step": _cut(str(signal.body.get("step", "")))},
        "signal": _cut(signal.id),
        "sha256": sha256_hex(content),
        "size": len(content),
    }


def _cut(text: str) -> str:
    return text if 0 < len(text) <= _MOST_QUOTED else f"{text[:_MOST_QUOTED]}…"


_MOST_QUOTED: Final = 200

Outcome = tuple[R, dict[str, Any]]


def note_ignored(record: Callable[[JsonObject, str], None], signal: Signal, why: str) -> None:
    """Record a signal that moves nothing, or a short note of it where its content fits into none.

    Parameters:
        record: appends a note of a body and an actor; it raises `Unwritable` where that is unfit.
    """
    try:
        record({**_ignored(signal, why)[1], "signal": signal.id}, signal.actor)
    except Unwritable as unfit:
        record(_unwritable(signal, unfit.message), _cut(signal.actor))


@dataclass(frozen=True, slots=True)
class _Letter:
    """A signal to one step, with what decides about it."""

    world: World
    step: Step
    st: StepState
    signal: Signal
    runbook: Runbook
    asked: RunState

    def refused(self, why: str, **more: object) -> Outcome:
        return _ignored(self.signal, why, **more)

    def in_status(self) -> str:
        return f"step {self.step.id} is {self.st.status}"


def _record_of(world: World, chain: Chain, runbook: Runbook, signal: Signal) -> Outcome:
    if chain.state.status.is_over:
        return _ignored(signal, f"the run is {chain.state.status}")
    if signal.kind == "continue" and not chain.state.paused:
        return _ignored(signal, f"the run is {chain.state.status}, not paused")
    if signal.kind == "rollback" and chain.state.rolling_back:
        return _ignored(signal, "the run is rolling back already")
    if signal.kind in _RUN_SIGNALS:
        return _RUN_SIGNALS[signal.kind], {"reason": signal.body.get("reason", "")}
    st = chain.state.steps.get(str(signal.body.get("step")))
    take = _STEP_SIGNALS.get(signal.kind)
    if st is None or take is None:
        return _ignored(signal, "no such step or kind of signal")
    return take(_Letter(world, runbook.step(st.id), st, signal, runbook, chain.state))


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
    refusal, signed = _signed(letter, gate)
    if refusal:
        return letter.refused(refusal)
    body |= signed
    if signal.kind == "approve":
        return R.GATE_APPROVED, body
    why = body["reason"] or "no reason given"
    body["error"] = {
        "kind": "GuardError",
        "code": "DR-G020",
        "message": f"gate {letter.step.id} was rejected by {signal.actor}: {why}",
        "hint": f"drengine resume {root_of(signal.run)} asks again.",
        "exit_code": 8,
    }
    return R.GATE_REJECTED, body


def _signed(letter: _Letter, gate: GateState) -> tuple[str, dict[str, Any]]:
    """Judge a decision's signature; return why it does not count, and what to record of it."""
    world, signal = letter.world, letter.signal
    urgent = signal.body.get("break_glass") is True
    if world.judge is None:
        allowed = letter.step.gate is not None and letter.step.gate.break_glass
        if urgent and not (allowed and signal.body.get("reason")):
            return "break-glass needs a runbook that allows it, and a reason", {}
        return "", {"break_glass": True} if urgent else {}
    envelope = signal.body.get("envelope")
    judged = world.judge(envelope, _terms(letter, gate))
    approval, person = judged.approval, judged.person
    if judged.why or approval is None or person is None:
        return judged.why, {}
    if (approval.decision, person.actor) != (signal.kind, signal.actor):
        return f"it is signed as {approval.decision} of {person.actor}", {}
    if approval.nonce != signal.id:
        return "its nonce is not the signal's id: it was sent before in another cover", {}
    if (approval.role, approval.reason) != (signal.body.get("role"), signal.body.get("reason")):
        return "role or reason are not those that were signed", {}
    signed = {"envelope": envelope, "signer": judged.keyid, "expires": approval.expires_ms}
    return "", {**signed, "break_glass": True} if approval.break_glass else signed


def _terms(letter: _Letter, gate: GateState) -> Terms:
    asked, spec = letter.asked, letter.step.gate
    return Terms(
        asked=Asked(
            run=asked.run,
            plan=asked.genesis["plan"],
            run_class=str(asked.run_class),
            lab=asked.genesis["cloud"]["lab"] is True,
            step=letter.step.id,
            seq=gate.seq,
            digest=gate.digest,
            sha256=gate.sha256,
            facts=gate.facts,
        ),
        roles=spec.roles if spec else (),
        break_glass=spec is not None and spec.break_glass,
        initiator=str(asked.genesis["initiator"]),
        at_ms=letter.world.clock.now_ms(),
    )


_UNSENT: Final = (S.PENDING, S.PROBING, S.CHECKING, S.CLEARED, S.FAILED, S.REFUSED)


def _withdrawal(letter: _Letter) -> Outcome:
    """Take an approval back, as long as nothing has been sent that needs it."""
    gate, signal = letter.st.gate, letter.signal
    if letter.st.status not in (S.AWAITING_APPROVAL, S.SUCCEEDED) or gate is None:
        return letter.refused(letter.in_status())
    if signal.actor not in gate.approvers:
        return letter.refused(f"{signal.actor} did not approve this request")
    if late := using(letter.runbook, letter.step.id, letter.asked):
        return letter.refused(f"too late: {', '.join(late)} has begun")
    refusal, signed = _signed(letter, gate)
    if refusal:
        return letter.refused(refusal)
    reason = signal.body.get("reason", "")
    why = f"withdrawn by {signal.actor}: {reason or 'no reason given'}"
    return R.GATE_VOIDED, {"step": letter.step.id, "why": why, **signed}


def using(runbook: Runbook, gate: str, state: RunState) -> list[str]:
    """Return the steps behind a gate that have begun to use its approval."""
    return [
        step.id
        for step in runbook.steps
        if gate in step.needs and state.steps[step.id].status not in _may_stop(step)
    ]


def _may_stop(step: Step) -> tuple[S, ...]:
    # What children have sent stays sent; each that has not looks at the gates above it first.
    return (*_UNSENT, S.FANNING_OUT) if step.kind is StepKind.RUNBOOK else _UNSENT


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
    findings = (*findings, *unproven(letter.st, str(body["sha256"])))
    listed = [finding.to_json() for finding in findings]
    if not all_hold(findings):
        return letter.refused("the delivered file does not fit", findings=listed)
    outputs: dict[str, Any] = {"sha256": body["sha256"], "size": len(data)}
    accepted: dict[str, Any] = {"step": letter.step.id, "outputs": outputs, "findings": listed}
    proven = letter.st.transcripts.get(str(body["sha256"]))
    said = body.get("ceremony")
    if made := proven or ({"form": said, "transcript": ""} if said else None):
        outputs["made"] = made
        accepted["ceremony"] = made["form"]
    return R.DELIVERY_ACCEPTED, accepted


def unproven(step: StepState, sha256: str) -> Findings:
    """Return a warning where transcripts were attached to a delivery, but none is of this file."""
    if not step.transcripts or sha256 in step.transcripts:
        return ()
    named = ", ".join(f"{blob[:12]}…" for blob in step.transcripts)
    text = (
        f"the attached transcript is of another file ({named}): how this one was made is not told"
    )
    return (warn("TRANSCRIPT", text),)


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
    found = check(data, letter.st.expects, letter.asked.run_class)
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
    if said.get("unknown_seq", letter.st.unknown_seq) != letter.st.unknown_seq:
        return letter.refused(
            f"it speaks of the request before record {said['unknown_seq']}; the one whose outcome"
            f" is unknown now is that before record {letter.st.unknown_seq}"
        )
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
    if letter.st.effect is Effect.AT_WORK:
        return letter.refused("its request may still be at work: nothing has said how it ended")
    if still := [n for n, child in letter.st.children.items() if not child.status.is_over]:
        return letter.refused(f"its children are still open: {', '.join(still)}")
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
    if second and st.status in (S.FAILED, S.REFUSED, S.UNKNOWN):
        return R.STEP_ATTESTED, {**body, "first": st.marked_by}
    if st.status not in (S.PENDING, S.FAILED, S.REFUSED, S.UNKNOWN):
        return letter.refused(letter.in_status())
    return R.STEP_MARKED, body


_RUN_SIGNALS: Final[Mapping[str, R]] = {
    "cancel": R.RUN_CANCELLED,
    "pause": R.RUN_PAUSED,
    "continue": R.RUN_CONTINUED,
    "rollback": R.RUN_ROLLBACK,
}

_STEP_SIGNALS: Final[Mapping[str, Callable[[_Letter], Outcome]]] = {
    "approve": _decision,
    "reject": _decision,
    "withdraw": _withdrawal,
    "deliver": _delivery,
    "attach": _attachment,
    "resolve": _resolution,
    "skip": _skip,
    "mark": _mark,
}
