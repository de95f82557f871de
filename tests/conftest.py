"""What holds for every test: nothing leaves this machine, and no verdict hangs on its speed.

An audit hook (see tests/leakguard) watches this process and every Python process that the
tests start. It refuses connections and look-ups beyond loopback, and one of them fails the
whole session, even where the code under test swallowed the error.
"""

from __future__ import annotations

import gc
import os
import runpy
import tempfile
from pathlib import Path
from typing import Any

import hypothesis
import pytest

hypothesis.settings.register_profile(
    "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy")

GUARD = Path(__file__).with_name("leakguard")
LEAK_LOG = "DRENGINE_LEAK_LOG"
_found = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin to watch; workers of a parallel session write to their controller's file."""
    if LEAK_LOG not in os.environ:
        descriptor, file = tempfile.mkstemp(prefix="leaks-")
        os.close(descriptor)
        os.environ[LEAK_LOG] = file
        others = os.environ.get("PYTHONPATH", "")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(GUARD), others)))
        config.stash[_found] = []
    # a worker's interpreter has begun with the guard already, as any child has
    if not hasattr(config, "workerinput"):
        runpy.run_path(str(GUARD / "sitecustomize.py"))


def pytest_collection_finish() -> None:
    """Keep the collector off what every test shares; it is most of the heap."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the session where anything wanted to leave."""
    if _found not in session.config.stash:
        return
    file = Path(os.environ[LEAK_LOG])
    found = file.read_text().splitlines()
    session.config.stash[_found][:] = found
    file.unlink()
    if found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say what wanted to leave."""
    found = config.stash.get(_found, [])
    if found:
        terminalreporter.section("beyond this machine", red=True)
        for line in found:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def leaks() -> Path:
    """The file that names everything which wanted to leave this machine."""
    return Path(os.environ[LEAK_LOG])
