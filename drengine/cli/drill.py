"""`drengine drill`: hold the embedded drill and say how it ended."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drengine.cli import output
from drengine.cli.family import Family
from drengine.cli.labs import settings_of
from drengine.clock import Clock
from drengine.errors import VerificationError
from drengine.model.records import Record
from drengine.model.run import RunState

if TYPE_CHECKING:
    from drengine.drills.embedded import DrillResult


@click.command("drill")
@click.argument("name", default="mhsm-full-recovery", required=False)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The folder for the sealed bundle and its trust folder; new. By default"
    " drengine-drill-<time> here.",
)
@click.option("--keep", is_flag=True, help="Leave the lab running, and say where it is.")
@click.option(
    "--speed",
    type=click.FloatRange(min=1),
    help="Virtual seconds per second while only the cloud works; 900 by default.",
)
@click.option(
    "--realtime",
    is_flag=True,
    help="One virtual second takes one second: the recovery takes as long as it would.",
)
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting of the lab."
)
@click.option(
    "--tsa",
    metavar="URL",
    envvar="DRENGINE_TSA",
    help="A time-stamp authority, for checkpoints of the run; by default none is asked.",
)
@output.output_option
def drill_command(
    *,
    name: str,
    out: Path | None,
    keep: bool,
    speed: float | None,
    realtime: bool,
    settings: tuple[str, ...],
    tsa: str | None,
    output_format: str,
) -> int:
    """Build a local Azure, destroy its Managed HSM, recover everything, prove it.

    Needs no account, no network and no root. Real HTTPS, keys, quorum and journal; time
    runs compressed, and played people approve. Ends with the recovery's own exit code.

    With --realtime every service takes its recorded time, half an hour or more in all;
    only the wait for the databases to miss their HSM is stepped over.
    """
    if realtime and speed is not None:
        raise click.UsageError("--realtime is a speed; leave --speed out.")
    from drengine.drills import embedded  # noqa: PLC0415 - loads the lab

    folder = out or Path(f"drengine-drill-{time.strftime('%Y%m%d-%H%M%S')}")
    quiet = output_format == "json"
    watching = embedded.Watching(
        say=(lambda _: None) if quiet else output.say,
        follow=_silently if quiet else _follow,
    )
    request = embedded.DrillRequest(
        folder.absolute(),
        keep,
        1.0 if realtime else speed or embedded.DEFAULT_SPEED,
        name,
        tsa,
        settings_of(settings),
    )
    result = embedded.hold(request, watching)
    code = VerificationError.exit_code if result.problems else result.exit_code
    if quiet:
        output.emit("drengine/drill/v1", _facts(result, code))
    else:
        _tell(result, code)
    return code


def _facts(result: DrillResult, code: int) -> dict[str, Any]:
    return {
        "run": result.run,
        "verdict": result.verdict,
        "reasons": list(result.reasons),
        "evidence": str(result.evidence),
        "problems": list(result.problems),
        "lab": str(result.lab) if result.lab else None,
        "seconds": round(result.seconds, 1),
        "exit_code": code,
    }


def _tell(result: DrillResult, code: int) -> None:
    output.say()
    mark = "✓" if code == 0 else "✗"
    words = output.banner("drill", lab=True)
    output.say(f"{words}  {mark} {result.verdict} in {result.seconds:.1f} s of wall time")
    for reason in result.reasons:
        # Indented line by line: text from outside must not look like a line of ours.
        output.say("\n".join(f"  {line}" for line in reason.splitlines()))
    for problem in result.problems:
        output.say(f"✗ {problem}")
    program = output.program()
    if result.lab:
        down = f"{program} lab down --home {result.lab / 'lab'}"
        output.say(f"Lab     {result.lab / 'lab'} (stop it: {down})")
        output.say(f"Log     {result.lab / 'engine.log'}")
    output.say(f"Report  {result.evidence / 'reports' / 'report.html'}")
    output.say(f"Journal {result.evidence / 'journals'}")
    trust = result.evidence.parent / "trust"
    output.say(f"Verify  {program} verify {result.evidence} --trust {trust}")
    if result.exit_code:
        output.say(f"Next    {_next(result)}")


def _next(result: DrillResult) -> str:
    """Return the command that looks closer at a drill that did not end well."""
    program = output.program()
    if result.lab is None:
        return f"{program} drill --keep   # with the same options: the lab stays, to go on"
    inside = f"{program} lab exec --home {result.lab / 'lab'} --"
    return f"{inside} {program} status {result.run}   # what it waits for, and how to go on"


@contextmanager
def _follow(family: Family, clock: Clock) -> Iterator[Callable[[RunState, Record], None]]:
    from drengine.cli.progress import Lines, live_board  # noqa: PLC0415 - only here

    if output.is_plain(sys.stdout):
        yield Lines().listen
        return
    with live_board(family, clock) as live:
        yield live.listen


@contextmanager
def _silently(family: Family, clock: Clock) -> Iterator[Callable[[RunState, Record], None]]:
    del family, clock
    yield lambda _state, _record: None
