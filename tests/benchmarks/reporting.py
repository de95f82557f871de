"""How every section prints: figure, goal, and whether the goal was met.

A section is a module with `measure() -> list[Figure]`, which runs alone or from `bench.py`.
A figure without a goal is there to be read beside the others.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value.

    Attributes:
        at_most, at_least: the goal; neither where there is none.
    """

    name: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def verdict(self) -> str:
        """Whether the goal was met; empty where there is none."""
        if self.at_most is None and self.at_least is None:
            return ""
        above = self.at_least is not None and self.value < self.at_least
        below = self.at_most is not None and self.value > self.at_most
        return "missed" if above or below else "met"

    def line(self) -> str:
        """Return what is printed."""
        goal = ""
        if self.at_most is not None:
            goal = f"goal <= {self.at_most:.3g}"
        elif self.at_least is not None:
            goal = f"goal >= {self.at_least:.3g}"
        unit = self.unit or ""
        return f"  {self.name:42} {self.value:10.2f} {unit:4} {goal:14} {self.verdict}".rstrip()

    def to_json(self) -> dict[str, Any]:
        """Return the figure as plain JSON."""
        return {**asdict(self), "verdict": self.verdict}


def show(title: str, figures: Sequence[Figure]) -> None:
    """Print a section, with the load of the machine at its end."""
    load = os.getloadavg()[0]
    print(f"{title}   (load {load:.1f} on {os.cpu_count()} processors)")
    for figure in figures:
        print(figure.line())
    if not figures:
        print("  nothing to compare with is installed here")
    print(flush=True)
