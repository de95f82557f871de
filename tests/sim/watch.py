"""The invariants of one seed that are looked at when they could break, never by the engine's word.

J1 an effect has a durable intent of its step. J2 nothing is sent for a step after its
checkpoint. J6 nothing is sent to a target that its sender last saw with another run's tag.
(J3, the chain, J4, that the report says no more than the journal, and J5, that nothing is
doubled, are judged at the end: `verdict`, `repeats`.)
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import dataclass, field

from drengine.model.records import Record
from drengine.model.records import RecordType as R
from sim.fate import CURRENT
from sim.trace import Request

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

Place = tuple[str, str, str]


@dataclass
class Watch:
    """What is durable, and what was sent, by home, run and step."""

    intents: collections.Counter[Place] = field(default_factory=collections.Counter)
    sent: collections.Counter[Place] = field(default_factory=collections.Counter)
    checkpoints: set[Place] = field(default_factory=set)
    undo_intents: collections.Counter[str] = field(default_factory=collections.Counter)
    marks: collections.Counter[str] = field(default_factory=collections.Counter)
    problems: list[str] = field(default_factory=list)

    def appended(self, home: str, records: Sequence[Record]) -> None:
        """Take note of records that are durable now."""
        for record in records:
            place = (home, record.run, str(record.body.get("step", "")))
            if record.type is R.INTENT:
                self.intents[place] += 1
            elif record.type is R.UNDO_INTENT:
                self.undo_intents[home] += 1
            elif record.type is R.NOTE and "holder" in record.body:
                self.marks[home] += 1
            elif record.type is R.STEP_SUCCEEDED:
                self.checkpoints.add(place)
            elif record.type is R.GENERATION_ENDED:
                ended = {(home, record.run, str(step)) for step in record.body["steps"]}  # type: ignore[union-attr]
                self.checkpoints -= ended

    def sends(self, request: Request) -> None:
        """Judge a request that leaves a process now."""
        place, name = request.place, request.name
        if name in ("delete", "mark"):
            self._has_its_record(request)
            return
        self.sent[place] += 1
        if self.sent[place] > self.intents[place]:
            self.problems.append(f"J1: {name} was sent without a durable intent")
        if place in self.checkpoints:
            self.problems.append(f"J2: {name} was sent after the checkpoint of {request.step}")
        if name in GUARDED and CURRENT.get().saw_alien:
            self.problems.append(f"J6: {name} was sent to a target that bears another run's tag")

    def _has_its_record(self, request: Request) -> None:
        """Judge a delete by the rollback's intents, the holder tag by its note."""
        place = (request.home, request.run, request.name)
        self.sent[place] += 1
        kept = self.undo_intents if request.name == "delete" else self.marks
        if self.sent[place] > kept[request.home]:
            self.problems.append(f"J1: a {request.name} without a durable intent")
