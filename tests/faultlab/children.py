"""What a zygote forks: an engine whose time jumps, the lab's server, the fault proxy.

The engine is `drengine.cli.main.run`, unchanged, with two things exchanged: it sleeps on
the lab's clock by moving that clock (so a recovery of hours takes a second or two), and
it looks into its inbox more often.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from drengine import failpoints
from drengine.clock import LabClock
from drengine.lab.clock import LabClock as LabOwnClock
from faultlab import images

INBOX_MS = 15
_TICK_SECONDS = 0.002
_QUIET_TICKS = 2
_AFTER_JUMP_SECONDS = 0.012
_LAB_NAP_SECONDS = 0.006


class Flying:
    """How many requests are under way in this process."""

    count = 0


class JumpingClock(LabClock):
    """The lab's clock, moved to the next time that somebody sleeps for.

    It jumps only while no request is under way: the lab's answers see the same time as
    the engine that asked.
    """

    def __init__(self, folder: Path, skew_ms: int = 0) -> None:
        super().__init__(folder / "clock.json")
        self._skew_ms = skew_ms
        self._lab = LabOwnClock(folder / "clock.json")
        self._wanted: list[int] = []
        self._jumper: asyncio.Task[None] | None = None

    def now_ms(self) -> int:
        """Return the lab's time as this machine's wrong clock has it."""
        return super().now_ms() + self._skew_ms

    async def sleep_until(self, at_ms: int) -> None:
        self._wanted.append(at_ms)
        if self._jumper is None or self._jumper.done():
            self._jumper = asyncio.create_task(self._jump())
        try:
            while self.now_ms() < at_ms:
                await asyncio.sleep(_TICK_SECONDS)
        finally:
            self._wanted.remove(at_ms)

    async def _jump(self) -> None:
        quiet = 0
        while self._wanted:
            await asyncio.sleep(_TICK_SECONDS)
            quiet = 0 if Flying.count else quiet + 1
            if quiet >= _QUIET_TICKS and self._wanted:
                at_ms = max(self.now_ms(), min(self._wanted))
                self._lab.set(now_ms=at_ms - self._skew_ms, speed=1.0)
                await asyncio.sleep(_AFTER_JUMP_SECONDS)
                quiet = 0


def engine(
    argv: list[str],
    environment: dict[str, str],
    failpoint: str,
    skew_ms: int = 0,
    camera: tuple[str, int, str] | None = None,
) -> int:
    """Be `drengine ARGV` in the lab of `environment`, on a machine whose clock is off.

    Parameters:
        camera: the socket of who takes images of a world, that world, and where to count points.
    """
    os.environ.clear()
    os.environ.update(environment)
    failpoints.arm(failpoint)
    if camera:
        failpoints.reach = images.stand_still_at_points(*camera)
    _exchange_clock(Path(environment["DRENGINE_LAB"]), skew_ms)
    from drengine.cli.main import run

    return run(argv)


def _exchange_clock(folder: Path, skew_ms: int) -> None:
    from drengine.azure.transport import SharedTransport
    from drengine.cli import running, session

    clock = JumpingClock(folder, skew_ms)
    real_world, real_exchange = running.make_world, SharedTransport._exchange

    def world(*positional: Any, **named: Any) -> Any:
        return replace(real_world(*positional, **named), inbox_ms=INBOX_MS)

    async def exchange(self: SharedTransport, *positional: Any) -> Any:
        Flying.count += 1
        try:
            return await real_exchange(self, *positional)
        finally:
            Flying.count -= 1

    session.open_clock = lambda: clock  # type: ignore[attr-defined]
    running.make_world = world  # type: ignore[attr-defined]
    SharedTransport._exchange = exchange  # type: ignore[method-assign]


def lab(home: str, key: str) -> int:
    """Be the lab's server of a home; exchange keys are all the one in the file `key`."""
    from drengine.lab import jobs, serve
    from drengine.lab.home import LabHome
    from drengine.lab.hsm.exchange import EXCHANGE_BITS
    from drengine.lab.keypool import KeyPool

    fixed, real = base64.b64decode(Path(key).read_bytes()), KeyPool.take

    def take(self: KeyPool, bits: int) -> bytes:
        return fixed if bits == EXCHANGE_BITS else real(self, bits)

    KeyPool.take = take  # type: ignore[method-assign]
    KeyPool.fill_in_background = lambda *_a, **_k: None  # type: ignore[method-assign]
    jobs.LONGEST_NAP_SECONDS = _LAB_NAP_SECONDS  # type: ignore[misc]
    return serve.serve(LabHome(Path(home)), 0, lambda _word: None)


def wait_for_lab(home: Path, pid: int, seconds: float = 20.0) -> int:
    """Return the port of a lab that is ready."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            found = json.loads((home / "server.json").read_bytes())
        except (OSError, ValueError):
            found = {}
        if found.get("pid") == pid and found.get("ready"):
            return int(found["port"])
        time.sleep(0.003)
    raise RuntimeError(f"the lab in {home} did not start")


def warm() -> None:
    """Import what the children need."""
    from drengine.actions import registry
    from drengine.azure import auth
    from drengine.cli import main, people, running, session, stores
    from drengine.evidence import collect
    from drengine.lab import serve

    loaded = (registry, auth, main, people, running, session, stores, collect, serve)
    import azure.identity.aio
    import azure.keyvault.administration.aio
    import azure.keyvault.keys.aio
    import azure.keyvault.securitydomain.aio
    import azure.mgmt.keyvault.aio

    assert loaded
    assert azure
    gc.freeze()  # the children do not walk through what they only inherit
