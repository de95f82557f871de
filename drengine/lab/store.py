"""The lab's state: documents, large bytes, jobs and the call log, in one SQLite file.

Rules:
- One writer at a time. Every effect and the row of the call log that names it commit in
  one transaction, so a killed lab has either both or neither.
- An answer leaves only after the commit.
- `synchronous=NORMAL` in WAL mode: what was committed survives the death of the process,
  though not always a power cut. The lab promises no more.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS docs (
  kind TEXT NOT NULL, key TEXT NOT NULL, doc TEXT NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blobs (key TEXT PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (
  id INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL, payload TEXT NOT NULL,
  due_ms INTEGER NOT NULL, failures INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS jobs_due ON jobs (due_ms);
CREATE TABLE IF NOT EXISTS calls (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, wall_ms INTEGER NOT NULL, virtual_ms INTEGER NOT NULL,
  host TEXT NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL, query TEXT NOT NULL,
  status INTEGER NOT NULL, effect TEXT, target TEXT, principal TEXT, client_request_id TEXT,
  request_id TEXT, authorised INTEGER NOT NULL, body_sha256 TEXT NOT NULL, detail TEXT
);
"""

_LAST: Final = "\U0010ffff"
"""Sorts behind everything that a key may hold."""
CALL_COLUMNS: Final = (
    "wall_ms",
    "virtual_ms",
    "host",
    "method",
    "path",
    "query",
    "status",
    "effect",
    "target",
    "principal",
    "client_request_id",
    "request_id",
    "authorised",
    "body_sha256",
    "detail",
)
_INSERT_CALL: Final = (
    f"INSERT INTO calls ({', '.join(CALL_COLUMNS)})"  # noqa: S608 - names from the constant above
    f" VALUES ({', '.join('?' * len(CALL_COLUMNS))})"
)


@dataclass(frozen=True, slots=True)
class CallRow:
    """One row of the call log, before it has a number."""

    host: str
    method: str
    path: str
    query: str
    status: int
    effect: str | None = None
    target: str | None = None
    principal: str | None = None
    client_request_id: str | None = None
    request_id: str | None = None
    authorised: bool = False
    body_sha256: str = ""
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One scheduled piece of work."""

    id: int
    name: str
    payload: dict[str, Any]
    due_ms: int
    failures: int


class Tx:
    """An open transaction. Not to be kept after the `with` block that gave it."""

    def __init__(self, connection: sqlite3.Connection, now_ms: int) -> None:
        self._sql = connection
        self.now_ms = now_ms
        self.scheduled = False

    def get(self, kind: str, key: str) -> dict[str, Any] | None:
        """Return the document, or None where there is none."""
        row = self._sql.execute(
            "SELECT doc FROM docs WHERE kind = ? AND key = ?", (kind, key)
        ).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, kind: str, key: str, doc: dict[str, Any]) -> None:
        """Write the document, replacing one of the same kind and key."""
        text = json.dumps(doc, separators=(",", ":"))
        self._sql.execute(
            "INSERT INTO docs VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET doc = excluded.doc",
            (kind, key, text),
        )

    def delete(self, kind: str, key: str) -> bool:
        """Remove the document; return whether there was one."""
        cursor = self._sql.execute("DELETE FROM docs WHERE kind = ? AND key = ?", (kind, key))
        return cursor.rowcount > 0

    def find(
        self, kind: str, prefix: str = "", *, after: str = "", limit: int = -1
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the documents of a kind whose key starts with `prefix`, ordered by key.

        The rows are read before the first is yielded, so the caller may write meanwhile.

        Parameters:
            after: only keys behind this one.
            limit: at most so many; -1 means all.
        """
        sql = (
            "SELECT key, doc FROM docs WHERE kind = ? AND key >= ? AND key < ? AND key > ?"
            " ORDER BY key LIMIT ?"
        )
        bounds = (kind, prefix, prefix + _LAST, after, limit)
        for key, doc in self._sql.execute(sql, bounds).fetchall():
            yield key, json.loads(doc)

    def count(self, kind: str, prefix: str = "") -> int:
        """Return how many documents of a kind have a key that starts with `prefix`."""
        row = self._sql.execute(
            "SELECT count(*) FROM docs WHERE kind = ? AND key >= ? AND key < ?",
            (kind, prefix, prefix + _LAST),
        ).fetchone()
        return int(row[0])

    def put_blob(self, key: str, data: bytes) -> None:
        """Write large bytes under a key of their own table."""
        self._sql.execute(
            "INSERT INTO blobs VALUES (?, ?) ON CONFLICT DO UPDATE SET data = excluded.data",
            (key, data),
        )

    def get_blob(self, key: str) -> bytes | None:
        """Return the bytes, or None where there are none."""
        row = self._sql.execute("SELECT data FROM blobs WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def delete_blob(self, key: str) -> bool:
        """Remove the bytes; return whether there were any."""
        return self._sql.execute("DELETE FROM blobs WHERE key = ?", (key,)).rowcount > 0

    def schedule(self, job: str, payload: dict[str, Any], due_ms: int) -> int:
        """Have the job run, at least once, when virtual time reaches `due_ms`."""
        cursor = self._sql.execute(
            "INSERT INTO jobs (job, payload, due_ms) VALUES (?, ?, ?)",
            (job, json.dumps(payload, separators=(",", ":")), int(due_ms)),
        )
        self.scheduled = True
        return int(cursor.lastrowid or 0)

    def jobs(self) -> list[Job]:
        """Return all jobs that have not been finished, the earliest due first."""
        rows = self._sql.execute(
            "SELECT id, job, payload, due_ms, failures FROM jobs ORDER BY due_ms, id"
        ).fetchall()
        return [Job(row[0], row[1], json.loads(row[2]), row[3], row[4]) for row in rows]

    def finish_job(self, job_id: int) -> None:
        """Remove a job that has run."""
        self._sql.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    def defer_job(self, job_id: int, due_ms: int) -> None:
        """Have a job that failed run again later."""
        self._sql.execute(
            "UPDATE jobs SET due_ms = ?, failures = failures + 1 WHERE id = ?", (due_ms, job_id)
        )

    def log_call(self, row: CallRow) -> int:
        """Append a row to the call log and return its number."""
        values = {name: getattr(row, name, None) for name in CALL_COLUMNS}
        values["wall_ms"] = int(time.time() * 1000)
        values["virtual_ms"] = self.now_ms
        values["authorised"] = int(row.authorised)
        cursor = self._sql.execute(_INSERT_CALL, tuple(values[name] for name in CALL_COLUMNS))
        return int(cursor.lastrowid or 0)

    def count_effects(self, after: int = 0) -> dict[str, int]:
        """Return how often each effect was accepted, by effect and target."""
        rows = self._sql.execute(
            "SELECT effect, target, count(*) FROM calls WHERE effect IS NOT NULL AND seq > ?"
            " AND authorised = 1 GROUP BY effect, target ORDER BY effect, target",
            (after,),
        )
        return {f"{effect} {target or ''}".strip(): count for effect, target, count in rows}

    def last_calls(self, count: int) -> list[dict[str, Any]]:
        """Return the newest rows of the call log, the newest first."""
        names = ("seq", "virtual_ms", "method", "status", "host", "path", "effect")
        rows = self._sql.execute(
            f"SELECT {', '.join(names)} FROM calls ORDER BY seq DESC LIMIT ?",  # noqa: S608 - constants
            (count,),
        )
        return [dict(zip(names, row, strict=True)) for row in rows]

    def log_effect(self, effect: str, target: str, detail: dict[str, Any]) -> None:
        """Append a row for an effect that is not a direct request, as the outcome of a job."""
        text = json.dumps(detail, separators=(",", ":"), sort_keys=True)
        self.log_call(
            CallRow("", "", "", "", 0, effect=effect, target=target, authorised=True, detail=text)
        )


class Store:
    """The SQLite file and the one lock around it.

    Parameters:
        path: the file; it is made with mode 0600.
        now_ms: reads the virtual clock.
    """

    def __init__(self, path: Path, now_ms: Callable[[], int]) -> None:
        self.path = path
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._owner: int | None = None
        self.on_schedule: Callable[[], None] = lambda: None
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._sql = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._sql.execute("PRAGMA journal_mode=WAL")
        self._sql.execute("PRAGMA synchronous=NORMAL")
        self._sql.execute("PRAGMA busy_timeout=5000")
        self._sql.executescript(SCHEMA)

    @contextmanager
    def transaction(self) -> Iterator[Tx]:
        """Open a transaction; commit on success, roll back on any exception.

        Raises:
            RuntimeError: this thread already has one open (it would wait for itself).
        """
        if self._owner == threading.get_ident():
            raise RuntimeError("a transaction is already open in this thread")
        with self._lock:
            self._owner = threading.get_ident()
            try:
                yield from self._run()
            finally:
                self._owner = None

    def _run(self) -> Iterator[Tx]:
        self._sql.execute("BEGIN IMMEDIATE")
        tx = Tx(self._sql, self._now_ms())
        try:
            yield tx
        except BaseException:
            self._sql.execute("ROLLBACK")
            raise
        self._sql.execute("COMMIT")
        if tx.scheduled:
            self.on_schedule()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._sql.close()


@contextmanager
def reading(path: Path, now_ms: int) -> Iterator[Tx]:
    """Open the file for reading only, also while a lab runs; a write in it fails."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
    try:
        yield Tx(connection, now_ms)
    finally:
        connection.close()


def read_calls(path: Path, after: int = 0, limit: int = 100_000) -> list[dict[str, Any]]:
    """Read the call log from the file, also while a lab runs.

    Parameters:
        path: the lab's `lab.db`.
        after: only rows with a higher number.
        limit: at most so many rows.
    """
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
    try:
        connection.row_factory = sqlite3.Row
        rows = connection.execute(
            "SELECT * FROM calls WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit)
        ).fetchall()
    finally:
        connection.close()
    return [_call_document(dict(row)) for row in rows]


def _call_document(row: dict[str, Any]) -> dict[str, Any]:
    row["authorised"] = bool(row["authorised"])
    row["detail"] = None if row["detail"] is None else json.loads(row["detail"])
    return row
