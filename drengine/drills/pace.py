"""How fast a drill's virtual time runs: fast while only the cloud works, slow otherwise.

So the recovery time that a drill shows is made of what the services take, not of how
slow this machine is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from drengine.cli.family import Family
from drengine.lab import commands
from drengine.model.run import StepState
from drengine.model.run import StepStatus as S

WORKING_SPEED: Final = 60.0
"""Virtual seconds per second while the engine or a person is at work."""

_RESTING: Final = (S.PENDING, S.SUCCEEDED, S.SKIPPED, S.FANNING_OUT)


class Pace:
    """Sets the lab's speed to what the run is doing.

    Parameters:
        home: the lab's home.
        fast: virtual seconds per second while only the cloud works.
    """

    def __init__(self, home: Path, fast: float) -> None:
        self._home = home
        self._fast = fast
        self._now = 0.0

    def follow(self, family: Family) -> None:
        """Change the speed where the run has changed."""
        wanted = self._fast if only_time_passes(family) else min(WORKING_SPEED, self._fast)
        if wanted != self._now:
            commands.set_clock(self._home, speed=wanted)
            self._now = wanted


def only_time_passes(family: Family) -> bool:
    """Whether every step under way waits for a service or for the next look."""
    under_way = [
        step
        for state in family.states.values()
        if not state.status.is_over
        for step in state.steps.values()
        if step.status not in _RESTING
    ]
    return bool(under_way) and all(_waits_for_time(step) for step in under_way)


def _waits_for_time(step: StepState) -> bool:
    return step.status is S.RUNNING or (step.status is S.VERIFYING and step.not_before_ms > 0)
