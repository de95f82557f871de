"""`drengine pause`, `continue` and `cancel`: whether a run goes on at all."""

from __future__ import annotations

from typing import Final

import click

from drengine.cli import output
from drengine.cli.effects import Left, left_by
from drengine.cli.elsewhere import bring_up_to_date
from drengine.cli.family import Family, read_family
from drengine.cli.notices import handed_in_text, signal_json
from drengine.cli.onward import follow_up
from drengine.cli.people import (
    Said,
    nothing_new,
    reason_option,
    refuse_if_given_away,
    say_sent,
    send,
)
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
            raise InputError(
                f"run {run_id} is {state.status}; nothing was sent",
                hint=f"drengine status {family.root_run}",
            )
        refuse_if_given_away(store, run_id)
        if kind != "cancel" and (already := _already(kind, family, run_id)):
            return nothing_new(kind, run_id, already, family, output_format)
        actor = f"operator:{user_name()}"
        left = left_by(store, family, run_id) if kind == "cancel" else []
        sent = send(store, run_id, kind, actor, {"reason": reason})
    notes = _left_lines(left, family, run_id, "until now: ") if kind == "cancel" else ()
    said = Said(kind, sent, run_id, "", actor, notes=notes)
    more = {"left": [each.to_json() for each in left]} if kind == "cancel" else {}
    say_sent(said, follow_up(family), output_format, **more)
    return 0


def _already(kind: str, family: Family, run: RunId) -> str:
    """Say why a pause or its end changes nothing; empty where it does."""
    wants = kind == "pause"
    waiting = [each for each in family.inbox if each.run == run and each.kind in _PAUSES]
    if waiting:
        told = f"a {waiting[-1].kind} of {run} is handed in already and not taken in yet"
        return told if waiting[-1].kind == kind else ""
    if family.states[run].paused == wants:
        return f"{run} is paused already" if wants else f"{run} is not paused"
    return ""


_PAUSES: Final = ("pause", "continue")


def _left_lines(left: list[Left], family: Family, run: RunId, since: str = "") -> tuple[str, ...]:
    """Return what a cancel leaves behind, and what would have undone it."""
    if not left:
        until = " until now" if since else ""
        return (f"Nothing is left behind{until}: no request of it had an effect",)
    lines = [f"Left as it is, {since}{each}" for each in left]
    if run == family.root_run:
        lines.append(_ENDS_ROLLBACK if family.rolls_back else _TOO_LATE)
    return tuple(lines)


_TOO_LATE: Final = (
    "A 'drengine rollback' instead of the cancel would have undone what can be undone; after a"
    " cancel that is done by hand"
)
_ENDS_ROLLBACK: Final = "The cancel ends the rollback, too: what is left of it is done by hand"


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
    family = read_family(store, run)
    state = family.root
    if state.status.is_over:
        raise InputError(
            f"run {run} is {state.status}; nothing was done", hint=f"drengine status {run}"
        )
    actor = f"operator:{user_name()}"
    left = left_by(store, family, run)
    dropped = cancel(store, run, owner_name(), actor, reason, open_clock())
    bring_up_to_date(store, run, state.copies_to)
    follow = f"drengine report {run} --out evidence-{run}"
    if output_format == "json":
        facts = {**Said("cancel", "", run, "", actor).facts(), "next": follow}
        facts |= {"left": [each.to_json() for each in left]}
        facts |= {"ignored": [signal_json(signal) for signal in dropped]}
        output.emit("drengine/signal/v1", facts)
        return 0
    output.say(f"✓ {run} is cancelled; no process drove it")
    for line in _left_lines(left, family, run):
        output.say(f"  {line}")
    for signal in dropped:
        output.say(f"  Handed in and not taken in any more: {handed_in_text(signal)}")
    output.say(f"Next: {follow}")
    return 0
