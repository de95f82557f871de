"""Images: what is durable at a kill point, from which a recovery goes on as after `kill -9`.

A kill leaves the files as they are and nothing else. So one recovery can stand still at each of
its points, have its files copied, and go on; every copy is then resumed as a trial of its own.
That spares each trial the way to its point. What an image cannot show is a request of another
part of the run that was under way: real kills, which are played too, leave those to the lab.

One `pass` is one recovery in one *world*, which is one value for every open question about the
services. A world has its share of the points; the worlds together have them all.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from drengine import failpoints
from drengine.lab.clock import LabClock

if TYPE_CHECKING:
    from faultlab.people import People
    from faultlab.trial import Fault

WORLDS = 24
_STOP_SECONDS = 10.0
_GO_ON = b"\n"
_WANTED = "image"
_COMMIT, _COMMITTED = "journal.", "journal.after_sync"


@dataclass(frozen=True)
class Image:
    """The files at one point.

    Attributes:
        start: which process of the recovery it is of, from 0.
        point: `PLACE:NUMBER`, counted in that process.
        home: the lab's home, the engine's in it.
        now_ms: the lab's time.
        answered: what the people of the recovery had answered.
    """

    start: int
    point: str
    home: Path
    now_ms: int
    answered: frozenset[tuple[str, str, int]]

    def fault(self, world: Fault) -> Fault:
        """Return the fault that plays it as a real kill."""
        return replace(world, points=(*[""] * self.start, f"{self.point}:kill"))

    def restore(self, home: Path) -> None:
        """Make the lab home of a trial, at the image's time; the image is used up."""
        self.home.rename(home)
        LabClock(home / "clock.json").set(now_ms=self.now_ms, speed=1.0)


class Camera:
    """Takes the images of one pass: serves the engine that stands still at its points.

    Parameters:
        folder: for the images.
        world: whose share of the points is taken.
    """

    def __init__(self, folder: Path, world: int) -> None:
        if not 0 <= world < WORLDS:
            raise ValueError(f"there is no world {world}: they are 0 to {WORLDS - 1}")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.world = folder, world
        self.images: list[Image] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind("")  # a name that Linux picks: the path of a test may be too long
        self._listener.listen()
        self._engine: socket.socket | None = None
        self._starts = 0

    def next_process(self) -> tuple[str, int, str]:
        """Return what the next process is told: the socket, the world, where it counts."""
        self._starts += 1
        address = self._listener.getsockname().decode("latin-1")
        return address, self.world, str(self._counts(self._starts - 1))

    def _counts(self, start: int) -> Path:
        return self.folder / f"reached-{start}"

    def missing(self) -> str:
        """Say which points of this world were reached and have no image; empty for none."""
        taken = {(image.start, image.point) for image in self.images}
        wanted = {
            (start, f"{place}:{number}")
            for start in range(self._starts)
            for place, count in Counter(self._counts(start).read_text().split()).items()
            for number in range(1, count + 1)
            if world_of(place, number) == self.world
        }
        return ", ".join(f"{point} of process {start}" for start, point in sorted(wanted - taken))

    def look(self, home: Path, lab: int, people: People, seconds: float) -> None:
        """Wait a moment for an engine that stands at a point, and take the image there.

        Returns only between two commits: a person who writes to the store while the engine
        stands still within one would wait for it in vain.

        Parameters:
            home: the lab's home.
            lab: the pid of its server.
        """
        said = self._heard(seconds)
        while said:
            point, _, is_wanted = said.rpartition(":")
            if is_wanted == _WANTED:
                self._take(point, home, lab, people)
            assert self._engine is not None
            self._engine.sendall(_GO_ON)
            within = point.startswith(_COMMIT) and not point.startswith(_COMMITTED)
            said = self._heard(_STOP_SECONDS) if within else ""

    def _heard(self, seconds: float) -> str:
        """Return what the engine says within some time, nothing where it is silent or gone."""
        waiting = self._engine or self._listener
        waiting.settimeout(seconds)
        try:
            if self._engine is None:
                self._engine = self._listener.accept()[0]
                return ""
            said = self._engine.recv(100)
        except TimeoutError:
            return ""
        if not said:
            self._engine.close()
            self._engine = None
            time.sleep(seconds)
        return said.decode("ascii")

    def _take(self, point: str, home: Path, lab: int, people: People) -> None:
        start = self._starts - 1
        copy = self.folder / f"{start}-{point.replace(':', '-')}"
        os.kill(lab, signal.SIGSTOP)
        try:
            _wait_until_stopped(lab)
            now_ms = LabClock(home / "clock.json").now_ms()
            # In another process: to close a file of SQLite here would give up the locks that
            # the people's connection holds on it.
            subprocess.run(["cp", "-a", str(home), str(copy)], check=True)
        finally:
            os.kill(lab, signal.SIGCONT)
        self.images.append(Image(start, point, copy, now_ms, people.answered))

    def close(self) -> None:
        """Stop serving."""
        self._listener.close()
        if self._engine is not None:
            self._engine.close()


def stand_still_at_points(camera: str, world: int, counts: str) -> Callable[[str], None]:
    """Return what an engine does at a failpoint: at those of its world it waits for the camera.

    Parameters:
        counts: file that names every point, a line each.
    """
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(camera.encode("latin-1"))
    reached: Counter[str] = Counter()
    named = Path(counts).open("a", encoding="ascii", buffering=1)  # noqa: SIM115 - while it lives

    def reach(place: str) -> None:
        reached[place] += 1
        named.write(f"{place}\n")
        is_wanted = world_of(place, reached[place]) == world
        if is_wanted or place.startswith(_COMMIT):
            said = f"{place}:{reached[place]}:{_WANTED if is_wanted else '-'}"
            connection.sendall(said.encode("ascii"))
            if connection.recv(1) != _GO_ON:
                os._exit(70)

    return reach


def world_of(place: str, number: int) -> int:
    """Return in which world a point's image is taken."""
    return (number + 7 * failpoints.PLACES.index(place)) % WORLDS


def _wait_until_stopped(pid: int) -> None:
    until = time.monotonic() + _STOP_SECONDS
    tasks = Path(f"/proc/{pid}/task")
    while any(_state(task) != "T" for task in tasks.iterdir()):
        if time.monotonic() > until:
            raise RuntimeError("the lab does not stand still")
        time.sleep(0.0005)


def _state(task: Path) -> str:
    return (task / "stat").read_text().rpartition(")")[2].split()[0]
