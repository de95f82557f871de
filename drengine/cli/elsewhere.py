"""The place of `--copy-to`: whether a run's journals can be copied there, and are safe there.

Rules:
- Whether the place can be used is settled before anything is sent or recorded.
- A place on the journal's own disk is used, and warned of: somebody who rehearses on one
  machine has no other, and a share that is not mounted looks just like it.
"""

from __future__ import annotations

import os
from pathlib import Path

from drengine.cli import output
from drengine.errors import InputError, UsageError
from drengine.model.runbook import RunClass


def check_place(
    run_class: RunClass, folder: Path | None, home: Path, *, goes_without: bool
) -> None:
    """Make sure that an incident's journal does not live on one host alone.

    Parameters:
        folder: the place for the copies; it is made where it is absent.
        home: where the journal lives.

    Raises:
        UsageError: an incident has neither a place nor the wish to do without.
        InputError: the place cannot be made or written.
    """
    if folder is not None:
        _make(folder)
        if folder.stat().st_dev == home.stat().st_dev:
            _warn(folder, home)
    elif run_class is RunClass.INCIDENT and not goes_without:
        raise UsageError(
            "an incident run copies its journals off this host before each send; no place was"
            " given",
            hint="Add --copy-to FOLDER (a mounted share), or --no-copy to go on without.",
        )


def place_as_before(named: str) -> Path:
    """Return the place that the run's last process copied to.

    Raises:
        InputError: it is gone: it is not made again, for a share that is not mounted looks so.
    """
    folder = Path(named)
    if not folder.is_dir():
        raise InputError(
            f"the journals of this run were copied to {folder}, which is not there any more;"
            " nothing was sent",
            hint="Mount the share, or choose anew: --copy-to FOLDER, or --no-copy.",
        )
    output.talk(f"Journals are copied to {folder}, as before.")
    return folder


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(0, "this user may not write there")
    except OSError as error:
        raise InputError(
            f"--copy-to {folder}: the folder is not there and cannot be made, or cannot be"
            f" written: {error.strerror}; nothing was sent",
            hint="Mount the share, or give --copy-to a folder off this host that can be written.",
        ) from None


def _warn(folder: Path, home: Path) -> None:
    output.talk(
        output.styled(
            f"⚠ --copy-to {folder} is on the same disk as the journal in {home}: with this disk"
            " both are lost.",
            fg="yellow",
            bold=True,
        )
    )
    output.talk("  If a share was meant, see whether it is mounted.")
