"""The store on a disk that fails at every N-th write and sync, and loses power at any.

The disk is an SQLite VFS (`journalfire.disk`). After every failure the chain verifies,
nothing that was acknowledged is missing, and the failed store does nothing more.
"""

from __future__ import annotations

import os
import random
from contextlib import suppress
from pathlib import Path

import pytest

from drengine.errors import DrError, StoreFailed
from drengine.journal.sqlite import SqliteStore

apsw = pytest.importorskip("apsw", reason="apsw is not installed: no VFS to fail")

from journalfire import story  # noqa: E402 - only where there is an APSW
from journalfire.disk import Disk  # noqa: E402 - as above

pytestmark = pytest.mark.faults

EVERY = int(os.environ.get("DRENGINE_DISK_EVERY", "7"))
LOSSES = int(os.environ.get("DRENGINE_POWER_LOSSES", "60"))


def _calls(folder: Path) -> Disk:
    disk, told = Disk(), []
    story.write(folder / "dry", disk.connect, told)
    assert story.check(folder / "dry", told) == ""
    return disk


@pytest.mark.parametrize(
    ("what", "how"), [("write", "eio"), ("write", "full"), ("write", "torn"), ("sync", "eio")]
)
def test_every_failing_call_is_told_and_loses_nothing(tmp_path, what, how):
    total = getattr(_calls(tmp_path), f"{what}s")
    assert total > 20
    told_of = 0
    for number in range(1, total + 1, EVERY if what == "write" else 1):
        home, told = tmp_path / f"{what}-{how}-{number}", []
        disk = Disk((what, number, how))
        try:
            story.write(home, disk.connect, told)
        except DrError:
            told_of += 1
        problem = story.check(home, told) if (home / "drengine.db").exists() else ""
        assert problem == "", f"{what} {number} of {total} {how}: {problem}"
    # A checkpoint that fails is not the append's failure: SQLite tries again later.
    assert told_of > total // (2 * EVERY)


def _append_for_ever(store, lease, told):
    while True:
        record = store.append(lease, told[-1], [story.draft(text="y" * 900)])[-1]
        told.append(story.Head(record.seq, record.sha256))


def test_after_a_failed_sync_the_store_does_nothing_more(tmp_path):
    syncs = _calls(tmp_path).syncs
    disk, told = Disk(("sync", syncs - 6, "eio")), []
    store = SqliteStore(tmp_path / "home", disk.connect)
    told.append(store.create(story.RUN, "a", "drill", story.draft(story.RecordType.RUN_CREATED)))
    lease = store.acquire(story.RUN, "writer")
    with pytest.raises(StoreFailed, match="whether it is durable is not known"):
        _append_for_ever(store, lease, told)
    assert story.refuses_all(store, told[-1])
    store.close()
    assert story.check(tmp_path / "home", told) == ""


def test_a_power_loss_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path):
    whole = _calls(tmp_path)
    rng = random.Random(20261122)
    for round_ in range(LOSSES):
        what = rng.choice(["write", "write", "sync"])
        number = rng.randint(1, getattr(whole, f"{what}s"))
        before, after = tmp_path / f"{round_}-before", tmp_path / f"{round_}-after"
        disk, told = Disk((what, number, "off")), []
        with suppress(DrError):
            story.write(before, disk.connect, told)
        after.mkdir(mode=0o700)
        disk.after_power_loss(after, rng)
        problem = story.check(after, told)
        assert problem == "", f"round {round_}, off at {what} {number}: {problem}"
