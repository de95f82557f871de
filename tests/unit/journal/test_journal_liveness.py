"""Locks that die with their process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from drengine.errors import JournalError, Locked
from drengine.journal import liveness
from drengine.journal.liveness import LockFolder, Owner
from drengine.journal.sqlite import SqliteStore
from drengine.model.ids import RunId

RUN = RunId("r-0123456789ab")
CHILD = RunId("r-0123456789ab/mi-1")

HOLDER = """
import sys
from pathlib import Path
from drengine.journal.liveness import LockFolder
lock = LockFolder(Path(sys.argv[1])).take(sys.argv[2], "the holder")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def locks(tmp_path: Path) -> LockFolder:
    return LockFolder(tmp_path)


@pytest.fixture
def holder(tmp_path: Path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path), RUN]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"held\n"
        yield child
        child.kill()


def test_a_run_held_by_another_process_is_refused_naming_it(locks, holder):
    with pytest.raises(Locked) as error:
        locks.take(RUN, "me")
    owner = locks.living_owner(RUN)
    assert (owner.name, owner.pid) == ("the holder", holder.pid)
    assert owner.boot_id == liveness.this_process("x").boot_id
    assert f"the holder (host {owner.host}, process {holder.pid}" in error.value.message
    assert error.value.hint == f"drengine status {RUN}"


def test_a_killed_process_holds_nothing_at_once(locks, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert locks.living_owner(RUN) is None
    locks.take(RUN, "me").free()


def test_a_stopped_process_still_holds_its_run(locks, holder):
    os.kill(holder.pid, signal.SIGSTOP)
    with pytest.raises(Locked):
        locks.take(RUN, "me")
    os.kill(holder.pid, signal.SIGCONT)


def test_a_program_that_is_started_meanwhile_does_not_inherit_the_lock(locks):
    lock = locks.take(RUN, "me")
    sleeper = ["sleep", "60"]
    with subprocess.Popen(sleeper, close_fds=False) as child:
        lock.free()
        assert locks.living_owner(RUN) is None
        locks.take(RUN, "again").free()
        assert child.poll() is None, "the program ended before it could hold the lock"
        child.kill()


def test_a_freed_lock_leaves_no_owner_behind(locks, tmp_path):
    lock = locks.take(CHILD, "me")
    assert {path.name for path in tmp_path.iterdir()} == {
        "r-0123456789ab~mi-1.lock",
        "r-0123456789ab~mi-1.owner",
    }
    lock.free()
    lock.free()
    assert [path.name for path in tmp_path.iterdir()] == ["r-0123456789ab~mi-1.lock"]
    assert locks.living_owner(CHILD) is None


def test_asking_who_holds_a_run_makes_no_files(locks, tmp_path):
    assert locks.living_owner(RUN) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"name": "x"}'])
def test_an_owner_file_that_cannot_be_read_does_not_hide_the_refusal(locks, tmp_path, content):
    lock = locks.take(RUN, "me")
    (tmp_path / "r-0123456789ab.owner").write_bytes(content)
    with pytest.raises(Locked, match="has not said its name"):
        locks.take(RUN, "another")
    assert "has not said its name" in str(locks.living_owner(RUN))
    lock.free()


def test_a_process_knows_when_it_started_and_in_which_boot():
    owner = liveness.this_process("x")
    assert owner.pid == os.getpid()
    if Path("/proc/self/stat").exists():
        assert len(owner.boot_id) == 36
        assert abs(Path(f"/proc/{os.getpid()}").stat().st_ctime * 1000 - owner.started_ms) < 60_000


def test_an_owner_without_boot_and_start_is_still_a_readable_text():
    assert str(Owner("me", "host", 7, "", 0)) == "me (host host, process 7)"
    assert str(Owner("me", "host", 7, "0123456789", 1_795_341_600_123)) == (
        "me (host host, process 7, started 2026-11-22T10:00:00Z, boot 01234567)"
    )


def test_a_lock_that_a_stopped_process_keeps_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(liveness, "_LONG_TRIES", 3)
    path = tmp_path / "lock"
    held = liveness.waiting_lock(path)
    with held, pytest.raises(TimeoutError, match="does not end"), liveness.waiting_lock(path):
        raise AssertionError("two hold it")
    with liveness.waiting_lock(path):
        assert path.exists()


def test_a_store_that_cannot_be_opened_for_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(liveness, "_LONG_TRIES", 3)
    with SqliteStore(tmp_path / "home"):
        pass
    held = liveness.waiting_lock(tmp_path / "home" / "locks" / ".opening.lock")
    with held, pytest.raises(JournalError, match="another process holds it"):
        SqliteStore(tmp_path / "home")
