"""State is a pure fold over records: nothing else is ever consulted.

Rules:
- Record 0 gives the run, its class and its steps; every later record moves at most
  the one step (or, for a generation, the group) that it names.
- A signal whose id was seen before changes nothing.
- An opening of the run lets failed and refused steps begin again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol, TypeVar

from drengine.engine.fold_run import RUN_CHANGES, Changes
from drengine.engine.machine import NOT_OURS, TRIGGERS, next_status
from drengine.engine.undoing import UNDO_ROWS, undone
from drengine.errors import JournalDamaged
from drengine.model.changed import changed, overwritten
from drengine.model.cloud import Operation
from drengine.model.ids import RunId
from drengine.model.records import Head, Record
from drengine.model.records import RecordType as R
from drengine.model.run import (
    AbsentBy,
    ChildState,
    Effect,
    GateState,
    RunState,
    RunStatus,
    StepState,
)
from drengine.model.runbook import RunClass

T = TypeVar("T")


class Renew(Protocol):
    """Makes a changed value: a copy of it, or itself where nobody else holds it."""

    def __call__(self, value: T, changes: Mapping[str, Any], /) -> T:
        """Return the changed value."""
        ...


def fold(records: Iterable[Record]) -> RunState:
    """Return the state that `records`, from record 0 on, amount to.

    Raises:
        JournalDamaged: the first record is not `run.created`, one fits no row of the lifecycle,
            or one lacks what its type must hold.
    """
    state: RunState | None = None
    for record in records:
        # The states on the way are nobody's but this loop's, so they need no copies.
        state = folded_on(state, record, overwritten)
    if state is None:
        raise JournalDamaged("the journal has no record 0", hint=NOT_OURS)
    return state


def folded_on(state: RunState | None, record: Record, renew: Renew = changed) -> RunState:
    """Return the state after one more record of a chain, None being the one before record 0.

    Raises:
        JournalDamaged: as `fold` does.
    """
    try:
        return begin(record) if state is None else apply(state, record, renew)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        # The chain is whole, so somebody wrote it so: hashes can be made right again.
        raise JournalDamaged(
            f"record {record.seq} of {record.run} does not hold what a `{record.type}` holds: "
            f"{type(error).__name__} {str(error)[:80]}",
            hint=NOT_OURS,
        ) from error


def begin(record: Record) -> RunState:
    """Return the state after record 0."""
    if record.type is not R.RUN_CREATED or record.seq != 0:
        found = f"record {record.seq} is `{record.type}`, expected `run.created`"
        raise JournalDamaged(found, hint=NOT_OURS)
    body: Mapping[str, Any] = record.body
    return RunState(
        run=record.run,
        run_class=RunClass(body["class"]),
        genesis=body,
        head=Head(record.seq, record.sha256),
        status=RunStatus.RUNNING,
        steps={step: StepState(step, entered_ms=record.at_ms) for step in body["steps"]},
        created_ms=record.at_ms,
        last_ms=record.at_ms,
        # Record 0 is this home's own: the same plan begun in another one has another holder.
        holder=f"0.{record.sha256[:12]}",
    )


def apply(state: RunState, record: Record, renew: Renew = changed) -> RunState:
    """Return the state after one more record.

    Parameters:
        renew: makes a changed value of a run's or a step's state.
    """
    body: Mapping[str, Any] = record.body
    changes: dict[str, Any] = {
        "head": Head(record.seq, record.sha256),
        "last_ms": record.at_ms,
    }
    if signal := body.get("signal"):
        changes["signals"] = state.signals | {signal}
    if record.type in TRIGGERS:
        names = body["steps"] if record.type is R.GENERATION_ENDED else [body["step"]]
        changes["steps"] = dict(state.steps)
        for name in names:
            changes["steps"][name] = _moved(_step(state, name, record), record, renew)
        if state.status is RunStatus.WAITING:
            changes["status"] = RunStatus.RUNNING
    elif record.type in UNDO_ROWS:
        step = _step(state, body["step"], record)
        changes["steps"] = {**state.steps, step.id: undone(step, record)}
    elif change := RUN_CHANGES.get(record.type):
        changes.update(change(state, body, record))
    return renew(state, changes)


def _step(state: RunState, name: str, record: Record) -> StepState:
    if name not in state.steps:
        found = f"record {record.seq} names step {name!r}, which the run has not"
        raise JournalDamaged(found, hint=NOT_OURS)
    return state.steps[name]


def _moved(step: StepState, record: Record, renew: Renew) -> StepState:
    body: Mapping[str, Any] = record.body
    status = next_status(record.type, step.status, step=step.id, seq=record.seq)
    changes: dict[str, Any] = {"status": status, "not_before_ms": body.get("not_before", 0)}
    if status is not step.status:
        changes["entered_ms"] = record.at_ms
    if (effect := _EFFECTS.get(record.type)) is not None:
        changes["effect"] = effect
    if change := _STEP_CHANGES.get(record.type):
        changes.update(change(step, body, record))
    return renew(step, changes)


StepChange = Callable[[StepState, Mapping[str, Any], Record], Changes]


def _first_began(step: StepState, record: Record) -> int:
    return record.at_ms if step.began_ms is None else step.began_ms


def _begun(step: StepState, body: Mapping[str, Any], record: Record) -> Changes:
    return {
        "attempt": body["attempt"],
        "reopened": False,
        "error": None,
        "detail": "",
        "began_ms": _first_began(step, record),
    }


def _intent(step: StepState, body: Mapping[str, Any], record: Record) -> Changes:
    return {
        "sends": step.sends + 1,
        "intent_at_ms": record.at_ms,
        "before": body.get("before", {}),
        "quiet_from_ms": record.at_ms,
        "in_doubt_since_ms": None,
        "looks": 0,
        "absent_by": AbsentBy.NOBODY,
    }


def _operation(step: StepState, body: Mapping[str, Any], record: Record) -> Changes:
    del step, record
    operation = Operation.from_json(body["operation"])
    return {"operation": operation, "in_doubt_since_ms": None, "polls": 0}


def _lost(step: StepState, body: Mapping[str, Any], record: Record) -> Changes:
    return {
        "in_doubt_since_ms": record.at_ms,
        "quiet_from_ms": step.quiet_from_ms or record.at_ms,
        "looks": 0,
        "detail": str(body.get("why", "")),
        "reopened": False,
    }


def _absent(step: StepState, body: Mapping[str, Any], record: Record) -> Changes:
    del body, record
    return {"looks": step.looks + 1}


def _outputs(step: StepState, body: Mapping[str, Any], record: Record) -> Changes:
    del record
    return {"outputs": {**step.outputs, **body.get("outputs", {})}}


def _part_done(step: StepState, body: Mapping[str, Any], record: Record) -> Changes:
    return {
        **_outputs(step, body, record),
        "operation": None,
        "in_doubt_since_ms": None,
        "last_code": "",
    }


def _polled(step: StepState, body: Mapping[str, Any], record: Record) -> Changes:
    del record
    return {"polls": body.get("polls", step.polls), "detail": body.get("detail", "")}


def _failed(step: StepState, body: Mapping[str, Any], record: Record) -> Changes:
    del record
    error = body.get("error") or {}
    code = str(error.get("service_code", ""))
    # What a person's resume let begin again has had its turn, whether or not it got to begin.
    return {
        "error": error,
        "failures": step.failures + 1,
        "last_code": code,
        "reopened": False,
    }


def _unknown(step: StepState, body: Mapping[str, Any], record: Record) -> Changes:
    return {**_failed(step, body, record), "unknown_seq": record.seq}


def _said_absent(step: StepState, body: Mapping[str, Any], record: Record) -> Changes:
    del step, body, record
    return {"absent_by": AbsentBy.PERSON}


def _said_found(step: StepState, body: Mapping[str, Any], record: Record) -> Changes:
    return {**_outputs(step, body, record), "effect": _vouched(step)}


def _vouched(step: StepState) -> Effect:
    """A person's word does not end a request that may still be at work; what is read back does."""
    return Effect.AT_WORK if step.effect is Effect.AT_WORK else Effect.HAD


def _answer_refused(step: StepState, body: Mapping[str, Any], record: Record) -> Changes:
    changes = _failed(step, body, record)
    return {**changes, "absent_by": AbsentBy.SERVICE, "refused": step.refused + 1}


def _succeeded(step: StepState, body: Mapping[str, Any], record: Record) -> Changes:
    return {
        **_outputs(step, body, record),
        "effect": Effect.HAD if step.effect is Effect.AT_WORK else step.effect,
        "ended_ms": record.at_ms,
        "began_ms": _first_began(step, record),
        "error": None,
        "failures": 0,
        "reopened": False,
    }


def _gate_requested(step: StepState, body: Mapping[str, Any], record: Record) -> Changes:
    roles = tuple(str(role) for role in body.get("roles", ()))
    facts, sha256 = body["facts"], record.sha256
    return {
        "gate": GateState(record.seq, body["digest"], facts, sha256=sha256, roles=roles),
        "began_ms": _first_began(step, record),
        "reopened": False,
        "error": None,
    }


def _gate_approved(step: StepState, body: Mapping[str, Any], record: Record) -> Changes:
    gate = step.gate
    if gate is None or body["request_seq"] != gate.seq or record.actor in gate.approvers:
        return {}
    ends = [ms for ms in (gate.expires_ms, body.get("expires")) if ms is not None]
    approved = replace(
        gate,
        approvers=(*gate.approvers, record.actor),
        expires_ms=min(ends, default=None),
        break_glass=gate.break_glass or body.get("break_glass") is True,
    )
    return {"gate": approved}


def _marked(step: StepState, body: Mapping[str, Any], record: Record) -> Changes:
    return {
        "effect": _vouched(step),
        "marked_by": record.actor,
        "marked_evidence": str(body["evidence"]),
        "began_ms": _first_began(step, record),
        "reopened": False,
    }


def _why(step: StepState, body: Mapping[str, Any], record: Record) -> Changes:
    del step, record
    return {"detail": str(body.get("why", ""))}


def _gate_voided(step: StepState, body: Mapping[str, Any], record: Record) -> Changes:
    return {**_why(step, body, record), "gate": None, "outputs": {}}


def _delivery_requested(step: StepState, body: Mapping[str, Any], record: Record) -> Changes:
    return {
        "expects": body["expects"],
        "request_seq": record.seq,
        "began_ms": _first_began(step, record),
        "reopened": False,
    }


def _child_started(step: StepState, body: Mapping[str, Any], record: Record) -> Changes:
    del record
    child = ChildState(RunId(body["run"]), body["item"])
    return {"children": {**step.children, body["name"]: child}}


def _child_finished(step: StepState, body: Mapping[str, Any], record: Record) -> Changes:
    del record
    child = replace(
        step.children[body["name"]],
        status=RunStatus(body["status"]),
        head=Head(body["seq"], body["sha256"]),
    )
    return {"children": {**step.children, body["name"]: child}}


_BLANK: Final = StepState("")


def _generation_ended(step: StepState, body: Mapping[str, Any], record: Record) -> Changes:
    """Forget everything but what may have had an effect and when the step first began."""
    return {
        **_why(step, body, record),
        "generation": step.generation + 1,
        "attempt": 0,
        "failures": 0,
        "reopened": False,
        "intent_at_ms": None,
        "before": _BLANK.before,
        "quiet_from_ms": 0,
        "unknown_seq": -1,
        "absent_by": AbsentBy.NOBODY,
        "in_doubt_since_ms": None,
        "looks": 0,
        "ended_ms": None,
        "outputs": _BLANK.outputs,
        "operation": None,
        "polls": 0,
        "error": None,
        "last_code": "",
        "gate": None,
        "request_seq": -1,
        "marked_by": "",
        "marked_evidence": "",
        "expects": _BLANK.expects,
        "attested": (),
        "attested_of": 0,
        "transcripts": _BLANK.transcripts,
        "children": _BLANK.children,
    }


_STEP_CHANGES: Final[Mapping[R, StepChange]] = {
    R.STEP_BEGUN: _begun,
    R.INTENT: _intent,
    R.ANSWER_OPERATION: _operation,
    R.PROBE_IN_PROGRESS: _operation,
    R.ANSWER_DONE: _outputs,
    R.PROBE_PRESENT: _outputs,
    R.OPERATION_SUCCEEDED: _outputs,
    R.OUTCOME_FOUND: _said_found,
    R.PART_DONE: _part_done,
    R.ANSWER_LOST: _lost,
    R.OPERATION_LOST: _lost,
    R.DOUBT_RAISED: _lost,
    R.PROBE_ABSENT: _absent,
    R.OPERATION_POLLED: _polled,
    R.ANSWER_REFUSED: _answer_refused,
    R.OPERATION_FAILED: _failed,
    R.STEP_FAILED: _failed,
    R.GUARDS_REFUSED: _failed,
    R.PROBE_UNDECIDABLE: _failed,
    R.OUTCOME_UNKNOWN: _unknown,
    R.OUTCOME_ABSENT: _said_absent,
    R.GATE_REJECTED: _failed,
    R.STEP_SUCCEEDED: _succeeded,
    R.DELIVERY_ACCEPTED: _succeeded,
    R.GATE_REQUESTED: _gate_requested,
    R.GATE_APPROVED: _gate_approved,
    R.GATE_VOIDED: _gate_voided,
    R.STEP_HELD: _why,
    R.STEP_MARKED: _marked,
    R.STEP_ATTESTED: _succeeded,
    R.PROBE_BUSY: _why,
    R.DELIVERY_REQUESTED: _delivery_requested,
    R.CHILD_STARTED: _child_started,
    R.CHILD_FINISHED: _child_finished,
    R.GENERATION_ENDED: _generation_ended,
}


_EFFECTS: Final[Mapping[R, Effect]] = {
    R.INTENT: Effect.AT_WORK,
    R.PROBE_IN_PROGRESS: Effect.AT_WORK,
    R.ANSWER_DONE: Effect.HAD,
    R.OPERATION_SUCCEEDED: Effect.HAD,
    R.PROBE_PRESENT: Effect.HAD,
    R.ANSWER_REFUSED: Effect.NONE,
    R.OPERATION_FAILED: Effect.NONE,
    R.OUTCOME_ABSENT: Effect.NONE,
    R.DOUBT_CLEARED: Effect.NONE,
    R.PART_DONE: Effect.NONE,
    R.GENERATION_ENDED: Effect.NONE,
}
