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

APPENDS: Final = 100
BATCHES: Final = 19
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


def bare(folder: Path) -> sqlite3.Connection:
    db = sqlite3.connect(folder / "bare.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE records (seq INTEGER PRIMARY KEY, line BLOB NOT NULL) STRICT")
    return db


def appends() -> list[Figure]:
    """Compare batches in turn; the ratio is the median of the pairs."""
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as name, SqliteStore(Path(name) / "home") as store:
        lease, head = begun(store)
        db = bare(Path(name))
        line = list(store.lines(RUN))[-1]
        for number in range(WARMING):
            db.execute("INSERT INTO records VALUES (?, ?)", (-number, line))
            head = head_after(store.append(lease, head, [polled(number)]))
        for batch in range(BATCHES):
            drafts = [polled(number) for number in range(APPENDS)]
            began = time.perf_counter()
            for number in range(1, APPENDS + 1):
                db.execute("INSERT INTO records VALUES (?, ?)", (batch * APPENDS + number, line))
            between = time.perf_counter()
            for each in drafts:
                (record,) = store.append(lease, head, [each])
                head = Head(record.seq, record.sha256)
            ended = time.perf_counter()
            theirs.append(APPENDS / (between - began))
            ours.append(APPENDS / (ended - between))
        db.close()
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    beyond = statistics.median(1 / a - 1 / b for a, b in zip(ours, theirs, strict=True))
    return [
        Figure("bare durable inserts", statistics.median(theirs), "/s"),
        Figure("durable appends", statistics.median(ours), "/s"),
        Figure("an append beyond a bare insert", beyond * 1e6, "us"),
        Figure("appends over bare inserts", ratio, at_least=0.7),
    ]


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
