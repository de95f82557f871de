"""`coverage`, `diff` and `trends`: what runs amount to, taken together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from drengine.cli import output
from drengine.cli.places import home_folder, open_clock
from drengine.cli.stores import find_run, open_store, run_argument
from drengine.cli.times import option_ms
from drengine.errors import DrError

if TYPE_CHECKING:
    from drengine.evidence.compare import Covered
    from drengine.journal.sqlite import SqliteStore
    from drengine.model.facts import EvidenceFacts


def _facts(store: SqliteStore, run: Any) -> EvidenceFacts:
    from drengine.evidence.folder import read_sources  # noqa: PLC0415 - loads the evidence rules

    return read_sources(store, run).facts()


def _all_facts(store: SqliteStore) -> list[EvidenceFacts]:
    found = []
    for row in store.runs():
        if "/" in row.run:
            continue
        try:
            found.append(_facts(store, row.run))
        except DrError as error:
            output.talk(f"⚠ {row.run} was left out: {error.message}")
    return found


@click.command("coverage")
@click.option("--every", default="365d", show_default=True, help="How often a control is due.")
@click.option("--overdue", is_flag=True, help="Only what is overdue.")
@click.option("--count-lab", is_flag=True, help="Let a run in a lab clear what is overdue.")
@output.output_option
def coverage_command(*, every: str, overdue: bool, count_lab: bool, output_format: str) -> int:
    """Say which controls and scenarios the runs of this home support, and what is overdue.

    A run in a lab says nothing of the systems that are really there: it is shown, and what
    was tested only there is overdue still, unless --count-lab says otherwise.
    """
    from drengine.evidence.actions import kept_actions  # noqa: PLC0415 - loads the evidence rules
    from drengine.evidence.compare import coverage_of, scenarios_of  # noqa: PLC0415 - as above

    with open_store() as store:
        runs = _all_facts(store)
    now, every_ms = open_clock().now_ms(), option_ms("--every", every)

    def is_late(row: Covered) -> bool:
        return row.is_overdue(now, every_ms, lab_counts=count_lab)

    rows = [
        row for row in coverage_of(runs, kept_actions(home_folder())) if not overdue or is_late(row)
    ]
    if output_format == "json":
        listed = [
            {
                "framework": row.framework,
                "id": row.id,
                "level": row.level,
                "title": row.title,
                "run": row.run or None,
                "lab": row.is_lab,
                "at_ms": row.ms,
                "overdue": is_late(row),
                "missing": list(row.missing),
            }
            for row in rows
        ]
        result = {"controls": listed, "scenarios": scenarios_of(runs), "count_lab": count_lab}
        output.emit("drengine/coverage/v1", result)
        return 0
    for line in _coverage_lines(rows, scenarios_of(runs), is_late, count_lab=count_lab):
        output.say(line)
    return 0


def _coverage_lines(
    rows: list[Covered],
    scenarios: list[dict[str, Any]],
    is_late: Callable[[Covered], bool],
    *,
    count_lab: bool,
) -> Iterator[str]:
    from drengine.evidence.words import utc  # noqa: PLC0415 - on this path only

    for scenario in scenarios:
        words = output.banner(scenario["class"], lab=scenario["lab"])
        when = utc(scenario["ended_ms"])
        yield f"{words} {scenario['runbook']}  {scenario['verdict']}  {when}  {scenario['run']}"
    if not scenarios:
        yield "There is no run in this home: nothing was tested."
    framework = ""
    for row in rows:
        if row.framework != framework:
            framework = row.framework
            yield ""
            yield output.styled(framework, bold=True)
        mark = "⚠ overdue" if is_late(row) else "✓"
        when = "" if row.ms is None else f", {utc(row.ms)[:10]}, {row.run}"
        yield f"  {mark:<9} {row.id:<22} {row.level}{when}"
        for told in row.missing:
            yield f"            missing: {told}"
    if any(row.is_lab and row.ms is not None for row in rows):
        yield ""
        counted = (
            "it clears what is overdue here because of --count-lab"
            if count_lab
            else "what was tested only there is overdue (--count-lab counts it)"
        )
        yield (f"What a lab supports says nothing of the systems that are really there; {counted}.")


@click.command("diff")
@run_argument
@click.argument("other")
@output.output_option
def diff_command(*, run: str, other: str, output_format: str) -> int:
    """Say what changed from RUN to OTHER: verdict, objectives, criteria, time of each step."""
    from drengine.evidence.compare import difference  # noqa: PLC0415 - loads the evidence rules
    from drengine.evidence.words import duration  # noqa: PLC0415 - as above

    with open_store() as store:
        one, two = (_facts(store, find_run(store, name)) for name in (run, other))
    found = difference(one, two)
    if output_format == "json":
        output.emit("drengine/difference/v1", found)
        return 0
    for run_id, run_class, lab in zip(found["runs"], found["classes"], found["lab"], strict=True):
        output.say(f"{output.banner(run_class, lab=lab)}  {run_id}")
    if not found["same_runbook"]:
        output.say("⚠ The runbooks differ.")
    for name in ("verdict", "deviations"):
        output.say(f"{name:<12} {found[name][0]} → {found[name][1]}")
    for name in ("rto", "rpo"):
        was, now = map(_reached, found[name], found[f"{name}_ms"])
        output.say(f"{name.upper():<12} {was} → {now}")
    for name, (before, after) in found["criteria"].items():
        output.say(f"{name:<12} {before} → {after}")
    changed_steps = [
        row for row in found["steps"] if row["was"] != row["is"] or row["was_ms"] != row["is_ms"]
    ]
    if not changed_steps:
        output.say("No step differs.")
    for row in changed_steps:
        times = f"{duration(row['was_ms'])} → {duration(row['is_ms'])}"
        changed = "" if row["was"] == row["is"] else f"  {row['was']} → {row['is']}"
        output.say(f"  {row['step']:<40} {times}{changed}")
    return 0


@click.command("trends")
@output.output_option
def trends_command(*, output_format: str) -> int:
    """Show every run of this home in turn: times, deviations, slowest steps."""
    from drengine.evidence.compare import trend_of  # noqa: PLC0415 - loads the evidence rules
    from drengine.evidence.words import duration, utc  # noqa: PLC0415 - as above

    with open_store() as store:
        rows = trend_of(_all_facts(store))
    if output_format == "json":
        output.emit("drengine/trends/v1", {"runs": rows})
        return 0
    for row in rows:
        words = output.banner(row["class"], lab=row["lab"])
        slow = ", ".join(f"{name} {duration(ms)}" for name, ms in row["slowest"].items())
        output.say(f"{words} {row['run']} {utc(row['began_ms'])}  {row['verdict']}")
        rto = f"RTO {_reached(row['rto'], row['rto_ms'])}{_since(row)}"
        rpo = f"RPO {_reached(row['rpo'], row['rpo_ms'])}"
        output.say(f"   {rto}, {rpo}, {row['deviations']} deviations; slowest: {slow}")
    return 0


def _reached(reached: str, ms: int | None) -> str:
    """Return a time, or why there is none: `not shown`, `not yet`."""
    from drengine.evidence.words import duration  # noqa: PLC0415 - on this path only

    return reached if ms is None or reached == "not yet" else duration(ms)


def _since(row: dict[str, Any]) -> str:
    """Say how the recovery time changed since the run of the same kind before."""
    from drengine.evidence.words import duration  # noqa: PLC0415 - on this path only

    was, now = row["rto_before_ms"], row["rto_ms"]
    if was is None or now is None:
        return ""
    return f" ({'+' if now >= was else '-'}{duration(abs(now - was))})"
