"""One connection to the store's file, that stops for good at the first error.

Rules:
- A write is one `BEGIN IMMEDIATE … COMMIT`; anything raised inside rolls it back.
- J6: after an error of SQLite, or of a sync beside it, nothing more is tried on this
  connection: the kernel may have dropped what it could not write, and a second try would
  then report success. A new connection reads what is really there.
- Threads take turns.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn

from drengine.errors import JournalDamaged, JournalError, StoreFailed
from drengine.journal.liveness import waiting_lock
from drengine.journal.schema import FILE_NAME, Connect, connect_file, open_database

_NOT_OURS: Final = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


class Database:
    """The connection of one store object."""

    def __init__(self, home: Path, locks: Path, connect: Connect = connect_file) -> None:
        self._path = home / FILE_NAME
        self._turn = threading.RLock()
        self._why_closed = ""
        try:
            # Two processes that make the same file at once would meet in the switch to WAL,
            # where SQLite does not wait.
            with waiting_lock(locks / ".opening.lock"):
                self._db = open_database(home, connect)
        except (sqlite3.Error, OSError) as error:
            raise _cannot_open(self._path, error) from error

    @contextmanager
    def writing(self, doing: str) -> Iterator[sqlite3.Connection]:
        """Give the connection inside a transaction that commits when the block ends.

        Raises:
            StoreFailed: SQLite failed; whether the commit is durable is not known.
        """
        with self._turn:
            self._check_open(doing)
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                self.fail(doing, error)
            except BaseException:
                self._roll_back()
                raise

    @contextmanager
    def reading(self, doing: str) -> Iterator[sqlite3.Connection]:
        """Give the connection for reading; all of the block sees one moment of the store.

        Without that, an append of another process between two reads would look like damage.

        Raises:
            StoreFailed: SQLite failed.
        """
        with self._turn:
            self._check_open(doing)
            is_inside = self._db.in_transaction
            try:
                if not is_inside:
                    self._db.execute("BEGIN")
                yield self._db
            except sqlite3.Error as error:
                self.fail(doing, error)
            finally:
                if not is_inside:
                    self._roll_back()

    def fail(self, doing: str, error: Exception) -> NoReturn:
        """Close for good and raise `StoreFailed`."""
        with self._turn:
            self._roll_back()
            self._why_closed = f"{doing} failed: {error}"
        raise StoreFailed(
            f"{self._path}: {doing} failed: {error}; whether it is durable is not known, and "
            "nothing more is written by this process",
            hint="free space or repair the disk, then drengine resume: it reads what is there",
        ) from error

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        with self._turn:
            self._why_closed = self._why_closed or "it was closed"
            self._db.close()

    def _check_open(self, doing: str) -> None:
        if self._why_closed:
            raise StoreFailed(
                f"{self._path}: {doing} is refused: {self._why_closed}; the store must be opened "
                "anew by a new process",
                hint="drengine resume",
            )

    def _roll_back(self) -> None:
        # SQLite may have rolled back by itself; a second ROLLBACK would hide the first error.
        with suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")


def _cannot_open(path: Path, error: Exception) -> JournalError:
    if getattr(error, "sqlite_errorcode", None) in _NOT_OURS:
        return JournalDamaged(
            f"opening the journal store {path}: {error}; nothing was changed",
            hint="restore the file from a copy, or import an exported journal elsewhere",
        )
    return JournalError(
        f"opening the journal store {path}: {error}; nothing was changed",
        hint="choose another folder with DRENGINE_HOME",
    )
