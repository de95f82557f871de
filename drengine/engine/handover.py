"""Giving a run away, and taking it back: the two records that say which host drives it.

Rules:
- After `run.handed_over` no process of this host drives the run: `Chain.open` refuses.
- The host that imports the chain goes on behind that record; the one it came from cannot.
- Taken back counts as a move of its own: should the other host have gone on after all, the
  target's holder tag (`fence`) shows one of the two that it is not its turn.
"""

from __future__ import annotations

from drengine.clock import Clock
from drengine.engine.chain import append, draft
from drengine.engine.fold import fold
from drengine.errors import HandedOver, JournalError
from drengine.journal.port import JournalStore
from drengine.model.ids import RunId, root_of
from drengine.model.records import Lease
from drengine.model.records import RecordType as R
from drengine.model.run import RunState


def give(store: JournalStore, run: RunId, to: str, owner: str, actor: str, clock: Clock) -> None:
    """Hand a run over: the last thing that this host appends to it.

    Parameters:
        to: who is to take it, for people.

    Raises:
        Locked: a living process drives it.
        HandedOver: it was handed over before.
        JournalError: there is no such run, it is a child, or it has ended.
    """
    if "/" in run:
        raise JournalError(
            f"handing over {run}: a child goes with its parent; nothing was done",
            hint=f"drengine journal export {root_of(run)} --out FILE --hand-over",
        )
    lease = store.acquire(run, owner)
    try:
        state = fold(store.read(run))
        if state.handed_to:
            raise HandedOver(
                f"run {run} was handed over to {state.handed_to} already; nothing was done",
                hint=f"drengine journal export {run} --out FILE   writes it once more",
            )
        if state.status.is_over:
            raise JournalError(
                f"handing over {run}: it is {state.status}; nothing was done",
                hint=f"drengine journal export {run} --out FILE   (without --hand-over)",
            )
        body = {"to": to, "owner": owner, "token": lease.token}
        append(store, lease, state, draft(clock, R.RUN_HANDED_OVER, body, actor))
    finally:
        store.release(lease)


def take_back(
    store: JournalStore, lease: Lease, state: RunState, reason: str, actor: str, clock: Clock
) -> None:
    """Take a run back that was handed over and never arrived."""
    head = {"run": state.run, "seq": state.head.seq, "sha256": state.head.sha256}
    body = {"owner": lease.owner, "token": lease.token, "chains": [head], "reason": reason}
    append(store, lease, state, draft(clock, R.RUN_IMPORTED, body, actor))
