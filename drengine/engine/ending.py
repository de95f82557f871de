"""Ending a run that no process drives, at once, instead of leaving it a message.

A message would wait in the inbox until somebody resumes a run that nobody wants any more.
"""

from __future__ import annotations

from drengine.clock import Clock
from drengine.engine.chain import append, draft, refuse_if_handed_over
from drengine.engine.fold import fold
from drengine.journal.port import JournalStore
from drengine.model.ids import RunId
from drengine.model.records import RecordType as R
from drengine.model.run import RunState


def cancel(
    store: JournalStore, run: RunId, owner: str, actor: str, reason: str, clock: Clock
) -> None:
    """Cancel a run and its open children, and give up its targets.

    What the service works on goes on there; nobody follows it any more.

    Raises:
        Locked: a living process drives it.
        HandedOver: another host has it.
    """
    lease = store.acquire(run, owner)
    try:
        state = fold(store.read(run))
        refuse_if_handed_over(state)
        for child in _open_children(store, state):
            cancel(store, child, owner, actor, reason, clock)
        if not state.status.is_over:
            append(store, lease, state, draft(clock, R.RUN_CANCELLED, {"reason": reason}, actor))
            store.set_status(lease, "cancelled", None)
        if "/" not in run:
            store.release_claims(run)
    finally:
        store.release(lease)


def _open_children(store: JournalStore, state: RunState) -> list[RunId]:
    children = [child for step in state.steps.values() for child in step.children.values()]
    return [c.run for c in children if not c.status.is_over and store.exists(c.run)]
