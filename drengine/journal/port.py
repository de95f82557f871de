"""The port behind which every journal store stands.

Rules of every store: an append is one durable commit; a failed commit or sync
raises `StoreFailed` and the process must end and re-read; damage is refused by
record number and never repaired; signals never touch the chain; objects are kept
by SHA-256 beside it. Calls block: the driver keeps them short.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from drengine.model.canonical import JsonObject
from drengine.model.ids import RunId
from drengine.model.records import Draft, Head, Lease, Record, Signal


@dataclass(frozen=True, slots=True)
class ArrivingChain:
    """The chain of a run from another host, for `JournalStore.adopt`.

    Attributes:
        head: where it must end.
        lines: gives its lines from record 0, each time it is called.
    """

    run: RunId
    title: str
    run_class: str
    created_at_ms: int
    head: Head
    lines: Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class RunRow:
    """What a listing of runs shows without reading the chains.

    Attributes:
        status: last run-level status the driver left (`running`, `waiting`, …); a hint only.
        wake_at_ms: when an unfinished run is next due, None where it waits for a person.
    """

    run: RunId
    title: str
    run_class: str
    created_at_ms: int
    status: str
    wake_at_ms: int | None
    head: Head


class JournalStore(Protocol):
    """A store of journals. Implementations: SQLite (default), memory (simulation)."""

    def create(
        self,
        run: RunId,
        title: str,
        run_class: str,
        genesis: Draft,
        targets: Sequence[str] = (),
    ) -> Head:
        """Write record 0, and claim targets for the run in the same commit (see `claim`).

        The same genesis body again is accepted and changes nothing.

        Raises:
            Locked: the run exists with another genesis, or another run holds a target; then
                neither record nor claim is there.
            StoreFailed: the commit failed.
        """
        ...

    def exists(self, run: RunId) -> bool:
        """Whether the run has a record 0."""
        ...

    def acquire(self, run: RunId, owner: str) -> Lease:
        """Take the run for this process; on one host an OS file lock says who is alive.

        Raises:
            Locked: a living process holds it; the message names it.
        """
        ...

    def release(self, lease: Lease) -> None:
        """Give the run back; a lease that is no longer held is not an error."""
        ...

    def living_owner(self, run: RunId) -> str | None:
        """Name the process that holds the run now, None where nobody does."""
        ...

    def append(self, lease: Lease, expect: Head, drafts: Sequence[Draft]) -> Sequence[Record]:
        """Append in one durable commit and return the records in their places.

        Raises:
            Fenced: the lease is not the newest, or was given back.
            JournalDamaged: the head is not `expect`.
            Unwritable: a draft has no canonical form or is longer than a MiB.
            StoreFailed: the commit failed; whether it is durable is not known.
        """
        ...

    def adopt(
        self, chains: Sequence[ArrivingChain], owner: str, take_over: Callable[[int], Draft]
    ) -> Head:
        """Take in a run and its children from another host, all in one commit.

        A chain that is here already must be a beginning of the arriving one. Every lease
        of these runs ends: each token increases.

        Parameters:
            chains: the run first, then its children.
            take_over: makes the record that the run's chain then ends with, from its new token.

        Raises:
            Locked: a living process holds one of the runs.
            JournalDamaged: an arriving chain does not follow; nothing was taken in.
            JournalError: another or a longer chain is here, or nothing in these is new.
        """
        ...

    def read(self, run: RunId, after: int = -1) -> Iterator[Record]:
        """Yield the records after seq `after`, checking seq, chain and hash of each.

        Raises:
            JournalDamaged: names the first record that does not follow.
        """
        ...

    def lines(self, run: RunId) -> Iterator[bytes]:
        """Yield the stored lines byte for byte, newline included, unchecked."""
        ...

    def head(self, run: RunId) -> Head:
        """Return the end of the chain."""
        ...

    def runs(self) -> Sequence[RunRow]:
        """Return every run, newest first, children behind their parents."""
        ...

    def check_lease(self, lease: Lease) -> None:
        """Make sure that nobody has taken the run since.

        Raises:
            Fenced: another lease is newer.
        """
        ...

    def set_status(self, lease: Lease, status: str, wake_at_ms: int | None) -> None:
        """Leave the hint that listings show."""
        ...

    def put_signal(self, signal: Signal) -> None:
        """Put a signal into the inbox, from any process; the same id again changes nothing.

        A child need not exist yet: its parent may be told to cancel it before it is created.

        Raises:
            JournalError: there is no such run, or no such parent of the child.
            InputError: no record could be made of it: it is too long, too deep, or without a name.
        """
        ...

    def peek_signals(self, run: RunId) -> Sequence[Signal]:
        """Return the inbox in order of arrival, without taking anything out."""
        ...

    def delete_signals(self, lease: Lease, ids: Sequence[str]) -> None:
        """Take out signals whose ids are in the chain by now."""
        ...

    def claim(self, run: RunId, targets: Sequence[str]) -> None:
        """Claim targets (an HSM's or failover group's resource id, lower case) for a run.

        All or none. Claims of the same run, its parent, siblings and children do not
        conflict, nor do those left by a run whose last record says it is finished or
        cancelled, nor those of a run that has no record 0: its process died before it began.

        Raises:
            Locked: another unfinished run holds one of them; the message names both.
        """
        ...

    def release_claims(self, run: RunId) -> None:
        """Give up the claims of a finished or cancelled run and of its children."""
        ...

    def put_object(self, data: bytes) -> str:
        """Keep `data` and return its SHA-256."""
        ...

    def get_object(self, sha256: str) -> bytes:
        """Return the bytes of that digest, checked.

        Raises:
            JournalDamaged: absent, or not the bytes that were kept.
        """
        ...

    def has_object(self, sha256: str) -> bool:
        """Whether an object of that digest is here; its bytes are not checked."""
        ...

    def put_document(self, run: RunId, name: str, doc: JsonObject) -> None:
        """Keep a document (the plan) beside the run; written once.

        The run need not exist yet.

        Raises:
            JournalError: another document has that name; nothing was written.
        """
        ...

    def get_document(self, run: RunId, name: str) -> JsonObject:
        """Return that document.

        Raises:
            JournalDamaged: absent or unreadable.
        """
        ...

    def documents(self, run: RunId) -> Sequence[str]:
        """Return the names of a run's documents."""
        ...
