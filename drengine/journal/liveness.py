"""Who is alive: one operating-system file lock per run, which dies with its process.

Rules:
- The lock decides; the owner text beside it only makes the refusal readable.
- A lock file is never removed: removing it would let two processes lock two files of
  one name.
- The lock belongs to the open file, which child programs do not inherit. A process that
  forks without exec shares it with its child and must not.
- It says nothing across hosts: there the lease token in the store decides.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from drengine.journal import refusals
from drengine.journal.files import write_whole
from drengine.model.ids import RunId, run_file_name

# `living_owner` holds a shared lock for some microseconds; an acquisition outwaits it.
_TRIES: Final = 4
_BETWEEN_TRIES_SECONDS: Final = 0.02
_LONG_TRIES: Final = 1_500


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that holds a run.

    Attributes:
        name: what the process calls itself.
        boot_id: identity of the host's boot, empty where the system has none.
        started_ms: wall time at which the process started, 0 where it cannot be told.
        started_ticks: the same since the boot, whatever the clock was set to meanwhile; it tells
            two processes of one number apart.
    """

    name: str
    host: str
    pid: int
    boot_id: str
    started_ms: int
    started_ticks: int = 0

    def __str__(self) -> str:
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.started_ms / 1000))
        since = f", started {started}" if self.started_ms else ""
        boot = f", boot {self.boot_id[:8]}" if self.boot_id else ""
        return f"{self.name} (host {self.host}, process {self.pid}{since}{boot})"


def this_process(name: str) -> Owner:
    """Return this process as an owner."""
    ticks = _started_ticks(os.getpid())
    return Owner(name, socket.gethostname(), os.getpid(), _boot_id(), _started_ms(ticks), ticks)


def is_running(owner: Owner) -> bool:
    """Whether the process of an owner's number, on this host, is the one that wrote it.

    False too where the system does not tell: a number alone may be another process's by now.
    """
    if not (owner.boot_id and owner.started_ticks) or owner.host != socket.gethostname():
        return False
    then = owner.boot_id, owner.started_ticks
    return then == (_boot_id(), _started_ticks(owner.pid))


@contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Hold a lock on `path` during the block, after waiting for whoever has it.

    Raises:
        TimeoutError: whoever has it does not give it back: a process that was stopped, say.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _try_lock(descriptor, fcntl.LOCK_EX, _LONG_TRIES):
            raise TimeoutError(errno.ETIMEDOUT, "another process holds it and does not end", path)
        yield
    finally:
        os.close(descriptor)


class RunLock:
    """A lock that is held until `free` or the end of the process."""

    __slots__ = ("_descriptor", "_owner_path")

    def __init__(self, descriptor: int, owner_path: Path) -> None:
        self._descriptor = descriptor
        self._owner_path = owner_path

    def free(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._descriptor < 0:
            return
        with suppress(OSError):
            self._owner_path.unlink()
        os.close(self._descriptor)
        self._descriptor = -1


class LockFolder:
    """The locks of one home."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, run: RunId, name: str) -> RunLock:
        """Lock the run for this process.

        Raises:
            Locked: a living process holds it; the message names it.
            OSError: the lock file cannot be opened.
        """
        lock_path, owner_path = self._paths(run)
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _try_lock(descriptor, fcntl.LOCK_EX, _TRIES):
            os.close(descriptor)
            raise refusals.held(run, _owner_text(owner_path))
        try:
            owner = json.dumps(asdict(this_process(name)))
            write_whole(owner_path, owner.encode(), durable=False)
        except BaseException:
            os.close(descriptor)
            raise
        return RunLock(descriptor, owner_path)

    def living_owner(self, run: RunId) -> Owner | None:
        """Return the process that holds the run now, None where nobody does."""
        lock_path, owner_path = self._paths(run)
        try:
            descriptor = os.open(lock_path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            if _try_lock(descriptor, fcntl.LOCK_SH, tries=1):
                return None
        finally:
            os.close(descriptor)
        return _read_owner(owner_path) or Owner(
            "a process that has not said its name", "?", 0, "", 0
        )

    def _paths(self, run: RunId) -> tuple[Path, Path]:
        stem = run_file_name(run).removesuffix(".jsonl")
        return self._folder / f"{stem}.lock", self._folder / f"{stem}.owner"


def _try_lock(descriptor: int, kind: int, tries: int) -> bool:
    for left in range(tries, 0, -1):
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if left > 1:
                time.sleep(_BETWEEN_TRIES_SECONDS)
        else:
            return True
    return False


def _owner_text(path: Path) -> str:
    return str(_read_owner(path) or "it has not said its name yet")


def _read_owner(path: Path) -> Owner | None:
    try:
        return Owner(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _started_ticks(pid: int) -> int:
    """Return when a process started, in clock ticks after the boot (proc(5)).

    It is 0 where there is no such process, or the system does not tell.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(stat.rpartition(")")[2].split()[19])  # field 22; after the name comes field 3
    except (OSError, ValueError, IndexError):
        return 0


def _started_ms(ticks: int) -> int:
    """Return the wall time of that start, as the clock tells it now."""
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
        boot = next(int(line.split()[1]) for line in lines if line.startswith("btime "))
        return boot * 1000 + ticks * 1000 // os.sysconf("SC_CLK_TCK") if ticks else 0
    except (OSError, ValueError, IndexError, StopIteration):
        return 0
