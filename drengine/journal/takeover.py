"""Taking a run from a process that still holds it, on the same host.

Rules: the old process is ended first, asked and then killed (a stopped one cannot be
asked); only when its lock is free does anybody else append. Its last request may still
be in the air: the resume that follows treats an open intent as an answer that was lost.
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
from drengine.journal.liveness import Owner

GRACE_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.05


def end_owner(
    owner: Owner, still_held: Callable[[], bool], *, grace_seconds: float = GRACE_SECONDS
) -> str:
    """End the process that holds a run and return how it ended: `asked` or `killed`.

    Raises:
        Locked: it is on another host, is this process, or does not end.
    """
    if owner.pid in (0, os.getpid()) or owner.host != socket.gethostname():
        raise Locked(
            f"taking the run from {owner}: it cannot be ended from here; nothing was changed",
            hint="End it where it runs, or move the run: 'drengine journal export' and 'import'.",
        )
    for how, number in (("asked", signal.SIGTERM), ("killed", signal.SIGKILL)):
        with suppress(ProcessLookupError):
            os.kill(owner.pid, number)
        until = time.monotonic() + grace_seconds
        while time.monotonic() < until:
            if not still_held():
                return how
            time.sleep(_LOOK_SECONDS)
    raise Locked(
        f"taking the run from {owner}: it does not end; nothing was changed",
        hint="A process that waits for a disk cannot be killed: see to the disk, then again.",
    )
