"""The processes of the simulated hosts: stores that die with them, clocks that err."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

from drengine import clock
from drengine.actions.registry import KIT
from drengine.engine.world import World
from drengine.journal.memory import MemoryStore
from drengine.model.plan import Plan
from drengine.model.records import Record
from drengine.model.records import RecordType as R
from drengine.model.run import RunState
from drengine.model.secret import Secret
from sim.cloud import EPOCH_MS, SimCloud
from sim.fate import CURRENT, Fate
from sim.loop import VirtualLoop
from sim.people import Home, judging, shows
from sim.scene import runbook_of
from sim.trace import Trace
from sim.watch import Watch

SELDOM_MS = 600_000


MOST_RECORDS = 5_000
"""No recovery here needs a tenth of it."""


class MortalStore(MemoryStore):
    """A memory store whose process can die at every append, before it and after it."""

    def __init__(self, home: Home, fate: Fate, watch: Watch, trace: Trace, loop: VirtualLoop):
        super().__init__(home.disk)
        self._home, self._fate, self._watch = home.name, fate, watch
        self._trace, self._loop = trace, loop

    def append(self, lease, expect, drafts):
        kind = drafts[0].type
        self._fate.point(f"append {kind}:before")
        if expect.seq > MOST_RECORDS:
            raise AssertionError(f"{lease.run} appends without end: {kind} again and again")
        records = super().append(lease, expect, drafts)
        self._watch.appended(self._home, records)
        now = EPOCH_MS + int(self._loop.time() * 1000)
        for record in records:
            self._trace.wrote(self._home, record, now, CURRENT.get().name)
        self._fate.point(f"append {kind}:after")
        return records

    def delete_signals(self, lease, ids):
        self._fate.point("delete signals")
        super().delete_signals(lease, ids)

    def release(self, lease):
        if not CURRENT.get().dead:
            super().release(lease)


class MachineTime:
    """Stands for the module `time` under the engine's own `SystemClock`: a host's two clocks.

    The wall clock is as wrong as the acting process's host is at the moment; the monotonic one
    never jumps, and begins when the host was started.
    """

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def time_ns(self) -> int:
        return (EPOCH_MS + self._passed_ms() + CURRENT.get().skew_ms) * 1_000_000

    def monotonic_ns(self) -> int:
        return (self._passed_ms() - CURRENT.get().boot_ms) * 1_000_000

    def clock_gettime_ns(self, clock: int) -> int:
        del clock
        return self.monotonic_ns()

    def _passed_ms(self) -> int:
        return int(self._loop.time() * 1000)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Let every `SystemClock` of this Python process read these clocks for a while."""
        real = clock.time
        clock.time = self  # type: ignore[assignment]
        try:
            yield
        finally:
            clock.time = real


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


def world_of(plan: Plan, store: MemoryStore, cloud: SimCloud, home: Home) -> World:
    """Return the ports of one process."""
    fate = cloud.fate
    naps_s, expires_ms = fate.temper.naps_s, fate.temper.expires_ms

    def listen(state: RunState, record: Record) -> None:
        home.latest[record.run] = state
        if record.type is R.ANSWER_LOST:  # somebody looks at once, maybe too early
            place = (record.run, str(record.body["step"]))
            home.looks[place] = shows(cloud, *place)
            cloud.alien = cloud.alien or fate.happens(fate.temper.retags)

    return World(
        plan=plan,
        store=store,
        cloud=cloud,  # type: ignore[arg-type]
        clock=clock.SystemClock(),
        kit=KIT,
        load=runbook_of,
        collect=no_exchanges,
        secret=Secret,
        owner="sim",
        listener=listen,
        inbox_ms=Patience(fate.rng, naps_s) if naps_s else SELDOM_MS,
        judge=judging(expires_ms) if expires_ms else None,
    )
