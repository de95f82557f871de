"""What is written on the faulty disks: a run whose appends are acknowledged one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from drengine.errors import StoreFailed
from drengine.journal import verify
from drengine.journal.sqlite import SqliteStore
from drengine.model.ids import RunId
from drengine.model.records import Draft, Head, Lease, RecordType

RUN = RunId("r-0123456789ab")
LENGTH = 24


def draft(kind: RecordType = RecordType.NOTE, **body: Any) -> Draft:
    return Draft(kind, "engine", body, 1_795_341_600_000, 1)


def write(home: Path, connect: Any, told: list[Head]) -> None:
    """Append until the end or the first failure; `told` gets every acknowledged head."""
    with SqliteStore(home, connect) as store:
        told.append(store.create(RUN, "a title", "drill", draft(RecordType.RUN_CREATED)))
        lease = store.acquire(RUN, "writer")
        for number in range(LENGTH):
            drafts = [
                draft(n=number, text="x" * (number * 397 % 6000)) for _ in range(number % 3 + 1)
            ]
            record = store.append(lease, told[-1], drafts)[-1]
            told.append(Head(record.seq, record.sha256))


def refuses_all(store: SqliteStore, head: Head) -> bool:
    """Whether a store that has failed once does nothing more."""
    for call in (
        lambda: store.head(RUN),
        lambda: store.append(Lease(RUN, "writer", 1), head, [draft()]),
        store.runs,
    ):
        try:
            call()
        except StoreFailed:
            continue
        return False
    return True


def check(home: Path, told: list[Head], most: int = 3) -> str:
    """Return what is wrong with what is found after the failure; empty where nothing is."""
    with SqliteStore(home) as store:
        if not store.exists(RUN):
            return "an acknowledged run is gone" if told else ""
        if problems := verify.verify_run(store, RUN):
            return f"the chain does not verify: {problems}"
        chain = [Head(record.seq, record.sha256) for record in store.read(RUN)]
        if [chain[head.seq] for head in told if head.seq < len(chain)] != told:
            return f"acknowledged up to {told[-1].seq}, found up to {chain[-1].seq}"
        last = told[-1].seq if told else -1
        if chain[-1].seq > last + most:
            return f"{chain[-1].seq - last} records more than were ever asked for"
        lease = store.acquire(RUN, "after the repair")
        store.append(lease, chain[-1], [draft()])
    return ""
