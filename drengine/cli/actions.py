"""`drengine actions`: corrective actions, from the drill that showed them until they are closed.

What a runbook's steps can do is another thing: `drengine explain actions`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import click

from drengine.cli import output
from drengine.cli.places import home_folder, open_clock
from drengine.cli.stores import complete_run, find_run, open_store, run_argument
from drengine.errors import InputError

_SCHEMA: Final = "drengine/corrective-actions/v1"


@click.group("actions")
def actions() -> None:
    """Track corrective actions across drills; every sealed bundle carries them on.

    \b
      drengine actions add "Store the third key card elsewhere" --owner ada --due 2027-01-31
      drengine actions list
      drengine actions close CA-1 --note "moved to the second vault"
      drengine actions none RUN --by ada --note "read the report: nothing went wrong"
    """


@actions.command("list", short_help="List the corrective actions of this home.")
@click.option("--all", "everything", is_flag=True, help="Closed ones, too.")
@output.output_option
def list_command(*, everything: bool, output_format: str) -> int:
    """List the corrective actions of this home; what is overdue is marked."""
    from drengine.evidence.actions import is_overdue, read_actions  # noqa: PLC0415 - as needed

    today = _now()[:10]
    rows = [row for row in read_actions(home_folder()) if everything or row["status"] != "closed"]
    listed = [{**row, "overdue": is_overdue(row, today)} for row in rows]
    if output_format == "json":
        output.emit(_SCHEMA, {"actions": listed})
        return 0
    for row in listed:
        due = f", due {row['due']}" if row.get("due") else ""
        late = "  ⚠ overdue" if row["overdue"] else ""
        output.say(
            f"{row['id']:<6} {row['status']:<11} {row['title']}  ({row['owner']}{due}){late}"
        )
    if not rows:
        closed = "" if everything else "; '--all' lists closed ones"
        output.say(f"No corrective action is open in this home{closed}.")
    return 0


@actions.command("show")
@click.argument("name")
@output.output_option
def show_command(*, name: str, output_format: str) -> int:
    """Show corrective action NAME with its whole history."""
    from drengine.evidence.actions import find_action, read_actions  # noqa: PLC0415 - as needed

    return _shown(find_action(read_actions(home_folder()), name), output_format)


@actions.command("add")
@click.argument("title")
@click.option("--owner", required=True, help="Who sees to it.")
@click.option("--due", default="", help="Until when: YYYY-MM-DD.")
@click.option("--run", default="", shell_complete=complete_run, help="The run that showed it.")
@click.option("--lesson", default="", help="What was learned.")
@output.output_option
def add_command(
    *, title: str, owner: str, due: str, run: str, lesson: str, output_format: str
) -> int:
    """Open a corrective action: TITLE says what is to be mended."""
    from drengine.evidence.actions import open_action  # noqa: PLC0415 - on this path only

    if not (title.strip() and owner.strip()):
        raise InputError("a corrective action needs a title and an owner; nothing was opened")
    if due and not _is_date(due):
        raise InputError(f"--due {due!r} is not a date such as 2027-01-31; nothing was opened")
    if run:
        with open_store() as store:
            run = find_run(store, run)
    fields = {"title": title, "owner": owner, "due": due, "run": run, "lesson": lesson}
    return _changed(open_action(home_folder(), fields, _now()), output_format)


@actions.command("none", short_help="Record that a run needs no action.")
@run_argument
@click.option("--by", required=True, help="Who reviewed the run.")
@click.option("--note", required=True, help="What was reviewed.")
@output.output_option
def none_command(*, run: str, by: str, note: str, output_format: str) -> int:
    """Record that RUN needs no corrective action: somebody looked, and nothing had gone wrong.

    Its evidence then supports controls that ask for corrective action without one. A run
    with deviations is refused: what went wrong wants an action, if only "none is possible".
    """
    from drengine.evidence.actions import review_run  # noqa: PLC0415 - on this path only
    from drengine.evidence.folder import read_sources  # noqa: PLC0415 - as above
    from drengine.evidence.followup import real_deviations  # noqa: PLC0415 - as above

    if not (by.strip() and note.strip()):
        raise InputError("--by and --note must say who looked and at what; nothing was recorded")
    with open_store() as store:
        found = find_run(store, run)
        facts = read_sources(store, found).facts()
    if not facts.runs[0].finished:
        raise InputError(f"run {found} is {facts.status}: review it when it is over")
    if count := real_deviations(facts):
        raise InputError(
            f"run {found} has {count} deviations; nothing was recorded",
            hint=f'drengine actions add "…" --owner NAME --run {found}',
        )
    row = review_run(home_folder(), found, by, note, _now())
    if output_format == "json":
        output.emit("drengine/review/v1", row)
    else:
        output.say(f"✓ {found} needs no corrective action, says {by}")
    return 0


def _is_date(text: str) -> bool:
    from datetime import date  # noqa: PLC0415 - on this path only

    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _verb(verb: str, status: str, text: str) -> None:
    @actions.command(verb, help=text)
    @click.argument("name")
    @click.option("--note", required=True, help="Why; it stays in the action's history.")
    @output.output_option
    def change(*, name: str, note: str, output_format: str) -> int:
        return _change(name, status, note, output_format)


_verb("start", "in progress", "Say that work on corrective action NAME has begun.")
_verb("close", "closed", "Close corrective action NAME; every later bundle still has it.")
_verb("reopen", "open", "Open corrective action NAME again.")


def _change(name: str, status: str, note: str, output_format: str) -> int:
    from drengine.evidence.actions import change_action  # noqa: PLC0415 - on this path only

    if not note.strip():
        raise InputError("--note must say why; nothing was changed")
    return _changed(change_action(home_folder(), name, status, note, _now()), output_format)


def _changed(row: dict[str, Any], output_format: str) -> int:
    if output_format == "json":
        return _shown(row, output_format)
    output.say(f"✓ {row['id']} is {row['status']}")
    return 0


def _shown(row: dict[str, Any], output_format: str) -> int:
    if output_format == "json":
        output.emit(_SCHEMA, {"actions": [row]})
        return 0
    for line in _lines(row):
        output.say(line)
    return 0


def _lines(row: dict[str, Any]) -> Iterator[str]:
    yield output.styled(row["id"], bold=True) + f"  {row['title']}"
    for name in ("status", "owner", "due", "run", "lesson"):
        if row.get(name):
            yield f"  {name:<8} {row[name]}"
    for change in row["history"]:
        yield f"  {change['at']}  {change['status']}  {change['note']}".rstrip()


def _now() -> str:
    from drengine.model.times import utc_text  # noqa: PLC0415 - on this path only

    return utc_text(open_clock().now_ms())
