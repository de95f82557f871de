"""`drengine status` and `drengine watch`: read the journal, show where a run stands.

Nothing of Azure is imported, and nothing is asked of it.
"""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any, Final

import click

from drengine.cli import output
from drengine.cli.board import ending, render, screen
from drengine.cli.effects import limits_in
from drengine.cli.exits import EXIT_OF, exit_of_evidence, rest_of_family
from drengine.cli.family import Family, Follower, read_family
from drengine.cli.notices import noted_json
from drengine.cli.onward import next_commands
from drengine.cli.places import home_folder, open_clock
from drengine.cli.progress import Lines, live_board
from drengine.cli.stores import LATEST, find_run, open_store, run_or_latest
from drengine.engine.commands import Rest
from drengine.errors import InputError
from drengine.journal.sqlite import SqliteStore
from drengine.model.run import RunStatus, StepState

_WIDE: Final = 240


@click.command("status")
@run_or_latest
@click.option("--all", "every", is_flag=True, help="List all runs of this home instead.")
@output.output_option
def status_command(*, run: str, every: bool, output_format: str) -> int:
    """Show RUN: its steps, what it waits for, the RTO clock, and the next command.

    RUN is an id, a unique beginning of one, or @latest (the default).
    """
    if not (home_folder() / "drengine.db").exists():
        if not every and run != LATEST:
            raise InputError(
                f"there is no run '{run}' in {home_folder()}",
                hint="DRENGINE_HOME names another home",
            )
        return _empty(output_format)
    with open_store() as store:
        # Who names a run asks for that one: a home without it is an error then.
        if (every or run == LATEST) and not store.runs():
            return _empty(output_format)
        if every:
            return _list(store, output_format)
        family = read_family(store, find_run(store, run))
    now_ms = open_clock().now_ms()
    if output_format == "json":
        output.emit("drengine/status/v1", family_json(family, now_ms))
        return 0
    for line in render(family, now_ms, _width()):
        output.say(line)
    if family.owner:
        output.say(f"Held by {family.owner}")
    return 0


@click.command("watch")
@run_or_latest
@click.option(
    "--through-waits", is_flag=True, help="Stay while a person is waited for; end with the run."
)
@click.option("--every", type=click.FloatRange(min=0.05), default=0.5, hidden=True)
def watch_command(*, run: str, through_waits: bool, every: float) -> int:
    """Follow RUN from its journal until it rests; touches neither the run nor Azure."""
    with open_store() as store:
        follower = Follower(store, find_run(store, run))
        follower.advance()
        if output.is_plain(sys.stdout):
            return _follow_lines(follower, through_waits=through_waits, every=every)
        with live_board(follower.family, open_clock()):
            code = _follow(follower, through_waits=through_waits, every=every)
        return _ended(follower, code)


def _follow_lines(follower: Follower, *, through_waits: bool, every: float) -> int:
    family = follower.family
    lines = Lines(family.started_ms(), limits_in(follower.store, family.root_run))
    for line in screen(family, open_clock().now_ms(), _WIDE):
        output.say(line)
    while (code := _resting(family, through_waits=through_waits)) is None:
        time.sleep(every)
        for state, record in follower.advance():
            lines.listen(state, record)
    return _ended(follower, code)


def _follow(follower: Follower, *, through_waits: bool, every: float) -> int:
    while (code := _resting(follower.family, through_waits=through_waits)) is None:
        time.sleep(every)
        follower.advance()
    return code


def _resting(family: Family, *, through_waits: bool) -> int | None:
    """Return the exit code of a run that rests, None while it goes on."""
    rest = rest_of_family(family)
    if rest is None or (through_waits and rest in (Rest.WAITING, Rest.PAUSED)):
        return None
    return EXIT_OF[rest]


def _ended(follower: Follower, code: int) -> int:
    """Say what comes next; return the code, for a finished run the one that its evidence gives."""
    family = follower.family
    if family.root.status is RunStatus.FINISHED:
        code, verdict = exit_of_evidence(follower.store, family)
        output.say(f"Verdict: {verdict}")
    for line in ending(family):
        output.say(line)
    return code


def _width() -> int:
    return _WIDE if output.is_plain(sys.stdout) else shutil.get_terminal_size().columns


def _empty(output_format: str) -> int:
    home = home_folder()
    if output_format == "json":
        output.emit("drengine/runs/v1", {"home": str(home), "runs": []})
        return 0
    output.say(f"There is no run in {home} yet; DRENGINE_HOME names another home.")
    plan = "drengine plan RUNBOOK --class incident --out plan.json"
    output.say(f"Next: {plan}   # or --class drill; 'drengine drill' practises on a lab of its own")
    return 0


def _list(store: SqliteStore, output_format: str) -> int:
    rows = [row for row in store.runs() if "/" not in row.run]
    if output_format == "json":
        listed = [
            {
                "run": row.run,
                "title": row.title,
                "class": row.run_class,
                "created_at_ms": row.created_at_ms,
                "status": row.status,
                "head": {"seq": row.head.seq, "sha256": row.head.sha256},
            }
            for row in rows
        ]
        output.emit("drengine/runs/v1", {"home": str(store.home), "runs": listed})
        return 0
    for row in rows:
        at = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(row.created_at_ms / 1000))
        output.say(f"{row.run}  {row.run_class.upper():8}  {row.status:10}  {at}  {row.title}")
    return 0


def family_json(family: Family, now_ms: int) -> dict[str, Any]:
    """Return a run and its children as the JSON that `status` prints."""
    root = family.root
    return {
        "run": str(root.run),
        "class": str(root.run_class),
        "lab": family.lab,
        "title": root.genesis["title"],
        "status": str(root.status),
        "held_by": family.owner,
        "created_ms": root.created_ms,
        "finished_ms": root.finished_ms,
        "elapsed_ms": (root.finished_ms or now_ms) - family.started_ms(),
        "rto_ms": root.genesis["objectives"].get("rto_ms"),
        "waiting_for": list(root.waiting_for) if root.status is RunStatus.WAITING else [],
        **noted_json(family),
        "runs": [
            {
                "run": str(state.run),
                "status": str(state.status),
                "head": {"seq": state.head.seq, "sha256": state.head.sha256},
                "steps": [_step_json(family, state.run, step) for step in state.steps.values()],
            }
            for state in family.states.values()
        ],
        "next": next_commands(family),
    }


def _step_json(family: Family, run: Any, step: StepState) -> dict[str, Any]:
    return {
        "step": step.id,
        "status": str(step.status),
        "attempt": step.attempt,
        "generation": step.generation,
        "began_ms": step.began_ms,
        "ended_ms": step.ended_ms,
        "detail": step.detail,
        "undo": str(step.undo) or None,
        "error": dict(step.error) if step.error else None,
        "request": family.requests.get((run, step.id)) if step.status.is_waiting else None,
        "approvers": list(step.gate.approvers) if step.gate else [],
        "outputs": dict(step.outputs),
    }
