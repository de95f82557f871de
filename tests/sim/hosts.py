"""The processes of the simulated hosts: stores and clocks that die or err with them."""

from __future__ import annotations

import random
from contextlib import contextmanager

from drengine.actions.registry import KIT
from drengine.engine.world import World
from drengine.journal.memory import MemoryStore
from drengine.model.plan import Plan
from drengine.model.records import Record
from drengine.model.run import RunState
from drengine.model.secret import Secret
from sim.cloud import EPOCH_MS, SimCloud
from sim.fate import CURRENT, Fate, Process
from sim.loop import VirtualClock, VirtualLoop
from sim.people import Home, judging
from sim.scene import runbook_of
from sim.trace import Trace
from sim.watch import Watch

SELDOM_MS = 600_000


class MortalStore(MemoryStore):
    """A memory store whose process can die at every append, before it and after it."""

    def __init__(self, home: Home, fate: Fate, watch: Watch, trace: Trace, loop: VirtualLoop):
        super().__init__(home.disk)
        self._home, self._fate, self._watch = home.name, fate, watch
        self._trace, self._loop = trace, loop

    def append(self, lease, expect, drafts):
        kind = drafts[0].type
        self._fate.point(f"append {kind}:before")
        records = super().append(lease, expect, drafts)
        self._watch.appended(self._home, records)
        now = EPOCH_MS + int(self._loop.time() * 1000)
        for record in records:
            self._trace.wrote(self._home, record, now)
        self._fate.point(f"append {kind}:after")
        return records

    def delete_signals(self, lease, ids):
        self._fate.point("delete signals")
        super().delete_signals(lease, ids)

    def release(self, lease):
        if not CURRENT.get().dead:
            super().release(lease)


class ProcessClock(VirtualClock):
    """The clock of one host: as wrong as its process's host is at the moment.

    Its monotonic side never jumps, and begins when the host was started.
    """

    def __init__(self, epoch_ms: int, loop: VirtualLoop, process: Process) -> None:
        super().__init__(epoch_ms, loop)
        self._process = process

    def now_ms(self) -> int:
        return super().now_ms() + self._process.skew_ms

    def mono_ms(self) -> int:
        return super().mono_ms() - self._process.boot_ms


class Patience(int):
    """How long a driver leaves its inbox alone: now short, now long, by the seed.

    Always short would cost a thousand looks in every long wait; always long would never find
    what was put there while a look at the cloud takes its time.
    """

    def __new__(cls, rng: random.Random, naps_s: tuple[float, ...]):
        self = super().__new__(cls, SELDOM_MS)
        self._rng, self._naps_s = rng, naps_s  # type: ignore[attr-defined]
        return self

    def __truediv__(self, other: float) -> float:
        return self._rng.choice(self._naps_s)  # type: ignore[attr-defined]


@contextmanager
def no_exchanges():
    yield []


def world_of(
    plan: Plan, store: MemoryStore, cloud: SimCloud, clock: VirtualClock, home: Home
) -> World:
    """Return the ports of one process."""
    fate = cloud.fate
    naps_s, expires_ms = fate.temper.naps_s, fate.temper.expires_ms

    def listen(state: RunState, record: Record) -> None:
        home.latest[record.run] = state

    return World(
        plan=plan,
        store=store,
        cloud=cloud,  # type: ignore[arg-type]
        clock=clock,
        kit=KIT,
        load=runbook_of,
        collect=no_exchanges,
        secret=Secret,
        owner="sim",
        listener=listen,
        inbox_ms=Patience(fate.rng, naps_s) if naps_s else SELDOM_MS,
        judge=judging(expires_ms) if expires_ms else None,
    )
