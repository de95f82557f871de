"""Where this command line works: the home folder, and whether it is in a lab.

Rules:
- `DRENGINE_LAB` names the home of a running lab; everything then follows the lab's clock
  and stays in the lab's own folder, so that a drill never mixes with real runs.
- `DRENGINE_HOME` wins over every default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from drengine.clock import Clock, LabClock, SystemClock
from drengine.errors import InputError


def lab_folder(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the lab that this process runs in, None outside one."""
    named = environ.get("DRENGINE_LAB", "")
    return Path(named).absolute() if named else None


def home_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of journals and objects; it need not exist."""
    if named := environ.get("DRENGINE_HOME", ""):
        return Path(named).absolute()
    if lab := lab_folder(environ):
        return lab / "drengine"
    shared = environ.get("XDG_DATA_HOME", "")
    if not shared or not Path(shared).is_absolute():
        shared = str(Path.home() / ".local" / "share")
    return Path(shared) / "drengine"


def open_clock(environ: Mapping[str, str] = os.environ) -> Clock:
    """Return the machine's clock, or the lab's in a lab.

    Raises:
        InputError: `DRENGINE_LAB` names no lab.
    """
    lab = lab_folder(environ)
    if lab is None:
        return SystemClock()
    clock = LabClock(lab / "clock.json")
    try:
        clock.now_ms()
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"DRENGINE_LAB is {lab}, where there is no lab's clock ({error})",
            hint="start it with 'drengine lab up', or unset DRENGINE_LAB to work on Azure",
        ) from None
    return clock
