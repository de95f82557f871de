"""Start a fresh interpreter for one piece of secret work, ask it once, and let it end.

Not here: what the children do (`child`, `contributing`, `joining`, `possession`).

Rules:
- A fresh interpreter, not a fork: nothing of this process is in it but the request.
- Passphrases, PINs and keys travel by a channel that the child makes when it is shut off, never
  by arguments, environment or a pipe, which others of this user could open before.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import drengine
from drengine.ceremony.channel import Traced, read_to_end, take
from drengine.ceremony.hardening import clear_dumpable
from drengine.errors import CeremonyError

CHILD_SECONDS: Final = 300
_ENVIRONMENT: Final = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH")
TOKEN_ENVIRONMENT: Final = ("HOME", "SOFTHSM2_CONF", "P11_KIT_STRICT")
"""What PKCS#11 modules read their configuration by; passed on for tokens only."""


UNTRACED: Final = (
    "Find out what that process is, and end it. 'sysctl kernel.yama.ptrace_scope=1' keeps programs "
    "of one user from tracing what they did not start. Then try again."
)


def start_line(module: str) -> str:
    """Return the one line that a child runs.

    `-I` leaves out the current folder and PYTHON* variables. The package is loaded from the folder
    of this process's own, so that another one that is installed too does not take its place.
    """
    return (
        "import sys; from importlib import util;"
        " spec = util.spec_from_file_location('drengine', sys.argv[1] + '/__init__.py',"
        " submodule_search_locations=[sys.argv[1]]);"
        " package = sys.modules['drengine'] = util.module_from_spec(spec);"
        f" spec.loader.exec_module(package); from {module} import main; main()"
    )


def command_of(start: str) -> list[str]:
    """Return the command of a child."""
    package = str(Path(drengine.__file__).parent.absolute())
    return [sys.executable, "-I", "-c", start, package]


def child_environment(more: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the little that a child is told of the environment."""
    return {name: os.environ[name] for name in (*_ENVIRONMENT, *more) if name in os.environ}


def ask_child(
    start: str,
    request: bytes,
    *,
    seconds: float = CHILD_SECONDS,
    environment: tuple[str, ...] = (),
    doing: str = "combining",
) -> tuple[bytes, int]:
    """Run a child on one request; return its answer and the moment it was gone.

    Raises:
        CeremonyError: it ended without an answer.
    """
    clear_dumpable()  # the request is in this process, too
    control, standard_input = socket.socketpair()
    control.settimeout(seconds)
    with (
        control,
        subprocess.Popen(  # noqa: S603 - own interpreter, fixed words, no shell
            command_of(start),
            stdin=standard_input.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment(environment),
        ) as child,
    ):
        standard_input.close()
        try:
            answer = _talk(child, control, request)
            child.wait(seconds)
        except (TimeoutError, subprocess.TimeoutExpired):
            ended = f"did not answer within {seconds} seconds and was ended"
            raise no_answer(doing, ended) from None
        except Traced as error:
            raise no_answer(doing, f"was not asked: {error}", hint=UNTRACED) from None
        except PermissionError as error:
            raise no_answer(doing, f"was not asked: {error}") from None
        except OSError:
            raise no_answer(doing, how_it_ended(child.wait(seconds))) from None
        finally:
            child.kill()
    gone_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    if child.returncode != 0:
        raise no_answer(doing, how_it_ended(child.returncode))
    return answer, gone_ns


def _talk(child: subprocess.Popen[bytes], control: socket.socket, request: bytes) -> bytes:
    """Send the request when the child is ready for it, and return the answer."""
    channel = take(control, child.pid)
    if channel is None:  # it could not shut itself off, and says so where anybody may hear it
        return child.stdout.read() if child.stdout else b""
    with channel:
        channel.sendall(request)
        channel.shutdown(socket.SHUT_WR)
        return read_to_end(channel)


def how_it_ended(returncode: int) -> str:
    """Say how a child ended that gave no answer."""
    if returncode < 0:
        return f"was ended by {signal.Signals(-returncode).name}"
    return f"ended with status {returncode} before it answered"


def no_answer(doing: str, what: str, *, hint: str = "") -> CeremonyError:
    """Return the error for a child without an answer."""
    return CeremonyError(
        f"{doing}: the process that opens keys {what}; nothing was written",
        hint=hint
        or "Try again. To see whether it can start at all: "
        f"{sys.executable} -c 'import drengine.ceremony.child'",
    )
