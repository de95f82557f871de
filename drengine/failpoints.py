"""Named places where a test may let this process die, fail or wait.

Not for anything but tests: `DRENGINE_FAILPOINT` is read once, when this module is first
imported; without it a place costs one comparison. A run of class `incident` is refused
while it is set (`refuse_for_incident`).

`DRENGINE_FAILPOINT=NAME:N:ACTION` acts when the place is reached for the N-th time; N = 0
acts every time, and NAME = `*` at every place. ACTION is

- `kill`: SIGKILL to this process, as a crash would; `stop`: SIGSTOP, as a frozen machine;
- `errno=NAME`: raise that `OSError` (ENOSPC, EIO, …);
- `sleep=SECONDS`: wait, holding up the whole process;
- `count=FILE`: append the place's name, a line each, which is the dry pass.

Rules:
- At most eight places, all of them in `PLACES`.
- SQLite commits in one step: `journal.torn` lies between its statements and its COMMIT.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from drengine.errors import GuardError, InputError

VARIABLE: Final = "DRENGINE_FAILPOINT"
PLACES: Final = (
    "journal.before_write",
    "journal.torn",
    "journal.after_sync",
    "signals.before_delete",
    "object.before_write",
    "http.before_send",
    "http.after_response",
)
_EVERY: Final = "*"


@dataclass(slots=True)
class _Armed:
    place: str
    number: int
    action: str
    argument: str
    seen: int = 0


def _read(text: str) -> _Armed | None:
    if not text:
        return None
    place, _, rest = text.partition(":")
    number, _, what = rest.partition(":")
    action, _, argument = what.partition("=")
    known = place == _EVERY or place in PLACES
    if not known or not number.isdecimal() or action not in _ACTIONS:
        raise InputError(
            f"{VARIABLE} is {text!r}, expected PLACE:N:ACTION with one of {', '.join(PLACES)}",
            hint=f"unset {VARIABLE}: it is for tests only",
        )
    return _Armed(place, int(number), action, argument)


def arm(text: str) -> None:
    """Take `text` instead of the environment's; an empty text disarms. For test harnesses.

    Raises:
        InputError: it is not `PLACE:N:ACTION`.
    """
    global _armed  # noqa: PLW0603 (one switch a process, read at every place)
    _armed = _read(text)


def reach(place: str) -> None:
    """Pass a place; do what was asked for it."""
    if _armed is not None:
        _pass(_armed, place)


def refuse_for_incident(run_class: str) -> None:
    """Refuse to drive a real incident with a failpoint set.

    Raises:
        GuardError: one is set and the class is `incident`.
    """
    if _armed is not None and run_class == "incident":
        raise GuardError(
            f"{VARIABLE} is set, which is for tests only, and this run is an incident; "
            "nothing was sent",
            hint=f"unset {VARIABLE}",
        )


def _pass(armed: _Armed, place: str) -> None:
    if armed.place not in (_EVERY, place):
        return
    armed.seen += 1
    if armed.number in (0, armed.seen):
        _ACTIONS[armed.action](place, armed.argument)


def _kill(place: str, argument: str) -> None:
    del place, argument
    os.kill(os.getpid(), signal.SIGKILL)


def _stop(place: str, argument: str) -> None:
    del place, argument
    os.kill(os.getpid(), signal.SIGSTOP)


def _fail(place: str, argument: str) -> None:
    number = getattr(errno, argument)
    raise OSError(number, f"{os.strerror(number)} (failpoint {place})")


def _sleep(place: str, argument: str) -> None:
    del place
    time.sleep(float(argument))


def _count(place: str, argument: str) -> None:
    with Path(argument).open("a", encoding="ascii") as stream:
        stream.write(f"{place}\n")


_ACTIONS: Final = {
    "kill": _kill,
    "stop": _stop,
    "errno": _fail,
    "sleep": _sleep,
    "count": _count,
}
_armed = _read(os.environ.get(VARIABLE, ""))
