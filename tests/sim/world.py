"""One simulated recovery: hosts, their processes, people, and what became of it."""

from __future__ import annotations

import asyncio
import contextvars
from dataclasses import dataclass, field

from drengine.engine.commands import Rest
from drengine.engine.driver import Outcome, drive
from drengine.engine.fold import fold
from drengine.engine.genesis import create_run
from drengine.errors import DrError, Fenced, HandedOver, Locked
from drengine.journal.memory import MemoryDisk, MemoryStore
from drengine.model.cloud import BlobItem
from drengine.model.plan import Plan
from drengine.model.run import RunState, StepStatus
from sim.cloud import EPOCH_MS, SimCloud
from sim.fate import CURRENT, Crash, Fate, Process
from sim.hosts import MachineTime, MortalStore, world_of
from sim.loop import VirtualClock, VirtualLoop
from sim.operators import Operators
from sim.people import FIRST, Home, People, is_by_hand
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
from sim.trace import Trace
from sim.watch import Watch

MAX_ROUNDS = 60
ENDS = (Rest.DONE, Rest.ROLLED_BACK, Rest.CANCELLED)
STUCK_ROUNDS = 6
"""So often in a row what people have brought about may be refused; then nobody goes on."""

BOOTED_MS = {"a": 0, "b": 41_123}
"""How long each host had been up when the story begins: no two start in the same millisecond."""

AFTERWARDS_S = 600
"""So long after the end everything that still travelled has arrived."""


@dataclass
class Story:
    """How one seed went. `rests`: how each process ended; `resolved`: unknown outcomes."""

    seed: int
    plan: Plan
    fate: Fate
    cloud: SimCloud
    watch: Watch
    trace: Trace
    homes: dict[str, Home]
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
    """Run one recovery by seed: processes die and are started again until it ends.

    Where the caller says what people do, the seed has no other people and no second host.
    """
    told = bool(roll_back_at) or new_key_at_each_read
    fate = fate or (Fate.of(seed, points).calm() if told else Fate.of(seed, points))
    simulation = Simulation(plan(sql=True) if fate.sql else plan(), fate)
    simulation.cloud.new_key_at_each_read = new_key_at_each_read
    return simulation.until_over(seed, roll_back_at)


@dataclass
class Simulation:
    """Everything that outlives the processes: disks, cloud, time and what was seen."""

    plan: Plan
    fate: Fate
    watch: Watch = field(default_factory=Watch)
    loop: VirtualLoop = field(default_factory=VirtualLoop)
    living: dict[asyncio.Task[Outcome], Home] = field(default_factory=dict)
    rests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    started: int = 0
    resolved: int = 0

    def __post_init__(self) -> None:
        now = VirtualClock(EPOCH_MS, self.loop).now_ms
        names = list(BOOTED_MS)[: self.fate.homes]
        run = self.plan.run_id
        self.loop.set_exception_handler(lambda *_: None)  # looks of the dead end unasked
        self.cloud = SimCloud(self.fate, now, ME, source_keys(), source_roles(), run)
        self.cloud.before_send = self.watch.sends
        self.cloud.folders[FOLDER] = [BlobItem(f"{FOLDER}/b", 10, "e")]
        self.homes = {name: Home(name, boot_ms=-BOOTED_MS[name]) for name in names}
        for home in self.homes.values():
            home.store.put_object(inventory())
        self.fate.on_seize = self._seize
        self.fate.on_alien = self._retag
        if self.fate.temper.verbs:
            operators = Operators(self.cloud, self.fate, self.homes, run, self.loop)
            self.fate.on_point = operators.at_point

    @property
    def disk(self) -> MemoryDisk:
        return self.homes["a"].disk

    def until_over(self, seed: int, roll_back_at: str) -> Story:
        """Let hosts and people act in turn until the run is over."""
        try:
            with MachineTime(self.loop).shown():
                self._take_turns(roll_back_at)
                self._afterwards()
        finally:
            self.loop.close()
        return Story(
            seed,
            self.plan,
            self.fate,
            self.cloud,
            self.watch,
            self.cloud.trace,
            self.homes,
            self.disk,
            fold(MemoryStore(self.disk).read(self.plan.run_id)),
            self.started,
            self.rests,
            self.resolved,
        )

    def _take_turns(self, roll_back_at: str) -> None:
        for _ in range(MAX_ROUNDS):
            outcomes = self.loop.run_until_complete(self._one_round())
            if all(home.over for home in self.homes.values()):
                break
            self.loop.pass_seconds(self.fate.idle_ms / 1000)
            for home, outcome in outcomes:
                people = People(home, self.cloud, self.fate, roll_back_at)
                self._resolve(people, outcome.state)

    def _resolve(self, people: People, state: RunState) -> None:
        calm = not self.fate.temper.verbs
        if calm and any(step.status is StepStatus.UNKNOWN for step in state.steps.values()):
            # Who looks by hand is not quicker than a request that still travels.
            self.loop.pass_seconds(60)
        self.cloud.arrive()
        self.resolved += people.act(state)
        self.cloud.alien = False

    def _afterwards(self) -> None:
        """Let all arrive that travels, and somebody drive the run once more that has ended."""
        self.loop.pass_seconds(AFTERWARDS_S)
        self.cloud.arrive()
        if not self.fate.temper.verbs:
            return
        rests = list(self.rests)
        for home in self.homes.values():
            home.tell(self.plan.run_id, "continue", FIRST, {"reason": "once more"})
        for _ in range(2):
            for home, outcome in self.loop.run_until_complete(self._one_round(again=True)):
                People(home, self.cloud, self.fate, "").act(outcome.state)
        self.rests[:] = rests
        self.loop.pass_seconds(AFTERWARDS_S)
        self.cloud.arrive()

    async def _one_round(self, *, again: bool = False) -> list[tuple[Home, Outcome]]:
        """Start a process in each home, or two at once, and wait until nobody lives."""
        before = len(self.rests)
        for home in self.homes.values():
            if not home.over or again:
                self._start(home)
                if self.fate.happens(self.fate.twice):
                    self._start(home)
        last: dict[str, Outcome] = {}
        while self.living:
            ended, _ = await asyncio.wait(self.living, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                home = self.living.pop(task)
                if (outcome := self._ended(task, home)) is not None:
                    last[home.name] = outcome
                    self._note_end(home, outcome)
        crashed = any(rest == "crash" for rest in self.rests[before:])
        found = [(self.homes[name], outcome) for name, outcome in last.items()]
        return [] if crashed else found

    def _note_end(self, home: Home, outcome: Outcome) -> None:
        refused = outcome.rest in (Rest.REFUSED, Rest.FAILED)
        by_hand = any(map(is_by_hand, outcome.state.steps.values()))
        waits = by_hand or outcome.state.rolling_back or self.fate.homes > 1
        home.stuck = home.stuck + 1 if refused and waits else 0
        home.given_up = home.given_up or home.stuck >= STUCK_ROUNDS
        home.over = home.over or home.given_up or outcome.rest in ENDS

    def _ended(self, task: asyncio.Task[Outcome], home: Home) -> Outcome | None:
        try:
            outcome = task.result()
        except Crash:
            self.rests.append("crash")
        except Fenced:
            self.rests.append("fenced")
        except Locked:
            self.rests.append("locked")
        except HandedOver:
            self.rests.append("handed over")
            home.over = True
        except DrError as error:
            self.rests.append("died")
            self.watch.problems.append(f"a process died: {error.code} {error.message}")
        else:
            self.rests.append(str(outcome.rest))
            return outcome
        return None

    def _start(self, home: Home) -> None:
        anew = int(self.loop.time() * 1000) if self.fate.happens(self.fate.reboot) else 0
        boot = anew + home.boot_ms
        skew = self.fate.skew(self.started)
        process = Process(f"host-{self.started}", skew, home=home.name, boot_ms=boot)
        self.started += 1
        context = contextvars.copy_context()
        context.run(CURRENT.set, process)
        task = self.loop.create_task(self._process(process, home), context=context)
        self.living[task] = home

    async def _process(self, process: Process, home: Home) -> Outcome:
        trace = self.cloud.trace
        store = MortalStore(home, self.fate, self.watch, trace, self.loop)
        world = world_of(self.plan, store, self.cloud, home)
        part = self.plan.root
        runbook = runbook_of(part.runbook_text)
        run = self.plan.run_id
        if self.fate.homes > 1:
            await asyncio.sleep(self.fate.rng.choice((0, 0, 5, 60, 600)))
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
            return await drive(world, run, process.stop)
        finally:
            process.dead = True
            store.crash()

    def _seize(self, process: Process) -> None:
        """End the lease of a living process, and start another one for the run."""
        home = self.homes[process.home]
        for run in list(home.disk.locks):
            del home.disk.locks[run]
        self._start(home)

    def _retag(self) -> None:
        """Let somebody put another run's tag on the target."""
        self.cloud.alien = True


__all__ = ["ME", "Story", "plan", "restore_blob", "simulate"]
