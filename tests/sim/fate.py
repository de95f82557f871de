"""What goes wrong, decided by a seed: crashes, lost answers, late effects, refusals."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


class Crash(BaseException):
    """The process is gone. Nothing it still holds may act any more."""


@dataclass
class Fate:
    """Counts every point where a process can die and lets it die where the seed says.

    crash_at: point numbers, counted over all processes of the run.
    """

    seed: int
    crash_at: frozenset[int] = frozenset()
    lose_answer: float = 0.0
    lose_request: float = 0.0
    refuse: float = 0.0
    late_ms: int = 0
    points: int = 0
    intents: int = 0
    dead: bool = False
    names: list[str] = field(default_factory=list)
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    @classmethod
    def of(cls, seed: int, points: int) -> Fate:
        """Return the fate of a seed for a run that has about so many points."""
        rng = random.Random(seed * 7919 + 13)
        crashes = frozenset(rng.randrange(points) for _ in range(rng.choice((0, 1, 1, 2, 3, 6))))
        return cls(
            seed,
            crash_at=crashes,
            lose_answer=rng.choice((0.0, 0.0, 0.05, 0.3)),
            lose_request=rng.choice((0.0, 0.0, 0.05, 0.3)),
            refuse=rng.choice((0.0, 0.0, 0.1)),
            late_ms=rng.choice((0, 0, 5_000, 50_000)),
        )

    def point(self, name: str) -> None:
        """Pass a point where the process may die."""
        if self.dead:
            raise Crash
        number = self.points
        self.points += 1
        if number in self.crash_at:
            self.dead = True
            self.names.append(f"{number}:{name}")
            raise Crash

    def happens(self, chance: float) -> bool:
        """Whether something of that chance happens now."""
        return chance > 0 and self.rng.random() < chance
