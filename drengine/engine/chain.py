"""One run's chain in this process: the lease, the state, and the engine's only way to append.

Whether a record fits is tried before it is written; the state moves on only with what is there.

INVARIANT J3: a record is folded only after its commit is durable. When a commit fails
the error goes up and the process ends: whether the record is there is read back by the
next process.
"""

from __future__ import annotations

import drengine
from drengine.clock import Clock
from drengine.engine.fold import apply, fold
from drengine.engine.world import World
from drengine.errors import HandedOver, InternalError, JournalDamaged
from drengine.journal.port import JournalStore
from drengine.model.canonical import JsonObject
from drengine.model.ids import RunId, root_of
from drengine.model.records import Draft, Lease, Record
from drengine.model.records import RecordType as R
from drengine.model.run import RunState

ENGINE = "engine"


def draft(clock: Clock, kind: R, body: JsonObject, actor: str = ENGINE) -> Draft:
    """Return a record of now, not yet in a chain."""
    return Draft(kind, actor, body, clock.now_ms(), clock.mono_ms(), clock.wall_ms())


def append(
    store: JournalStore, lease: Lease, state: RunState, written: Draft
) -> tuple[RunState, Record]:
    """Append one record durably behind `state`; return the state after it, and the record.

    Raises:
        Fenced: another process holds the run by now.
        StoreFailed: the commit failed; this process must end.
        InternalError: the lifecycle has no place for it; nothing was written.
    """
    _refuse_misfit(state, written)
    (record,) = store.append(lease, state.head, [written])
    return apply(state, record), record


def _refuse_misfit(state: RunState, written: Draft) -> None:
    """Fold a record before it is durable: one that does not fit would end the run for good."""
    record = Record(
        seq=state.head.seq + 1,
        run=state.run,
        type=written.type,
        actor=written.actor,
        body=written.body,
        at_ms=written.at_ms,
        mono_ms=written.mono_ms,
        wall_ms=written.wall_ms,
        prev=state.head.sha256,
        sha256="",
    )
    try:
        apply(state, record)
    except JournalDamaged as misfit:
        raise InternalError(
            f"run {state.run} was about to record what its lifecycle does not allow:"
            f" {misfit.message}; the record was not written",
            hint="This is a bug of drengine. The journal is whole:"
            f" drengine resume {root_of(state.run)}",
        ) from misfit


def _opening(world: World, lease: Lease) -> JsonObject:
    copies = {"copies_to": world.copies_to} if world.copies_to else {}
    return {"owner": world.owner, "token": lease.token, "tool": drengine.__version__, **copies}


def refuse_if_handed_over(state: RunState) -> None:
    """Refuse to go on with a run that was given to another host.

    Raises:
        HandedOver: it was, and nobody took it back here.
    """
    if state.handed_to:
        raise HandedOver(
            f"run {state.run} was handed over to {state.handed_to} with record {state.head.seq}; "
            "this host does not go on with it, and nothing was sent",
            hint=f"Go on there. If it never arrived: drengine take-over {state.run} --reason TEXT",
        )


class Chain:
    """The chain of one run, held under a lease.

    Use `Chain.open`; call `release` when the driver is done with it.
    """

    def __init__(self, world: World, lease: Lease, state: RunState) -> None:
        self._world = world
        self._lease = lease
        self.state = state

    @classmethod
    def open(cls, world: World, run: RunId) -> Chain:
        """Take the run, read and check its chain, and record the opening.

        Raises:
            Locked: another process holds it.
            HandedOver: it was handed over to another host.
            JournalDamaged: the chain does not verify.
        """
        lease = world.store.acquire(run, world.owner)
        chain = cls(world, lease, fold(world.store.read(run)))
        try:
            refuse_if_handed_over(chain.state)
            if not chain.state.status.is_over:
                chain.append(R.RUN_OPENED, _opening(world, lease))
        except BaseException:
            chain.release()
            raise
        return chain

    @property
    def run(self) -> RunId:
        """The run's id."""
        return self.state.run

    def append(self, kind: R, body: JsonObject, actor: str = ENGINE) -> Record:
        """Append one record durably, then fold it.

        Raises:
            Fenced: another process holds the run by now.
            StoreFailed: the commit failed; this process must end.
            InternalError: the lifecycle has no place for it; nothing was written.
        """
        written = draft(self._world.clock, kind, body, actor)
        self.state, record = append(self._world.store, self._lease, self.state, written)
        self._world.listener(self.state, record)
        return record

    def leave_status(self, wake_at_ms: int | None) -> None:
        """Leave the hint that listings show."""
        self._world.store.set_status(self._lease, str(self.state.status), wake_at_ms)

    def make_sure(self) -> None:
        """Make sure that this process still has the run.

        Raises:
            Fenced: another process has it by now.
        """
        self._world.store.check_lease(self._lease)

    def drop_signals(self, ids: list[str]) -> None:
        """Take recorded signals out of the inbox."""
        if ids:
            self._world.store.delete_signals(self._lease, ids)

    def release(self) -> None:
        """Give the run back."""
        self._world.store.release(self._lease)
