# ruff: noqa: N802 - APSW gives the names of the methods
"""A disk that fails when it is told to: an SQLite VFS made with APSW, for tests only.

It counts every write and every sync of the store's files. One of them can fail (I/O error,
disk full, torn half-way), and at any of them the power can go: then only what was synced
is there, and of the rest any part.
"""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

BLOCK = 512
_NAMES = itertools.count()


class PowerLoss(BaseException):
    """The machine is off; nothing of the process runs any more."""


@dataclass
class Disk:
    """One faulty disk.

    Attributes:
        fail: `write` or `sync`, with the number (from 1) of the one that fails and how:
            `eio`, `full`, `torn` or `off`.
        durable: what a file holds after the last sync.
        pending: what was written since.
    """

    fail: tuple[str, int, str] | None = None
    writes: int = 0
    syncs: int = 0
    durable: dict[str, bytearray] = field(default_factory=dict)
    pending: dict[str, list[tuple[int, bytes | None]]] = field(default_factory=dict)
    is_off: bool = False

    def connect(self, path: Path) -> Any:
        """Open the store's file on this disk, with the face of `sqlite3`."""
        name = f"faulty-{next(_NAMES)}"
        self._vfs = _Vfs(name, self)
        db = apsw.Connection(str(path), vfs=name)
        db.set_busy_timeout(1000)
        return _Face(db)

    def hit(self, what: str) -> str:
        """Count one call; return how it is to fail, or an empty text."""
        if self.is_off:
            raise apsw.IOError("the power is off")
        setattr(self, f"{what}s", getattr(self, f"{what}s") + 1)
        number = getattr(self, f"{what}s")
        if self.fail is None or self.fail[:2] != (what, number):
            return ""
        if self.fail[2] == "off":
            self.is_off = True
        return self.fail[2]

    def after_power_loss(self, to: Path, rng: random.Random) -> None:
        """Write the files as they may be found when the power is back."""
        for path, content in self.durable.items():
            found = bytearray(content)
            pending = self.pending.get(path, [])
            for offset, data in pending:
                if rng.random() < 0.5:
                    continue
                if data is None:
                    del found[offset:]
                    continue
                whole = len(data) // BLOCK * BLOCK
                kept = data if rng.random() < 0.7 else data[: rng.randrange(0, whole + 1, BLOCK)]
                found.extend(bytes(max(0, offset + len(kept) - len(found))))
                found[offset : offset + len(kept)] = kept
            (to / Path(path).name).write_bytes(found)


class _Vfs(apsw.VFS):
    def __init__(self, name: str, disk: Disk) -> None:
        self._disk = disk
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> Any:
        return _File(self._disk, name, flags)

    def xDelete(self, name: str, sync_folder: bool) -> None:
        # Taken as durable at once, as on file systems that keep the order of names.
        super().xDelete(name, sync_folder)
        self._disk.durable.pop(name, None)
        self._disk.pending.pop(name, None)


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._path = name.filename() if hasattr(name, "filename") else str(name)
        super().__init__("", name, flags)
        disk.durable.setdefault(self._path, bytearray())
        disk.pending.setdefault(self._path, [])

    def xWrite(self, data: bytes, offset: int) -> None:
        how = self._disk.hit("write")
        if how in ("torn", "off"):
            half = data[: len(data) // 2]
            super().xWrite(half, offset)
            self._disk.pending[self._path].append((offset, half))
        if how:
            raise apsw.FullError("full") if how == "full" else apsw.IOError(how)
        super().xWrite(data, offset)
        self._disk.pending[self._path].append((offset, bytes(data)))

    def xTruncate(self, size: int) -> None:
        super().xTruncate(size)
        self._disk.pending[self._path].append((size, None))

    def xSync(self, flags: int) -> None:
        if how := self._disk.hit("sync"):
            raise apsw.IOError(how)
        super().xSync(flags)
        durable = self._disk.durable[self._path]
        for offset, data in self._disk.pending[self._path]:
            if data is None:
                del durable[offset:]
                continue
            durable.extend(bytes(max(0, offset + len(data) - len(durable))))
            durable[offset : offset + len(data)] = data
        self._disk.pending[self._path].clear()


def _translated(call: Callable[..., Any]) -> Callable[..., Any]:
    def inner(*arguments: Any) -> Any:
        try:
            return call(*arguments)
        except apsw.Error as error:
            found = sqlite3.OperationalError(f"{type(error).__name__}: {error}")
            found.sqlite_errorcode = getattr(error, "result", 1)
            raise found from error

    return inner


class _Rows:
    """A result that is complete: nothing of it can fail later."""

    def __init__(self, rows: list[Any], changed: int) -> None:
        self._rows = iter(rows)
        self.rowcount = changed

    def fetchall(self) -> list[Any]:
        return list(self._rows)

    def fetchone(self) -> Any:
        return next(self._rows, None)

    def close(self) -> None:
        self._rows = iter(())


class _Face:
    """An APSW connection with the few methods of `sqlite3.Connection` that the store uses."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self.execute = _translated(self._execute)
        self.executemany = _translated(db.executemany)

    def _execute(self, *arguments: Any) -> _Rows:
        return _Rows(list(self._db.execute(*arguments)), self._db.changes())

    def close(self) -> None:
        # SQLite says nothing of a checkpoint that fails while closing; APSW would.
        with suppress(apsw.Error):
            self._db.close()

    @property
    def in_transaction(self) -> bool:
        return self._db.in_transaction
