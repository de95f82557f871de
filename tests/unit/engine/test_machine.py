"""The lifecycle table: complete where it must be, closed where it must be closed."""

from __future__ import annotations

import pytest

from drengine.engine.decide import _STATES
from drengine.engine.machine import AFTER_OPENING, ROWS, TABLE, TRIGGERS, next_status, to_mermaid
from drengine.engine.undoing import UNDO_ROWS
from drengine.errors import JournalDamaged
from drengine.model.records import RecordType as R
from drengine.model.run import StepStatus as S
from drengine.model.run import UndoStatus as U


def test_every_row_stands_in_the_exported_table_once():
    expected = {(trigger, source): dest for trigger, sources, dest in ROWS for source in sources}
    assert expected == TABLE
    assert len(expected) == sum(len(sources) for _, sources, _ in ROWS)


def test_every_status_can_be_reached_and_has_a_decision():
    reached = {S.PENDING, *TABLE.values()}
    assert reached == set(S)
    assert set(_STATES) == set(S)


def test_a_send_is_only_reached_through_an_intent_and_left_only_by_an_answer():
    into = {trigger for (trigger, _), dest in TABLE.items() if dest is S.SENDING}
    out = {trigger for (trigger, source) in TABLE if source is S.SENDING}
    assert into == {R.INTENT}
    assert out == {R.ANSWER_OPERATION, R.ANSWER_DONE, R.ANSWER_REFUSED, R.ANSWER_LOST}


def test_success_is_only_reached_by_a_verification_an_approval_or_a_delivery():
    into = {trigger for (trigger, _), dest in TABLE.items() if dest is S.SUCCEEDED}
    assert into == {R.STEP_SUCCEEDED, R.DELIVERY_ACCEPTED, R.STEP_ATTESTED}
    sources = {source for (trigger, source) in TABLE if trigger is R.STEP_SUCCEEDED}
    assert sources == {S.VERIFYING, S.AWAITING_APPROVAL}


def test_an_unknown_outcome_is_left_only_by_a_person_or_a_new_generation():
    out = {trigger for (trigger, source) in TABLE if source is S.UNKNOWN}
    by_people = {R.OUTCOME_FOUND, R.OUTCOME_ABSENT, R.STEP_MARKED, R.STEP_ATTESTED}
    assert out == {*by_people, R.GENERATION_ENDED}


def test_a_group_cannot_end_while_one_of_its_steps_is_sending():
    assert (R.GENERATION_ENDED, S.SENDING) not in TABLE


def test_an_opening_never_moves_a_step_that_may_have_sent():
    assert set(AFTER_OPENING) == {S.CHECKING, S.CLEARED}
    assert set(AFTER_OPENING.values()) == {S.PROBING}


@pytest.mark.parametrize("trigger", sorted(TRIGGERS))
def test_a_record_that_fits_no_row_is_refused_with_its_number(trigger):
    closed = [status for status in S if (trigger, status) not in TABLE]
    for status in closed:
        with pytest.raises(JournalDamaged, match="record 7"):
            next_status(trigger, status, step="x", seq=7)


def test_the_diagram_names_every_status():
    drawn = to_mermaid()
    assert all(status.name in drawn for status in S)


# A record that fits no row would end the run for good: every answer that a performer
# may write must therefore have a row in every status in which `decide` commands it.
MAY_RECORD = {
    (S.PROBING, "probe"): {
        R.PROBE_ABSENT,
        R.PROBE_PRESENT,
        R.PROBE_IN_PROGRESS,
        R.PROBE_BUSY,
        R.PROBE_UNDECIDABLE,
        R.GENERATION_ENDED,
        R.STEP_FAILED,
    },
    (S.PROBING, "check"): {R.GUARDS_HELD, R.GUARDS_REFUSED, R.STEP_FAILED},
    (S.CHECKING, "check"): {R.GUARDS_HELD, R.GUARDS_REFUSED, R.STEP_FAILED},
    (S.CLEARED, "send"): {R.INTENT, R.STEP_HELD, R.STEP_FAILED},
    (S.CLEARED, "observe"): {R.ANSWER_DONE, R.STEP_FAILED},
    (S.SENDING, "answer"): {
        R.ANSWER_OPERATION,
        R.ANSWER_DONE,
        R.ANSWER_REFUSED,
        R.ANSWER_LOST,
    },
    (S.IN_DOUBT, "probe"): {
        R.PROBE_ABSENT,
        R.PROBE_PRESENT,
        R.PROBE_IN_PROGRESS,
        R.PROBE_BUSY,
        R.OUTCOME_UNKNOWN,
        R.GENERATION_ENDED,
        R.DOUBT_CLEARED,
    },
    (S.RUNNING, "poll"): {
        R.OPERATION_POLLED,
        R.OPERATION_SUCCEEDED,
        R.OPERATION_FAILED,
        R.OPERATION_LOST,
        R.STEP_FAILED,
    },
    (S.VERIFYING, "verify"): {
        R.VERIFY_MISSED,
        R.PART_DONE,
        R.STEP_SUCCEEDED,
        R.STEP_FAILED,
    },
    (S.PENDING, "request gate"): {R.GATE_REQUESTED, R.STEP_FAILED},
    (S.FAILED, "request gate"): {R.GATE_REQUESTED, R.STEP_FAILED},
    (S.REFUSED, "request gate"): {R.GATE_REQUESTED, R.STEP_FAILED},
}


@pytest.mark.parametrize(("status", "performer"), sorted(MAY_RECORD))
def test_whatever_a_performer_may_record_has_a_row(status, performer):
    missing = {kind for kind in MAY_RECORD[status, performer] if (kind, status) not in TABLE}
    assert missing == set()


UNDO_MAY_RECORD = {
    "undo": ({U.NONE, U.REFUSED, U.CHECKING}, {R.UNDO_KEPT, R.UNDO_REFUSED, R.UNDO_INTENT}),
    "answer": ({U.SENDING}, {R.UNDO_ANSWERED, R.UNDO_REFUSED}),
    "poll": ({U.RUNNING}, {R.UNDO_POLLED, R.UNDO_REFUSED}),
    "look": ({U.SENDING, U.CHECKING}, {R.UNDO_POLLED, R.UNDO_DONE, R.UNDO_REFUSED}),
}


@pytest.mark.parametrize("performer", sorted(UNDO_MAY_RECORD))
def test_whatever_a_rollback_may_record_has_a_row(performer):
    statuses, kinds = UNDO_MAY_RECORD[performer]
    missing = {(k, s) for k in kinds for s in statuses if s not in UNDO_ROWS[k][0]}
    assert missing == set()
