"""Runs a lab: `python -m drengine.lab.serve --home HOME [--port PORT]`.

It writes `server.json` when it listens (so that people can sign in) and again when the
estate is complete. It ends at SIGTERM; killed in any other way it loses nothing that it
answered for.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from drengine.lab import console, estate, spec
from drengine.lab.client import LoopbackClient
from drengine.lab.clock import LabClock
from drengine.lab.dispatch import Dispatcher
from drengine.lab.faults import FaultBook
from drengine.lab.home import LabHome
from drengine.lab.hsm.exchange import EXCHANGE_BITS
from drengine.lab.jobs import JobRunner
from drengine.lab.keypool import KeyPool
from drengine.lab.server import LabServer
from drengine.lab.services import JOBS, ROUTES
from drengine.lab.settings import load_settings
from drengine.lab.store import Store
from drengine.lab.tls import TrustAnchor
from drengine.lab.world import Lab


def open_lab(home: LabHome) -> Lab:
    """Return the lab of a home, without serving it."""
    clock = LabClock(home.clock)
    store = Store(home.database, clock.now_ms)
    return Lab(
        home=home.root,
        store=store,
        clock=clock,
        settings=load_settings(home.settings),
        https=LoopbackClient(0, home.ca),
        tls=TrustAnchor(home.root),
        keys=KeyPool(),
        faults=FaultBook(store),
        tenant=home.identity().tenant,
    )


def listen(lab: Lab, home: LabHome, port: int) -> LabServer:
    """Return a server on the wanted port, else on the last one, else on any."""
    dispatcher = Dispatcher(lab, ROUTES)
    if port:
        return LabServer(dispatcher, lab.tls, port)
    for candidate in (int(home.server_document().get("port", 0)), 0):
        with suppress(OSError):
            return LabServer(dispatcher, lab.tls, candidate)
    raise OSError("no port is free")


def serve(
    home: LabHome, port: int, notify: Callable[[str], None], *, with_console: bool = False
) -> int:
    """Serve the lab until it is told to stop; return the exit code.

    Parameters:
        notify: is told `listening`, then `ready`.
        with_console: serve the page that shows the lab.
    """
    lock = home.lock()
    if lock is None:
        sys.stderr.write(f"another server runs the lab in {home.root}\n")
        return 7
    lab = open_lab(home)
    wanted = _specification(home)
    server = listen(lab, home, port)
    lab.https.use_port(server.port)
    estate.register(lab, wanted)
    threading.Thread(target=server.serve_forever, name="accept", daemon=True).start()
    about: dict[str, object] = {"pid": os.getpid(), "port": server.port, "ready": False}
    if with_console:
        about["console"] = f"http://127.0.0.1:{console.start(lab)}/"
    home.write_server(about)
    notify("listening")
    if not estate.is_built(lab):
        estate.build(lab, wanted)
    runner = JobRunner(lab, JOBS)
    runner.start()
    home.write_server({**about, "ready": True})
    notify("ready")
    lab.keys.fill_in_background(EXCHANGE_BITS)
    _wait_for_signal()
    server.close()
    runner.stop()
    lab.keys.close()
    return 0


def _specification(home: LabHome) -> spec.EstateSpec:
    if not home.estate.exists():
        return spec.EstateSpec()
    return spec.from_document(json.loads(home.estate.read_bytes()))


def _wait_for_signal() -> None:
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    done.wait()


def main() -> int:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m drengine.lab.serve", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--console", action="store_true", help="serve a page about the lab")
    parser.add_argument("--detach", type=int, metavar="FD", help="tell FD about the start")
    options = parser.parse_args()
    os.umask(0o077)
    notify = _detach(options.detach) if options.detach is not None else _say
    home = LabHome(options.home.resolve())
    return serve(home, options.port, notify, with_console=options.console)


def _say(word: str) -> None:
    sys.stderr.write(f"{word}\n")


def _detach(descriptor: int) -> Callable[[str], None]:
    """Go on in a child that belongs to nobody; tell a pipe, which closes if this dies."""
    if os.fork():
        os._exit(0)

    def notify(word: str) -> None:
        os.write(descriptor, f"{word}\n".encode())
        if word == "ready":
            os.close(descriptor)

    return notify


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # threads that still make keys or answer must not keep a stopped lab alive
    os._exit(code)
