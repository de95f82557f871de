"""A copy of a run's journals off the host, kept current while the run goes on.

A chain cannot show that its own tail was cut off, and a host can be lost. So an incident
run writes its journals to another place at each gate and before each send, after the
record is durable here and before anything leaves.

Rules: a copy is written whole or not at all; where it cannot be written the run stops
before the send: no record, no action.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from drengine.errors import StoreFailed
from drengine.journal.files import write_whole
from drengine.journal.port import JournalStore
from drengine.model.ids import RunId, run_file_name
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
    """Copies of journals in a folder, one file a run, as an export names them.

    Parameters:
        folder: another host's place as this one sees it (a mounted share, a stick).
    """

    def __init__(self, store: JournalStore, folder: Path) -> None:
        self._store = store
        self._folder = folder

    def follow(self, run: RunId, kind: R) -> None:
        """Bring the copy up to date where a record of that type was just made.

        Raises:
            StoreFailed: it cannot be written.
        """
        if kind not in WHEN:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lines = b"".join(self._store.lines(run))
            write_whole(self._folder / run_file_name(run), lines)
        except OSError as error:
            raise StoreFailed(
                f"copying the journal of {run} to {self._folder}: {error.strerror}; nothing was"
                " sent after it",
                hint="Make room or mount the place again, then: drengine resume",
            ) from error
