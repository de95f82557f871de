"""The child from outside: its limits as the kernel sees them, and what it says on a crash."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from drengine.ceremony import channel, hardening, serving
from drengine.ceremony.messages import CombineRequest, KeySource
from drengine.errors import CeremonyError

ROOT = Path(__file__).parents[3]
START = "import sys; sys.path.append(sys.argv[1]); from drengine.ceremony.child import main; main()"
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@contextmanager
def start_child(start=START, **options):
    """A child, and the other end of its standard input."""
    control, standard_input = socket.socketpair()
    control.settimeout(30)
    command = [sys.executable, "-I", "-c", start, str(ROOT)]
    with (
        control,
        subprocess.Popen(command, stdin=standard_input, stdout=subprocess.PIPE, **options) as child,
    ):
        standard_input.close()
        yield child, control
        control.close()
        child.kill()


def limit_of(pid, name):
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
        if line.startswith(name):
            return line[len(name) :].split()[:2]
    return None


def core_limit_is_raised():
    resource.setrlimit(resource.RLIMIT_CORE, (1 << 30, resource.getrlimit(resource.RLIMIT_CORE)[1]))


@linux_only
def test_the_kernel_shows_the_limits_of_a_child_that_waits_for_its_request():
    with start_child(preexec_fn=core_limit_is_raised) as (waiting, control):
        with channel.take(control, waiting.pid) as sending:
            for pid in (waiting.pid, channel._maker_of(sending)):
                assert limit_of(pid, "Max file size") == ["0", "0"]
                assert limit_of(pid, "Max core file size") == ["0", "0"]
            sending.shutdown(socket.SHUT_WR)
            answer = json.loads(channel.read_to_end(sending))
        assert answer["error"]["kind"] == "InternalError"


# Another user cannot start an interpreter that lies in root's home, so the child begins as
# root and steps down. That clears the dumpable flag, hence it is set again on purpose.
STEPPED_DOWN = """
import ctypes, os, sys
sys.path.append(sys.argv[1])
from drengine.ceremony import child
os.setgroups([]); os.setgid(65534); os.setuid(65534)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
print("dumpable", flush=True)
sys.stdin.buffer.readline()
child.main()
"""


def read_as_nobody(path):
    return subprocess.run(
        ["cat", path], user=65534, group=65534, extra_groups=[], capture_output=True, check=False
    )


as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can start a child as another user"
)


@linux_only
@as_root
def test_the_child_cannot_be_read_by_another_process_of_its_own_user():
    with start_child(STEPPED_DOWN) as (waiting, control):
        assert waiting.stdout.readline() == b"dumpable\n"
        environment = f"/proc/{waiting.pid}/environ"
        assert read_as_nobody(environment).returncode == 0
        assert b"No such device" in read_as_nobody(f"/proc/{waiting.pid}/fd/0").stderr
        control.sendall(b"go on\n")
        with channel.take(control, waiting.pid) as sending:
            for pid in (waiting.pid, channel._maker_of(sending)):
                for name in ("environ", "mem"):
                    said = read_as_nobody(f"/proc/{pid}/{name}").stderr
                    assert b"Permission denied" in said


WATCHER = """
import os, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
pid = sys.argv[1]
maps, memory = open(f"/proc/{pid}/maps").read(), open(f"/proc/{pid}/mem", "rb", 0)
print("watches", flush=True)
sys.stdin.readline()
found = {b"ready and waiting": 0, b"the passphrase": 0}
for line in maps.splitlines():
    first, last = (int(end, 16) for end in line.split()[0].split("-"))
    try:
        memory.seek(first)
        data = memory.read(last - first)
    except (OSError, ValueError, OverflowError):
        continue
    found = {needle: count + data.count(needle) for needle, count in found.items()}
print([count > 0 for count in found.values()], flush=True)
"""
WORKS_ON = (
    STEPPED_DOWN.replace("from drengine.ceremony import child", "")
    .replace("child.main()", "serve_once(work)")
    .replace(
        "import ctypes, os, sys",
        "import ctypes, os, sys, time\nkept = bytearray(b'ready and waiting')",
    )
    .replace(
        "os.setgroups([])",
        "from drengine.ceremony.serving import serve_once\n"
        "def work(request, _):\n"
        "    print(flush=True)\n"
        "    time.sleep(60)\n"
        "os.setgroups([])",
    )
)


@linux_only
@as_root
def test_whoever_opened_the_memory_of_a_child_that_still_started_sees_no_secret_in_it():
    with start_child(WORKS_ON) as (waiting, control):
        assert waiting.stdout.readline() == b"dumpable\n"
        with subprocess.Popen(
            [sys.executable, "-c", WATCHER, str(waiting.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as watcher:
            assert watcher.stdout.readline() == b"watches\n"
            control.sendall(b"go on\n")
            with channel.take(control, waiting.pid) as sending:
                sending.sendall(b"the passphrase")
                sending.shutdown(socket.SHUT_WR)
                assert waiting.stdout.readline() == b"\n"
                said, _ = watcher.communicate(b"look\n")
    assert said == b"[True, False]\n", "it sees what was there before, and not the request"


HARDENED = """
import ctypes, json, os, resource, sys
sys.path.append(sys.argv[1])
from dataclasses import asdict
from drengine.ceremony.hardening import harden
if sys.argv[3] == "little":
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
    if os.geteuid() == 0:
        os.setuid(65534)
before = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
found = asdict(harden())
found["before"] = before
found["after"] = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
found["core"] = resource.getrlimit(resource.RLIMIT_CORE)
locked = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmLck")]
found["locked_kb"] = int(locked[0])
try:
    with open(sys.argv[2], "w") as file:
        file.write("x")
    found["wrote"] = True
except OSError:
    found["wrote"] = False
print(json.dumps(found), file=sys.stderr)
if sys.argv[3] == "crash":
    os.kill(os.getpid(), 11)
"""


def hardened(tmp_path, then="end", **options):
    return subprocess.run(
        [sys.executable, "-I", "-c", HARDENED, str(ROOT), str(tmp_path / "file"), then],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        check=False,
        **options,
    )


@linux_only
def test_hardening_does_what_it_reports(tmp_path):
    found = json.loads(hardened(tmp_path).stderr)
    assert (found["before"], found["after"], found["not_dumpable"]) == (1, 0, True)
    assert found["core"] == [0, 0]
    assert found["core_dumps_off"]
    assert found["wrote"] is False
    assert found["memory_locked"] is (found["locked_kb"] > 0)


@linux_only
def test_with_little_lockable_memory_the_report_says_not_locked(tmp_path):
    found = json.loads(hardened(tmp_path, "little").stderr)
    assert found["memory_locked"] is False
    assert found["locked_kb"] == 0


@linux_only
@pytest.mark.parametrize(("limit_mb", "locks"), [(8, 0), (256, 0), (512, 1), (None, 1)])
def test_memory_is_only_locked_when_the_work_cannot_outgrow_it(monkeypatch, limit_mb, locks):
    limit = resource.RLIM_INFINITY if limit_mb is None else limit_mb << 20
    calls = []

    class Library:
        def __init__(self, _name):
            self.mlockall = lambda flags: calls.append(flags) or 0

    monkeypatch.setattr(hardening.resource, "getrlimit", lambda _which: (0, limit))
    monkeypatch.setattr(hardening.resource, "setrlimit", lambda _which, _limits: None)
    monkeypatch.setattr(hardening, "_may_lock_anything", lambda: False)
    monkeypatch.setattr(hardening.ctypes, "CDLL", Library)
    assert hardening._lock_memory() is bool(locks)
    assert calls == [3] * locks


@linux_only
def test_a_crash_leaves_no_core_file(tmp_path):
    crash = [sys.executable, "-I", "-c", "import os; os.kill(os.getpid(), 11)"]
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    subprocess.run(crash, cwd=before, preexec_fn=core_limit_is_raised, check=False)
    if not list(before.iterdir()):
        pytest.skip("this machine writes no core files into the working folder anyway")
    assert hardened(after, "crash", preexec_fn=core_limit_is_raised).returncode == -11
    assert [path.name for path in after.iterdir() if path.name != "file"] == []


def test_a_process_that_cannot_shut_itself_off_reads_nothing(monkeypatch):
    monkeypatch.setattr(hardening.resource, "setrlimit", lambda _which, _limits: None)
    monkeypatch.setattr(hardening.resource, "getrlimit", lambda _which: (1, 1))
    monkeypatch.setattr(hardening, "clear_dumpable", lambda: False)
    monkeypatch.setattr(hardening, "_lock_memory", lambda: False)
    with pytest.raises(CeremonyError, match="no key was read"):
        hardening.harden()


def test_an_unforeseen_error_crosses_as_type_and_place_only():
    def explode(_request, _hardening):
        raise RuntimeError("the passphrase is 'secret words'")

    answer = serving.answer_to(b"", explode, None)
    error = json.loads(answer)["error"]
    assert error["kind"] == "InternalError"
    assert "RuntimeError at test_ceremony_child.py:" in error["message"]
    assert b"secret words" not in answer


def test_a_request_comes_back_as_it_was_written(tmp_path):
    request = CombineRequest(
        domain=b"\x00domain",
        exchange_certificate=b"\xffcert",
        keys=(
            KeySource(tmp_path / "ä.key", None, None),
            KeySource(tmp_path / "b.key", tmp_path / "b.cer", b"\xc3\x28"),
        ),
        accept_open_permissions=True,
    )
    assert CombineRequest.from_bytes(request.to_bytes()) == request
    assert "\\xc3" not in repr(request)
