"""Taking a run from a process that still holds it, on the same host.

Rules:
- The old process is ended first, asked and then killed (a stopped one cannot be asked);
  only when its lock is free does anybody else append. Its last request may still be in the
  air: the resume that follows treats an open intent as an answer that was lost.
- Only the process that wrote its name beside the lock is ended: boot and start are compared
  before each signal. That text may be older than the lock, left by a process that was killed
  and whose number is another's by now.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from drengine.errors import Locked
from drengine.journal.liveness import Owner, is_running

GRACE_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.05
_LOOKS: Final = 5


def end_owner(
    look: Callable[[], Owner | None], *, grace_seconds: float = GRACE_SECONDS
) -> str | None:
    """End the process that holds a run; return which it was and how it ended, None for nobody.

    Parameters:
        look: tells who holds the run now.

    Raises:
        Locked: it is on another host, is this process or one that cannot be told for sure, or
            does not end.
    """
    owner = _certain(look)
    if owner is None:
        return None
    for how, number in (("asked", signal.SIGTERM), ("killed", signal.SIGKILL)):
        if is_running(owner):
            with suppress(ProcessLookupError):
                os.kill(owner.pid, number)
        until = time.monotonic() + grace_seconds
        while time.monotonic() < until:
            if look() is None:
                return f"{owner}, {how}"
            time.sleep(_LOOK_SECONDS)
    raise _not_ended(owner)


def _certain(look: Callable[[], Owner | None]) -> Owner | None:
    """Return the holder, looked at again where it may just be writing its name.

    Raises:
        Locked: it cannot be ended from here, or is not the process that it says.
    """
    owner = look()
    for _ in range(_LOOKS):
        if owner is None or is_running(owner):
            break
        time.sleep(_LOOK_SECONDS)
        owner = look()
    if owner is None:
        return None
    if owner.pid in (0, os.getpid()) or owner.host != socket.gethostname():
        raise Locked(
            f"taking the run from {owner}: it cannot be ended from here; nothing was changed",
            hint="End it where it runs, or move the run: 'drengine journal export' and 'import'.",
        )
    if not is_running(owner):
        raise Locked(
            f"taking the run from {owner}: process {owner.pid} is not that process now, or the"
            " system does not tell; nothing was ended and nothing was changed",
            hint="Another process holds the run and has not said its name: end it by hand"
            " ('fuser' on the run's file in the folder 'locks' shows it), then again.",
        )
    return owner


def _not_ended(owner: Owner) -> Locked:
    if is_running(owner):
        return Locked(
            f"taking the run from {owner}: it does not end; nothing was changed",
            hint="A process that waits for a disk cannot be killed: see to the disk, then again.",
        )
    return Locked(
        f"taking the run from {owner}: it has ended, and another process holds the run by now;"
        " nothing was changed",
        hint="See which one: drengine status",
    )
