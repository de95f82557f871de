"""The journal store as the commands use it: open it, find a run in it.

Imports nothing of Azure.
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from drengine.cli.places import home_folder
from drengine.errors import InputError
from drengine.journal.sqlite import SqliteStore
from drengine.model.ids import RunId

LATEST = "@latest"


@contextmanager
def open_store(home: Path | None = None) -> Iterator[SqliteStore]:
    """Open the store of this home.

    Raises:
        JournalError: the home cannot be used; the message says why.
    """
    with SqliteStore(home or home_folder()) as store:
        yield store


def owner_name() -> str:
    """Return what this process calls itself when it holds a run."""
    return f"{user_name()}@{socket.gethostname()}/{os.getpid()}"


def user_name(environ: Mapping[str, str] = os.environ) -> str:
    """Return who sits here, as the operating system knows it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return environ.get("USER", "") or str(os.getuid())


def find_run(store: SqliteStore, text: str) -> RunId:
    """Return the run that `text` means: an id, a unique beginning of one, or `@latest`.

    Raises:
        InputError: none or several.
    """
    rows = [row.run for row in store.runs()]
    if text in rows:
        return RunId(text)
    if text == LATEST:
        return _latest(store, rows)
    if text.startswith(f"{LATEST}/"):
        text = _latest(store, rows) + text.removeprefix(LATEST)
    wanted = text if text.startswith("r-") else f"r-{text}"
    depth = wanted.count("/")
    found = [run for run in rows if run.startswith(wanted) and run.count("/") == depth]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(found[:4])
        raise InputError(f"'{text}' begins {len(found)} runs: {listed}", hint="Give more of it.")
    raise InputError(
        f"there is no run '{text}' in {store.home}",
        hint="'drengine status --all' lists the runs of this home; DRENGINE_HOME names another.",
    )


def find_step(store: SqliteStore, run: str, step: str) -> tuple[RunId, str]:
    """Return the run and the step that are meant; a step of a child run as `STEP/…/STEP`, too.

    The screens name it so below its root run.

    Raises:
        InputError: there is no such run, or several; or the step is a child run's.
    """
    found = find_run(store, run)
    way, _, last = step.rpartition("/")
    child = RunId(f"{found}/{way}")
    if way and store.exists(child):
        return child, last
    if step not in next(iter(store.read(found))).body["steps"]:
        _refuse_step_of_child(store, found, step)
    return found, step


def _refuse_step_of_child(store: SqliteStore, run: RunId, step: str) -> None:
    """Refuse a step that is in open child runs, with the command that names the child."""
    from drengine.cli.family import read_family  # noqa: PLC0415 - only where a step is not there

    states = read_family(store, run).states
    below = {
        other: state.steps[step].status
        for other, state in states.items()
        if other.startswith(f"{run}/") and step in state.steps and not state.status.is_over
    }
    waiting = [other for other, status in below.items() if status.is_waiting or status.is_stuck]
    if named := waiting or list(below):
        word = "waits there" if waiting else "has it"
        others = f" (and so do {', '.join(named[1:])})" if named[1:] else ""
        raise InputError(
            f"run {run} has no step '{step}'; its child run {named[0]} {word}{others}",
            hint=f"{_command()} {named[0]} {step}   # with the same options",
        )


def _command() -> str:
    """Return the command that this process runs, without its arguments."""
    context = click.get_current_context(silent=True)
    return context.command_path if context else "drengine COMMAND"


def _latest(store: SqliteStore, rows: list[RunId]) -> RunId:
    for run in rows:
        if "/" not in run:
            return run
    raise InputError(
        f"there is no run in {store.home}",
        hint="drengine plan RUNBOOK --class incident --out plan.json   # or --class drill; then"
        " 'drengine run plan.json'. DRENGINE_HOME names another home",
    )


def complete_run(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the runs of this home."""
    del ctx, param
    home = home_folder()
    if not (home / "drengine.db").exists():
        return []
    with open_store(home) as store:
        rows = [row for row in store.runs() if "/" not in row.run]
    names = [(LATEST, "the newest run"), *((row.run, f"{row.title}, {row.status}") for row in rows)]
    return [CompletionItem(name, help=text) for name, text in names if name.startswith(incomplete)]


run_argument = click.argument("run", metavar="RUN", shell_complete=complete_run)
run_or_latest = click.argument(
    "run", metavar="[RUN]", default=LATEST, required=False, shell_complete=complete_run
)
