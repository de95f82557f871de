"""What a runbook may name: actions, rules, observations, discoveries, delivery kinds.

The loader gets a `Catalogue` as a parameter, so that it stays pure and the actions
and rules stay the only place that says what exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Repeat(StrEnum):
    """What sending the same request twice would do."""

    READ = "read"  # the action only reads
    BY_NAME = "by_name"  # same name, same result: safe after a look
    HARMLESS = "harmless"  # a second effect is visible but does no harm (a second backup)
    FINDABLE = "findable"  # not repeatable, but its effect can always be found by looking
    NEVER = "never"  # a second effect destroys: after a lost answer only a person may repeat it


@dataclass(frozen=True, slots=True)
class Parameter:
    """One `with` parameter of an action or discovery."""

    name: str
    description: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class ActionSpec:
    """What the loader, planner and engine know of an action without running it.

    Attributes:
        repeat: see `Repeat`; anything but READ changes something and needs `guards.after`.
        quiet_ms: how long after a send "absent" is not yet believed.
        look_gap_ms: the pause between the first and the second look.
        poll_ms: how long to wait between polls, after the first minute, where the service
            does not say; see `engine.retry`.
        settle_ms: how long a verification may take to become true.
        timeout_ms: how long an operation may run before the step stops, resumable.
        expected_ms, expected_source: the planning figure and where it is from.
        outputs: names of the outputs a later step may refer to.
    """

    name: str
    title: str
    parameters: tuple[Parameter, ...]
    outputs: tuple[str, ...]
    repeat: Repeat
    rest: str = ""  # the REST operation or document
    quiet_ms: int = 0
    look_gap_ms: int = 15_000
    poll_ms: int = 10_000
    settle_ms: int = 0
    timeout_ms: int = 3_600_000
    expected_ms: int = 60_000
    expected_source: str = "planning value"

    @property
    def changes(self) -> bool:
        """Whether the action changes something outside."""
        return self.repeat is not Repeat.READ


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything a runbook may name."""

    actions: Mapping[str, ActionSpec] = field(default_factory=dict)
    rules: frozenset[str] = frozenset()
    observations: frozenset[str] = frozenset()
    discoveries: Mapping[str, tuple[Parameter, ...]] = field(default_factory=dict)
    delivery_kinds: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
