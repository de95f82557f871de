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
from types import TracebackType
from typing import Final, NoReturn

from drengine.errors import JournalDamaged, JournalError, StoreFailed
from drengine.journal.liveness import LockFolder, waiting_lock
from drengine.journal.schema import FILE_NAME, Connect, connect_file, open_database

_NOT_OURS: Final = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


class Database:
    """The connection of one store object."""

    def __init__(self, home: Path, locks: Path, connect: Connect = connect_file) -> None:
        self._path = home / FILE_NAME
        self.turn = threading.RLock()
        self._why_closed = ""
        try:
            # Two processes that make the same file at once would meet in the switch to WAL,
            # where SQLite does not wait.
            with waiting_lock(locks / ".opening.lock"):
                self.db = open_database(home, connect, LockFolder(locks).living_owner)
        except (sqlite3.Error, OSError) as error:
            raise _cannot_open(self._path, error) from error

    def writing(self, doing: str) -> Writing:
        """Give the connection inside a transaction that commits when the block ends.

        Raises:
            StoreFailed: SQLite failed; whether the commit is durable is not known.
        """
        return Writing(self, doing)

    @contextmanager
    def reading(self, doing: str) -> Iterator[sqlite3.Connection]:
        """Give the connection for reading; all of the block sees one moment of the store.

        Without that, an append of another process between two reads would look like damage.

        Raises:
            StoreFailed: SQLite failed.
        """
        with self.turn:
            self.check_open(doing)
            is_inside = self.db.in_transaction
            try:
                if not is_inside:
                    self.db.execute("BEGIN")
                yield self.db
            except sqlite3.Error as error:
                self.fail(doing, error)
            finally:
                if not is_inside:
                    self.roll_back()

    def fail(self, doing: str, error: Exception) -> NoReturn:
        """Close for good and raise `StoreFailed`."""
        with self.turn:
            self.roll_back()
            self._why_closed = f"{doing} failed: {error}"
        raise StoreFailed(
            f"{self._path}: {doing} failed: {error}; whether it is durable is not known, and "
            "nothing more is written by this process",
            hint="free space or repair the disk, then drengine resume: it reads what is there",
        ) from error

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        with self.turn:
            self._why_closed = self._why_closed or "it was closed"
            self.db.close()

    def check_open(self, doing: str) -> None:
        """Refuse to do anything behind an error.

        Raises:
            StoreFailed: something failed before, or the store was closed.
        """
        if self._why_closed:
            raise StoreFailed(
                f"{self._path}: {doing} is refused: {self._why_closed}; the store must be opened "
                "anew by a new process",
                hint="drengine resume",
            )

    def roll_back(self) -> None:
        """End the transaction, if there is one, without what was done in it."""
        # SQLite may have rolled back by itself; a second ROLLBACK would hide the first error.
        with suppress(sqlite3.Error):
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")


class Writing:
    """One transaction of a `Database`; a class, for a generator takes longer at every append."""

    __slots__ = ("_database", "_doing")

    def __init__(self, database: Database, doing: str) -> None:
        self._database: Final = database
        self._doing: Final = doing

    def __enter__(self) -> sqlite3.Connection:
        database = self._database
        database.turn.acquire()
        try:
            database.check_open(self._doing)
            database.db.execute("BEGIN IMMEDIATE")
        except BaseException as error:
            self._give_up(error)
            raise
        return database.db

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._give_up(error)
            return
        try:
            self._database.db.execute("COMMIT")
        except BaseException as failed:
            self._give_up(failed)
            raise
        self._database.turn.release()

    def _give_up(self, error: BaseException) -> None:
        try:
            if isinstance(error, sqlite3.Error):
                self._database.fail(self._doing, error)
            self._database.roll_back()
        finally:
            self._database.turn.release()


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
