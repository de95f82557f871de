"""Keeps every Python process of a test session from reaching beyond this machine.

Python imports a module of this name at its start, from the first folder of PYTHONPATH that
has one; `tests/conftest.py` puts this folder there for every process that the tests start,
and runs it in the test process itself. What would leave the machine is refused and written
to the file that LEAK_LOG names; a session with anything in that file has failed.

Processes that are no Python (curl, node) are not seen here; for them there is the network
namespace of tests/lab/test_no_leak.py.
"""

import errno
import os
import sys

LEAK_LOG = "DRENGINE_LEAK_LOG"
CONNECTS = frozenset({"socket.connect", "socket.sendto"})
RESOLVES = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"})
#: an address for documentation, which a test dials where there is no network at all
NOWHERE = "192.0.2.1"


def stays_here(host: object) -> bool:
    """Return whether an address, or a name, belongs to this machine."""
    name = host.decode("latin-1") if isinstance(host, bytes) else host
    if name is None or not isinstance(name, str):
        return True
    return name.startswith("127.") or name in {"", "::1", "localhost", NOWHERE}


def beyond(event: str, arguments: tuple) -> str:
    """Return the host beyond this machine that an audit event is about, empty if none."""
    if event in CONNECTS and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event in RESOLVES:
        host = arguments[0]
    else:
        return ""
    return "" if stays_here(host) else str(host)


def watch(event: str, arguments: tuple) -> None:
    """Refuse and record what would leave; hand the guard on to child processes."""
    if event == "subprocess.Popen":
        guard_child(arguments[3])
    elif event.startswith("socket."):
        host = beyond(event, arguments)
        if host:
            record(event, host)
            raise OSError(errno.ENETUNREACH, f"the tests' guard refuses {host}")


def guard_child(env: object) -> None:
    """Put this folder first on the module path of a child with an environment of its own."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib costs every start
    found = env if isinstance(env, dict) else None
    if found is None or LEAK_LOG in found or LEAK_LOG not in os.environ:
        return
    found[LEAK_LOG] = os.environ[LEAK_LOG]
    found["PYTHONPATH"] = os.pathsep.join(filter(None, (here, found.get("PYTHONPATH", ""))))


def record(event: str, host: str) -> None:
    """Write a line: which process wanted what, in which test."""
    test = os.environ.get("PYTEST_CURRENT_TEST", " ".join(sys.argv[:3]))
    line = f"{event} {host} (process {os.getpid()}, {test})\n"
    file = os.environ.get(LEAK_LOG)
    if file:
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, line.encode())
        os.close(descriptor)


if os.environ.get(LEAK_LOG):
    sys.addaudithook(watch)
