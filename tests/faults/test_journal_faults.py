"""The SQLite store under kills, a full disk and processes that start together.

Every trial is seeded and prints the line that replays it.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drengine.errors import Fenced, Locked
from drengine.journal import verify
from drengine.journal.sqlite import SqliteStore
from drengine.model.ids import RunId
from drengine.model.records import Draft, Head, RecordType, Signal

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[2]
RUN = RunId("r-0123456789ab")
SEED = int(os.environ.get("DRENGINE_FAULT_SEED", "20261122"))
ROUNDS = int(os.environ.get("DRENGINE_FAULT_ROUNDS", "6"))

PRELUDE = """
import sys
from pathlib import Path
from drengine.errors import DrError, Locked, StoreFailed
from drengine.journal.sqlite import SqliteStore
from drengine.model.ids import RunId
from drengine.model.records import Draft, Head, RecordType

RUN = RunId("r-0123456789ab")

def draft(kind=RecordType.NOTE, **body):
    return Draft(kind, "engine", body, 1_795_341_600_000, 1)
"""

APPENDER = (
    PRELUDE
    + """
store = SqliteStore(Path(sys.argv[1]))
store.create(RUN, "a title", "drill", draft(RecordType.RUN_CREATED))
lease = store.acquire(RUN, "appender")
head = store.head(RUN)
while True:
    drafts = [draft(n=head.seq + 1 + k, text="x" * (head.seq * 37 % 5000)) for k in range(3)]
    record = store.append(lease, head, drafts[: 1 + head.seq % 3])[-1]
    head = Head(record.seq, record.sha256)
    print(head.seq, head.sha256, flush=True)
"""
)

FILLER = (
    PRELUDE
    + """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = SqliteStore(Path(sys.argv[1]))
store.create(RUN, "a title", "drill", draft(RecordType.RUN_CREATED))
lease = store.acquire(RUN, "filler")
head = store.head(RUN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    while head.seq < 5000:
        record = store.append(lease, head, [draft(text="x" * 3000)])[-1]
        head = Head(record.seq, record.sha256)
        print(head.seq, head.sha256, flush=True)
except StoreFailed as error:
    print("failed", error.code, flush=True)
    for refused in (lambda: store.head(RUN), lambda: store.append(lease, head, [draft()])):
        try:
            refused()
        except StoreFailed as again:
            print("refused", again.code, flush=True)
"""
)

RACER = (
    PRELUDE
    + """
sys.stdin.readline()
store = SqliteStore(Path(sys.argv[1]))
store.create(RUN, "a title", "drill", draft(RecordType.RUN_CREATED))
try:
    lease = store.acquire(RUN, "racer")
except Locked as error:
    print("locked", error.exit_code, flush=True)
else:
    record = store.append(lease, store.head(RUN), [draft(token=lease.token)])[-1]
    print("acquired", record.seq, flush=True)
sys.stdin.readline()
"""
)

INBOX = (
    PRELUDE
    + """
import os, signal
point = sys.argv[2]

def die_at(name):
    if name == point:
        os.kill(os.getpid(), signal.SIGKILL)

store = SqliteStore(Path(sys.argv[1]))
lease = store.acquire(RUN, "driver")
seen = {record.body.get("signal") for record in store.read(RUN)}
signals = store.peek_signals(RUN)
die_at("peeked")
for each in signals:
    if each.id not in seen:
        store.append(lease, store.head(RUN), [draft(signal=each.id)])
        die_at("appended")
store.delete_signals(lease, [each.id for each in signals])
die_at("deleted")
"""
)


def start(script: str, *arguments: object, **options) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, **options)


def draft(kind: RecordType = RecordType.NOTE, **body) -> Draft:
    return Draft(kind, "engine", body, 1_795_341_600_000, 1)


def chain_of(home: Path) -> list[Head]:
    with SqliteStore(home) as store:
        assert verify.verify_run(store, RUN) == []
        return [Head(record.seq, record.sha256) for record in store.read(RUN)]


def acknowledged(lines: list[str]) -> list[Head]:
    words = [line.split() for line in lines if line[:1].isdigit() and line.endswith("\n")]
    return [Head(int(seq), sha256) for seq, sha256 in words]


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_every_acknowledged_append_is_there_after_kill_9(tmp_path, round_):
    rng = random.Random(f"{SEED}/{round_}")
    print(
        f"replay: DRENGINE_FAULT_SEED={SEED} pytest "
        f"'tests/faults/test_journal_faults.py::"
        f"test_every_acknowledged_append_is_there_after_kill_9[{round_}]'"
    )
    told: list[Head] = []
    for _ in range(2):
        with start(APPENDER, tmp_path / "home") as child:
            first = child.stdout.readline()
            time.sleep(rng.uniform(0, 0.15))
            os.kill(child.pid, signal.SIGKILL)
            told += acknowledged([first, *child.stdout.readlines()])
        chain = chain_of(tmp_path / "home")
        assert told, "the child was killed before it appended"
        assert [chain[head.seq] for head in told] == told
        # One append of up to three records may be durable without having been acknowledged.
        assert told[-1].seq <= chain[-1].seq <= told[-1].seq + 3


@pytest.mark.parametrize("limit", [150_000, 300_000, 700_000])
def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path, limit):
    home = tmp_path / "home"
    with start(FILLER, home, limit) as child:
        lines = child.stdout.readlines()
    assert child.returncode == 0
    assert lines[-3:] == ["failed DR-J003\n", "refused DR-J003\n", "refused DR-J003\n"]
    told = acknowledged(lines)
    chain = chain_of(home)
    assert [chain[head.seq] for head in told] == told
    assert told[-1].seq <= chain[-1].seq <= told[-1].seq + 1
    with SqliteStore(home) as store:
        lease = store.acquire(RUN, "after space was freed")
        assert store.append(lease, store.head(RUN), [draft()])[0].seq == chain[-1].seq + 1


@pytest.mark.parametrize("round_", range(2))
def test_of_8_processes_started_together_exactly_one_acquires(tmp_path, round_):
    home = tmp_path / f"home-{round_}"
    children = [start(RACER, home, stdin=subprocess.PIPE) for _ in range(8)]
    try:
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        answers = sorted(child.stdout.readline() for child in children)
    finally:
        for child in children:
            child.communicate("end\n")
    assert answers == ["acquired 1\n"] + ["locked 7\n"] * 7
    assert len(chain_of(home)) == 2


def test_a_process_that_overslept_its_lock_is_fenced(tmp_path):
    home = tmp_path / "home"
    with SqliteStore(home) as first, SqliteStore(home) as second:
        first.create(RUN, "a title", "drill", draft(RecordType.RUN_CREATED))
        old = first.acquire(RUN, "first")
        with pytest.raises(Locked):
            second.acquire(RUN, "second")
        (home / "locks" / f"{RUN}.lock").unlink()
        new = second.acquire(RUN, "second")
        with pytest.raises(Fenced):
            first.append(old, first.head(RUN), [draft(by="first")])
        second.append(new, second.head(RUN), [draft(by="second")])
    assert len(chain_of(home)) == 2


def test_a_run_is_free_at_once_when_its_owner_is_killed(tmp_path):
    home = tmp_path / "home"
    with start(APPENDER, home) as child:
        child.stdout.readline()
        with SqliteStore(home) as store:
            with pytest.raises(Locked, match=f"process {child.pid}"):
                store.acquire(RUN, "second")
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            assert store.living_owner(RUN) is None
            assert store.acquire(RUN, "second").token == 2


@pytest.mark.parametrize("point", ["peeked", "appended", "deleted", "none"])
def test_a_signal_is_recorded_exactly_once_wherever_the_driver_is_killed(tmp_path, point):
    home = tmp_path / "home"
    with SqliteStore(home) as store:
        store.create(RUN, "a title", "drill", draft(RecordType.RUN_CREATED))
        for id_ in ("s-1", "s-2"):
            store.put_signal(Signal(id_, RUN, "approve", "operator:ada", {}, 1))
    with start(INBOX, home, point) as child:
        pass
    assert child.returncode == (0 if point == "none" else -signal.SIGKILL)
    with start(INBOX, home, "none") as child:
        pass
    assert child.returncode == 0
    with SqliteStore(home) as store:
        recorded = [record.body["signal"] for record in store.read(RUN, after=0)]
        assert recorded == ["s-1", "s-2"]
        assert list(store.peek_signals(RUN)) == []
