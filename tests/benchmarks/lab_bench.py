"""What the lab costs: `python tests/benchmarks/lab_bench.py`.

- Start: from `lab up` of an estate that is built to the first authorised answer; building
  the estate is shown beside it.
- Requests a second: GETs of a key with a token, over four kept connections, from a client
  on the same processors.
- Size: the server's resident memory with 5,000 keys, 200 instances and 5,000 databases,
  after ten seconds of their key checks.
"""

from __future__ import annotations

import contextlib
import http.client
import shutil
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from reporting import Figure, show

from drengine.lab import commands, spec
from drengine.lab.entra import mint_token

HOST = "contoso--hsm.managedhsm.azure.net"
SECONDS = 5.0
THREADS = 4


@contextlib.contextmanager
def running(**options: Any) -> Iterator[tuple[Path, float]]:
    """Start a lab and give its home and how long that took."""
    home = Path(tempfile.mkdtemp(prefix="lab-bench-"))
    try:
        began = time.monotonic()
        commands.up(home, **options)
        yield home, time.monotonic() - began
    finally:
        commands.down(home)
        shutil.rmtree(home, ignore_errors=True)


def connect(home: Path) -> http.client.HTTPConnection:
    status = commands.status(home)
    raw = socket.create_connection(("127.0.0.1", int(status["proxy"].rsplit(":", 1)[1])))
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.sendall(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += raw.recv(1)
    context = ssl.create_default_context(cafile=status["ca"])
    connection = http.client.HTTPConnection(HOST)
    connection.sock = context.wrap_socket(raw, server_hostname=HOST)
    return connection


def headers(home: Path) -> dict[str, str]:
    status = commands.status(home)
    token = mint_token(
        tenant=status["tenant"],
        object_id=status["object_id"],
        app_id=status["client_id"],
        audience="https://managedhsm.azure.net",
        kind="operator",
        lifetime_seconds=3600,
    )
    return {"authorization": f"Bearer {token}"}


def requests_a_second(home: Path) -> float:
    """Return how many GETs of a key are answered in a second."""
    sent = headers(home)
    until = time.monotonic() + SECONDS
    counts: list[int] = []

    def work() -> None:
        connection, count = connect(home), 0
        while time.monotonic() < until:
            connection.request("GET", "/keys/app-wrap?api-version=7.5", headers=sent)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
            count += 1
        counts.append(count)

    workers = [threading.Thread(target=work) for _ in range(THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / SECONDS


def measure() -> list[Figure]:
    found: list[Figure] = []
    with running(fast=True) as (home, built):
        found.append(Figure("first start, estate built", built, "s"))
        commands.down(home)
        began = time.monotonic()
        commands.up(home)
        connection = connect(home)
        connection.request("GET", "/keys/app-wrap?api-version=7.5", headers=headers(home))
        assert connection.getresponse().status == 200
        seconds = time.monotonic() - began
        found.append(Figure("start to the first answer", seconds, "s", at_most=1.5))
        answered = requests_a_second(home)
        found.append(Figure("authorised requests", answered, "/s", at_least=300))
    large = spec.scaled(keys=5000, instances=200, databases=5000)
    with running(fast=True, estate=large) as (home, built):
        found.append(Figure("5,000 keys and databases: first start", built, "s"))
        time.sleep(10)  # several check cycles of all instances
        server = psutil.Process(int(commands.status(home)["pid"]))
        size = server.memory_info().rss / 1e6
        found.append(Figure("5,000 keys and databases: memory", size, "MB", at_most=500))
    return found


def main() -> int:
    show("Lab", measure())
    return 0


if __name__ == "__main__":
    sys.exit(main())
