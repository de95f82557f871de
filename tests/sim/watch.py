"""The invariants of one seed, looked at when they could break, never by the engine's word.

J1 an effect has a durable intent of its step. J2 nothing is sent for a step after its
checkpoint. J5 nothing that is not repeatable takes effect twice. J6 nothing is sent to a
target that its sender last saw with another run's tag. (J3, the chain, and J4, that the
report says no more than the journal, are judged at the end: `verdict`.)
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import dataclass, field

from drengine.model.records import Draft
from drengine.model.records import RecordType as R
from sim.fate import CURRENT

STEP_OF = {
    "create": "create-hsm",
    "upload": "upload-domain",
    "role": "read-rights",
    "backup": "backup-target",
    "check": "check-restore",
    "restore": "restore",
    "update": "network",
}
ONCE = ("create", "upload", "restore")
GUARDED = ("upload", "backup", "restore")


@dataclass
class Watch:
    """What is durable, and what was sent."""

    intents: collections.Counter[str] = field(default_factory=collections.Counter)
    sent: collections.Counter[str] = field(default_factory=collections.Counter)
    checkpoints: set[str] = field(default_factory=set)
    undo_intents: int = 0
    problems: list[str] = field(default_factory=list)

    def appended(self, drafts: Sequence[Draft]) -> None:
        """Take note of records that are durable now."""
        for draft in drafts:
            step = str(draft.body.get("step", ""))
            if draft.type is R.INTENT:
                self.intents[step] += 1
            elif draft.type is R.UNDO_INTENT:
                self.undo_intents += 1
            elif draft.type is R.STEP_SUCCEEDED:
                self.checkpoints.add(step)
            elif draft.type is R.GENERATION_ENDED:
                self.checkpoints.difference_update(draft.body["steps"])  # type: ignore[arg-type]

    def sends(self, name: str) -> None:
        """Judge a request that leaves a process now."""
        self.sent[name] += 1
        if name == "delete":
            if self.sent[name] > self.undo_intents:
                self.problems.append("J1: a delete without a durable intent")
            return
        step = STEP_OF[name]
        if self.sent[name] > self.intents[step]:
            self.problems.append(f"J1: {name} was sent without a durable intent")
        if step in self.checkpoints:
            self.problems.append(f"J2: {name} was sent after the checkpoint of {step}")
        if name in GUARDED and CURRENT.get().saw_alien:
            self.problems.append(f"J6: {name} was sent to a target that bears another run's tag")
