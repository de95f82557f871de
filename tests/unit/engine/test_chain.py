"""The only way to append: a record that the lifecycle refuses never becomes durable."""

from __future__ import annotations

import pytest
from sim.fate import Fate
from sim.scene import plan
from sim.world import simulate

from drengine.engine.chain import Chain, append, draft
from drengine.engine.fold import apply, begin, fold
from drengine.errors import InternalError
from drengine.journal.memory import MemoryStore
from drengine.model.records import Lease
from drengine.model.records import RecordType as R


class Clock:
    def now_ms(self) -> int:
        return 1

    mono_ms = now_ms

    def wall_ms(self) -> None:
        return None


class Alone:
    """What a chain needs of a world."""

    def __init__(self, store: MemoryStore) -> None:
        self.store, self.clock = store, Clock()


def test_a_record_without_a_row_is_refused_and_the_journal_stays_whole():
    story = simulate(0, Fate(0))
    store, run = MemoryStore(story.disk), plan().run_id
    lease: Lease = store.acquire(run, "test")
    chain = Chain(Alone(store), lease, fold(store.read(run)))  # type: ignore[arg-type]
    before = list(store.lines(run))

    with pytest.raises(InternalError, match="was not written"):
        chain.append(R.INTENT, {"step": "restore"})

    assert list(store.lines(run)) == before
    assert fold(store.read(run)) == story.state


def test_folding_at_once_and_record_by_record_come_to_the_same():
    records = list(MemoryStore(simulate(4).disk).read(plan().run_id))
    states = [begin(records[0])]
    for record in records[1:]:
        states.append(apply(states[-1], record))

    assert fold(records) == states[-1]
    assert states[0] == begin(records[0]), "a state on the way was changed behind its holder's back"


def test_who_appends_without_a_chain_is_held_to_the_same_check():
    store, run = MemoryStore(simulate(0, Fate(0)).disk), plan().run_id
    state = fold(store.read(run))
    lease = store.acquire(run, "test")

    with pytest.raises(InternalError, match="was not written"):
        append(store, lease, state, draft(Clock(), R.INTENT, {"step": "restore"}))  # type: ignore[arg-type]
    assert store.head(run) == state.head
    after, record = append(store, lease, state, draft(Clock(), R.NOTE, {}))  # type: ignore[arg-type]

    assert store.head(run) == after.head
    assert after.head.seq == record.seq == state.head.seq + 1
