"""The fold remembers which signals are in the chain: a second delivery must change nothing."""

from __future__ import annotations

from drengine.engine.fold import fold
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
