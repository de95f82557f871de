"""A child runs the code of the process that started it, and is told nothing before it is shut off."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import drengine
from drengine.ceremony import spawn
from drengine.errors import CeremonyError

ASK = """
import json
import drengine
from drengine.ceremony import spawn

answer, _ = spawn.ask_child(spawn.start_line("drengine.ceremony.telling"), b"who?")
print(json.dumps([drengine.__file__, answer.decode()]))
"""
TELL = """
import sys
import drengine

def main():
    print(flush=True)
    sys.stdout.write(sys.stdin.read() + drengine.__file__ + " " + sys.path[-1])
"""
LISTENS = """
import select, sys
early = bool(select.select([0], [], [], 0.5)[0])
print(flush=True)
sys.stdout.write(f"{sys.stdin.read()} {'early' if early else 'when it was ready'}")
"""
REFUSES = "import sys; sys.stdout.write('{\"error\": 1}')"
SILENT = "import time; time.sleep(60)"
WORKER = """
import os, sys
sys.path.append({root!r})
from drengine.ceremony.serving import serve_once
serve_once(lambda request, hardening: b"%d %d" % (os.getppid(), os.getpid()))
"""
WORKS_LONG = """
import os, sys, time
sys.path.append({root!r})
from drengine.ceremony.serving import serve_once
def work(request, hardening):
    sys.stdout.write(f"{{os.getpid()}}\\n")
    sys.stdout.flush()
    time.sleep(60)
serve_once(work)
"""
ASKS_FOR_A_SECRET = """
import ctypes, sys
sys.path.append(sys.argv[1])
from drengine.cli.main import run
flag = ctypes.CDLL(None).prctl
before = flag(3, 0, 0, 0, 0)
run(["ceremony", "inspect", "no-such-file"])
print(before, flag(3, 0, 0, 0, 0))
"""
ROOT = str(Path(drengine.__file__).parents[1])
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel")


def test_nothing_is_in_the_pipe_of_a_child_before_it_has_shut_itself_off() -> None:
    """Until then any process of the same user could read along."""
    answer, _ = spawn.ask_child(LISTENS, b"the passphrase")
    assert answer == b"the passphrase when it was ready"


def test_what_a_child_refuses_before_it_is_ready_comes_back_and_nothing_was_sent() -> None:
    answer, _ = spawn.ask_child(REFUSES, b"the passphrase")
    assert answer == b'{"error": 1}'


def test_a_child_that_never_gets_ready_is_ended() -> None:
    with pytest.raises(CeremonyError, match=r"did not answer within 0\.5 seconds"):
        spawn.ask_child(SILENT, b"the passphrase", seconds=0.5)


@linux_only
def test_the_request_is_read_by_a_fork_that_nobody_could_open(monkeypatch) -> None:
    started = []
    begin = subprocess.Popen

    def noted(*args, **options):
        started.append(begin(*args, **options))
        return started[-1]

    monkeypatch.setattr(spawn.subprocess, "Popen", noted)
    answer, _ = spawn.ask_child(WORKER.format(root=ROOT), b"")
    parent, worker = map(int, answer.split())
    assert parent == started[0].pid != worker


@linux_only
def test_the_fork_dies_with_the_process_that_was_started() -> None:
    command = [sys.executable, "-c", WORKS_LONG.format(root=ROOT)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == spawn.READY
        child.stdin.close()
        worker = int(child.stdout.readline())
        child.kill()
        assert child.stdout.read() == b"", "its end of the pipe is closed: it is gone"
    assert not Path(f"/proc/{worker}/exe").exists()


@linux_only
def test_a_process_that_asks_for_a_passphrase_cannot_be_read_by_others_of_its_user() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASKS_FOR_A_SECRET, ROOT], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "0"]


def test_a_child_is_of_the_same_checkout_as_its_parent(tmp_path: Path) -> None:
    """In this process drengine is installed too; a checkout elsewhere must not meet it."""
    checkout = tmp_path / "checkout"
    shutil.copytree(
        Path(drengine.__file__).parent,
        checkout / "drengine",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (checkout / "drengine" / "ceremony" / "telling.py").write_text(TELL)
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env={"PYTHONPATH": str(checkout)},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    parent, said = json.loads(done.stdout)
    own = str(checkout / "drengine" / "__init__.py")
    assert parent == own
    child, _, last = said.partition(" ")
    assert child == f"who?{own}"
    assert last != str(checkout), "nothing else of the folder is to be found by name"
