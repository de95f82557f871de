"""Fixtures of the command-line tests: an own home, and commands run in this process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from drengine.cli.library import find_document
from drengine.cli.main import run
from drengine.journal.sqlite import SqliteStore
from drengine.model.canonical import sha256_hex
from drengine.model.ids import RunId
from drengine.model.plan import CloudIdentity, Plan, PlanPart
from drengine.model.records import Draft
from drengine.model.records import RecordType as R
from drengine.model.runbook import RunClass

ENVIRONMENT = ("DRENGINE_LAB", "DRENGINE_AUTH", "XDG_DATA_HOME", "NO_COLOR", "CI")


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.out)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DRENGINE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def command(home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run a command line as `main` would, in an own home."""
    del home

    def call(*arguments: object) -> Ended:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Ended(code, said.out, said.err)

    return call


class Story:
    """A run told record by record into the store of an own home."""

    STEPS = ("declare", "create-hsm", "restore-blob", "restore", "late")

    def __init__(
        self,
        home: Path,
        run: str,
        *,
        lab: bool,
        run_class: str,
        now_ms: int,
        steps: tuple[str, ...] = STEPS,
    ) -> None:
        self.run, self.now_ms = RunId(run), now_ms
        self.store = SqliteStore(home)
        genesis = {
            "class": run_class,
            "title": "A recovery",
            "plan": "0" * 64,
            "initiator": "operator:somebody",
            "inputs": {
                "sd_file": {"path": "/sd.json", "sha256": "0" * 64, "size": 1},
                "target_hsm": "contoso-hsm2",
            },
            "objectives": {"rto_ms": 4 * 3_600_000},
            "steps": list(steps),
            "cloud": {"lab": lab},
            "path": [],
        }
        self.store.create(self.run, "A recovery", run_class, self._draft(R.RUN_CREATED, genesis))

    def _draft(self, kind: R, body: dict[str, Any], actor: str = "engine") -> Draft:
        return Draft(kind, actor, body, self.now_ms, 0)

    def plans(self, runbook: str = "mhsm-full-recovery", **changed: Any) -> Story:
        """Put the plan of a shipped runbook beside the journal, with other fields where given."""
        text = find_document(runbook, None).text.decode()
        part = PlanPart(runbook, text, sha256_hex(text.encode()), {"target_hsm": "contoso-hsm2"})
        cloud = CloudIdentity("AzureCloud", "t", "s", "p", lab=True)
        plan = Plan(RunClass.DRILL, "2026-12-01T09:58:00.000Z", "0", cloud, part, {})
        self.store.put_document(self.run, "plan", {**plan.to_json(), **changed})
        return self

    def tell(self, *records: tuple[R, dict[str, Any]]) -> Story:
        lease = self.store.acquire(self.run, "the story")
        for kind, body in records:
            self.store.append(lease, self.store.head(self.run), [self._draft(kind, body)])
        self.store.release(lease)
        return self

    def asks(self, step: str = "declare", **changed: Any) -> Story:
        asked = {"step": step, "ask": "Lost?", "facts": {"source-hsm": {"exists": False}}}
        asked |= {"findings": [], "approvals": 1, "roles": [], "digest": "d" * 64}
        return self.tell((R.GATE_REQUESTED, asked | changed))

    def signals(self) -> list[Any]:
        return list(self.store.peek_signals(self.run))


@pytest.fixture
def story(home: Path) -> Iterator[Callable[..., Story]]:
    told: list[Story] = []

    def begin(
        run="r-0123456789ab", *, lab=True, run_class="drill", ago_ms=60_000, steps=Story.STEPS
    ):
        now_ms = time.time_ns() // 1_000_000 - ago_ms
        told.append(Story(home, run, lab=lab, run_class=run_class, now_ms=now_ms, steps=steps))
        return told[-1]

    yield begin
    for each in told:
        each.store.close()
