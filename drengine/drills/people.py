"""The people of a drill, played: approvers in this process, custodians in one of their own.

Rules:
- They use the same inbox as everybody, and every record says that they are played.
- The custodians' keys are opened by `drengine ceremony combine`, a process apart from the
  engine and from this one; the engine sees the finished blob only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drengine.cli.deliveries import hand_in, write_request
from drengine.cli.family import Family, read_family
from drengine.cli.people import Manner, Person, decide
from drengine.drills.cast import Cast
from drengine.drills.children import Child
from drengine.journal.sqlite import SqliteStore
from drengine.model.ids import RunId
from drengine.model.run import StepStatus as S


@dataclass(slots=True)
class PlayedPeople:
    """Answers whatever a run waits for.

    Parameters:
        lab: the lab's status document.
        environment: the lab's, for the custodians' process.
        folder: where requests, blobs and logs may be written.
        cast: their keys; None where the run has no register of approvers.
    """

    store: SqliteStore
    lab: Mapping[str, Any]
    environment: Mapping[str, str]
    folder: Path
    cast: Cast | None = None
    _answered: set[tuple[str, str, int]] = field(default_factory=set)
    _ceremonies: dict[tuple[RunId, str], tuple[Child, Path]] = field(default_factory=dict)

    def answer(self, family: Family) -> None:
        """Approve and deliver what is asked now."""
        for run, state in list(family.states.items()):
            for step in state.steps.values():
                if step.status is S.AWAITING_APPROVAL and step.gate:
                    if self._once(run, step.id, step.gate.seq):
                        self._approve(family, run, step.id)
                elif step.status is S.AWAITING_DELIVERY and self._once(
                    run, step.id, step.request_seq
                ):
                    self._begin_ceremony(run, step.id)
        self._end_ceremonies()

    def close(self) -> None:
        """End what is under way."""
        for child, _ in self._ceremonies.values():
            child.close()

    def _once(self, run: str, step: str, seq: int) -> bool:
        key = (run, step, seq)
        new = key not in self._answered
        self._answered.add(key)
        return new

    def _approve(self, family: Family, run: RunId, step: str) -> None:
        request = family.requests[run, step]
        roles = [str(role) for role in request.get("roles", ())] or [""]
        inbox = read_family(self.store, run).handed_in(run, step, "approve")
        waiting = {signal.actor for signal in inbox}
        for number in range(int(request.get("approvals", 1))):
            role = roles[number % len(roles)]
            person = Person(Cast.name(role, number), role, simulated=True)
            if person.actor("approver") in waiting:
                continue  # as in `_end_ceremonies`
            manner = Manner(self.cast.signers[person.name] if self.cast else None)
            reason = "played by the drill"
            decide(self.store, family, run, step, "approve", person, reason, manner)

    def _begin_ceremony(self, run: RunId, step: str) -> None:
        folder = self.folder / f"request-{len(self._answered)}"
        facts = write_request(self.store, run, step, folder)
        domain = self.lab["security_domain"]
        # The first and the last custodian: any quorum must do, not only the first ones.
        chosen = [domain["keys"][0], *domain["keys"][-(domain["required"] - 1) :]]
        blob = folder / "restore-blob.json"
        arguments = ["ceremony", "combine", "--sd-file", domain["file"]]
        arguments += ["--exchange-cert", facts["files"][0], "--out", str(blob)]
        for key in chosen:
            arguments += ["--key", key]
        child = Child(arguments, self.environment, folder / "ceremony.log")
        self._ceremonies[run, step] = (child, blob)

    def _end_ceremonies(self) -> None:
        for (run, step), (child, blob) in list(self._ceremonies.items()):
            if not child.has_ended_well():
                continue
            del self._ceremonies[run, step]
            if any(read_family(self.store, run).handed_in(run, step, "deliver")):
                continue  # handed in before a process died, and not taken in by the next one yet
            person = Person("custodians-1-and-3", simulated=True)
            hand_in(self.store, run, step, blob, person, ceremony="combine")
