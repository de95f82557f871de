"""Clocks: the system's and the lab's.

The engine asks no clock but the one it is given. In a lab it follows the lab's
virtual clock, which is read from the file that the lab keeps, so that a compressed
drill and its records agree without a request.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Final, Protocol

_LONGEST_NAP_SECONDS = 0.25
"""A lab's clock may jump or change its speed while somebody sleeps on it."""

_STEADY: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""A clock that nobody sets; where there is such a one, it counts while the machine sleeps."""

_SET_MS: Final = 1_000
"""A machine's clock that is so far from where it should be was set."""


class Clock(Protocol):
    """Time as the engine sees it."""

    def now_ms(self) -> int:
        """Return epoch milliseconds."""
        ...

    def mono_ms(self) -> int:
        """Return monotonic milliseconds of this process."""
        ...

    def wall_ms(self) -> int | None:
        """Return the wall clock where it differs from `now_ms`, else None."""
        ...

    async def sleep_until(self, at_ms: int) -> None:
        """Sleep until `now_ms` has reached `at_ms`."""
        ...


class SystemClock:
    """The machine's clock as it was when this process began, and the time that has passed since.

    A clock that is set in the middle of a run ends no quiet period early and keeps nothing
    waiting; what it is set to stands in the records as their wall time.
    """

    def __init__(self) -> None:
        self._began_ms: Final = time.time_ns() // 1_000_000 - _passed_ms()

    def now_ms(self) -> int:
        """Return epoch milliseconds."""
        return self._began_ms + _passed_ms()

    def mono_ms(self) -> int:
        """Return monotonic milliseconds."""
        return time.monotonic_ns() // 1_000_000

    def wall_ms(self) -> int | None:
        """Return the machine's clock where it was set since, else None."""
        wall_ms = time.time_ns() // 1_000_000
        return wall_ms if abs(wall_ms - self.now_ms()) > _SET_MS else None

    async def sleep_until(self, at_ms: int) -> None:
        """Sleep until then."""
        if (left := at_ms - self.now_ms()) > 0:
            await asyncio.sleep(left / 1000)


def _passed_ms() -> int:
    return time.clock_gettime_ns(_STEADY) // 1_000_000


class LabClock(SystemClock):
    """The virtual clock of a lab: `virtual = virtual_ms + (wall - wall_ms) * speed`.

    Parameters:
        file: the lab's `clock.json`; it is read again whenever it changes.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file
        self._stamp: tuple[int, int] | None = None
        self._wall_ms = 0.0
        self._virtual_ms = 0.0
        self._speed = 1.0

    def now_ms(self) -> int:
        """Return virtual epoch milliseconds."""
        status = self._file.stat()
        # Each setting is a new file: two within one tick of the file system's clock differ.
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp != self._stamp:
            doc = json.loads(self._file.read_text(encoding="utf-8"))
            self._wall_ms = float(doc["wall_ms"])
            self._virtual_ms = float(doc["virtual_ms"])
            self._speed = float(doc["speed"])
            self._stamp = stamp
        return int(self._virtual_ms + (time.time() * 1000 - self._wall_ms) * self._speed)

    def wall_ms(self) -> int | None:
        """Return the wall clock, for evidence that shows both."""
        return time.time_ns() // 1_000_000

    async def sleep_until(self, at_ms: int) -> None:
        """Sleep in naps, following changes of the lab's speed."""
        while (left := at_ms - self.now_ms()) > 0:
            nap = left / 1000 / max(self._speed, 0.001)
            await asyncio.sleep(min(max(nap, 0.001), _LONGEST_NAP_SECONDS))
