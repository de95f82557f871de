"""What `decide` tells the driver to do. Values only; nothing in here does anything."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from drengine.model.canonical import JsonObject
from drengine.model.records import RecordType


@dataclass(frozen=True, slots=True)
class Append:
    """Append a record that needs no look at the world."""

    step: str
    type: RecordType
    body: JsonObject


@dataclass(frozen=True, slots=True)
class Check:
    """Evaluate the guards that must hold before a step."""

    step: str


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask whether the step's effect is there already."""

    step: str


@dataclass(frozen=True, slots=True)
class Send:
    """Make the intent durable, then send once."""

    step: str


@dataclass(frozen=True, slots=True)
class Observe:
    """Run an action that only reads."""

    step: str


@dataclass(frozen=True, slots=True)
class Poll:
    """Ask the service where the operation stands."""

    step: str


@dataclass(frozen=True, slots=True)
class Verify:
    """Read the truth back and evaluate the guards that must hold afterwards."""

    step: str


@dataclass(frozen=True, slots=True)
class RequestGate:
    """Read the facts of a gate and ask for approval of them."""

    step: str


@dataclass(frozen=True, slots=True)
class FanOut:
    """Read the gates before a fan-out again, and begin it."""

    step: str


@dataclass(frozen=True, slots=True)
class RunChild:
    """Start or resume one child run."""

    step: str
    name: str


@dataclass(frozen=True, slots=True)
class Undo:
    """Make the intent durable, then take a step's effect away, once."""

    step: str


@dataclass(frozen=True, slots=True)
class PollUndo:
    """Ask where the undoing stands."""

    step: str


@dataclass(frozen=True, slots=True)
class CheckUndo:
    """Read back whether the effect is gone."""

    step: str


Command = (
    Append
    | Check
    | Probe
    | Send
    | Observe
    | Poll
    | Verify
    | RequestGate
    | FanOut
    | RunChild
    | Undo
    | PollUndo
    | CheckUndo
)


class Rest(StrEnum):
    """Why a run has nothing to do."""

    DONE = "done"
    WAITING = "waiting"
    NEEDS = "needs something only a new start can bring"
    FAILED = "failed"
    REFUSED = "refused"
    UNKNOWN = "unknown outcome"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    ROLLED_BACK = "rolled back"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done now.

    Attributes:
        commands: to be performed now, in any order, none of them for a step that is under way.
        wake_at_ms: when the clock alone makes something due; None where it does not.
        rest: why nothing is to be done, where neither commands nor a wake-up are left.
        reasons: one line for each step that holds the run up.
    """

    commands: tuple[Command, ...] = ()
    wake_at_ms: int | None = None
    rest: Rest | None = None
    reasons: tuple[str, ...] = ()
