"""What durable recording and going on cost: `python tests/benchmarks/journal_bench.py`.

- Appends: one record, one durable commit, through the store with all that it checks (token,
  end of the chain, hash), against a bare `INSERT` of the same bytes into a WAL file with
  `synchronous=FULL` on the same disk; batches in turn, so that a busy disk slows both. What
  is written is ready before the clock starts: the line of the one, the drafts of the other;
  and both files have been through a checkpoint, behind which SQLite writes its log over
  instead of making it longer: without that, whichever file is ahead looks faster.
- Reading back: what `resume` does before it decides anything: lease, 10,000 records read,
  every hash checked, folded.
- Memory: the peak while 10,000 records are read and folded, over that for 1,000.
- First request: a run is killed while the HSM is made; from the start of `drengine resume`
  until its first request reaches the lab.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from reporting import Figure, show
from side_by_side import DIVIDE, DRENGINE, LOOK_SECONDS, ByDrengine, Twin, twin

from drengine.engine.fold import fold
from drengine.journal.sqlite import SqliteStore
from drengine.lab import commands
from drengine.model.ids import RunId
from drengine.model.records import Draft, Head, Lease
from drengine.model.records import RecordType as R

APPENDS: Final = 50
BATCHES: Final = 90
WARMING: Final = 1_500  # inserts; the log is written over from its 1,000th page on
RECORDS: Final = 10_000
FEW: Final = 1_000
RUN: Final = RunId("r-bench")
OPERATION: Final = {"kind": "arm", "url": "https://management.azure.com/x", "resource": "/x"}


def genesis() -> Draft:
    body = {
        "class": "drill",
        "title": "bench",
        "steps": ["create"],
        "path": [],
        "item": None,
        "parent": None,
        "inputs": {},
        "cloud": {"lab": True},
        "initiator": "operator:bench",
        "tool": {},
    }
    return draft(R.RUN_CREATED, body)


def draft(kind: R, body: Mapping[str, object]) -> Draft:
    now = time.time_ns() // 1_000_000
    return Draft(kind, "engine", body, now, time.monotonic_ns() // 1_000_000)


def polled(number: int) -> Draft:
    """Return what most of a long run's records are: a poll, with its exchange."""
    exchange = {
        "method": "GET",
        "url": "https://management.azure.com/subscriptions/s/providers/Microsoft.KeyVault/locations"
        "/northeurope/managedHsmOperationResults/6dd86c4d-181b-4720-a7f0-8860f41d8cc2",
        "status": 202,
        "request_id": "b89df7eb-7114-40b4-9d3f-ec682552ad08",
        "ms": 38,
    }
    body = {
        "step": "create",
        "detail": "",
        "polls": number,
        "not_before": 1,
        "exchanges": [exchange],
    }
    return draft(R.OPERATION_POLLED, body)


def begun(store: SqliteStore) -> tuple[Lease, Head]:
    """Begin a run whose only step has an operation under way."""
    store.create(RUN, "bench", "drill", genesis())
    lease = store.acquire(RUN, "bench")
    step = {"step": "create"}
    first = [
        draft(R.RUN_OPENED, {"owner": "bench", "token": lease.token, "tool": ""}),
        draft(R.STEP_BEGUN, {**step, "attempt": 1, "generation": 0}),
        draft(R.PROBE_ABSENT, {**step, "why": "", "not_before": 0}),
        draft(R.GUARDS_HELD, {**step, "findings": []}),
        draft(R.INTENT, {**step, "action": "x", "attempt": 1, "rest": "", "manual": ""}),
        draft(R.ANSWER_OPERATION, {**step, "operation": OPERATION, "not_before": 0}),
    ]
    return lease, head_after(store.append(lease, store.head(RUN), first))


def head_after(records: object) -> Head:
    last = list(records)[-1]  # type: ignore[call-overload]
    return Head(last.seq, last.sha256)


def bare(file: Path) -> sqlite3.Connection:
    db = sqlite3.connect(file, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE records (seq INTEGER PRIMARY KEY, line BLOB NOT NULL) STRICT")
    return db


class Inserts:
    """Bare durable inserts of a line that is ready."""

    def __init__(self, file: Path, line: bytes) -> None:
        self.line, self.seq, self.db = line, 0, bare(file)

    def write(self, draft: Draft) -> None:
        del draft
        self.seq += 1
        self.db.execute("INSERT INTO records VALUES (?, ?)", (self.seq, self.line))


class Chained(Inserts):
    """The same, but each line is made and names the hash of the one before."""

    prev = ""

    def write(self, draft: Draft) -> None:
        body = {**draft.body, "prev": self.prev, "seq": self.seq}
        self.line = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
        self.prev = hashlib.sha256(self.line).hexdigest()
        super().write(draft)


class Appends:
    """Appends through the store."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.lease, self.head = begun(store)

    def write(self, draft: Draft) -> None:
        (record,) = self.store.append(self.lease, self.head, [draft])
        self.head = Head(record.seq, record.sha256)


def appends() -> list[Figure]:
    """Compare batches in turn, each time another one first; ratios are medians of the pairs.

    Beside inserts of lines that are ready stand inserts that make a line and hash it for the
    next one: what the least of journals has to do.
    """
    with tempfile.TemporaryDirectory() as name, SqliteStore(Path(name) / "home") as store:
        ours = Appends(store)
        line = list(store.lines(RUN))[-1]
        theirs, chained = (
            kind(Path(name) / f"{kind.__name__}.db", line) for kind in (Inserts, Chained)
        )
        writers: list[Inserts | Appends] = [theirs, chained, ours]
        for writer in writers:
            batch(writer, WARMING)
        seconds: dict[object, list[float]] = {writer: [] for writer in writers}
        for turn in range(BATCHES):
            for writer in writers[turn % 3 :] + writers[: turn % 3]:
                seconds[writer].append(batch(writer, APPENDS))
        theirs.db.close()
        chained.db.close()

    def over(other: object) -> float:
        pairs = zip(seconds[other], seconds[ours], strict=True)
        return statistics.median(its / mine for its, mine in pairs)

    pairs = zip(seconds[theirs], seconds[ours], strict=True)
    beyond = statistics.median(mine - its for its, mine in pairs) / APPENDS
    return [
        Figure("bare durable inserts", APPENDS / statistics.median(seconds[theirs]), "/s"),
        Figure("durable appends", APPENDS / statistics.median(seconds[ours]), "/s"),
        Figure("an append beyond a bare insert", beyond * 1e6, "us"),
        Figure("appends over bare inserts", over(theirs), at_least=0.7),
        Figure("appends over inserts that make a chain", over(chained)),
    ]


def batch(writer: Inserts | Appends, count: int) -> float:
    """Return how many seconds so many writes take; what is written is drafted before."""
    drafts = [polled(number) for number in range(count)]
    began = time.perf_counter()
    for draft in drafts:
        writer.write(draft)
    return time.perf_counter() - began


def long_run(home: Path, records: int) -> None:
    with SqliteStore(home) as store:
        lease, head = begun(store)
        while head.seq < records - 1:
            count = min(1_000, records - 1 - head.seq)
            drafts = [polled(number) for number in range(count)]
            head = head_after(store.append(lease, head, drafts))
        store.release(lease)


def read_back(home: Path) -> float:
    """Return the seconds from opening the store until the state is known."""
    began = time.perf_counter()
    with SqliteStore(home) as store:
        lease = store.acquire(RUN, "bench")
        fold(store.read(RUN))
        seconds = time.perf_counter() - began
        store.release(lease)
    return seconds


def peak_bytes(home: Path) -> int:
    tracemalloc.start()
    try:
        read_back(home)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def reading_back() -> list[Figure]:
    with tempfile.TemporaryDirectory() as name:
        few, many = Path(name) / "few", Path(name) / "many"
        long_run(few, FEW)
        long_run(many, RECORDS)
        used = time.process_time()
        seconds = [read_back(many) for _ in range(5)]
        used = (time.process_time() - used) / len(seconds)
        peak_bytes(few)  # what is loaded once is not counted
        small, large = peak_bytes(few), peak_bytes(many)
    return [
        Figure("10,000 records read and folded (best)", min(seconds), "s", at_most=0.5),
        Figure("10,000 records read and folded (median)", statistics.median(seconds), "s"),
        Figure("10,000 records: processor", used, "s"),
        Figure("peak memory of 10,000 records", large / 1e6, "MB"),
        Figure("peak of 10,000 over that of 1,000", large / small, at_most=1.2),
    ]


def first_request() -> list[Figure]:
    """Kill a run while its HSM is made, and go on with it."""
    with twin("plain", DIVIDE, create_hsm=300.0) as estate:
        told = ByDrengine(estate)
        told.killed_after("hsm.create")
        seconds = [resumed(estate, told.run) for _ in range(3)]
    return [Figure("resume to its first request (best)", min(seconds), "s", at_most=1.5)]


def resumed(estate: Twin, run: str) -> float:
    """Resume, and end it again at its first request."""
    last = commands.log(estate.home)[-1]["seq"]
    began_ms = time.time() * 1000
    with subprocess.Popen(
        [*DRENGINE, "resume", run],
        env=estate.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as running:
        while True:
            for row in commands.log(estate.home, last):
                if row["principal"] == estate.lab["object_id"]:
                    os.kill(running.pid, signal.SIGKILL)
                    return float(row["wall_ms"] - began_ms) / 1000
            if running.poll() is not None:
                raise SystemExit(f"resume ended with {running.returncode} and asked for nothing")
            time.sleep(LOOK_SECONDS)


def measure() -> list[Figure]:
    return [*appends(), *reading_back(), *first_request()]


def main() -> int:
    show("Journal", measure())
    return 0


if __name__ == "__main__":
    sys.exit(main())
