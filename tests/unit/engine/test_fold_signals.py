"""The fold remembers which signals are in the chain, and refuses records that hold nothing."""

from __future__ import annotations

import pytest

from drengine.engine.fold import fold
from drengine.errors import JournalDamaged
from drengine.model.ids import RunId
from drengine.model.records import GENESIS_PREV, Record
from drengine.model.records import RecordType as R


def _record(seq: int, kind: R, **body) -> Record:
    run = RunId("r-0123456789ab")
    return Record(
        seq, run, kind, "engine", body, 1000 + seq, seq, None, GENESIS_PREV, f"{seq:064x}"
    )


def test_every_signal_in_the_chain_is_remembered_by_its_id():
    genesis = {"class": "drill", "steps": ["one"], "cloud": {"lab": True}, "inputs": {}}
    state = fold(
        [
            _record(0, R.RUN_CREATED, **genesis),
            _record(1, R.RUN_PAUSED, reason="", signal="s-1"),
            _record(2, R.NOTE, ignored="approve", signal="s-2"),
            _record(3, R.RUN_CONTINUED, reason=""),
        ]
    )
    assert state.signals == {"s-1", "s-2"}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (R.STEP_BEGUN, {}),
        (R.STEP_BEGUN, {"step": ["one"], "attempt": 1}),
        (R.STEP_BEGUN, {"step": "one"}),
        (R.GENERATION_ENDED, {"steps": None}),
    ],
)
def test_a_record_that_lacks_what_its_type_holds_is_damage_that_names_it(kind, body):
    """Somebody wrote it so and made the hashes right again: no reader may fall over it."""
    genesis = {"class": "drill", "steps": ["one"], "cloud": {"lab": True}, "inputs": {}}
    with pytest.raises(JournalDamaged, match="record 1 of r-0123456789ab does not hold"):
        fold([_record(0, R.RUN_CREATED, **genesis), _record(1, kind, **body)])


def test_a_first_record_of_no_known_class_is_damage():
    with pytest.raises(JournalDamaged, match="record 0 of r-0123456789ab does not hold"):
        fold([_record(0, R.RUN_CREATED, **{"class": "rehearsal", "steps": []})])
