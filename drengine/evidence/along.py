"""Time stamps taken along a run: at gates, before sends that cannot be undone, at its rests.

Rules:
- The recovery never waits for an authority: stamping is done on a thread of its own, and
  only the end of the command waits, for a bounded time.
- Nothing here can end a run: what goes wrong is told, and recorded as unstamped where the
  store can be written. `drengine evidence stamp RUN` stamps later.
- Wishes that come while a stamp is being asked for become one stamp.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from queue import SimpleQueue
from typing import Final

from drengine.errors import DrError
from drengine.evidence.checkpoints import record_unstamped, stamp_run
from drengine.evidence.outline import outline_of
from drengine.journal.port import JournalStore
from drengine.model.plan import Plan, PlanPart
from drengine.model.records import Record
from drengine.model.records import RecordType as R

ANSWER_SECONDS: Final = 10.0
"""How long an authority has for one answer."""

_LAST_SECONDS: Final = 12.0
_ALWAYS: Final = frozenset(
    {
        R.GATE_REQUESTED,
        R.GATE_APPROVED,
        R.RUN_WAITING,
        R.RUN_STOPPED,
        R.RUN_FINISHED,
        R.RUN_CANCELLED,
        R.RUN_ROLLED_BACK,
    }
)
_SENDS: Final = (R.INTENT, R.UNDO_INTENT)

OpenStore = Callable[[], AbstractContextManager[JournalStore]]
Tell = Callable[[str], None]


class StampsAlong:
    """Stamps the heads of a run's chains while the run goes on.

    Parameters:
        open_store: opens a store of the thread's own, beside the one that the run writes to.
        tell: called with what went wrong, from the thread.
        last_seconds: how long `close` waits for the last stamp.
    """

    def __init__(
        self,
        open_store: OpenStore,
        plan: Plan,
        url: str,
        tell: Tell,
        *,
        last_seconds: float = _LAST_SECONDS,
    ) -> None:
        self._open_store, self._run, self._url, self._tell = open_store, plan.run_id, url, tell
        self._irreversible = frozenset(_irreversible(plan, plan.root, ()))
        self._last_seconds = last_seconds
        self._wishes: SimpleQueue[bool] = SimpleQueue()
        # A daemon: an authority that never answers cannot keep the process alive.
        self._thread = threading.Thread(target=self._work, name="stamps", daemon=True)
        self._thread.start()

    def follow(self, record: Record) -> None:
        """Wish for a stamp where the record is one to stamp; return at once."""
        is_send = record.type in _SENDS and record.body.get("step") in self._irreversible
        if is_send or record.type in _ALWAYS:
            self._wishes.put(True)

    def close(self) -> None:
        """Let the last wish be fulfilled, for a bounded time; then record that it was not."""
        self._wishes.put(False)
        self._thread.join(self._last_seconds)
        if self._thread.is_alive():
            why = f"the authority {self._url} had not answered when the command ended"
            self._safely(lambda store: record_unstamped(store, self._run, why))
            self._say(why)

    def _work(self) -> None:
        is_open = True
        while is_open:
            wishes = [self._wishes.get()]
            while not self._wishes.empty():
                wishes.append(self._wishes.get())
            is_open = all(wishes)
            if any(wishes):
                self._safely(self._stamp)

    def _stamp(self, store: JournalStore) -> None:
        done = stamp_run(store, self._run, self._url, seconds=ANSWER_SECONDS)
        if not done.token:
            self._say(done.told)

    def _safely(self, action: Callable[[JournalStore], object]) -> None:
        try:
            with self._open_store() as store:
                action(store)
        except DrError as error:
            self._say(error.message)
        except Exception as error:  # noqa: BLE001 - whatever fails here, the recovery goes on
            self._say(f"{type(error).__name__} {error}")

    def _say(self, why: str) -> None:
        self._tell(f"No time stamp: {why}. Later: drengine evidence stamp {self._run} --tsa URL")


def _irreversible(plan: Plan, part: PlanPart, path: tuple[str, ...]) -> Iterator[str]:
    """Yield the ids of all steps that may not be undone, whatever their condition comes to."""
    yield from (step.id for step in outline_of(plan, path).runbook.steps if step.irreversible)
    for name, child in part.children.items():
        yield from _irreversible(plan, child, (*path, name))
