"""The people of a trial: they approve, open the domain with a quorum, and resolve.

The custodians' ceremony is done once for the stage's one exchange key. Each trial's
certificate differs, so for the others only the thumbprint in the blob is exchanged.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from drengine.ceremony.combine import KeySource, combine
from drengine.cli.deliveries import hand_in, write_request
from drengine.cli.family import Family
from drengine.cli.people import Person, decide
from drengine.errors import DrError
from drengine.journal.sqlite import SqliteStore
from drengine.model.ids import RunId
from drengine.model.run import StepStatus as S
from faultlab.stage import Stage


def said_already(store: SqliteStore, run: str, step: str) -> bool:
    """Whether an outcome was told that no process has taken in yet: nobody says it twice."""
    waiting = store.peek_signals(RunId(run))
    return any((each.kind, each.body.get("step")) == ("resolve", step) for each in waiting)


_NAMES = {"incident-commander": "ada", "security-officer": "bruno", "hsm-administrator": "chiara"}


class People:
    """Answers what a run waits for, once each."""

    def __init__(
        self,
        stage: Stage,
        store: SqliteStore,
        folder: Path,
        answered: Iterable[tuple[str, str, int]] = (),
    ) -> None:
        self._stage, self._store, self._folder = stage, store, folder
        self._answered = set(answered)
        self.silent_on = ""

    @property
    def answered(self) -> frozenset[tuple[str, str, int]]:
        """What was answered so far: run, step and the record that asked."""
        return frozenset(self._answered)

    def answer(self, family: Family) -> None:
        for run, state in list(family.states.items()):
            for step in state.steps.values():
                if step.id == self.silent_on:
                    continue
                if step.status is S.AWAITING_APPROVAL and step.gate:
                    if self._once(run, step.id, step.gate.seq):
                        self._approve(family, run, step.id)
                elif step.status is S.AWAITING_DELIVERY and self._once(
                    run, step.id, step.request_seq
                ):
                    self._deliver(run, step.id)

    def _once(self, run: str, step: str, seq: int) -> bool:
        key = (run, step, seq)
        new = key not in self._answered
        self._answered.add(key)
        return new

    def _approve(self, family: Family, run: RunId, step: str) -> None:
        request = family.requests[run, step]
        roles = [str(role) for role in request.get("roles", ())] or [""]
        for number in range(int(request.get("approvals", 1))):
            role = roles[number % len(roles)]
            person = Person(f"{_NAMES.get(role, 'approver')}-{number}", role, simulated=True)
            decide(self._store, family, run, step, "approve", person, "played")

    def _deliver(self, run: RunId, step: str) -> None:
        folder = self._folder / f"request-{len(self._answered)}"
        try:
            facts = write_request(self._store, run, step, folder)
            blob = self._blob(folder, facts)
            hand_in(self._store, run, step, blob, Person("quorum", simulated=True))
        except DrError as error:
            # The run moved on between the look and the answer; people look again.
            with (self._folder / "people.log").open("a") as stream:
                stream.write(f"{error.message}\n")
            self._answered = {key for key in self._answered if key[:2] != (run, step)}

    def _blob(self, folder: Path, facts: dict[str, Any]) -> Path:
        kept, out = self._stage.folder / "blob.json", folder / "restore-blob.json"
        if not kept.exists():
            domain = self._stage.status["security_domain"]
            keys = [domain["keys"][0], *domain["keys"][-(domain["required"] - 1) :]]
            sources = [KeySource(Path(key), None, None) for key in keys]
            combine(Path(domain["file"]), Path(facts["files"][0]), sources, out)
            kept.write_bytes(out.read_bytes())
            return out
        doc = json.loads(kept.read_bytes())
        doc["WrappedKey"]["x5t_256"] = facts["expects"]["exchange"]
        out.write_text(json.dumps(doc))
        return out
