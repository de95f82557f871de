"""A copy of a run's journals off the host, kept current while the run goes on.

A chain cannot show that its own tail was cut off, and a host can be lost. So an incident
run writes its journals to another place at each gate and before each send, after the
record is durable here and before anything leaves. Documents and objects go with them: the
folder of a run is an export without a manifest, which another host imports when this one
is dead.

Rules: a file is written whole or not at all, a journal after what it names; where one
cannot be written the run stops before the send: no record, no action.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from drengine.errors import StoreFailed
from drengine.journal.files import write_whole
from drengine.journal.manifest import DocumentEntry, digests_in
from drengine.journal.port import JournalStore
from drengine.model.canonical import canonical, sha256_hex
from drengine.model.ids import RunId, root_of, run_file_name
from drengine.model.records import RecordType as R

WHEN: Final = frozenset(
    {
        R.GATE_REQUESTED,
        R.GATE_APPROVED,
        R.DELIVERY_REQUESTED,
        R.INTENT,
        R.UNDO_INTENT,
        R.OUTCOME_UNKNOWN,
        R.RUN_WAITING,
        R.RUN_STOPPED,
        R.RUN_FINISHED,
        R.RUN_CANCELLED,
        R.RUN_ROLLED_BACK,
    }
)
"""The records after which the copy must be current."""


class JournalCopy:
    """Copies of runs in a folder, one folder a run, as an export names its files.

    Parameters:
        folder: another host's place as this one sees it (a mounted share, a stick).
    """

    def __init__(self, store: JournalStore, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._there: set[Path] = set()

    def follow(self, run: RunId, kind: R) -> None:
        """Bring the copy up to date where a record of that type was just made.

        Raises:
            StoreFailed: it cannot be written.
        """
        if kind not in WHEN:
            return
        place = self._folder / root_of(run)
        try:
            lines = b"".join(self._store.lines(run))
            named = digests_in(lines) | self._documents(run, place)
            for sha256 in sorted(named):
                if self._store.has_object(sha256):
                    self._once(place / "objects" / sha256, self._store.get_object(sha256))
            _write(place / "journals" / run_file_name(run), lines)
        except OSError as error:
            raise StoreFailed(
                f"copying the journal of {run} to {self._folder}: {error.strerror}; nothing was"
                " sent after it",
                hint="Make room or mount the place again, then:"
                f" drengine resume {root_of(run)} --copy-to {self._folder}",
            ) from error

    def _documents(self, run: RunId, place: Path) -> set[str]:
        """Copy what lies beside the run; return the digests that stand in it."""
        named: set[str] = set()
        for name in self._store.documents(run):
            content = canonical(self._store.get_document(run, name))
            named |= digests_in(content)
            self._once(place / DocumentEntry(run, name, sha256_hex(content)).file, content)
        return named

    def _once(self, path: Path, content: bytes) -> None:
        if path not in self._there:
            _write(path, content)
            self._there.add(path)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(path, content)
