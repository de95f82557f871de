"""A store in memory, for simulation and fast tests: the same port, the same refusals.

Nothing survives the Python process. `MemoryDisk` plays the disk that several store
objects, each playing one process, share; `crash` plays the death of that process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from drengine.journal import codec, refusals
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
from drengine.journal.liveness import Owner
from drengine.journal.port import ArrivingChain, RunRow
from drengine.model.canonical import JsonObject, canonical, parse_canonical, sha256_hex
from drengine.model.ids import RunId, root_of
from drengine.model.records import Draft, Head, Lease, Record, Signal


@dataclass(slots=True)
class MemoryRun:
    """What the disk has of one run."""

    row: RunRow
    lines: list[bytes]
    token: int = 0


@dataclass(slots=True)
class MemoryDisk:
    """What outlives a store object; tests may damage it."""

    runs: dict[RunId, MemoryRun] = field(default_factory=dict)
    signals: dict[RunId, dict[str, Signal]] = field(default_factory=dict)
    locks: dict[RunId, Owner] = field(default_factory=dict)
    claims: dict[tuple[str, RunId], None] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    documents: dict[tuple[RunId, str], bytes] = field(default_factory=dict)


class MemoryStore:
    """A `JournalStore` that one simulated process has open on a `MemoryDisk`."""

    def __init__(self, disk: MemoryDisk | None = None) -> None:
        self.disk = disk or MemoryDisk()
        self._held: dict[RunId, tuple[int, Owner]] = {}

    def crash(self) -> None:
        """Lose every lock, as the death of the process does; the disk stays."""
        for run, (_, owner) in self._held.items():
            if self.disk.locks.get(run) is owner:
                del self.disk.locks[run]
        self._held.clear()

    close = crash

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
        if run in self.disk.runs:
            first = self.disk.runs[run].lines[0]
            if codec.decode(first, 0, BEFORE_GENESIS.sha256, run).body != records[0].body:
                raise refusals.other_genesis(run)
            return self.head(run)
        self.claim(run, targets)
        row = RunRow(run, title, run_class, genesis.at_ms, "created", None, head)
        self.disk.runs[run] = MemoryRun(row, lines)
        return head

    def exists(self, run: RunId) -> bool:
        """Whether the run has a record 0."""
        return run in self.disk.runs

    def acquire(self, run: RunId, owner: str) -> Lease:
        """Take the run for this simulated process (see `JournalStore.acquire`)."""
        kept = self._run(run)
        lock = self._take_lock(run, owner)
        kept.token += 1
        self._held[run] = (kept.token, lock)
        return Lease(run, owner, kept.token)

    def release(self, lease: Lease) -> None:
        """Give the run back; a lease that is no longer held is not an error."""
        token, owner = self._held.get(lease.run, (-1, None))
        if owner is not None and token == lease.token:
            del self._held[lease.run]
            if self.disk.locks.get(lease.run) is owner:
                del self.disk.locks[lease.run]

    def living_owner(self, run: RunId) -> str | None:
        """Name the simulated process that holds the run now, None where nobody does."""
        owner = self.disk.locks.get(run)
        return str(owner) if owner else None

    # the chain

    def append(self, lease: Lease, expect: Head, drafts: Sequence[Draft]) -> Sequence[Record]:
        """Append all drafts or none (see `JournalStore.append`)."""
        lines, records, end = extend(lease.run, expect, drafts)
        kept = self._leased(lease)
        if (found := self.head(lease.run)) != expect:
            raise refusals.head_moved(lease.run, found, expect)
        _grow(kept, lines, end)
        return records

    def read(self, run: RunId, after: int = -1) -> Iterator[Record]:
        """Yield the records after seq `after`, each checked (see `JournalStore.read`)."""
        kept = self._run(run)
        end, start = kept.row.head, BEFORE_GENESIS
        if after >= 0:
            if after >= len(kept.lines):
                codec.damaged(run, after, f"is missing: the chain ends at record {end.seq}")
            start = Head(after, sha256_hex(kept.lines[after]))
        return records_until(iter(kept.lines[start.seq + 1 :]), run, start, end)

    def lines(self, run: RunId) -> Iterator[bytes]:
        """Yield the stored lines byte for byte, newline included, unchecked."""
        return iter(list(self._run(run).lines))

    def head(self, run: RunId) -> Head:
        """Return the end of the chain, checked against its last line."""
        kept = self._run(run)
        last = kept.lines[-1] if kept.lines else b""
        if Head(len(kept.lines) - 1, sha256_hex(last)) != kept.row.head:
            codec.damaged(run, kept.row.head.seq, "is not the end of the chain")
        return kept.row.head

    def runs(self) -> Sequence[RunRow]:
        """Return every run, newest first, children behind their parents."""
        rows = [kept.row for kept in self.disk.runs.values()]
        return listing_order(sorted(rows, key=lambda row: row.created_at_ms))

    def check_lease(self, lease: Lease) -> None:
        """Make sure that nobody has taken the run since (see `JournalStore.check_lease`)."""
        self._leased(lease)

    def set_status(self, lease: Lease, status: str, wake_at_ms: int | None) -> None:
        """Leave the hint that listings show."""
        kept = self._leased(lease)
        kept.row = replace(kept.row, status=status, wake_at_ms=wake_at_ms)

    def adopt(
        self, chains: Sequence[ArrivingChain], owner: str, take_over: Callable[[int], Draft]
    ) -> Head:
        """Take in chains from another host (see `JournalStore.adopt`)."""
        root = chains[0].run
        with ExitStack() as locks:
            for chain in chains:
                self._take_lock(chain.run, owner)
                locks.callback(self.disk.locks.pop, chain.run, None)
            after = {chain.run: self._adopted(chain) for chain in chains}
            if all(len(kept.lines) == self._length(run) for run, kept in after.items()):
                raise refusals.nothing_new(root)
            top = after[root]
            draft = take_over(top.token)
            lines, _, end = extend(root, top.row.head, [draft])
            _grow(top, lines, end)
            top.row = replace(top.row, status="imported", wake_at_ms=None)
            self.disk.runs.update(after)
            return top.row.head

    # signals and claims

    def put_signal(self, signal: Signal) -> None:
        """Put a signal into the inbox; the same id again changes nothing."""
        check_signal(signal)
        body = parse_canonical(canonical(signal.body))
        self._run(root_of(signal.run))
        inbox = self.disk.signals.setdefault(signal.run, {})
        inbox.setdefault(signal.id, replace(signal, body=body))

    def peek_signals(self, run: RunId) -> Sequence[Signal]:
        """Return the inbox in order of arrival, without taking anything out."""
        return list(self.disk.signals.get(run, {}).values())

    def delete_signals(self, lease: Lease, ids: Sequence[str]) -> None:
        """Take out signals whose ids are in the chain by now."""
        self._leased(lease)
        for id_ in ids:
            self.disk.signals.get(lease.run, {}).pop(id_, None)

    def claim(self, run: RunId, targets: Sequence[str]) -> None:
        """Claim all targets for a run, or none (see `JournalStore.claim`)."""
        wanted = [target.lower() for target in targets]
        for target in wanted:
            for claimed, holder in sorted(self.disk.claims):
                is_other = root_of(holder) != root_of(run)
                if claimed == target and is_other and self._is_alive(holder):
                    raise refusals.claimed(target, run, holder)
        self.disk.claims.update(((target, run), None) for target in wanted)

    def release_claims(self, run: RunId) -> None:
        """Give up the claims of a run and of its children."""
        for target, holder in list(self.disk.claims):
            if holder == run or holder.startswith(f"{run}/"):
                del self.disk.claims[(target, holder)]

    # objects and documents

    def put_object(self, data: bytes) -> str:
        """Keep `data` and return its SHA-256."""
        sha256 = sha256_hex(data)
        self.disk.objects.setdefault(sha256, data)
        self.get_object(sha256)
        return sha256

    def get_object(self, sha256: str) -> bytes:
        """Return the bytes of that digest, checked."""
        if sha256 not in self.disk.objects:
            raise refusals.no_object(sha256, "is not here")
        data = self.disk.objects[sha256]
        if (found := sha256_hex(data)) != sha256:
            raise refusals.no_object(sha256, f"its bytes have the digest {found}")
        return data

    def has_object(self, sha256: str) -> bool:
        """Whether an object of that digest is here; its bytes are not checked."""
        return sha256 in self.disk.objects

    def put_document(self, run: RunId, name: str, doc: JsonObject) -> None:
        """Keep a document beside the run; written once."""
        check_document_name(run, name)
        content = canonical(doc)
        if self.disk.documents.setdefault((run, name), content) != content:
            raise refusals.other_document(run, name)

    def get_document(self, run: RunId, name: str) -> JsonObject:
        """Return that document."""
        if (run, name) not in self.disk.documents:
            raise refusals.no_document(run, name, "is not here")
        try:
            return parse_canonical(self.disk.documents[(run, name)])
        except ValueError as error:
            raise refusals.no_document(run, name, str(error)) from error

    def documents(self, run: RunId) -> Sequence[str]:
        """Return the names of a run's documents."""
        return sorted(name for holder, name in self.disk.documents if holder == run)

    # inside

    def _run(self, run: RunId) -> MemoryRun:
        if run not in self.disk.runs:
            raise refusals.no_run(run)
        return self.disk.runs[run]

    def _length(self, run: RunId) -> int:
        return len(self.disk.runs[run].lines) if run in self.disk.runs else 0

    def _take_lock(self, run: RunId, owner: str) -> Owner:
        if run in self.disk.locks:
            raise refusals.held(run, str(self.disk.locks[run]))
        lock = Owner(owner, "memory", 0, "", 0)
        self.disk.locks[run] = lock
        return lock

    def _leased(self, lease: Lease) -> MemoryRun:
        kept = self._run(lease.run)
        if kept.token != lease.token:
            raise refusals.fenced(lease.run, lease.token, kept.token)
        if self._held.get(lease.run, (-1, None))[0] != lease.token:
            raise refusals.not_held(lease.run, lease.token)
        return kept

    def _adopted(self, chain: ArrivingChain) -> MemoryRun:
        kept = self.disk.runs.get(chain.run)
        if kept is None:
            row = RunRow(
                chain.run,
                chain.title,
                chain.run_class,
                chain.created_at_ms,
                "imported",
                None,
                BEFORE_GENESIS,
            )
            kept = MemoryRun(row, [])
        else:
            self.head(chain.run)
        new = list(arriving(chain, iter(kept.lines)))
        after = replace(kept, lines=list(kept.lines), token=kept.token + 1)
        if new:
            last, _ = new[-1]
            _grow(after, [line for _, line in new], Head(last.seq, last.sha256))
        return after

    def _is_alive(self, run: RunId) -> bool:
        """Whether a run has begun and not ended: only then its claims hold."""
        family = (run, root_of(run))
        return root_of(run) in self.disk.runs and not any(
            codec.ends_chain(self.disk.runs[each].lines[-1])
            for each in family
            if each in self.disk.runs
        )


def _grow(kept: MemoryRun, lines: Sequence[bytes], end: Head) -> None:
    kept.lines.extend(lines)
    kept.row = replace(kept.row, head=end)
