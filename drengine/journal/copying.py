"""A copy of a run's journals off the host, kept current while the run goes on.

A chain cannot show that its own tail was cut off, and a host can be lost. So an incident
run writes its journals to another place: at each gate and before each send, after the
record is durable here and before anything leaves; and after what only the journal knows, an
answer, a person's word, an end. Documents and objects go with them: the folder of a run is
an export without a manifest, which another host imports when this one is dead.

Rules:
- A file is written whole or not at all, a journal after what it names; where one cannot be
  written the run stops before the send: no record, no action.
- A journal in the copy is replaced only by one that it is a beginning of. A home that was put
  back from a backup, or a host that was taken over, holds less than the copy: what the copy
  has beyond it stands nowhere else, and names what was sent already.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from drengine.errors import StoreFailed
from drengine.journal import refusals
from drengine.journal.codec import kind_of
from drengine.journal.files import write_whole
from drengine.journal.lines import end_of, lines_in
from drengine.journal.manifest import DocumentEntry, digests_in
from drengine.journal.port import JournalStore
from drengine.model.canonical import canonical
from drengine.model.ids import RunId, root_of, run_file_name, run_of_file
from drengine.model.records import RecordType as R

WHEN: Final = frozenset(
    {
        R.GATE_REQUESTED,
        R.GATE_APPROVED,
        R.GATE_REJECTED,
        R.GATE_VOIDED,
        R.DELIVERY_REQUESTED,
        R.DELIVERY_ACCEPTED,
        R.STEP_SKIPPED,
        R.STEP_MARKED,
        R.STEP_ATTESTED,
        R.INTENT,
        R.ANSWER_OPERATION,
        R.ANSWER_DONE,
        R.ANSWER_REFUSED,
        R.ANSWER_LOST,
        R.UNDO_INTENT,
        R.UNDO_ANSWERED,
        R.UNDO_REFUSED,
        R.OUTCOME_UNKNOWN,
        R.OUTCOME_FOUND,
        R.OUTCOME_ABSENT,
        R.DOUBT_RAISED,
        R.RUN_WAITING,
        R.RUN_STOPPED,
        R.RUN_PAUSED,
        R.RUN_CONTINUED,
        R.RUN_ROLLBACK,
        R.RUN_FINISHED,
        R.RUN_CANCELLED,
        R.RUN_ROLLED_BACK,
        R.RUN_HANDED_OVER,
    }
)
"""The records after which the copy must be current."""


@dataclass(frozen=True, slots=True)
class _End:
    """How this process left a journal in the copy: its size and its last line."""

    size: int
    last: bytes


class JournalCopy:
    """Copies of runs in a folder, one folder a run, as an export names its files.

    Parameters:
        folder: another host's place as this one sees it (a mounted share, a stick).
    """

    def __init__(self, store: JournalStore, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._checked: set[RunId] = set()
        self._ends: dict[RunId, _End] = {}
        self._there: set[Path] = set()

    def check(self, run: RunId) -> None:
        """Make sure that the copy has nothing of a run and its children that is not here.

        A shorter or torn journal there is a beginning like any other: its host died writing.

        Raises:
            JournalError: it goes on where the chain that is here ends, or is another chain.
            HandedOver: so it is, because another host took the run over.
            StoreFailed: it cannot be read.
        """
        root = root_of(run)
        with self._telling(root):
            for path in self._journals(root):
                # The copy first: a process that drives the run makes it longer behind the chain.
                there = path.read_bytes()
                self._check_beginning(run_of_file(path.name), there)
        self._checked.add(root)

    def follow(self, run: RunId, kind: R) -> None:
        """Bring the copy up to date where a record of that type was just made.

        The first record of a process has the copy checked and all chains brought up to date,
        whatever its type: in a new place a child that is over would never come by itself.

        Raises:
            JournalError, HandedOver: as for `check`; nothing in the copy was changed.
            StoreFailed: it cannot be written.
        """
        if root_of(run) not in self._checked:
            self.bring_up(run)
        elif kind in WHEN:
            self._bring(run)

    def bring_up(self, run: RunId) -> None:
        """Bring the copy of a run and its children up to date, whatever was recorded last.

        Raises:
            JournalError, HandedOver, StoreFailed: as for `follow`.
        """
        root = root_of(run)
        self.check(root)
        # Children first: a head that the run records of a child is then on the child's chain.
        for row in reversed(self._store.runs()):
            if root_of(row.run) == root:
                self._bring(row.run)

    def _bring(self, run: RunId) -> None:
        place = self._place(run)
        path = place / "journals" / run_file_name(run)
        with self._telling(run):
            lines = b"".join(self._store.lines(run))
            end = self._ends.get(run)
            is_as_left = end is not None and _ends_with(path, end)
            if not is_as_left:
                self._check_beginning(run, _read(path), lines)
            new = lines[end.size :] if end else lines
            for sha256 in sorted(digests_in(new) | self._documents(run, place)):
                if self._store.has_object(sha256):
                    self._once(place / "objects" / sha256, self._store.get_object(sha256))
            if new or not is_as_left:
                _write(path, lines)
                self._ends[run] = _End(len(lines), lines_in(new or lines)[-1])

    def _check_beginning(self, run: RunId, there: bytes, here: bytes | None = None) -> None:
        """Make sure that what the copy holds of a chain is a beginning of the one that is here."""
        if here is None:
            here = b"".join(self._store.lines(run)) if self._store.exists(run) else b""
        if here.startswith(there):
            return
        mine, held = lines_in(here), lines_in(there)
        pairs = enumerate(zip(mine, held, strict=False))
        parts = next((seq for seq, (one, other) in pairs if one != other), None)
        beyond = held[len(mine) if parts is None else parts :]
        raise refusals.copy_has_more(
            run,
            self._place(run),
            here=end_of(mine),
            there=end_of(held),
            parts=parts,
            taken=R.RUN_IMPORTED in map(kind_of, beyond),
        )

    def _place(self, run: RunId) -> Path:
        return self._folder / root_of(run)

    def _journals(self, root: RunId) -> list[Path]:
        with suppress(FileNotFoundError):
            found = sorted((self._place(root) / "journals").iterdir())
            return [
                path
                for path in found
                if path.suffix == ".jsonl" and root_of(run_of_file(path.name)) == root
            ]
        return []

    def _documents(self, run: RunId, place: Path) -> set[str]:
        """Copy what lies beside the run and is not there yet; return the digests in it."""
        named: set[str] = set()
        for name in self._store.documents(run):
            path = place / DocumentEntry(run, name, "").file
            if path not in self._there:
                content = canonical(self._store.get_document(run, name))
                named |= digests_in(content)
                self._once(path, content)
        return named

    def _once(self, path: Path, content: bytes) -> None:
        if path not in self._there:
            if _read(path) != content:
                _write(path, content)
            self._there.add(path)

    @contextmanager
    def _telling(self, run: RunId) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreFailed(
                f"copying the journal of {run} to {self._folder}: {error.strerror}; nothing was"
                " sent after it",
                hint="Make room or mount the place again, then:"
                f" drengine resume {root_of(run)} --copy-to {self._folder}",
            ) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _ends_with(path: Path, end: _End) -> bool:
    """Whether a journal in the copy is as this process left it.

    Raises:
        FileNotFoundError: it is gone: a share that is not mounted any more looks so.
    """
    with path.open("rb") as stream:
        if stream.seek(0, os.SEEK_END) != end.size:
            return False
        stream.seek(end.size - len(end.last))
        return stream.read() == end.last


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(path, content)
