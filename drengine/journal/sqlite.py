"""The default store: one SQLite file in the home folder, for all processes of one host.

Not for network file systems and not for several hosts.

Rules:
- J5: an append is one durable commit: token checked, end of the chain checked, lines
  inserted, head moved.
- J6: after an error of SQLite or of a sync this object refuses everything (`database`).
- A run is held by an operating-system lock (`liveness`); the token in the file fences
  whoever lost the lock without noticing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from drengine import failpoints
from drengine.errors import JournalError
from drengine.journal import codec, refusals, tables
from drengine.journal.chain import (
    BEFORE_GENESIS,
    arriving,
    check_document_name,
    check_genesis,
    check_signal,
    extend,
    listing_order,
    records_until,
)
from drengine.journal.database import Database
from drengine.journal.liveness import LockFolder, RunLock
from drengine.journal.objects import ObjectFolder
from drengine.journal.places import prepare_home
from drengine.journal.port import ArrivingChain, RunRow
from drengine.journal.schema import Connect, connect_file
from drengine.journal.takeover import end_owner
from drengine.model.canonical import JsonObject, sha256_hex
from drengine.model.ids import RunId, root_of
from drengine.model.records import Draft, Head, Lease, Record, Signal

_BATCH: Final = 128  # lines read at once, at most a MiB each


@dataclass(slots=True)
class _Held:
    """What this object has of a run that it holds; `last` is the line that it appended last.

    None equals no line in SQL, so that the first append of a lease looks for itself.
    """

    number: int
    token: int
    lock: RunLock
    last: bytes | None = None


class SqliteStore:
    """Journals in `<home>/drengine.db`, objects and locks in folders beside it.

    Use it as a context manager or call `close`.

    Parameters:
        connect: opens the file `drengine.db`.

    Raises:
        JournalError: the home or the file cannot be used; the message says why.
    """

    def __init__(self, home: Path, connect: Connect = connect_file) -> None:
        self.home: Final = prepare_home(home)
        locks, objects = self.home / "locks", self.home / "objects"
        try:
            for folder in (locks, objects):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise JournalError(
                f"opening the journal store in {home}: {error}",
                hint="Mend that, or name another folder with DRENGINE_HOME.",
            ) from error
        self._database = Database(self.home, locks, connect)
        self._locks = LockFolder(locks)
        self._objects = ObjectFolder(objects)
        self._held: dict[RunId, _Held] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give every run back and close the file."""
        for held in self._held.values():
            held.lock.free()
        self._held.clear()
        self._database.close()

    # runs and leases

    def create(
        self,
        run: RunId,
        title: str,
        run_class: str,
        genesis: Draft,
        targets: Sequence[str] = (),
    ) -> Head:
        """Write record 0 and claim targets (see `JournalStore.create`)."""
        check_genesis(run, genesis)
        lines, records, head = extend(run, BEFORE_GENESIS, [genesis])
        with self._database.writing(f"creating run {run}") as db:
            if tables.has_run(db, run):
                first = tables.line_at(db, run, 0) or b""
                if codec.decode(first, 0, BEFORE_GENESIS.sha256, run).body != records[0].body:
                    raise refusals.other_genesis(run)
                return tables.checked_head(db, run)
            self._claim(db, run, targets)
            tables.add_run(db, run, title, run_class, genesis.at_ms, "created")
            tables.add_lines(db, run, zip(records, lines, strict=True))
            return head

    def exists(self, run: RunId) -> bool:
        """Whether the run has a record 0."""
        with self._database.reading("looking for a run") as db:
            return tables.has_run(db, run)

    def acquire(self, run: RunId, owner: str) -> Lease:
        """Take the run for this process (see `JournalStore.acquire`)."""
        if not self.exists(run):
            raise refusals.no_run(run)
        lock = self._take_lock(run, owner)
        try:
            with self._database.writing(f"taking run {run}") as db:
                number, token = tables.next_token(db, run, owner)
        except BaseException:
            lock.free()
            raise
        self._held[run] = _Held(number, token, lock)
        return Lease(run, owner, token)

    def release(self, lease: Lease) -> None:
        """Give the run back; a lease that is no longer held is not an error."""
        if (held := self._holding(lease)) is not None:
            del self._held[lease.run]
            held.lock.free()

    def living_owner(self, run: RunId) -> str | None:
        """Name the process that holds the run now, None where nobody does."""
        owner = self._locks.living_owner(run)
        return str(owner) if owner else None

    def end_owner(self, run: RunId) -> str | None:
        """End the process that holds the run; return what was ended and how, None for nobody.

        Raises:
            Locked: it cannot be ended from here.
        """
        return end_owner(lambda: self._locks.living_owner(run))

    # the chain

    def append(self, lease: Lease, expect: Head, drafts: Sequence[Draft]) -> Sequence[Record]:
        """Append in one durable commit (see `JournalStore.append`)."""
        lines, records, end = extend(lease.run, expect, drafts)
        failpoints.reach("journal.before_write")
        with self._database.writing(f"appending to run {lease.run}") as db:
            held = self._holding(lease)
            if held is None or not tables.grow(
                db, held.number, held.token, expect, held.last, lines, end
            ):
                held = self._fit_to_append(db, lease, expect)
                tables.add_lines(db, lease.run, zip(records, lines, strict=True))
            failpoints.reach("journal.torn")
        failpoints.reach("journal.after_sync")
        held.last = lines[-1] if lines else held.last
        return records

    def read(self, run: RunId, after: int = -1) -> Iterator[Record]:
        """Yield the records after seq `after`, each checked (see `JournalStore.read`)."""
        with self._database.reading(f"reading run {run}") as db:
            end = tables.run_row(db, run).head
            start = BEFORE_GENESIS
            if after >= 0:
                line = tables.line_at(db, run, after)
                if line is None:
                    codec.damaged(run, after, f"is missing: the chain ends at record {end.seq}")
                start = Head(after, sha256_hex(line))
        return records_until(self._stored(run, start.seq), run, start, end)

    def lines(self, run: RunId) -> Iterator[bytes]:
        """Yield the stored lines byte for byte, newline included, unchecked."""
        if not self.exists(run):
            raise refusals.no_run(run)
        return self._stored(run, -1)

    def head(self, run: RunId) -> Head:
        """Return the end of the chain, checked against its last line."""
        with self._database.reading(f"reading the end of run {run}") as db:
            return tables.checked_head(db, run)

    def runs(self) -> Sequence[RunRow]:
        """Return every run, newest first, children behind their parents."""
        with self._database.reading("listing runs") as db:
            return listing_order(tables.run_rows(db))

    def check_lease(self, lease: Lease) -> None:
        """Make sure that nobody has taken the run since (see `JournalStore.check_lease`)."""
        with self._database.reading(f"looking who has run {lease.run}") as db:
            self._check_lease(db, lease)

    def set_status(self, lease: Lease, status: str, wake_at_ms: int | None) -> None:
        """Leave the hint that listings show."""
        with self._database.writing(f"leaving the status of run {lease.run}") as db:
            self._check_lease(db, lease)
            tables.set_status(db, lease.run, status, wake_at_ms)

    def adopt(
        self, chains: Sequence[ArrivingChain], owner: str, take_over: Callable[[int], Draft]
    ) -> Head:
        """Take in chains from another host (see `JournalStore.adopt`)."""
        root = chains[0].run
        with ExitStack() as locks:
            for chain in chains:
                locks.callback(self._take_lock(chain.run, owner).free)
            with self._database.writing(f"importing run {root}") as db:
                grown = [self._adopt_chain(db, chain) for chain in chains]
                if not any(grown):
                    raise refusals.nothing_new(root)
                tokens = [tables.next_token(db, chain.run, owner)[1] for chain in chains]
                head = tables.checked_head(db, root)
                lines, records, end = extend(root, head, [take_over(tokens[0])])
                tables.set_status(db, root, "imported", None)
                tables.add_lines(db, root, zip(records, lines, strict=True))
                return end

    # signals and claims

    def put_signal(self, signal: Signal) -> None:
        """Put a signal into the inbox, from any process; the same id again changes nothing."""
        check_signal(signal)
        with self._database.writing(f"sending a signal to run {signal.run}") as db:
            tables.run_row(db, root_of(signal.run))
            tables.put_signal(db, signal)

    def peek_signals(self, run: RunId) -> Sequence[Signal]:
        """Return the inbox in order of arrival, without taking anything out."""
        with self._database.reading(f"reading the signals of run {run}") as db:
            return tables.signals_of(db, run)

    def delete_signals(self, lease: Lease, ids: Sequence[str]) -> None:
        """Take out signals whose ids are in the chain by now."""
        failpoints.reach("signals.before_delete")
        with self._database.writing(f"deleting signals of run {lease.run}") as db:
            self._check_lease(db, lease)
            tables.delete_signals(db, lease.run, ids)

    def claim(self, run: RunId, targets: Sequence[str]) -> None:
        """Claim all targets for a run, or none (see `JournalStore.claim`)."""
        with self._database.writing(f"claiming targets for run {run}") as db:
            self._claim(db, run, targets)

    def release_claims(self, run: RunId) -> None:
        """Give up the claims of a run and of its children."""
        with self._database.writing(f"giving up the claims of run {run}") as db:
            tables.delete_claims(db, run)

    # objects and documents

    def put_object(self, data: bytes) -> str:
        """Keep `data` and return its SHA-256."""
        try:
            failpoints.reach("object.before_write")
            return self._objects.put(data)
        except OSError as error:
            self._database.fail("keeping an object", error)

    def get_object(self, sha256: str) -> bytes:
        """Return the bytes of that digest, checked."""
        try:
            return self._objects.get(sha256)
        except OSError as error:
            raise refusals.no_object(sha256, f"cannot be read: {error}") from error

    def has_object(self, sha256: str) -> bool:
        """Whether an object of that digest is here; its bytes are not checked."""
        return self._objects.has(sha256)

    def put_document(self, run: RunId, name: str, doc: JsonObject) -> None:
        """Keep a document beside the run; written once."""
        check_document_name(run, name)
        with self._database.writing(f"keeping document {name!r} of run {run}") as db:
            tables.put_document(db, run, name, doc)

    def get_document(self, run: RunId, name: str) -> JsonObject:
        """Return that document, checked."""
        with self._database.reading(f"reading document {name!r} of run {run}") as db:
            return tables.document(db, run, name)

    def documents(self, run: RunId) -> Sequence[str]:
        """Return the names of a run's documents."""
        with self._database.reading(f"listing the documents of run {run}") as db:
            return tables.document_names(db, run)

    # inside

    def _take_lock(self, run: RunId, owner: str) -> RunLock:
        try:
            return self._locks.take(run, owner)
        except OSError as error:
            raise JournalError(
                f"locking run {run}: {error}; nothing was changed",
                hint=f"Mend that, then: drengine resume {root_of(run)}",
            ) from error

    def _check_lease(self, db: sqlite3.Connection, lease: Lease) -> None:
        self._check_token(tables.newest_token(db, lease.run), lease)

    def _check_token(self, newest: int, lease: Lease) -> _Held:
        if newest != lease.token:
            raise refusals.fenced(lease.run, lease.token, newest)
        if (held := self._holding(lease)) is None:
            raise refusals.not_held(lease.run, lease.token)
        return held

    def _holding(self, lease: Lease) -> _Held | None:
        held = self._held.get(lease.run)
        return held if held is not None and held.token == lease.token else None

    def _fit_to_append(self, db: sqlite3.Connection, lease: Lease, expect: Head) -> _Held:
        token, found = tables.checked_end(db, lease.run)
        held = self._check_token(token, lease)
        if found != expect:
            raise refusals.head_moved(lease.run, found, expect)
        return held

    def _stored(self, run: RunId, after: int) -> Iterator[bytes]:
        while True:
            with self._database.reading(f"reading run {run}") as db:
                rows = tables.lines_after(db, run, after, _BATCH)
            if not rows:
                return
            yield from (line for _, line in rows)
            after = rows[-1][0]

    def _adopt_chain(self, db: sqlite3.Connection, chain: ArrivingChain) -> bool:
        if tables.has_run(db, chain.run):
            tables.checked_head(db, chain.run)
        else:
            tables.add_run(
                db, chain.run, chain.title, chain.run_class, chain.created_at_ms, "imported"
            )
        new = arriving(chain, self._stored(chain.run, -1))
        return tables.add_lines(db, chain.run, new) is not None

    def _claim(self, db: sqlite3.Connection, run: RunId, targets: Sequence[str]) -> None:
        for target in (target.lower() for target in targets):
            for holder in tables.other_claims(db, target, root_of(run)):
                if self._is_alive(db, holder):
                    raise refusals.claimed(target, run, holder)
            tables.add_claim(db, target, run)

    def _is_alive(self, db: sqlite3.Connection, run: RunId) -> bool:
        """Whether a run has begun and not ended: only then its claims hold."""
        return tables.has_run(db, root_of(run)) and not any(
            codec.ends_chain(tables.line_at(db, each, tables.run_row(db, each).head.seq))
            for each in (run, root_of(run))
            if tables.has_run(db, each)
        )
