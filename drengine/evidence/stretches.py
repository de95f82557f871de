"""Where a step's time went: from changes of status to stretches of time.

Pure. A stretch ends with the record that ends it; what is still open when the journal
ends is closed at its last record.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from drengine.model.facts import Share, Stretch
from drengine.model.run import RunStatus, StepStatus

_SHARES: Final = {
    StepStatus.CHECKING: Share.WORK,
    StepStatus.PROBING: Share.WORK,
    StepStatus.CLEARED: Share.WORK,
    StepStatus.SENDING: Share.WORK,
    StepStatus.VERIFYING: Share.WORK,
    StepStatus.RUNNING: Share.CLOUD,
    StepStatus.IN_DOUBT: Share.CLOUD,
    StepStatus.AWAITING_APPROVAL: Share.WAIT,
    StepStatus.AWAITING_DELIVERY: Share.WAIT,
    StepStatus.FANNING_OUT: Share.CHILDREN,
    StepStatus.FAILED: Share.STOPPED,
    StepStatus.REFUSED: Share.STOPPED,
    StepStatus.UNKNOWN: Share.STOPPED,
}
_AT_REST: Final = (RunStatus.STOPPED, RunStatus.PAUSED, RunStatus.CANCELLED)


def share_of(step: StepStatus, run: RunStatus) -> Share | None:
    """Return what a step's time goes into now; None where it is not under way."""
    share = _SHARES.get(step)
    # While the engine is at rest it does no work; the service and people go on.
    return Share.STOPPED if share is Share.WORK and run in _AT_REST else share


@dataclass(slots=True)
class Clocking:
    """The time of one step, taken as its records come in."""

    done: list[Stretch] = field(default_factory=list)
    share: Share | None = None
    since_ms: int = 0

    def turn(self, share: Share | None, at_ms: int) -> None:
        """Note that from `at_ms` on the time goes into `share`."""
        if share is self.share:
            return
        self.done = list(self.until(at_ms))
        self.share, self.since_ms = share, at_ms

    def until(self, at_ms: int) -> tuple[Stretch, ...]:
        """Return the stretches with the open one closed at `at_ms`."""
        if self.share is None or at_ms <= self.since_ms:
            return tuple(self.done)
        return (*self.done, Stretch(self.share, self.since_ms, at_ms))


def total_ms(stretches: Iterable[Stretch], share: Share) -> int:
    """Return how much of the stretches went into `share`."""
    return sum(s.to_ms - s.from_ms for s in stretches if s.share is share)
