"""Ending the process that holds a run: that one, and no other that has its number."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from drengine.errors import Locked
from drengine.journal import liveness, takeover
from drengine.journal.liveness import LockFolder
from drengine.model.ids import RunId

RUN = RunId("r-0123456789ab")
OWNER = "r-0123456789ab.owner"

HOLDER = """
import signal, sys
from pathlib import Path
from drengine.journal.liveness import LockFolder
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
lock = LockFolder(Path(sys.argv[1])).take("r-0123456789ab", "the holder")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def locks(tmp_path):
    return LockFolder(tmp_path)


@pytest.fixture
def holding(tmp_path):
    """Start a process that holds the run."""
    started = []

    def start(how: str = "ordinary") -> subprocess.Popen[bytes]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        child = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path), how], **pipes)
        started.append(child)
        assert child.stdout.readline() == b"held\n"
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


@pytest.fixture
def bystander():
    """A process that holds nothing, and started at another clock tick than the holder."""
    child = subprocess.Popen(["sleep", "60"])
    time.sleep(0.05)
    yield child
    child.kill()
    child.wait()


def end(locks, **more):
    return takeover.end_owner(lambda: locks.living_owner(RUN), **more)


def claims_to_be(path: Path, **fields) -> None:
    """Let the text beside the lock name another process."""
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **fields}))


@pytest.mark.parametrize(("how", "ended"), [("ordinary", "asked"), ("deaf", "killed")])
def test_the_holder_is_asked_to_end_and_then_killed(locks, holding, how, ended):
    child = holding(how)
    told = end(locks, grace_seconds=0.5)
    assert (f"process {child.pid}" in told, told.endswith(f", {ended}")) == (True, True)
    assert child.wait() == (-signal.SIGTERM if ended == "asked" else -signal.SIGKILL)


def test_a_run_that_nobody_holds_needs_nobody_ended(locks):
    assert end(locks) is None


def test_a_process_that_has_the_number_of_one_that_was_killed_is_left_alone(
    locks, holding, bystander, tmp_path
):
    holder = holding()
    claims_to_be(tmp_path / OWNER, pid=bystander.pid)
    with pytest.raises(Locked, match=r"is not that process now.*nothing was ended"):
        end(locks, grace_seconds=0.2)
    assert (bystander.poll(), holder.poll()) == (None, None)


@pytest.mark.parametrize(
    "other", [{"boot_id": "another boot"}, {"started_ticks": 1}, {"started_ticks": 0}]
)
def test_another_boot_or_start_is_another_process(locks, holding, tmp_path, other):
    child = holding()
    claims_to_be(tmp_path / OWNER, **other)
    with pytest.raises(Locked, match="nothing was ended"):
        end(locks, grace_seconds=0.2)
    assert child.poll() is None


def test_a_holder_that_is_just_writing_its_name_is_looked_at_again(
    locks, holding, bystander, tmp_path, monkeypatch
):
    child = holding()
    true = (tmp_path / OWNER).read_bytes()
    claims_to_be(tmp_path / OWNER, pid=bystander.pid)
    monkeypatch.setattr(takeover.time, "sleep", lambda _: (tmp_path / OWNER).write_bytes(true))
    assert f"process {child.pid}" in end(locks)
    assert bystander.poll() is None


@pytest.mark.parametrize("where", [{"host": "elsewhere"}, {"pid": 0}])
def test_a_holder_elsewhere_or_without_a_name_is_not_ended_from_here(
    locks, holding, tmp_path, where
):
    child = holding()
    claims_to_be(tmp_path / OWNER, **where)
    with pytest.raises(Locked, match="cannot be ended from here"):
        end(locks)
    assert child.poll() is None


def test_this_process_does_not_end_itself(locks):
    lock = locks.take(RUN, "me")
    with pytest.raises(Locked, match="cannot be ended from here"):
        end(locks)
    lock.free()


def test_a_holder_that_has_ended_by_itself_is_not_signalled(locks, holding):
    child = holding()
    owner = locks.living_owner(RUN)
    child.kill()
    child.wait()
    with pytest.raises(Locked, match="is not that process now"):
        takeover.end_owner(lambda: owner, grace_seconds=0.1)


def test_a_process_is_known_by_boot_number_and_start():
    me = liveness.this_process("x")
    assert liveness.is_running(me)
    assert not liveness.is_running(replace(me, started_ticks=me.started_ticks - 1))
    assert not liveness.is_running(replace(me, pid=os.getppid()))
    assert not liveness.is_running(replace(me, pid=2**22 + 1))
