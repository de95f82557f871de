"""Ending a run that no process drives, at once, instead of leaving it a message.

A message would wait in the inbox until somebody resumes a run that nobody wants any more.
"""

from __future__ import annotations

from drengine.clock import Clock
from drengine.engine.chain import append, draft, refuse_if_handed_over
from drengine.engine.fold import fold
from drengine.engine.inbox import note_ignored
from drengine.journal.port import JournalStore
from drengine.model.canonical import JsonObject
from drengine.model.ids import RunId
from drengine.model.records import Lease, Signal
from drengine.model.records import RecordType as R
from drengine.model.run import RunState


def cancel(
    store: JournalStore, run: RunId, owner: str, actor: str, reason: str, clock: Clock
) -> list[Signal]:
    """Cancel a run and its open children, and give up its targets.

    What the service works on goes on there; nobody follows it any more. What waited in the
    inboxes is recorded as ignored and returned: nothing that a person sent is lost without a
    trace.

    Raises:
        Locked: a living process drives it.
        HandedOver: another host has it.
    """
    lease = store.acquire(run, owner)
    try:
        state = fold(store.read(run))
        refuse_if_handed_over(state)
        dropped: list[Signal] = []
        for child in _open_children(store, state):
            dropped += cancel(store, child, owner, actor, reason, clock)
        if not state.status.is_over:
            waiting = store.peek_signals(run)
            fresh = [signal for signal in waiting if signal.id not in state.signals]
            for signal in fresh:
                state = _ignored(store, lease, state, signal, clock)
            append(store, lease, state, draft(clock, R.RUN_CANCELLED, {"reason": reason}, actor))
            store.delete_signals(lease, [signal.id for signal in waiting])
            store.set_status(lease, "cancelled", None)
            dropped += fresh
        if "/" not in run:
            store.release_claims(run)
    finally:
        store.release(lease)
    return dropped


def _ignored(
    store: JournalStore, lease: Lease, state: RunState, signal: Signal, clock: Clock
) -> RunState:
    """Note a signal that nobody takes in any more, and return the state behind the note."""
    after = [state]

    def record(body: JsonObject, actor: str) -> None:
        after[0], _ = append(store, lease, state, draft(clock, R.NOTE, body, actor))

    note_ignored(record, signal, "the run was cancelled before a process took it in")
    return after[0]


def _open_children(store: JournalStore, state: RunState) -> list[RunId]:
    children = [child for step in state.steps.values() for child in step.children.values()]
    return [c.run for c in children if not c.status.is_over and store.exists(c.run)]
