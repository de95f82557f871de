"""Whoever looks at a run while it is written sees a whole moment of it, never damage."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from journalfire.story import RUN

from drengine.journal import verify
from drengine.journal.sqlite import SqliteStore

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[2]
SECONDS = 3.0

WRITER = """
import sys
from pathlib import Path
from drengine.journal.sqlite import SqliteStore
from drengine.model.records import Head, RecordType
from journalfire.story import RUN, draft

store = SqliteStore(Path(sys.argv[1]))
store.create(RUN, "a title", "drill", draft(RecordType.RUN_CREATED))
lease, head = store.acquire(RUN, "writer"), store.head(RUN)
print("ready", flush=True)
while True:
    record = store.append(lease, head, [draft(n=head.seq)])[-1]
    head = Head(record.seq, record.sha256)
"""


def test_a_reader_beside_a_writer_never_sees_damage(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path / "home")]
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout.readline() == b"ready\n"
            looks, last, until = 0, -1, time.monotonic() + SECONDS
            with SqliteStore(tmp_path / "home") as store:
                while time.monotonic() < until:
                    head = store.head(RUN)
                    records = list(store.read(RUN, max(head.seq - 5, -1)))
                    assert head.seq >= last
                    assert records[-1].seq >= head.seq
                    last, looks = head.seq, looks + 1
                assert verify.verify_run(store, RUN) == []
        finally:
            writer.kill()
    assert looks > 50
    assert last > 50
