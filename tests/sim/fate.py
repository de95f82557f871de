"""What goes wrong, decided by a seed: crashes, lost and slow answers, clocks, a second operator."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

HOUR_MS = 3_600_000


class Crash(BaseException):
    """The process is gone. Nothing it still holds may act any more."""


@dataclass
class Process:
    """One process of the simulated hosts.

    Attributes:
        skew_ms: how wrong its host's clock is.
        boot_ms: when its host's monotonic clock began, in the simulation's time.
        stop: set by whoever sends it SIGTERM.
    """

    name: str
    skew_ms: int = 0
    dead: bool = False
    saw_alien: bool = False
    home: str = "a"
    boot_ms: int = 0
    stop: asyncio.Event = field(default_factory=asyncio.Event)


CURRENT: ContextVar[Process] = ContextVar("process")
"""Which process is acting: every task inherits it from the one that made it."""


@dataclass(frozen=True)
class Temper:
    """What the people of a seed are like; nothing by default: they do what they are asked for.

    Attributes:
        verbs: what an operator may do unasked, see `operators`.
        act_at: point numbers at which one does.
        aims: whether that waits until a step is cleared and not yet sent.
        stale: chance that a person answers by an older look.
        by_hand: chance that a person marks a step as done instead of resolving it.
        leaves_out: chance that a person skips a step that has failed.
        retags: chance that another run's tag is put on the target when an answer is lost.
        expires_ms: how long an approval is good for; 0 for ever.
        naps_s: how long a driver leaves its inbox alone, one of these.
    """

    verbs: tuple[str, ...] = ()
    act_at: frozenset[int] = frozenset()
    aims: bool = False
    stale: float = 0.0
    by_hand: float = 0.0
    leaves_out: float = 0.0
    retags: float = 0.0
    expires_ms: int = 0
    naps_s: tuple[float, ...] = ()

    @classmethod
    def of(cls, rng: random.Random, points: int, *, sql: bool) -> Temper:
        """Return the temper of the people of one seed: two thirds of them are calm."""
        calm = rng.random() >= 1 / 3
        verbs = ["pause", "pause", "continue", "withdraw", "withdraw", "skip", "stop", "look"]
        if rng.random() < 0.3:
            verbs += ["rollback", "rollback"]
        if rng.random() < 0.15:
            verbs += ["cancel", "cancel"]
        if rng.random() < 0.3:
            verbs += ["deface", "deface"]
        temper = cls(
            verbs=tuple(verbs),
            act_at=frozenset(rng.randrange(points) for _ in range(rng.choice((1, 2, 3, 5)))),
            aims=rng.random() < 0.5,
            stale=rng.choice((0.0, 0.0, 0.5)),
            by_hand=rng.choice((0.0, 0.0, 0.3)),
            leaves_out=rng.choice((0.0, 0.0, 0.25)),
            retags=rng.choice((0.0, 0.0, 0.4)),
            expires_ms=rng.choice((0, 0, 180_000, HOUR_MS)),
            # A stop goes down through the inboxes of a fan-out: each looks soon enough.
            naps_s=(0.7, 5.0, 15.0) if sql else (0.7, 0.7, 5.0, 600.0),
        )
        return cls() if calm else temper


@dataclass
class Fate:
    """Counts every point that a process passes and lets happen there what the seed says.

    Attributes:
        crash_at, seize_at, jump_at, alien_at: point numbers, counted over all processes of the
            run: there the process dies; loses its lease to another one and lives on; its clock
            jumps; somebody puts another run's tag on the target.
        lose_answer, lose_request, refuse: chance of each at a changing call.
        straggle: chance that a request's connection breaks and the request arrives all the same,
            as late as its action's quiet period allows.
        late_ms: how late an effect becomes visible, at most the quiet period of its action.
        slow_ms: how long a request travels; its sender may die meanwhile, it arrives.
        reads_ms: how long a look takes, one of these.
        jump_after_send: chance that the sender's clock jumps when a request has left.
        skews_ms: how wrong the clocks of the hosts are, one after another.
        reboot: chance that a process begins on a host that was started anew.
        upload_ms: how long an upload takes until the HSM is active.
        restore_ms: how long the service restores; `lists_meanwhile`: and lists no keys meanwhile,
            instead of not answering.
        twice: chance that two processes are started for the run at once.
        idle_ms: how long nobody starts a process after one has ended.
        homes: how many hosts start the plan, each with a store of its own.
        sql: whether instances use the lost HSM's keys.
    """

    seed: int
    crash_at: frozenset[int] = frozenset()
    seize_at: frozenset[int] = frozenset()
    jump_at: frozenset[int] = frozenset()
    alien_at: frozenset[int] = frozenset()
    lose_answer: float = 0.0
    lose_request: float = 0.0
    refuse: float = 0.0
    straggle: float = 0.0
    late_ms: int = 0
    slow_ms: int = 0
    reads_ms: tuple[int, ...] = (0,)
    jump_after_send: float = 0.0
    skews_ms: tuple[int, ...] = (0,)
    reboot: float = 0.0
    upload_ms: int = 20_000
    restore_ms: int = 15_000
    lists_meanwhile: bool = False
    twice: float = 0.0
    idle_ms: int = 5_000
    homes: int = 1
    sql: bool = False
    temper: Temper = field(default_factory=Temper)
    points: int = 0
    jumped_ms: int = 0
    names: list[str] = field(default_factory=list)
    on_seize: Callable[[Process], None] = lambda _: None
    on_alien: Callable[[], None] = lambda: None
    on_point: Callable[[int, str], None] = lambda *_: None
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    @classmethod
    def of(cls, seed: int, points: int) -> Fate:
        """Return the fate of a seed for a run that has about so many points."""
        rng = random.Random(seed * 7919 + 13)
        sql, homes = rng.random() < 0.07, 2 if rng.random() < 0.05 else 1
        points = (points * 9 // 4 if sql else points) * homes

        def somewhere(*counts: int) -> frozenset[int]:
            return frozenset(rng.randrange(points) for _ in range(rng.choice(counts)))

        temper = Temper.of(rng, points, sql=sql)
        return cls(
            seed,
            crash_at=somewhere(0, 1, 1, 2, 3, 6),
            seize_at=somewhere(0, 0, 0, 1, 2),
            jump_at=somewhere(0, 0, 0, 1, 2),
            alien_at=somewhere(0, 0, 0, 0, 1),
            lose_answer=rng.choice((0.0, 0.0, 0.05, 0.3)),
            lose_request=rng.choice((0.0, 0.0, 0.05, 0.3)),
            refuse=rng.choice((0.0, 0.0, 0.1)),
            straggle=rng.choice((0.0, 0.0, 0.05, 0.3)),
            late_ms=rng.choice((0, 0, 0, 5_000, 5_000, 50_000, HOUR_MS)),
            slow_ms=rng.choice((0, 0, 2_000, 20_000)),
            reads_ms=rng.choice(((0,), (0, 0, 800, 2_000))) if temper.verbs or homes > 1 else (0,),
            jump_after_send=rng.choice((0.0, 0.0, 0.0, 0.2)),
            skews_ms=rng.choice(((0,), (0,), (0, 40_000, -40_000), (-HOUR_MS, HOUR_MS))),
            reboot=rng.choice((0.0, 0.3)),
            restore_ms=rng.choice((15_000,) * 8 + (900_000,)),
            upload_ms=rng.choice((20_000, 20_000, 150_000)),
            lists_meanwhile=rng.random() < 0.5,
            twice=rng.choice((0.0, 0.0, 0.5)),
            idle_ms=rng.choice((5_000, 5_000, 600_000, 3 * HOUR_MS)),
            homes=homes,
            sql=sql,
            temper=temper,
        )

    def calm(self) -> Fate:
        """Return the same fate with one host, and people who only do what they are asked for."""
        return replace(self, homes=1, temper=Temper(), reads_ms=(0,))

    def point(self, name: str) -> None:
        """Pass a point where the process may die."""
        process = CURRENT.get()
        if process.dead:
            raise Crash
        number = self.points
        self.points += 1
        if number in self.crash_at:
            process.dead = True
            self.happened("crash", number, name)
            raise Crash
        if number in self.seize_at:
            self.happened("seized", number, name)
            self.on_seize(process)
        if number in self.jump_at:
            self.happened("jump", number, name)
            self._jump(process)
        if number in self.alien_at:
            self.happened("alien tag", number, name)
            self.on_alien()
        self.on_point(number, name)

    def sent(self, name: str) -> None:
        """Let the sender's clock jump, now that its request has left."""
        if self.happens(self.jump_after_send):
            self.happened("jump", self.points, f"{name}:sent")
            self._jump(CURRENT.get())

    def _jump(self, process: Process) -> None:
        far = (-HOUR_MS, -90_000, -90_000, 90_000, HOUR_MS, 6 * HOUR_MS)
        jump = self.rng.choice(far)
        process.skew_ms += jump
        self.jumped_ms += jump

    def happens(self, chance: float) -> bool:
        """Whether something of that chance happens now."""
        return chance > 0 and self.rng.random() < chance

    def read_seconds(self) -> float:
        """Return how long the next look takes."""
        return self.rng.choice(self.reads_ms) / 1000 if len(self.reads_ms) > 1 else 0.0

    def skew(self, process: int) -> int:
        """Return how wrong the clock of the host is that starts that process."""
        return self.skews_ms[process % len(self.skews_ms)] + self.jumped_ms

    def happened(self, what: str, number: int, name: str) -> None:
        self.names.append(f"{number}:{name}: {what}")
