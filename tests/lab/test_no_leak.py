"""Nothing of the lab reaches beyond this machine."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from drengine.lab import commands

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / "drengine" / "lab"
IN_NAMESPACE = """
set -e
ip link set lo up
{python} - <<'PY'
import shutil, socket, subprocess, sys, tempfile
from pathlib import Path
from drengine.lab import commands
try:
    socket.create_connection(("192.0.2.1", 443), timeout=2)
except OSError as error:
    print("outside:", error)
home = Path(tempfile.mkdtemp(prefix="lab-"))
try:
    commands.up(home, fast=True)
    script = "curl -sS -o /dev/null -w '%{{http_code}}' https://contoso--hsm.managedhsm.azure.net/"
    done = subprocess.run(["sh", "-c", script], env=commands.env(home), capture_output=True, text=True)
    print("inside:", done.stdout, done.stderr)
finally:
    commands.down(home)
    shutil.rmtree(home, ignore_errors=True)
PY
"""


def test_the_lab_lives_where_there_is_no_network(tmp_path: Path) -> None:
    """Server and client in a network namespace that has a loopback device only."""
    if shutil.which("unshare") is None or shutil.which("ip") is None or not shutil.which("curl"):
        pytest.skip("unshare, ip or curl is not here")
    command = ["unshare", "-rn", "sh", "-c", IN_NAMESPACE.format(python=sys.executable)]
    probe = subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("this machine allows no network namespaces")
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, capture_output=True, text=True, env=env, check=False, timeout=100
    )
    assert "outside: [Errno 101] Network is unreachable" in done.stdout, done.stderr
    assert "inside: 401" in done.stdout, done.stderr


def test_no_code_of_the_lab_connects_but_the_client_of_its_own_port() -> None:
    """The one call that connects names 127.0.0.1; nothing imports a client library."""
    found = []
    for file in LAB.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in {"create_connection", "connect"}:
                found.append((file.name, ast.unparse(node)))
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [one.name for one in node.names]
                module = getattr(node, "module", "") or ""
                assert not {"requests", "aiohttp", "urllib3", "httpx"} & {*names, module}, file
                assert "urllib.request" not in {*names, module}, file
    outside = [one for one in found if not one[1].startswith("sqlite3.")]
    assert outside == [("client.py", "socket.create_connection")]
    assert 'create_connection(("127.0.0.1", self._port)' in (LAB / "client.py").read_text()


def test_only_loopback_is_bound(lab: Any) -> None:
    import psutil

    status = commands.status(lab.home)
    server = psutil.Process(int(status["pid"]))
    bound = [one for one in server.net_connections() if one.status == psutil.CONN_LISTEN]
    assert bound
    assert {one.laddr.ip for one in bound} == {"127.0.0.1"}


DIALS = """
import socket, sys
try:
    getattr(socket, sys.argv[1])(*eval(sys.argv[2]))
except OSError as error:
    print("refused:", error)
"""


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("create_connection", "(('203.0.113.7', 443), 1)"),
        ("getaddrinfo", "('management.azure.com', 443)"),
        ("gethostbyname", "('login.microsoftonline.com',)"),
    ],
)
def test_the_guard_of_the_tests_refuses_and_records(
    tmp_path: Path, call: str, arguments: str
) -> None:
    """In a child whose environment was made from nothing, as the lab makes its own."""
    log = tmp_path / "leaks"
    env = {"DRENGINE_LEAK_LOG": str(log), "PYTHONPATH": str(ROOT / "tests" / "leakguard")}
    done = subprocess.run(
        [sys.executable, "-c", DIALS, call, arguments],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "refused: [Errno 101] the tests' guard refuses" in done.stdout
    assert len(log.read_text().splitlines()) == 1


def test_the_lab_of_the_tests_runs_under_the_guard(lab: Any) -> None:
    """Its environment is constructed, and yet the guard is in it."""
    import psutil

    found = psutil.Process(int(lab.status["pid"])).environ()
    assert found["PYTHONPATH"].split(os.pathsep)[0].endswith("leakguard")
    assert found["DRENGINE_LEAK_LOG"] == os.environ["DRENGINE_LEAK_LOG"]


def test_no_connection_of_the_tests_left_the_machine(leaks: Path) -> None:
    """Every Python process of this session was watched; the session fails as well."""
    assert leaks.read_text() == ""
