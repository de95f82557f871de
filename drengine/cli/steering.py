"""`drengine pause`, `continue` and `cancel`: whether a run goes on at all."""

from __future__ import annotations

import click

from drengine.cli import output
from drengine.cli.elsewhere import bring_up_to_date
from drengine.cli.family import read_family
from drengine.cli.people import reason_option, say_sent, send
from drengine.cli.places import open_clock
from drengine.cli.stores import (
    find_run,
    open_store,
    owner_name,
    run_argument,
    run_or_latest,
    user_name,
)
from drengine.engine.ending import cancel
from drengine.errors import InputError
from drengine.journal.sqlite import SqliteStore
from drengine.model.ids import RunId


def _to_run(kind: str, run: str, reason: str, output_format: str) -> int:
    with open_store() as store:
        run_id = find_run(store, run)
        family = read_family(store, run_id)
        state = family.states[run_id]
        if state.status.is_over:
            raise InputError(f"run {run_id} is {state.status}; nothing was sent")
        actor = f"operator:{user_name()}"
        sent = send(store, run_id, kind, actor, {"reason": reason})
    say_sent(kind, sent, run_id, "", actor, output_format, family)
    return 0


@click.command("pause")
@run_or_latest
@reason_option
@output.output_option
def pause_command(*, run: str, reason: str, output_format: str) -> int:
    """Let RUN begin and send nothing new; what Azure works on is followed to its end."""
    return _to_run("pause", run, reason, output_format)


@click.command("continue")
@run_or_latest
@reason_option
@output.output_option
def continue_command(*, run: str, reason: str, output_format: str) -> int:
    """Take back a pause of RUN."""
    return _to_run("continue", run, reason, output_format)


@click.command("cancel")
@run_argument
@click.option("--reason", required=True, help="Why; it stands in the report.")
@output.output_option
def cancel_command(*, run: str, reason: str, output_format: str) -> int:
    """End RUN for good: nothing new is sent, its targets are given up, it is not resumed.

    A process that drives it is told and ends it; where none does, it ends here and now.
    """
    with open_store() as store:
        run_id = find_run(store, run)
        owner = read_family(store, run_id).owner
        if owner is None and "/" not in run_id:
            return _cancelled(store, run_id, reason, output_format)
    return _to_run("cancel", run, reason, output_format)


def _cancelled(store: SqliteStore, run: RunId, reason: str, output_format: str) -> int:
    state = read_family(store, run).root
    if state.status.is_over:
        raise InputError(f"run {run} is {state.status}; nothing was done")
    actor = f"operator:{user_name()}"
    cancel(store, run, owner_name(), actor, reason, open_clock())
    bring_up_to_date(store, run, state.copies_to)
    follow = f"drengine report {run} --out evidence-{run}"
    if output_format == "json":
        facts = {"signal": "", "kind": "cancel", "run": run, "step": "", "actor": actor}
        output.emit("drengine/signal/v1", {**facts, "next": follow})
        return 0
    output.say(f"✓ {run} is cancelled; no process drove it")
    output.say(f"Next: {follow}")
    return 0
