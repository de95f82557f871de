"""The SQLite file of a home: its making, its settings and its tables.

Rules:
- The file is 0600 in a folder that is synced after its creation; SQLite gives `-wal` and
  `-shm` the mode of the file.
- Every setting on which durability rests is read back after it was set.
- A file of a newer version, or of another program, is refused and not touched; one of an older
  version is brought up to this one in one transaction, while no process holds a run of it.
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
from drengine.model.ids import RunId

FILE_NAME: Final = "drengine.db"
APPLICATION_ID: Final = 0x64724A31  # "drJ1"
VERSION: Final = 2
PLACE_BITS: Final = 32
"""Record `seq` of a run stands at the place `(number << 32) + seq`, in SQL as here, so that one
integer finds it in one tree."""

BUSY_MS: Final = 15_000
"""How long a commit waits for another process's commit."""

_OLDEST_SQLITE: Final = (3, 37, 0)  # STRICT tables

_TABLES: Final = {
    "runs": """CREATE TABLE runs (
         number INTEGER PRIMARY KEY, run TEXT NOT NULL UNIQUE, root TEXT NOT NULL,
         title TEXT NOT NULL, run_class TEXT NOT NULL, created_at_ms INTEGER NOT NULL,
         status TEXT NOT NULL, wake_at_ms INTEGER, token INTEGER NOT NULL, owner TEXT NOT NULL,
         head_seq INTEGER NOT NULL, head_sha256 TEXT NOT NULL
       ) STRICT""",
    "records": "CREATE TABLE records (place INTEGER PRIMARY KEY, line BLOB NOT NULL) STRICT",
    "lines": """CREATE VIEW lines AS SELECT run, place - (number << 32) AS seq, line
         FROM records JOIN runs ON number = place >> 32""",
    "records_stay": """CREATE TRIGGER records_stay BEFORE DELETE ON records
       BEGIN SELECT RAISE(ABORT, 'a journal is append-only'); END""",
    "records_do_not_change": """CREATE TRIGGER records_do_not_change BEFORE UPDATE ON records
       BEGIN SELECT RAISE(ABORT, 'a journal is append-only'); END""",
    "signals": """CREATE TABLE signals (
         arrival INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL, id TEXT NOT NULL,
         kind TEXT NOT NULL, actor TEXT NOT NULL, body BLOB NOT NULL,
         at_ms INTEGER NOT NULL, UNIQUE (run, id)
       ) STRICT""",
    "claims": """CREATE TABLE claims (
         target TEXT NOT NULL, run TEXT NOT NULL, root TEXT NOT NULL, PRIMARY KEY (target, run)
       ) STRICT""",
    "documents": """CREATE TABLE documents (
         run TEXT NOT NULL, name TEXT NOT NULL, doc BLOB NOT NULL, sha256 TEXT NOT NULL,
         PRIMARY KEY (run, name)
       ) STRICT""",
}

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


Holder: TypeAlias = Callable[[RunId], object | None]


def connect_file(path: Path) -> sqlite3.Connection:
    """Open a connection that threads may share and that begins no transaction by itself."""
    return sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1e3
    )


def open_database(
    home: Path, connect: Connect = connect_file, holder: Holder = lambda _: None
) -> sqlite3.Connection:
    """Open the store's file, making it where it is absent.

    The caller lets only one process at a time do this.

    Parameters:
        holder: names the living process that holds a run, None where nobody does.

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
        version = _recognise(home, db)
        _set_up(home, db)
        if version == 0:
            _make_tables(db)
        elif version == 1:
            _upgrade(home, db, holder)
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


def _recognise(home: Path, db: sqlite3.Connection) -> int:
    """Return the version of the file's tables, 0 where there are none."""
    application = _number(db, "application_id")
    version = _number(db, "user_version")
    if application == APPLICATION_ID and 1 <= version <= VERSION:
        return version
    if application == APPLICATION_ID and version > VERSION:
        raise _unfit(home, f"it has format {version}, this drengine knows {VERSION}: it is too old")
    with closing(db.execute("SELECT count(*) FROM sqlite_schema")) as rows:
        if application or version or rows.fetchone()[0]:
            raise _unfit(home, "it belongs to another program")
    return 0


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
    for statement in _TABLES.values():
        db.execute(statement)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")


def _upgrade(home: Path, db: sqlite3.Connection, holder: Holder) -> None:
    """Bring tables of version 1, in which a record was found by its run's name, up to this one."""
    db.execute("BEGIN IMMEDIATE")
    for (run,) in db.execute("SELECT run FROM runs").fetchall():
        if (owner := holder(RunId(run))) is not None:
            raise JournalError(
                f"opening the journal store {home / FILE_NAME}: it is of an earlier drengine, and "
                f"{owner} still holds run {run}; nothing was changed",
                hint="let that process end, or end it; then try again",
            )
    for name in ("runs", "records"):
        db.execute(f"ALTER TABLE {name} RENAME TO {name}_1")
    for trigger in ("records_stay", "records_do_not_change"):
        db.execute(f"DROP TRIGGER {trigger}")
    for name in ("runs", "records", "records_stay", "records_do_not_change", "lines"):
        db.execute(_TABLES[name])
    db.execute("INSERT INTO runs SELECT rowid, * FROM runs_1 ORDER BY rowid")
    db.execute(
        "INSERT INTO records SELECT (number << 32) + seq, line FROM records_1"
        " JOIN runs ON runs.run = records_1.run ORDER BY number, seq"
    )
    for name in ("records", "runs"):
        db.execute(f"DROP TABLE {name}_1")
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
