"""The lifecycle of a step as a table: the only module that uses `transitions`.

Rules: everything about step states and their changes stands in `ROWS`; a record
whose type is a trigger moves its step along exactly one row; a record that fits no
row is refused. No callback ever runs here: work happens in the driver, which makes
a record durable first and folds it afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from transitions import Machine

from drengine.errors import JournalDamaged
from drengine.model.records import RecordType as R
from drengine.model.run import StepStatus as S

_STUCK = (S.FAILED, S.REFUSED)
_GROUP_MAY_END = tuple(status for status in S if status is not S.SENDING)

ROWS: Final[tuple[tuple[R, tuple[S, ...], S], ...]] = (
    # look first, then check: what is there already needs no guard
    (R.STEP_BEGUN, (S.PENDING, *_STUCK), S.PROBING),
    (R.STEP_SKIPPED, (S.PENDING, *_STUCK), S.SKIPPED),
    (R.PROBE_ABSENT, (S.PROBING,), S.CHECKING),
    (R.PROBE_ABSENT, (S.IN_DOUBT,), S.IN_DOUBT),
    (R.PROBE_PRESENT, (S.PROBING, S.IN_DOUBT), S.VERIFYING),
    (R.PROBE_IN_PROGRESS, (S.PROBING, S.IN_DOUBT), S.RUNNING),
    (R.PROBE_BUSY, (S.PROBING,), S.PROBING),
    (R.PROBE_BUSY, (S.IN_DOUBT,), S.IN_DOUBT),
    (R.PROBE_UNDECIDABLE, (S.PROBING,), S.REFUSED),
    # INVARIANT J7: what may have had an effect is looked for like a lost answer
    (R.DOUBT_RAISED, (S.PROBING, *_STUCK), S.IN_DOUBT),
    (R.GUARDS_HELD, (S.PROBING, S.CHECKING), S.CLEARED),
    (R.GUARDS_REFUSED, (S.PROBING, S.CHECKING), S.REFUSED),
    (R.STEP_HELD, (S.CHECKING, S.CLEARED), S.PENDING),
    # by hand: what the engine can read back it does; the rest takes two people
    (R.STEP_MARKED, (S.PENDING, *_STUCK, S.UNKNOWN), S.VERIFYING),
    (R.STEP_ATTESTED, (*_STUCK, S.UNKNOWN), S.SUCCEEDED),
    # INVARIANT J1: the intent is durable before the request leaves
    (R.INTENT, (S.CLEARED,), S.SENDING),
    (R.ANSWER_OPERATION, (S.SENDING,), S.RUNNING),
    (R.ANSWER_DONE, (S.SENDING, S.CLEARED, S.FANNING_OUT), S.VERIFYING),
    (R.ANSWER_REFUSED, (S.SENDING,), S.FAILED),
    (R.ANSWER_LOST, (S.SENDING,), S.IN_DOUBT),
    # the service at work
    (R.OPERATION_POLLED, (S.RUNNING,), S.RUNNING),
    (R.OPERATION_SUCCEEDED, (S.RUNNING,), S.VERIFYING),
    (R.OPERATION_FAILED, (S.RUNNING,), S.FAILED),
    (R.OPERATION_LOST, (S.RUNNING,), S.IN_DOUBT),
    # doubt
    (R.DOUBT_CLEARED, (S.IN_DOUBT,), S.CHECKING),
    (R.OUTCOME_UNKNOWN, (S.IN_DOUBT,), S.UNKNOWN),
    (R.OUTCOME_FOUND, (S.UNKNOWN,), S.VERIFYING),
    (R.OUTCOME_ABSENT, (S.UNKNOWN,), S.PROBING),
    # success is what a verification observed
    (R.VERIFY_MISSED, (S.VERIFYING,), S.VERIFYING),
    (R.PART_DONE, (S.VERIFYING,), S.PROBING),
    (R.STEP_SUCCEEDED, (S.VERIFYING, S.AWAITING_APPROVAL), S.SUCCEEDED),
    (R.STEP_FAILED, (S.CHECKING, S.PROBING, S.CLEARED, S.RUNNING, S.VERIFYING), S.FAILED),
    (R.STEP_FAILED, (S.FANNING_OUT, S.PENDING, *_STUCK), S.FAILED),
    # people
    (R.GATE_REQUESTED, (S.PENDING, *_STUCK), S.AWAITING_APPROVAL),
    (R.GATE_APPROVED, (S.AWAITING_APPROVAL,), S.AWAITING_APPROVAL),
    (R.GATE_REJECTED, (S.AWAITING_APPROVAL,), S.FAILED),
    (R.GATE_VOIDED, (S.SUCCEEDED, S.AWAITING_APPROVAL), S.PENDING),
    (R.DELIVERY_REQUESTED, (S.PENDING, *_STUCK), S.AWAITING_DELIVERY),
    (R.DELIVERY_ACCEPTED, (S.AWAITING_DELIVERY,), S.SUCCEEDED),
    # fan-out and groups
    (R.FANOUT_BEGUN, (S.CLEARED,), S.FANNING_OUT),
    (R.CHILD_STARTED, (S.FANNING_OUT,), S.FANNING_OUT),
    (R.CHILD_FINISHED, (S.FANNING_OUT,), S.FANNING_OUT),
    (R.GENERATION_ENDED, _GROUP_MAY_END, S.PENDING),
)


def _machine() -> Machine:
    machine = Machine(
        model=None,
        states=[str(status) for status in S],
        initial=str(S.PENDING),
        auto_transitions=False,
        send_event=True,
        queued=False,
    )
    for trigger, sources, dest in ROWS:
        machine.add_transition(str(trigger), [str(s) for s in sources], str(dest))
    return machine


def _export(machine: Machine) -> dict[tuple[R, S], S]:
    table: dict[tuple[R, S], S] = {}
    for trigger, event in machine.events.items():
        for source, rows in event.transitions.items():
            if len(rows) != 1:
                raise AssertionError(f"{trigger} leaves {source} by {len(rows)} rows")
            table[R(trigger), S(source)] = S(str(rows[0].dest))
    return table


TABLE: Final[Mapping[tuple[R, S], S]] = _export(_machine())
"""(trigger, status) -> next status: the table that the fold uses."""

AFTER_OPENING: Final[Mapping[S, S]] = {S.CHECKING: S.PROBING, S.CLEARED: S.PROBING}
"""What was checked before the process ended is looked at and checked again."""

TRIGGERS: Final[frozenset[R]] = frozenset(trigger for trigger, _, _ in ROWS)


NOT_OURS: Final = (
    "Another version wrote the journal, or somebody changed it: do not go on with it. Compare"
    " the chain's head with one kept elsewhere (report, manifest, anchor)."
)


def next_status(trigger: R, status: S, *, step: str, seq: int) -> S:
    """Return the status that a record leads to.

    Raises:
        JournalDamaged: no row leads on from `status` by `trigger`: the record cannot be ours.
    """
    try:
        return TABLE[trigger, status]
    except KeyError:
        raise JournalDamaged(
            f"record {seq}: `{trigger}` for step {step!r}, which is {status}: no row of the"
            " lifecycle allows it",
            hint=NOT_OURS,
        ) from None


def to_mermaid() -> str:
    """Return the table as a Mermaid state diagram, for the documents."""
    lines = ["stateDiagram-v2"]
    lines += [f'    state "{s}" as {s.name}' for s in S]
    for trigger, sources, dest in ROWS:
        if trigger is R.GENERATION_ENDED:
            continue
        lines += [f"    {source.name} --> {dest.name}: {trigger}" for source in sources]
    return "\n".join(lines)
