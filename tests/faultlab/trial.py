"""One trial: a fresh lab, one fault, restarts until the run ends, and what is to be judged."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from drengine.cli.family import Follower
from drengine.engine.fold import fold
from drengine.journal.sqlite import SqliteStore
from drengine.lab import commands
from drengine.model.run import StepStatus
from faultlab import children
from faultlab.images import Camera, Image
from faultlab.people import People, said_already
from faultlab.stage import AUTH, Stage
from faultlab.zygote import Zygote

MAX_STARTS = 8
LONGEST_SECONDS = 120.0
_LOOK_SECONDS = 0.012
_KILLED = -9
_UNKNOWN = 12
_FOUND_BY = {"upload-domain": "hsm.domain.upload", "restore": "hsm.restore"}


@dataclass(frozen=True)
class Fault:
    """What happens in a trial.

    Attributes:
        points: failpoints (`DRENGINE_FAILPOINT` texts) of the first, second … start.
        proxy: `(fault, which, number)` of the fault proxy.
        world: whose answers to the open questions hold; None: the fault has its own.
    """

    points: tuple[str, ...] = ()
    proxy: tuple[str, str, int] | None = None
    world: int | None = None

    def __str__(self) -> str:
        if self.world is not None:
            return f"{replace(self, world=None)}@{self.world}"
        if self.proxy:
            return "proxy:" + ":".join(map(str, self.proxy))
        return "+".join(self.points) or "none"

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read what `str` wrote."""
        if "@" in text:
            text, _, world = text.rpartition("@")
            return replace(cls.parse(text), world=int(world))
        if text.startswith("proxy:"):
            _, fault, which, number = text.split(":")
            return cls(proxy=(fault, which, int(number)))
        return cls(points=() if text == "none" else tuple(text.split("+")))


@dataclass
class Ended:
    """How a trial went, for the judge."""

    fault: Fault
    folder: Path
    home: Path
    codes: list[int] = field(default_factory=list)
    kills: int = 0
    resolved: list[str] = field(default_factory=list)
    seconds: float = 0.0
    trouble: str = ""


class Trial:
    """Plays one trial in a folder of its own.

    Parameters:
        camera: takes images of the processes at their points.
        image: go on from there, as after the kill of a first process.
    """

    def __init__(
        self,
        stage: Stage,
        zygote: Zygote,
        folder: Path,
        fault: Fault,
        settings: dict[str, Any] | None = None,
        *,
        camera: Camera | None = None,
        image: Image | None = None,
    ) -> None:
        self._camera, self._image = camera, image
        self._stage, self._zygote, self._fault = stage, zygote, fault
        self._settings = settings or {}
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.ended = Ended(fault, folder, folder / "lab")
        self._pids: list[int] = []
        self._lab = 0

    def play(self) -> Ended:
        began = time.monotonic()
        try:
            self._play(began + LONGEST_SECONDS)
        except (RuntimeError, TimeoutError) as error:
            self.ended.trouble = str(error)
        finally:
            for pid in self._pids:
                self._zygote.kill(pid)
            self.ended.seconds = time.monotonic() - began
        return self.ended

    def _play(self, until: float) -> None:
        home = self.ended.home
        if self._image:
            self._image.restore(home)
            self.ended.codes.append(_KILLED)
            self.ended.kills = 1
        else:
            self._stage.copy(home, self._settings)
        environment = self._open(home)
        with SqliteStore(home / "drengine") as store:
            answered = self._image.answered if self._image else ()
            people = People(self._stage, store, self.ended.folder, answered)
            follower = Follower(store, self._stage.run)
            follower.advance()
            for number in range(len(self.ended.codes), MAX_STARTS):
                points = () if self._image else self._fault.points
                point = points[number] if number < len(points) else ""
                code = self._start(number, environment, point, follower, people, until)
                self.ended.codes.append(code)
                self.ended.kills += code == _KILLED
                if code in (0, 10):
                    return
                if code == _UNKNOWN:
                    self._resolve(store, environment, until)
        raise RuntimeError(f"not finished after {MAX_STARTS} starts: {self.ended.codes}")

    def _open(self, home: Path) -> dict[str, str]:
        folder = self.ended.folder
        pid = self._zygote.spawn(
            "lab", folder / "lab.log", home=str(home), key=str(self._stage.key)
        )
        self._pids.append(pid)
        self._lab = pid
        port = children.wait_for_lab(home, pid)
        environment = commands.env(home)
        if self._fault.proxy:
            fault, which, number = self._fault.proxy
            arguments: dict[str, Any] = {"fault": fault, "which": which, "number": number}
            arguments |= {"home": str(home), "lab_port": port, "folder": str(folder)}
            self._pids.append(self._zygote.spawn("proxy", folder / "proxy.log", **arguments))
            port = _port_of(folder / "proxy.port")
            for name in ("https_proxy", "http_proxy", "all_proxy"):
                environment[name] = environment[name.upper()] = f"http://127.0.0.1:{port}"
        return environment

    def _start(
        self,
        number: int,
        environment: dict[str, str],
        point: str,
        follower: Follower,
        people: People,
        until: float,
    ) -> int:
        argv = ["run", str(self._stage.plan)]
        if self._stage.run in follower.family.states:
            argv = ["resume", "@latest"]
        camera = self._camera
        pid = self._engine(
            f"engine-{number}", [*argv, "--wait", *AUTH], environment, point, camera=camera
        )
        while (code := self._zygote.poll(pid)) is None:
            if time.monotonic() > until:
                self._ask_where()
                raise TimeoutError(f"still running after {LONGEST_SECONDS:.0f} s")
            if follower.advance():
                people.answer(follower.family)
            if camera:
                camera.look(self.ended.home, self._lab, people, _LOOK_SECONDS)
            else:
                time.sleep(_LOOK_SECONDS)
        follower.advance()
        return code

    def _ask_where(self) -> None:
        """Have every process write its stacks into its log."""
        for pid in self._pids:
            if self._zygote.poll(pid) is None:
                os.kill(pid, signal.SIGUSR1)
        time.sleep(0.2)

    def _engine(
        self,
        name: str,
        argv: list[str],
        environment: dict[str, str],
        point: str = "",
        skew_ms: int = 0,
        camera: Camera | None = None,
    ) -> int:
        log = self.ended.folder / f"{name}.log"
        arguments: dict[str, Any] = {"argv": argv, "environment": environment}
        arguments |= {"failpoint": point, "skew_ms": skew_ms}
        if camera:
            arguments["camera"] = camera.next_process()
        pid = self._zygote.spawn("engine", log, **arguments)
        self._pids.append(pid)
        return pid

    def _resolve(self, store: SqliteStore, environment: dict[str, str], until: float) -> None:
        """Do what a person does: look at the cloud itself, then say what was found."""
        effects = [call["effect"] for call in commands.log(self.ended.home)]
        for row in store.runs():
            for step in fold(store.read(row.run)).steps.values():
                if step.status is not StepStatus.UNKNOWN or said_already(store, row.run, step.id):
                    continue
                found = _FOUND_BY.get(step.id, "hsm.create") in effects
                self.ended.resolved.append(f"{row.run}/{step.id}")
                argv = ["resolve", str(row.run), step.id, "--reason", "looked at the HSM"]
                argv.append("--found" if found else "--absent")
                pid = self._engine(f"resolve-{len(self.ended.resolved)}", argv, environment)
                while (code := self._zygote.poll(pid)) is None and time.monotonic() < until:
                    time.sleep(_LOOK_SECONDS)
                if code:
                    raise RuntimeError(f"resolve ended with {code}")


def _port_of(file: Path, seconds: float = 10.0) -> int:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if file.exists():
            return int(file.read_text())
        time.sleep(0.002)
    raise RuntimeError("the proxy did not start")


def exchanges(folder: Path) -> list[dict[str, Any]]:
    """Return what the proxy saw."""
    return [json.loads(line) for line in (folder / "exchanges.jsonl").read_text().splitlines()]
