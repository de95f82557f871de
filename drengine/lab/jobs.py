"""Runs scheduled work when virtual time reaches it.

Rules:
- At least once: a job is removed only after it has returned; a lab that was killed runs
  it again. Jobs are therefore idempotent.
- A job that raises is tried again, with growing pauses; after `MAX_FAILURES` it is given
  up, which the call log shows as the effect `job.failed`.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from drengine.lab.store import Job
    from drengine.lab.world import Lab

MAX_FAILURES: Final = 8
LONGEST_NAP_SECONDS: Final = 0.25
"""The clock may be set from outside, so nobody sleeps longer than this."""


class JobRunner:
    """The thread that waits for due jobs, and the few threads that run them.

    Parameters:
        lab: handed to every job.
        jobs: the functions by name.
        threads: how many jobs may run at the same time.
    """

    def __init__(
        self, lab: Lab, jobs: Mapping[str, Callable[[Lab, dict[str, Any]], None]], threads: int = 4
    ) -> None:
        self._lab = lab
        self._jobs = jobs
        self._workers = ThreadPoolExecutor(threads, thread_name_prefix="job")
        self._wake = threading.Event()
        self._stopping = False
        self._running: set[int] = set()
        self._lock = threading.Lock()
        lab.store.on_schedule = self._wake.set

    def start(self) -> None:
        """Begin to run jobs."""
        threading.Thread(target=self._watch, name="jobs", daemon=True).start()

    def stop(self) -> None:
        """Begin no more jobs."""
        self._stopping = True
        self._wake.set()
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _watch(self) -> None:
        while not self._stopping:
            try:
                nap = self._begin_due()
            except Exception:  # noqa: BLE001 - without this thread no operation ever ends
                traceback.print_exc(file=sys.stderr)
                nap = LONGEST_NAP_SECONDS
            self._wake.wait(nap)
            self._wake.clear()

    def _begin_due(self) -> float:
        with self._lab.store.transaction() as tx:
            waiting = tx.jobs()
        nap = LONGEST_NAP_SECONDS
        for job in waiting:
            delay = self._lab.clock.wall_delay(job.due_ms)
            if delay > 0:
                return min(nap, delay)
            self._begin(job)
        return nap

    def _begin(self, job: Job) -> None:
        with self._lock:
            if job.id in self._running or self._stopping:
                return
            self._running.add(job.id)
        self._workers.submit(self._run, job)

    def _run(self, job: Job) -> None:
        try:
            self._jobs[job.name](self._lab, job.payload)
        except Exception:  # noqa: BLE001 - the job is tried again, the lab goes on
            traceback.print_exc(file=sys.stderr)
            self._defer(job)
        else:
            with self._lab.store.transaction() as tx:
                tx.finish_job(job.id)
        finally:
            with self._lock:
                self._running.discard(job.id)
            self._wake.set()

    def _defer(self, job: Job) -> None:
        with self._lab.store.transaction() as tx:
            if job.failures + 1 >= MAX_FAILURES:
                tx.finish_job(job.id)
                tx.log_effect("job.failed", job.name, job.payload)
                return
            pause_ms = 200 * 2**job.failures * max(1.0, self._lab.clock.speed)
            tx.defer_job(job.id, tx.now_ms + int(pause_ms))
