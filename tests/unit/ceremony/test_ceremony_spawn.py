"""A child runs the code of the process that started it, and is told nothing before it is shut off."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import drengine
from drengine.ceremony import channel, hardening, keeper, spawn
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
from drengine.ceremony.serving import serve_once

def main():
    serve_once(lambda asked, _: b"%s%s %s" % (
        asked, drengine.__file__.encode(), sys.path[-1].encode()))
"""
SAYS_WHO = """
import os, sys
sys.path.append({root!r})
from drengine.ceremony.serving import serve_once
serve_once(lambda request, _: b"%d %d %s" % (os.getppid(), os.getpid(), request))
"""
REFUSES = "import sys; sys.stdout.write('{\"error\": 1}')"
SILENT = "import time; time.sleep(60)"
IMPOSTOR = """
import os, socket, subprocess, sys, time
mine, theirs = socket.socketpair()
socket.send_fds(socket.socket(fileno=0), [b"\\n"], [theirs.fileno()])
time.sleep(60)
"""
WORKS_LONG = """
import os, sys, time
sys.path.append(sys.argv[1])
from drengine.ceremony.serving import serve_once
def work(request, _):
    print(os.getpid(), flush=True)
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
IS_TRACED = """
import ctypes, os, sys
sys.path.append({root!r})
libc = ctypes.CDLL(None)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.prctl(0x59616d61, ctypes.c_ulong(-1), 0, 0, 0)  # PR_SET_PTRACER, for who has Yama
ready, told = os.pipe()
target = os.getpid()
if not os.fork():
    os.write(told, b"%d" % libc.ptrace(0x4206, target, None, 0x2))  # SEIZE, O_TRACEFORK
    while True:
        pid, status = os.waitpid(-1, 0x40000000)
        if not os.WIFSTOPPED(status):
            if pid == target:
                os._exit(0)
            continue
        libc.ptrace(7, pid, None, None)
assert os.read(ready, 2) == b"0"
{then}
"""
ROOT = str(Path(drengine.__file__).parents[1])
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel")


def test_what_a_child_refuses_before_it_is_ready_comes_back_and_nothing_was_sent() -> None:
    answer, _ = spawn.ask_child(REFUSES, b"the passphrase")
    assert answer == b'{"error": 1}'


def test_a_child_that_never_gets_ready_is_ended() -> None:
    with pytest.raises(CeremonyError, match=r"did not answer within 0\.5 seconds"):
        spawn.ask_child(SILENT, b"the passphrase", seconds=0.5)


@linux_only
def test_the_request_is_read_by_a_fork_of_the_process_that_was_started(monkeypatch) -> None:
    started = []
    begin = subprocess.Popen

    def noted(*args, **options):
        started.append(begin(*args, **options))
        return started[-1]

    monkeypatch.setattr(spawn.subprocess, "Popen", noted)
    answer, _ = spawn.ask_child(SAYS_WHO.format(root=ROOT), b"who?")
    parent, worker, asked = answer.split()
    assert (int(parent), asked) == (started[0].pid, b"who?")
    assert int(worker) != started[0].pid


@linux_only
def test_a_channel_that_another_process_made_is_sent_nothing() -> None:
    """The child's standard input may have been taken over; its child makes the channel."""
    with pytest.raises(CeremonyError, match="another process answered"):
        spawn.ask_child(IMPOSTOR, b"the passphrase")


@linux_only
def test_a_child_that_is_traced_from_its_first_moment_is_sent_nothing() -> None:
    """The proof of the review: the tracer was given the fork, and read the passphrase there."""
    traced = IS_TRACED.format(root=ROOT, then=SAYS_WHO.format(root=ROOT))
    with pytest.raises(CeremonyError, match=r"was not asked: process \d+ traces it") as refused:
        spawn.ask_child(traced, b"the passphrase")
    assert "kernel.yama.ptrace_scope=1" in refused.value.hint


@linux_only
def test_a_keeper_that_is_traced_keeps_no_key(monkeypatch) -> None:
    monkeypatch.setattr(
        keeper, "_START", IS_TRACED.format(root=ROOT, then=spawn.start_line(keeper.__name__))
    )
    with pytest.raises(CeremonyError, match=r"opening a ceremony: .* process \d+ traces it"):
        keeper.Keeper()


@linux_only
@pytest.mark.parametrize(("scope", "expected"), [([], True), (["0"], True), (["1"], False)])
def test_whether_programs_of_one_user_may_trace_each_other(monkeypatch, scope, expected) -> None:
    monkeypatch.setattr(hardening, "_lines", lambda _: scope)
    assert hardening.may_be_traced() is expected


@linux_only
def test_the_fork_dies_with_the_process_that_was_started() -> None:
    control, standard_input = socket.socketpair()
    control.settimeout(30)
    with subprocess.Popen(
        [sys.executable, "-c", WORKS_LONG, ROOT], stdin=standard_input, stdout=subprocess.PIPE
    ) as child:
        standard_input.close()
        with control, channel.take(control, child.pid) as sending:
            sending.shutdown(socket.SHUT_WR)
            worker = int(child.stdout.readline())
            child.kill()
            assert channel.read_to_end(sending) == b"", "its end is closed: it is gone"
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
