"""What only the process that drives a run knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from drengine.engine.commands import Rest


@dataclass(frozen=True, slots=True)
class Session:
    """What only this process knows.

    Attributes:
        busy: steps and children (`step/name`) under way right now.
        parked: children that came to rest in this session, with why.
        stopping: whether a person asked the process to end.
        halted: why the run that this one belongs to lets nothing begin; empty where it does.
        rests: whether that run is paused or over: then this one rests, too.
    """

    busy: frozenset[str] = frozenset()
    parked: Mapping[str, Rest] = field(default_factory=dict)
    stopping: bool = False
    halted: str = ""
    rests: bool = False
