"""Hosts on which stores are opened: one store object is one process, real or simulated."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from drengine.journal import exchange
from drengine.journal.memory import MemoryDisk, MemoryStore
from drengine.journal.port import JournalStore
from drengine.journal.sqlite import SqliteStore
from drengine.model.canonical import Json
from drengine.model.ids import RunId
from drengine.model.records import Draft, Head, Lease, Record, RecordType

AT_MS = 1_795_341_600_123

MakeDraft = Callable[..., Draft]


class SqliteHost:
    """A folder that several store objects share."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._open: list[SqliteStore] = []

    def open(self) -> SqliteStore:
        store = SqliteStore(self.home)
        self._open.append(store)
        return store

    def lose_locks(self) -> None:
        """Let a second process take a run although the first one lives."""
        for path in (self.home / "locks").iterdir():
            path.unlink()

    def damage(self, run: RunId, seq: int, line: bytes | None) -> None:
        """Change or remove a stored line behind the store's back."""
        with closing(sqlite3.connect(self.home / "drengine.db", isolation_level=None)) as db:
            db.execute("DROP TRIGGER IF EXISTS records_stay")
            db.execute("DROP TRIGGER IF EXISTS records_do_not_change")
            sql = "SELECT (number << 32) + ? FROM runs WHERE run = ?"
            (place,) = db.execute(sql, (seq, run)).fetchone()
            if line is None:
                db.execute("DELETE FROM records WHERE place = ?", (place,))
            else:
                db.execute("UPDATE records SET line = ? WHERE place = ?", (line, place))

    def spoil_object(self, sha256: str, data: bytes) -> None:
        (self.home / "objects" / sha256[:2] / sha256).write_bytes(data)

    def close(self) -> None:
        for store in self._open:
            store.close()


class MemoryHost:
    """A simulated disk that several store objects share."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()

    def open(self) -> MemoryStore:
        return MemoryStore(self.disk)

    def lose_locks(self) -> None:
        self.disk.locks.clear()

    def damage(self, run: RunId, seq: int, line: bytes | None) -> None:
        lines = self.disk.runs[run].lines
        lines[seq : seq + 1] = [] if line is None else [line]

    def spoil_object(self, sha256: str, data: bytes) -> None:
        self.disk.objects[sha256] = data

    def close(self) -> None:
        self.disk.locks.clear()


Host = SqliteHost | MemoryHost


@pytest.fixture(params=["sqlite", "memory"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Host]:
    made: Host = SqliteHost(tmp_path / "home") if request.param == "sqlite" else MemoryHost()
    yield made
    made.close()


@pytest.fixture
def store(host: Host) -> JournalStore:
    return host.open()


@pytest.fixture
def draft() -> MakeDraft:
    """Make drafts whose times increase."""
    ticks = itertools.count()

    def make(type_: RecordType = RecordType.NOTE, **body: Json) -> Draft:
        tick = next(ticks)
        return Draft(type_, "engine", body, AT_MS + tick, tick)

    return make


class Writer:
    """A lease holder that keeps track of the head."""

    def __init__(self, store: JournalStore, run: RunId, make: MakeDraft) -> None:
        self.store = store
        self.run = run
        self.make = make
        self.head = (
            store.head(run)
            if store.exists(run)
            else store.create(run, f"title of {run}", "drill", make(RecordType.RUN_CREATED, of=run))
        )
        self.lease: Lease = store.acquire(run, "the test")

    def append(self, *drafts: Draft) -> Sequence[Record]:
        records = self.store.append(self.lease, self.head, drafts)
        self.head = Head(records[-1].seq, records[-1].sha256)
        return records

    def note(self, **body: Json) -> Record:
        return self.append(self.make(RecordType.NOTE, **body))[0]

    def release(self) -> None:
        self.store.release(self.lease)


@pytest.fixture
def writer(draft: MakeDraft) -> Callable[[JournalStore, str], Writer]:
    """Create or open a run and take its lease."""
    return lambda store, run: Writer(store, RunId(run), draft)


@pytest.fixture
def later() -> Callable[[Draft], Draft]:
    """The same draft, written at another time."""
    return lambda draft: replace(draft, at_ms=draft.at_ms + 60_000, mono_ms=draft.mono_ms + 60_000)


RUN = RunId("r-0123456789ab")
CHILD = RunId("r-0123456789ab/mi-1")
OTHER = RunId("r-ba9876543210")


@pytest.fixture
def origin(store, writer, draft):
    """A run with a finished child, a plan, and objects named in a record and in the plan."""
    first, second = store.put_object(b"first"), store.put_object(b"second")
    unused = store.put_object(b"unused")
    parent = writer(store, RUN)
    store.put_document(RUN, "plan", {"runbook": {"text": "kind: Runbook\n", "sha256": second}})
    parent.append(draft(RecordType.CHILD_STARTED, run=CHILD))
    child = writer(store, CHILD)
    child.note(answer={"body": first, "unknown": "f" * 64})
    child.append(draft(RecordType.RUN_FINISHED))
    store.put_document(CHILD, "inputs", {})
    parent.append(
        draft(RecordType.CHILD_FINISHED, run=CHILD, seq=child.head.seq, sha256=child.head.sha256)
    )
    writer(store, OTHER).note()
    parent.release()
    child.release()
    store.objects_of_test = (first, second, unused)
    return store


@pytest.fixture
def tar(origin, tmp_path) -> Path:
    exchange.export_run(origin, RUN, tmp_path / "run.tar")
    return tmp_path / "run.tar"


@pytest.fixture
def folder(origin, tmp_path) -> Path:
    exchange.export_run(origin, RUN, tmp_path / "run")
    return tmp_path / "run"
