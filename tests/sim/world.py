"""One simulated recovery: hosts, their processes, people, and what became of it."""

from __future__ import annotations

import asyncio
import contextvars
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from drengine.actions.registry import KIT
from drengine.engine.commands import Rest
from drengine.engine.driver import Outcome, drive
from drengine.engine.fold import fold
from drengine.engine.genesis import create_run
from drengine.engine.world import World
from drengine.errors import Fenced, Locked
from drengine.journal.memory import MemoryDisk, MemoryStore
from drengine.model.cloud import BlobItem
from drengine.model.plan import Plan
from drengine.model.records import Record, Signal
from drengine.model.run import RunState, StepStatus
from drengine.model.secret import Secret
from sim.cloud import EPOCH_MS, SimCloud
from sim.fate import CURRENT, Crash, Fate, Process
from sim.loop import VirtualClock, VirtualLoop
from sim.scene import (
    FOLDER,
    ME,
    inventory,
    plan,
    restore_blob,
    runbook_of,
    source_keys,
    source_roles,
)
from sim.watch import Watch

MAX_ROUNDS = 60


class MortalStore(MemoryStore):
    """A memory store whose process can die at every append, before it and after it."""

    def __init__(self, disk: MemoryDisk, fate: Fate, watch: Watch) -> None:
        super().__init__(disk)
        self._fate, self._watch = fate, watch

    def append(self, lease, expect, drafts):
        kind = drafts[0].type
        self._fate.point(f"append {kind}:before")
        records = super().append(lease, expect, drafts)
        self._watch.appended(drafts)
        self._fate.point(f"append {kind}:after")
        return records

    def delete_signals(self, lease, ids):
        self._fate.point("delete signals")
        super().delete_signals(lease, ids)

    def release(self, lease):
        if not CURRENT.get().dead:
            super().release(lease)


@contextmanager
def no_exchanges():
    yield []


@dataclass
class Story:
    """How one seed went. `rests`: how each process ended; `resolved`: unknown outcomes."""

    seed: int
    plan: Plan
    fate: Fate
    cloud: SimCloud
    watch: Watch
    disk: MemoryDisk
    state: RunState
    processes: int
    rests: list[str]
    resolved: int

    def count(self, name: str) -> int:
        return self.cloud.ledger.count(name)


def simulate(
    seed: int,
    fate: Fate | None = None,
    *,
    points: int = 320,
    roll_back_at: str = "",
    new_key_at_each_read: bool = False,
) -> Story:
    """Run one recovery by seed: processes die and are started again until it ends."""
    simulation = Simulation(plan(), fate or Fate.of(seed, points))
    simulation.cloud.new_key_at_each_read = new_key_at_each_read
    return simulation.until_over(seed, roll_back_at)


@dataclass
class Simulation:
    """Everything that outlives the processes: disk, cloud, time and what was seen."""

    plan: Plan
    fate: Fate
    disk: MemoryDisk = field(default_factory=MemoryDisk)
    watch: Watch = field(default_factory=Watch)
    loop: VirtualLoop = field(default_factory=VirtualLoop)
    living: set[asyncio.Task[Outcome]] = field(default_factory=set)
    rests: list[str] = field(default_factory=list)
    started: int = 0
    resolved: int = 0

    def __post_init__(self) -> None:
        now = VirtualClock(EPOCH_MS, self.loop).now_ms
        self.cloud = SimCloud(self.fate, now, ME, source_keys(), source_roles())
        self.cloud.before_send = self.watch.sends
        self.cloud.folders[FOLDER] = [BlobItem(f"{FOLDER}/b", 10, "e")]
        self.fate.on_seize = self._seize
        self.fate.on_alien = self._retag
        MemoryStore(self.disk).put_object(inventory())

    def until_over(self, seed: int, roll_back_at: str) -> Story:
        """Let hosts and people act in turn until the run is over."""
        try:
            for number in range(MAX_ROUNDS):
                outcome = self.loop.run_until_complete(self._one_round())
                if outcome is not None and outcome.rest in (Rest.DONE, Rest.ROLLED_BACK):
                    break
                people = People(MemoryStore(self.disk), self.cloud, number, roll_back_at)
                self.loop.pass_seconds(self.fate.idle_ms / 1000)
                if outcome is not None:
                    self._resolve(people, outcome.state)
        finally:
            self.loop.close()
        state = fold(MemoryStore(self.disk).read(self.plan.run_id))
        return Story(
            seed,
            self.plan,
            self.fate,
            self.cloud,
            self.watch,
            self.disk,
            state,
            self.started,
            self.rests,
            self.resolved,
        )

    def _resolve(self, people: People, state: RunState) -> None:
        if any(step.status is StepStatus.UNKNOWN for step in state.steps.values()):
            # Who looks by hand is not quicker than a request that still travels.
            self.loop.pass_seconds(60)
        self.cloud.arrive()
        self.resolved += people.act(state)
        self.cloud.alien = False

    async def _one_round(self) -> Outcome | None:
        """Start a process, or two at once, and wait until nobody lives."""
        before = len(self.rests)
        self._start()
        if self.fate.happens(self.fate.twice):
            self._start()
        last: Outcome | None = None
        while self.living:
            ended, _ = await asyncio.wait(self.living, return_when=asyncio.FIRST_COMPLETED)
            self.living -= ended
            for task in ended:
                last = self._ended(task) or last
        crashed = any(rest == "crash" for rest in self.rests[before:])
        over = last is not None and last.rest in (Rest.DONE, Rest.ROLLED_BACK)
        return last if over or not crashed else None

    def _ended(self, task: asyncio.Task[Outcome]) -> Outcome | None:
        try:
            outcome = task.result()
        except Crash:
            self.rests.append("crash")
        except Fenced:
            self.rests.append("fenced")
        except Locked:
            self.rests.append("locked")
        else:
            self.rests.append(str(outcome.rest))
            return outcome
        return None

    def _start(self) -> None:
        process = Process(f"host-{self.started}", self.fate.skew(self.started))
        self.started += 1
        context = contextvars.copy_context()
        context.run(CURRENT.set, process)
        self.living.add(self.loop.create_task(self._process(process), context=context))

    async def _process(self, process: Process) -> Outcome:
        store = MortalStore(self.disk, self.fate, self.watch)
        world = self._world(store, ProcessClock(EPOCH_MS, self.loop, process))
        part = self.plan.root
        runbook = runbook_of(part.runbook_text)
        run = self.plan.run_id
        try:
            create_run(
                world,
                run,
                runbook,
                part=part,
                inputs=part.inputs,
                initiator="operator:sim",
                tool={},
            )
            return await drive(world, run, asyncio.Event())
        finally:
            process.dead = True
            store.crash()

    def _seize(self, process: Process) -> None:
        """End the lease of a living process, and start another one for the run."""
        del process
        self.disk.locks.pop(self.plan.run_id, None)
        self._start()

    def _retag(self) -> None:
        """Let somebody put another run's tag on the target."""
        self.cloud.alien = True

    def _world(self, store: MemoryStore, clock: VirtualClock) -> World:
        return World(
            plan=self.plan,
            store=store,
            cloud=self.cloud,  # type: ignore[arg-type]
            clock=clock,
            kit=KIT,
            load=runbook_of,
            collect=no_exchanges,
            secret=Secret,
            owner="sim",
            listener=_listen_to_nothing,
            inbox_ms=600_000,
        )


class ProcessClock(VirtualClock):
    """The clock of one host: as wrong as its process's host is at the moment."""

    def __init__(self, epoch_ms: int, loop: VirtualLoop, process: Process) -> None:
        super().__init__(epoch_ms, loop)
        self._process = process

    def now_ms(self) -> int:
        return super().now_ms() + self._process.skew_ms


def _listen_to_nothing(state: RunState, record: Record) -> None:
    del state, record


@dataclass
class People:
    """Who approves, delivers, looks by hand, and takes a foreign tag off again."""

    store: MemoryStore
    cloud: SimCloud
    turn: int
    roll_back_at: str

    def act(self, state: RunState) -> int:
        """Do what the run waits for; return how many unknown outcomes were resolved."""
        asked = state.steps.get(self.roll_back_at)
        if asked is not None and asked.status is StepStatus.AWAITING_APPROVAL:
            self._say(state, "rollback", "", {"reason": "enough"})
            return 0
        resolved = 0
        for step in state.steps.values():
            body: dict[str, Any] = {"step": step.id}
            if step.status is StepStatus.AWAITING_APPROVAL and step.gate:
                facts = {"request_seq": step.gate.seq, "digest": step.gate.digest}
                self._say(state, "approve", step.id, body | facts)
            elif step.status is StepStatus.AWAITING_DELIVERY:
                blob = restore_blob(str(step.expects["exchange"]))
                sha256 = self.store.put_object(blob)
                self._say(
                    state, "deliver", step.id, body | {"kind": "restore_blob", "sha256": sha256}
                )
            elif step.status is StepStatus.UNKNOWN:
                found = _EFFECTS.get(step.id, "backup") in self.cloud.ledger
                self._say(state, "resolve", step.id, body | {"found": found, "reason": "looked"})
                resolved += 1
        return resolved

    def _say(self, state: RunState, kind: str, step: str, body: dict[str, Any]) -> None:
        said = Signal(f"{kind}-{self.turn}-{step}", state.run, kind, "approver:sim", body, EPOCH_MS)
        self.store.put_signal(said)


_EFFECTS = {"restore": "restore", "upload-domain": "upload", "create-hsm": "create"}

__all__ = ["ME", "Story", "plan", "restore_blob", "simulate"]
