"""The SQLite file of a home: its making, its settings and its tables.

Rules:
- The file is 0600 in a folder that is synced after its creation; SQLite gives `-wal` and
  `-shm` the mode of the file.
- Every setting on which durability rests is read back after it was set.
- A file of a newer version, or of another program, is refused and not touched.
- Lines are stored as the bytes that were hashed; triggers refuse to change or remove one.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final, TypeAlias

from drengine.errors import JournalError
from drengine.journal.files import sync_folder

FILE_NAME: Final = "drengine.db"
APPLICATION_ID: Final = 0x64724A31  # "drJ1"
VERSION: Final = 1
BUSY_MS: Final = 15_000
"""How long a commit waits for another process's commit."""

_OLDEST_SQLITE: Final = (3, 37, 0)  # STRICT tables

_TABLES: Final = (
    """CREATE TABLE runs (
         run TEXT NOT NULL PRIMARY KEY, root TEXT NOT NULL, title TEXT NOT NULL,
         run_class TEXT NOT NULL, created_at_ms INTEGER NOT NULL, status TEXT NOT NULL,
         wake_at_ms INTEGER, token INTEGER NOT NULL, owner TEXT NOT NULL,
         head_seq INTEGER NOT NULL, head_sha256 TEXT NOT NULL
       ) STRICT""",
    """CREATE TABLE records (
         run TEXT NOT NULL REFERENCES runs (run), seq INTEGER NOT NULL, line BLOB NOT NULL,
         PRIMARY KEY (run, seq)
       ) STRICT""",
    """CREATE TRIGGER records_stay BEFORE DELETE ON records
       BEGIN SELECT RAISE(ABORT, 'a journal is append-only'); END""",
    """CREATE TRIGGER records_do_not_change BEFORE UPDATE ON records
       BEGIN SELECT RAISE(ABORT, 'a journal is append-only'); END""",
    """CREATE TABLE signals (
         arrival INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL, id TEXT NOT NULL,
         kind TEXT NOT NULL, actor TEXT NOT NULL, body BLOB NOT NULL,
         at_ms INTEGER NOT NULL, UNIQUE (run, id)
       ) STRICT""",
    """CREATE TABLE claims (
         target TEXT NOT NULL, run TEXT NOT NULL, root TEXT NOT NULL, PRIMARY KEY (target, run)
       ) STRICT""",
    """CREATE TABLE documents (
         run TEXT NOT NULL, name TEXT NOT NULL, doc BLOB NOT NULL, sha256 TEXT NOT NULL,
         PRIMARY KEY (run, name)
       ) STRICT""",
)

# fullfsync matters on macOS, where fsync alone leaves the data in the drive's cache.
_SETTINGS: Final = {
    "synchronous": 2,  # FULL: the WAL is synced at every commit
    "foreign_keys": 1,
    "trusted_schema": 0,
    "cell_size_check": 1,
    "fullfsync": 1,
    "checkpoint_fullfsync": 1,
    "busy_timeout": BUSY_MS,
}


Connect: TypeAlias = Callable[[Path], sqlite3.Connection]
"""Opens the store's file; tests give one whose writes and syncs fail when they say so."""


def connect_file(path: Path) -> sqlite3.Connection:
    """Open a connection that threads may share and that begins no transaction by itself."""
    return sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1e3
    )


def open_database(home: Path, connect: Connect = connect_file) -> sqlite3.Connection:
    """Open the store's file, making it where it is absent.

    The caller lets only one process at a time do this.

    Raises:
        JournalError: it is not a store, is of a newer version, or a setting does not hold.
        sqlite3.Error, OSError: it cannot be opened.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise _unfit(home, f"SQLite is {sqlite3.sqlite_version}, expected 3.37 or newer")
    path = home / FILE_NAME
    _make_file(home, path)
    db = connect(path)
    try:
        is_new = _recognise(home, db)
        _set_up(home, db)
        if is_new:
            _make_tables(db)
    except BaseException:
        db.close()
        raise
    return db


def _make_file(home: Path, path: Path) -> None:
    if path.is_symlink():
        raise _unfit(home, "it is a symbolic link")
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        path.chmod(0o600)
    else:
        sync_folder(home)


def _recognise(home: Path, db: sqlite3.Connection) -> bool:
    application = _number(db, "application_id")
    version = _number(db, "user_version")
    if application == APPLICATION_ID and version == VERSION:
        return False
    if application == APPLICATION_ID and version > VERSION:
        raise _unfit(home, f"it has format {version}, this drengine knows {VERSION}: it is too old")
    with closing(db.execute("SELECT count(*) FROM sqlite_schema")) as rows:
        if application or version or rows.fetchone()[0]:
            raise _unfit(home, "it belongs to another program")
    return True


def _set_up(home: Path, db: sqlite3.Connection) -> None:
    with closing(db.execute("PRAGMA journal_mode = WAL")) as rows:
        if (mode := rows.fetchone()[0]) != "wal":
            raise _unfit(home, f"its journal mode stays {mode!r}, expected 'wal'")
    for name, value in _SETTINGS.items():
        db.execute(f"PRAGMA {name} = {value}").close()
        if (found := _number(db, name)) != value:
            raise _unfit(home, f"setting {name} is {found}, expected {value}")


def _make_tables(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    for statement in _TABLES:
        db.execute(statement)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")


def _number(db: sqlite3.Connection, pragma: str) -> int:
    with closing(db.execute(f"PRAGMA {pragma}")) as rows:
        return int(rows.fetchone()[0])


def _unfit(home: Path, reason: str) -> JournalError:
    return JournalError(
        f"opening the journal store {home / FILE_NAME}: {reason}; nothing was changed",
        hint="choose another folder with DRENGINE_HOME",
    )
