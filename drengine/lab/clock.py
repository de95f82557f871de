"""The lab's virtual clock.

A speed of 0 makes a stepped clock: time moves only where it is advanced.

Virtual time is `virtual_ms + (wall clock - wall_ms) * speed`, with the three numbers in
`<lab home>/clock.json`. Other programs may read the same file and come to the same time.
The file is replaced as a whole; a reader never sees half of it.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

STANDSTILL_SECONDS = 3600.0
"""How long to wait for what lies ahead of a clock that stands still, before looking again."""


@dataclass(frozen=True, slots=True)
class ClockSetting:
    """The straight line that maps wall time to virtual time."""

    wall_ms: int
    virtual_ms: int
    speed: float

    def virtual(self, wall_ms: float) -> int:
        """Return the virtual time at a wall time, both in epoch milliseconds."""
        return int(self.virtual_ms + (wall_ms - self.wall_ms) * self.speed)


class LabClock:
    """The virtual clock of one lab home.

    Parameters:
        file: `clock.json`; it is made, with virtual time equal to wall time, where missing.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        wall_ms = int(time.time() * 1000)
        self._setting = ClockSetting(wall_ms, wall_ms, 1.0)
        if not file.exists():
            self._write(self._setting)

    def now_ms(self) -> int:
        """Return virtual time in epoch milliseconds."""
        return self._read().virtual(time.time() * 1000)

    @property
    def speed(self) -> float:
        """How many virtual seconds pass in one wall second."""
        return self._read().speed

    def wall_delay(self, virtual_ms: int) -> float:
        """Return how many wall seconds remain until a virtual time; never negative."""
        left = max(0.0, (virtual_ms - self.now_ms()) / 1000.0)
        speed = self.speed
        if speed == 0:
            return STANDSTILL_SECONDS if left else 0.0
        return left / speed

    def set(
        self,
        *,
        speed: float | None = None,
        now_ms: int | None = None,
        advance_ms: int | None = None,
    ) -> None:
        """Change speed or time from now on; what is not given stays as it is.

        Raises:
            ValueError: the speed is negative.
        """
        with self._lock:
            wall_ms = int(time.time() * 1000)
            current = self._read()
            new_speed = current.speed if speed is None else float(speed)
            if new_speed < 0:
                raise ValueError(f"clock speed must not be negative, found {new_speed}")
            virtual = current.virtual(wall_ms) if now_ms is None else now_ms
            self._write(ClockSetting(wall_ms, virtual + (advance_ms or 0), new_speed))

    def _read(self) -> ClockSetting:
        status = self._file.stat()
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp != self._stamp:
            found = json.loads(self._file.read_bytes())
            self._setting = ClockSetting(found["wall_ms"], found["virtual_ms"], found["speed"])
            self._stamp = stamp
        return self._setting

    def _write(self, setting: ClockSetting) -> None:
        handle, temporary = tempfile.mkstemp(dir=self._file.parent, prefix=".clock-")
        with os.fdopen(handle, "w") as stream:
            json.dump(asdict(setting), stream)
        Path(temporary).replace(self._file)
