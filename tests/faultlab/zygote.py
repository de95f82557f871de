"""A process that has imported everything and forks what a trial needs.

Importing Azure's libraries takes a second; a fork takes milliseconds. The zygote has no
threads and opens no database, so a child is as good as a fresh process.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

WAIT_SECONDS = 30.0
_TESTS = Path(__file__).resolve().parents[1]


class Zygote:
    """Talks to one zygote process; use it from one thread.

    It is a fresh interpreter, not a fork: whoever starts it may have threads.
    """

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        path = f"{_TESTS.parent}{os.pathsep}{_TESTS}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faultlab.zygote", str(theirs.fileno())],
            env={**os.environ, "PYTHONPATH": path},
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._socket = ours
        self._stream = ours.makefile("rwb", buffering=0)

    def spawn(self, kind: str, log: Path, **arguments: Any) -> int:
        """Start a child and return its pid."""
        return int(self._ask(op="spawn", kind=kind, log=str(log), arguments=arguments))

    def poll(self, pid: int) -> int | None:
        """Return a child's exit code (negative: the signal), None while it runs."""
        found = self._ask(op="poll", pid=pid)
        return None if found is None else int(found)

    def kill(self, pid: int) -> None:
        """Kill a child of the zygote, if it still lives, and wait for it."""
        self._ask(op="kill", pid=pid)

    def close(self) -> None:
        """End the zygote; its children die with it."""
        self._stream.close()
        self._socket.close()
        self._process.wait(WAIT_SECONDS)

    def _ask(self, **request: Any) -> Any:
        self._stream.write(json.dumps(request).encode() + b"\n")
        line = self._stream.readline()
        if not line:
            raise RuntimeError("the zygote is gone")
        return json.loads(line)


def _serve(stream: socket.socket, kinds: Mapping[str, Callable[..., int]]) -> None:
    done: dict[int, int] = {}
    with stream.makefile("rwb", buffering=0) as lines:
        for line in lines:
            request = json.loads(line)
            if request["op"] == "spawn":
                answer: Any = _spawn(stream, request, kinds)
                done.pop(answer, None)  # the kernel gives a number again
            else:
                answer = _poll(int(request["pid"]), done, kill=request["op"] == "kill")
            lines.write(json.dumps(answer).encode() + b"\n")
    os._exit(0)


def _spawn(
    stream: socket.socket, request: dict[str, Any], kinds: Mapping[str, Callable[..., int]]
) -> int:
    pid = os.fork()
    if pid:
        return pid
    _die_with_parent()
    code = 70
    try:
        stream.close()
        _redirect(request["log"])
        faulthandler.register(signal.SIGUSR1, file=sys.stderr)
        code = kinds[request["kind"]](**request["arguments"])
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _redirect(log: str) -> None:
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - the process's own streams
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - as above
    sys.stderr = open(2, "w", closefd=False, buffering=1)  # noqa: SIM115 - as above


def _poll(pid: int, done: dict[int, int], *, kill: bool) -> int | None:
    if pid not in done:
        if kill:
            # Waited for here: two processes that ask each other again and again until it is
            # gone can keep a processor from the one that is to go, for a minute.
            os.kill(pid, signal.SIGKILL)
        found, status = os.waitpid(pid, 0 if kill else os.WNOHANG)
        if not found:
            return None
        done[pid] = os.waitstatus_to_exitcode(status)
    return done[pid]


def _die_with_parent() -> None:
    """Ask Linux for SIGKILL when the parent ends; elsewhere a lost child ends by itself."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def main() -> None:
    """Be the zygote on the socket that the command line names."""
    from faultlab import children, proxy

    _die_with_parent()
    children.warm()
    kinds = {"engine": children.engine, "lab": children.lab, "proxy": proxy.serve}
    _serve(socket.socket(fileno=int(sys.argv[1])), kinds)


if __name__ == "__main__":
    main()
