"""What operators do unasked, at moments that the seed chooses: pause, withdraw, skip, roll back.

A process is looked at when it passes a point; the signal is in the inbox from then on, and
the driver finds it when it looks there next. Some operators wait for the worst moment: a
step that is cleared, and a look that is the last before its send.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from drengine.model.ids import RunId
from drengine.model.run import RunState, StepState, StepStatus
from sim.cloud import SimCloud
from sim.fate import CURRENT, Fate
from sim.people import APPROVER, FIRST, Home, shows
from sim.trace import Asked

HARMLESS = ("check-restore", "network", "prove-roles")
"""Steps that people leave out before they begin."""

_OPEN = (StepStatus.SENDING, StepStatus.IN_DOUBT, StepStatus.RUNNING, StepStatus.UNKNOWN)
_STUCK = (StepStatus.FAILED, StepStatus.REFUSED)


@dataclass
class Operators:
    """The operators of a seed; `done`: what they did, for people who replay it."""

    cloud: SimCloud
    fate: Fate
    homes: dict[str, Home]
    root: RunId
    loop: asyncio.AbstractEventLoop
    armed: int = 0
    done: list[str] = field(default_factory=list)

    def at_point(self, number: int, name: str) -> None:
        """Act where the seed says so, or at the next moment that is bad enough."""
        self.armed += number in self.fate.temper.act_at
        if not self.armed or (self.fate.temper.aims and not self._is_worst(name)):
            return
        self.armed -= 1
        for verb in self.fate.rng.sample(self.fate.temper.verbs, 3):
            if self._does(verb):
                self.fate.happened(verb, number, name)
                return

    def _home(self) -> Home:
        return self.homes[CURRENT.get().home]

    def _is_worst(self, name: str) -> bool:
        if not name.endswith(":read"):
            return False
        steps = [step for _, step in self._steps() if step.sends or step.attempt]
        return any(step.status is StepStatus.CLEARED for step in steps)

    def _steps(self) -> list[tuple[RunState, StepState]]:
        states = self._home().latest.values()
        return [(state, step) for state in states for step in state.steps.values()]

    def _does(self, verb: str) -> bool:
        if self.root not in self._home().latest:
            return False
        return _VERBS[verb](self)

    def _tell(self, kind: str, body: dict[str, Any] | None = None) -> bool:
        self._home().tell(self.root, kind, FIRST, body or {"reason": "so"})
        return True

    def _later(self, kind: str) -> None:
        home, seconds = self._home(), self.fate.rng.choice((0.5, 10, 120))
        self.loop.call_later(seconds, home.tell, self.root, kind, FIRST, {"reason": "so"})

    def pause(self) -> bool:
        if self.fate.happens(0.5):
            self._later("continue")
        return self._tell("pause")

    def go_on(self) -> bool:
        return self._tell("continue")

    def roll_back(self) -> bool:
        if self.fate.happens(0.5):
            self._later(self.fate.rng.choice(("pause", "continue")))
            self._later("continue")
        return self._tell("rollback")

    def cancel(self) -> bool:
        return self._tell("cancel")

    def withdraw(self) -> bool:
        gates = [(run, step) for run, step in self._steps() if step.gate and step.gate.approvers]
        if not gates:
            return False
        state, step = gates[-1] if self.fate.happens(0.7) else self.fate.rng.choice(gates)
        body = {"step": step.id, "reason": "no"}
        self._home().tell(state.run, "withdraw", APPROVER, body)
        return True

    def skip(self) -> bool:
        found = [(state, step) for state, step in self._steps() if _is_skipped(step)]
        if not found:
            return False
        state, step = self.fate.rng.choice(found)
        self._home().tell(state.run, "skip", FIRST, {"step": step.id, "reason": "not needed"})
        return True

    def stop(self) -> bool:
        process = CURRENT.get()

        def ask() -> None:
            process.stop.set()
            self.cloud.trace.entries.append(Asked(self.cloud.now(), process.name))

        self.loop.call_soon(ask)  # the loop hands a signal of the system over, nothing sooner
        return True

    def look(self) -> bool:
        open_steps = [(state, step) for state, step in self._steps() if step.status in _OPEN]
        for state, step in open_steps:
            seen = shows(self.cloud, state.run, step.id)
            self._home().looks[state.run, step.id] = seen
        return bool(open_steps)

    def deface(self) -> bool:
        self.cloud.deface()
        return True


def _is_skipped(step: StepState) -> bool:
    stuck = step.status in _STUCK or step.status in _OPEN
    return stuck or (step.status is StepStatus.PENDING and step.id in HARMLESS)


_VERBS: dict[str, Callable[[Operators], bool]] = {
    "pause": Operators.pause,
    "continue": Operators.go_on,
    "rollback": Operators.roll_back,
    "cancel": Operators.cancel,
    "withdraw": Operators.withdraw,
    "skip": Operators.skip,
    "stop": Operators.stop,
    "look": Operators.look,
    "deface": Operators.deface,
}
