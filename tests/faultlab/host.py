"""A lab of its own and real engine processes on it, started one by one by a test."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from drengine.cli.family import Family, Follower
from drengine.engine.fold import fold
from drengine.journal.sqlite import SqliteStore
from drengine.lab import commands
from drengine.model.ids import RunId, run_id_of
from drengine.model.records import RecordType as R
from drengine.model.run import RunStatus, StepStatus
from drengine.runbook.plan_file import read_plan
from faultlab.people import People
from faultlab.stage import AUTH, Stage
from faultlab.trial import Fault, Trial
from faultlab.zygote import Zygote


class Host:
    """One copy of the stage's lab.

    Parameters:
        fault: its proxy part is put between engine and lab.
        settings: of the lab.
    """

    def __init__(
        self, stage: Stage, zygote: Zygote, folder: Path, fault: Fault, settings: dict[str, Any]
    ) -> None:
        self.stage, self.zygote, self.folder = stage, zygote, folder
        self.trial = Trial(stage, zygote, folder, fault)
        self.lab = folder / "lab"
        stage.copy(self.lab, settings)
        self.home = self.lab / "drengine"
        self.environment = self.trial._open(self.lab)
        self.run, self.plan = stage.run, stage.plan
        self.count = 0
        self.skew_ms = 0

    def begin(self, *arguments: str, point: str = "", home: Path | None = None) -> int:
        """Start `drengine ARGUMENTS` and return its pid."""
        self.count += 1
        environment = dict(self.environment)
        if home:
            environment["DRENGINE_HOME"] = str(home)
        argv = [*arguments]
        if arguments[0] in ("run", "resume", "plan"):
            argv += AUTH
        name = f"engine-{self.count}"
        return self.trial._engine(name, argv, environment, point, self.skew_ms)

    def plan_with_sas(self, folder: Path, sas: str) -> None:
        """Plan the run anew, with a SAS by reference where the stage has an identity."""
        self.environment["STORAGE_SAS"] = sas
        self.plan_with_reference(folder, "env:STORAGE_SAS")

    def plan_with_reference(self, folder: Path, reference: str) -> None:
        """Plan the run anew with that `storage_sas`."""
        inputs = json.loads((self.stage.folder / "inputs.json").read_text())
        del inputs["storage_identity"]
        inputs["storage_sas"] = reference
        file, self.plan = folder / "inputs-sas.json", folder / "plan-sas.json"
        file.write_text(json.dumps(inputs))
        arguments = ("--class", "drill", "--inputs", str(file), "--out", str(self.plan))
        assert self.do("plan", "mhsm-full-recovery", *arguments) == 0, self.log()
        self.run = run_id_of(read_plan(self.plan.read_bytes()).digest)

    def log(self, number: int = 0) -> str:
        """Return what an engine printed, the last one's by default."""
        return (self.folder / f"engine-{number or self.count}.log").read_text()

    def end(self, pid: int, seconds: float = 60.0) -> int:
        """Wait for a process and return its code."""
        until = time.monotonic() + seconds
        while (code := self.zygote.poll(pid)) is None:
            assert time.monotonic() < until, f"process {pid} does not end"
            time.sleep(0.01)
        return code

    def do(self, *arguments: str, **options: Any) -> int:
        """Carry out one command."""
        return self.end(self.begin(*arguments, **options))

    def effects(self) -> list[str]:
        """Return every effect in the lab's call log."""
        return [str(call["effect"]) for call in commands.log(self.lab) if call["effect"]]

    def waits(self) -> bool:
        """Whether the run waits for people."""
        with SqliteStore(self.home) as store:
            return store.exists(self.run) and (
                fold(store.read(self.run)).status is RunStatus.WAITING
            )

    def finish(self, home: Path | None = None, *, point: str = "", silent_on: str = "") -> int:
        """Drive the run on with the people playing; return the code of the one process."""
        with SqliteStore(home or self.home) as store:
            people, follower = People(self.stage, store, self.folder), Follower(store, self.run)
            people.silent_on = silent_on
            argv = ["resume", self.run] if store.exists(self.run) else ["run", str(self.plan)]
            pid = self.begin(*argv, *([] if silent_on else ["--wait"]), point=point, home=home)
            while (code := self.zygote.poll(pid)) is None:
                if follower.advance():
                    people.answer(follower.family)
                time.sleep(0.012)
        return code

    def close(self) -> None:
        """End everything on this host."""
        for pid in self.trial._pids:
            self.zygote.kill(pid)


@contextmanager
def host_in(
    stage: Stage, zygote: Zygote, folder: Path, fault: Fault | None = None, **settings: Any
) -> Iterator[Host]:
    """Give a host for the length of a test."""
    host = Host(stage, zygote, folder, fault or Fault(), settings)
    try:
        yield host
    finally:
        host.close()


def wait_for(condition: Callable[[], object], seconds: float = 40.0) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it does not happen"
        time.sleep(0.01)


_APPENDS_UP_TO_THE_INTENT = 7
"""opened, approved, succeeded, begun, absent, held, intent: nothing polls in between."""


def stopped_before_the_restore(host: Host, *options: str) -> int:
    """Let an engine freeze between the durable intent of the restore and its send.

    Parameters:
        options: of that engine's `resume`.
    """
    run = host.stage.run
    with SqliteStore(host.home) as store:
        people = waiting_for_the_restore(host, store)
        people.answer(_family(store, run))
        point = f"journal.after_sync:{_APPENDS_UP_TO_THE_INTENT}:stop"
        pid = host.begin("resume", run, "--wait", *options, point=point)
        wait_for(lambda: _state(pid) == "T")
        last = list(store.read(run))[-1]
        assert (last.type, last.body["step"]) == (R.INTENT, "restore")
    return pid


def waiting_for_the_restore(host: Host, store: SqliteStore, *options: str) -> People:
    """Drive the run up to the gate before the restore and stop it; return the people.

    Parameters:
        options: of that engine's `run`.
    """
    people = People(host.stage, store, host.folder)
    people.silent_on = "approve-restore"
    follower = Follower(store, host.stage.run)
    pid = host.begin("run", str(host.stage.plan), "--wait", *options)
    while True:
        assert host.zygote.poll(pid) is None, host.log()
        if follower.advance():
            people.answer(follower.family)
            gate = follower.family.root.steps["approve-restore"]
            if gate.status is StepStatus.AWAITING_APPROVAL:
                break
        time.sleep(0.012)
    os.kill(pid, signal.SIGTERM)
    host.end(pid)
    people.silent_on = ""
    return people


def _family(store: SqliteStore, run: RunId) -> Family:
    follower = Follower(store, run)
    follower.advance()
    return follower.family


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
