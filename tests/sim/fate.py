"""What goes wrong, decided by a seed: crashes, lost and slow answers, clocks, a second operator."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field


class Crash(BaseException):
    """The process is gone. Nothing it still holds may act any more."""


@dataclass
class Process:
    """One process of the simulated hosts. `skew_ms`: how wrong its host's clock is."""

    name: str
    skew_ms: int = 0
    dead: bool = False
    saw_alien: bool = False


CURRENT: ContextVar[Process] = ContextVar("process")
"""Which process is acting: every task inherits it from the one that made it."""

HOUR_MS = 3_600_000


@dataclass
class Fate:
    """Counts every point that a process passes and lets happen there what the seed says.

    Attributes:
        crash_at, seize_at, jump_at, alien_at: point numbers, counted over all processes of the
            run: there the process dies; loses its lease to another one and lives on; its clock
            jumps; somebody puts another run's tag on the target.
        lose_answer, lose_request, refuse: chance of each at a changing call.
        late_ms: how late an effect becomes visible.
        slow_ms: how long a request travels; its sender may die meanwhile, it arrives.
        skews_ms: how wrong the clocks of the hosts are, one after another.
        twice: chance that two processes are started for the run at once.
        idle_ms: how long nobody starts a process after one has ended.
    """

    seed: int
    crash_at: frozenset[int] = frozenset()
    seize_at: frozenset[int] = frozenset()
    jump_at: frozenset[int] = frozenset()
    alien_at: frozenset[int] = frozenset()
    lose_answer: float = 0.0
    lose_request: float = 0.0
    refuse: float = 0.0
    late_ms: int = 0
    slow_ms: int = 0
    skews_ms: tuple[int, ...] = (0,)
    twice: float = 0.0
    idle_ms: int = 5_000
    points: int = 0
    names: list[str] = field(default_factory=list)
    on_seize: Callable[[Process], None] = lambda _: None
    on_alien: Callable[[], None] = lambda: None
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    @classmethod
    def of(cls, seed: int, points: int) -> Fate:
        """Return the fate of a seed for a run that has about so many points."""
        rng = random.Random(seed * 7919 + 13)

        def somewhere(*counts: int) -> frozenset[int]:
            return frozenset(rng.randrange(points) for _ in range(rng.choice(counts)))

        return cls(
            seed,
            crash_at=somewhere(0, 1, 1, 2, 3, 6),
            seize_at=somewhere(0, 0, 0, 1, 2),
            jump_at=somewhere(0, 0, 0, 1, 2),
            alien_at=somewhere(0, 0, 0, 0, 1),
            lose_answer=rng.choice((0.0, 0.0, 0.05, 0.3)),
            lose_request=rng.choice((0.0, 0.0, 0.05, 0.3)),
            refuse=rng.choice((0.0, 0.0, 0.1)),
            late_ms=rng.choice((0, 0, 5_000, 50_000)),
            slow_ms=rng.choice((0, 0, 2_000, 20_000)),
            skews_ms=rng.choice(((0,), (0,), (0, 40_000, -40_000), (-HOUR_MS, HOUR_MS))),
            twice=rng.choice((0.0, 0.0, 0.5)),
            idle_ms=rng.choice((5_000, 5_000, 600_000, 3 * HOUR_MS)),
        )

    def point(self, name: str) -> None:
        """Pass a point where the process may die."""
        process = CURRENT.get()
        if process.dead:
            raise Crash
        number = self.points
        self.points += 1
        if number in self.crash_at:
            process.dead = True
            self._happened("crash", number, name)
            raise Crash
        if number in self.seize_at:
            self._happened("seized", number, name)
            self.on_seize(process)
        if number in self.jump_at:
            self._happened("jump", number, name)
            process.skew_ms += self.rng.choice((-HOUR_MS, -90_000, 90_000, HOUR_MS))
        if number in self.alien_at:
            self._happened("alien tag", number, name)
            self.on_alien()

    def happens(self, chance: float) -> bool:
        """Whether something of that chance happens now."""
        return chance > 0 and self.rng.random() < chance

    def skew(self, process: int) -> int:
        """Return how wrong the clock of the host is that starts that process."""
        return self.skews_ms[process % len(self.skews_ms)]

    def _happened(self, what: str, number: int, name: str) -> None:
        self.names.append(f"{number}:{name}: {what}")
