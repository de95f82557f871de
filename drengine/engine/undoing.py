"""Rolling a run back: its own small table, and the decision what comes next.

Rules:
- Only a step that has sent something is undone; the last sender comes first, and only when
  nothing is in the air any more (`decide`).
- What cannot be taken away is kept, with the reason; a refusal stops the rollback.
- An undo whose answer was lost is read back before anything is sent again.
- Undone is what was read back, never what a call returned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from drengine.engine.commands import CheckUndo, Decision, PollUndo, Rest, Undo
from drengine.engine.machine import NOT_OURS
from drengine.engine.retry import quiet_until_ms
from drengine.engine.session import Session
from drengine.errors import JournalDamaged
from drengine.model.catalogue import ActionSpec
from drengine.model.cloud import Operation
from drengine.model.records import Record
from drengine.model.records import RecordType as R
from drengine.model.run import Effect, RunState, StepState, StepStatus
from drengine.model.run import UndoStatus as U
from drengine.model.runbook import Runbook

UNDO_ROWS: Final[Mapping[R, tuple[tuple[U, ...], U]]] = {
    R.UNDO_INTENT: ((U.NONE, U.REFUSED, U.CHECKING), U.SENDING),
    R.UNDO_ANSWERED: ((U.SENDING,), U.RUNNING),
    R.UNDO_POLLED: ((U.SENDING, U.RUNNING, U.CHECKING), U.CHECKING),
    R.UNDO_DONE: ((U.NONE, U.SENDING, U.CHECKING, U.RUNNING), U.DONE),
    R.UNDO_KEPT: ((U.NONE, U.REFUSED, U.CHECKING), U.KEPT),
    R.UNDO_REFUSED: ((U.NONE, U.REFUSED, U.SENDING, U.RUNNING, U.CHECKING), U.REFUSED),
}


def undone(step: StepState, record: Record) -> StepState:
    """Return the step after one record of a rollback.

    Raises:
        JournalDamaged: no row allows it.
    """
    sources, dest = UNDO_ROWS[record.type]
    if step.undo not in sources:
        raise JournalDamaged(
            f"record {record.seq}: `{record.type}` for step {step.id!r}, whose undo is"
            f" {str(step.undo) or 'not begun'!r}",
            hint=NOT_OURS,
        )
    body: Mapping[str, Any] = record.body
    operation = body.get("operation")
    status = U.CHECKING if dest is U.RUNNING and not operation else dest
    return replace(
        step,
        undo=U.RUNNING if body.get("running") else status,
        undo_operation=_operation(step, record),
        not_before_ms=body.get("not_before", 0),
        error=body.get("error"),
        detail=str(body.get("why", "")),
        undo_looks=_looks(step, record),
        reopened=False,
    )


def _operation(step: StepState, record: Record) -> Operation | None:
    if record.type is R.UNDO_INTENT:
        return None
    doc = record.body.get("operation")
    return Operation.from_json(doc) if doc else step.undo_operation


def _looks(step: StepState, record: Record) -> int:
    """Return how often the effect was looked for in vain; what still runs was not looked for."""
    if record.type is not R.UNDO_POLLED:
        return 0
    return step.undo_looks + (0 if record.body.get("running") else 1)


def decide_undo(
    runbook: Runbook,
    specs: Mapping[str, ActionSpec],
    state: RunState,
    session: Session,
    now_ms: int,
) -> Decision:
    """Return what a rollback does now: one step at a time, the last sender first."""
    for step in reversed(runbook.steps):
        st = state.steps[step.id]
        if not st.sends or st.undo.is_settled:
            continue
        if session.stopping:
            return Decision(rest=Rest.INTERRUPTED, reasons=(f"{step.id}: not undone yet",))
        if st.undo is U.REFUSED and not st.reopened:
            why = (st.error or {}).get("message", "it was refused")
            return Decision(rest=Rest.REFUSED, reasons=(f"{step.id}: {why}",))
        at_ms = max(st.not_before_ms, _visible_ms(st, specs[step.action]))
        if at_ms > now_ms:
            return Decision(wake_at_ms=at_ms)
        following = _next(st)
        if isinstance(following, Undo) and (state.paused or session.rests):
            return Decision(rest=Rest.PAUSED, reasons=(f"{step.id}: not undone yet",))
        return Decision((following,))
    return Decision(rest=Rest.ROLLED_BACK)


def _visible_ms(st: StepState, spec: ActionSpec) -> int:
    """Return when it can be told what there is to be undone: an effect may be late to be seen."""
    is_seen = st.status is StepStatus.SUCCEEDED or st.effect is Effect.NONE
    return 0 if is_seen or st.undo is not U.NONE else quiet_until_ms(st, spec.quiet_ms)


def _next(st: StepState) -> Undo | PollUndo | CheckUndo:
    if st.undo is U.RUNNING:
        return PollUndo(st.id)
    # Its answer was lost and two looks found the effect still there: it is asked for again.
    lost = st.undo_operation is None and st.undo_looks >= _LOOKS_NEEDED
    if st.undo in (U.SENDING, U.CHECKING) and not lost:
        return CheckUndo(st.id)
    return Undo(st.id)


_LOOKS_NEEDED: Final = 2
