"""The place of `--copy-to`: whether a run's journals can be copied there, and are safe there.

Rules:
- Whether the place can be used is settled before anything is sent or recorded.
- A place on the journal's own disk is used, and warned of: somebody who rehearses on one
  machine has no other, and a share that is not mounted looks just like it.
- Who goes on with a run, gives it away or takes it over is refused where the copy holds more
  than this home. Who ends it is never kept from that by a copy.
"""

from __future__ import annotations

import os
from pathlib import Path

from drengine.cli import output
from drengine.errors import InputError, JournalError, StoreFailed, UsageError
from drengine.journal.copying import JournalCopy
from drengine.journal.port import JournalStore
from drengine.model.ids import RunId
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


def open_copy(
    store: JournalStore, run: RunId, folder: Path | None, before: str
) -> JournalCopy | None:
    """Return the copy that a process is to keep, after looking at what was copied already.

    Parameters:
        folder: where it is to be; None for nowhere.
        before: where the run's last process copied to, empty for nowhere.

    Raises:
        JournalError, HandedOver: a copy holds more of the run than this home.
        StoreFailed: the copy that is to be kept cannot be read.
    """
    if folder is None or Path(before) != folder.absolute():
        refuse_behind(store, run, before)
    if folder is None:
        return None
    copy = JournalCopy(store, folder)
    copy.check(run)
    return copy


def refuse_behind(store: JournalStore, run: RunId, named: str) -> None:
    """Refuse to append to a run of which a copy holds more than this home.

    A place that is gone tells nothing; one that cannot be read is told of.

    Raises:
        JournalError, HandedOver: the copy holds more.
    """
    folder = Path(named)
    if not named or not _is_there(folder):
        return
    try:
        JournalCopy(store, folder).check(run)
    except StoreFailed as error:
        output.talk(f"⚠ What was copied to {folder} could not be compared: {error.message}")


def bring_up_to_date(store: JournalStore, run: RunId, named: str) -> None:
    """Copy what was recorded of a run that no process drives; where that fails, say so."""
    if not named:
        return
    folder = Path(named)
    try:
        if not _is_there(folder):
            raise StoreFailed("the folder is not there any more")
        JournalCopy(store, folder).bring_up(run)
    except JournalError as error:
        output.talk(
            output.styled(
                f"⚠ The copy in {folder} does not show this: {error.message}.",
                fg="yellow",
                bold=True,
            )
        )
        output.talk("  Whoever finds that copy takes the run for what it was before.")


def _is_there(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except OSError:
        return False


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
