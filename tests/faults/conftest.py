"""A stage for faults: the drill's lab after the disaster, with a plan ready to run."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from faultlab.fixtures import quick_stage, zygote  # noqa: F401 - for the tests of this folder
from faultlab.people import said_already

from drengine.cli.family import Follower
from drengine.drills.children import Engine
from drengine.drills.embedded import DrillRequest, Watching, _Stage
from drengine.drills.people import PlayedPeople
from drengine.engine.fold import fold
from drengine.journal.sqlite import SqliteStore
from drengine.lab import commands
from drengine.model.ids import RunId, run_id_of
from drengine.model.run import StepStatus
from drengine.runbook.plan_file import read_plan

ROOT = Path(__file__).resolve().parents[2]
LONGEST_SECONDS = 540.0
SPEED = 600.0


class Process:
    """One `drengine …` that may be killed."""

    def __init__(self, arguments: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as stream:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "drengine", *arguments],
                env={**environment, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-800:]


@contextmanager
def ended(process: Process) -> Iterator[None]:
    """Leave no process behind, however the block ends."""
    try:
        yield
    finally:
        if process.popen.poll() is None:
            process.kill()


@dataclass
class FaultStage:
    """One recovery that is killed and resumed, on a lab of its own."""

    folder: Path
    home: Path
    environment: dict[str, str]
    lab: dict[str, Any]
    plan: Path
    run: RunId
    rng: random.Random
    kills: int = 0
    resolved: int = 0

    def start(self, number: int, store: SqliteStore) -> Process:
        begun = store.exists(self.run)
        arguments = ["resume", "@latest"] if begun else ["run", str(self.plan)]
        return self.process([*arguments, "--wait"], f"run-{number}.log")

    def process(self, arguments: list[str], log: str) -> Process:
        return Process(arguments, self.environment, self.folder / log)

    def recover(self, kills: int) -> int:
        """Run, kill at random moments, resume until it ends; return the last exit code."""
        commands.set_clock(self.home, speed=SPEED)
        until = time.monotonic() + LONGEST_SECONDS
        with SqliteStore(self.home / "drengine") as store:
            for number in range(200):
                moment = self._moment() if self.kills < kills else None
                child = self.start(number, store)
                code = self._attend(store, child, moment, until)
                if code == 12:
                    self._resolve(store)
                elif code is not None:
                    return code
        raise AssertionError("the recovery did not end")

    def _moment(self) -> tuple[bool, float]:
        """Return when to kill: seconds after its first record, or one in five after its start."""
        early = self.rng.random() < 1 / 5
        return early, self.rng.uniform(0.1, 1.0) if early else self.rng.expovariate(1 / 0.4)

    def _attend(
        self,
        store: SqliteStore,
        child: Process,
        moment: tuple[bool, float] | None,
        until: float,
    ) -> int | None:
        """Play the people until the process ends (its code) or is killed (None)."""
        early, seconds = moment or (False, 0.0)
        began = time.monotonic() if early else None
        # A folder of their own: what a killed attempt left half written is not in the way.
        place = Path(tempfile.mkdtemp(prefix="people-", dir=self.folder))
        people = PlayedPeople(store, self.lab, self.environment, place)
        follower = Follower(store, self.run)
        follower.advance()
        with closing(people), ended(child):
            while (code := child.popen.poll()) is None:
                assert time.monotonic() < until, f"too slow: {child.last_words()}"
                if moment and began is not None and time.monotonic() - began > seconds:
                    child.kill()
                    self.kills += 1
                    return None
                if follower.advance() and began is None:
                    began = time.monotonic()
                if self.run in follower.family.states:
                    people.answer(follower.family)
                time.sleep(0.03)
        return code

    def _resolve(self, store: SqliteStore) -> None:
        """Do what a person does: look at the cloud itself, then say what was found."""
        effects = [call["effect"] for call in commands.log(self.home)]
        names = {"restore": "hsm.restore", "upload-domain": "hsm.domain.upload"}
        for row in store.runs():
            for step in fold(store.read(row.run)).steps.values():
                if step.status is not StepStatus.UNKNOWN or said_already(store, row.run, step.id):
                    continue
                found = names.get(step.id, "hsm.create") in effects
                self.resolved += 1
                child = Process(
                    [
                        *("resolve", str(row.run), step.id),
                        *("--found" if found else "--absent", "--reason", "looked at the HSM"),
                    ],
                    self.environment,
                    self.folder / f"resolve-{self.resolved}.log",
                )
                assert child.popen.wait(30) == 0, child.last_words()

    def effects(self) -> list[str]:
        return [str(call["effect"]) for call in commands.log(self.home) if call["effect"]]


@pytest.fixture
def stage(tmp_path):
    """Yield a function seed -> FaultStage; its lab is taken down afterwards."""
    labs: list[Path] = []

    def build(seed: int) -> FaultStage:
        home, plan = tmp_path / "lab", tmp_path / "plan.json"
        labs.append(home)
        lab = commands.up(home, speed=1.0)
        environment = commands.env(home)
        watching = Watching(lambda _: None, lambda _: None)
        with closing(Engine(environment, tmp_path / "engine.log")) as engine:
            drill = _Stage(DrillRequest(tmp_path / "evidence"), watching, tmp_path, lab, engine)
            drill.prepare()
            engine.do(
                *("plan", "mhsm-full-recovery", "--class", "drill"),
                *("--inputs", drill._inputs(), "--out", str(plan)),
                seconds=60,
            )
        return FaultStage(
            folder=tmp_path,
            home=home,
            environment=environment,
            lab=dict(lab),
            plan=plan,
            run=run_id_of(read_plan(plan.read_bytes()).digest),
            rng=random.Random(seed),
        )

    yield build
    for lab in labs:
        if (lab / "identity.json").exists():
            commands.down(lab)
