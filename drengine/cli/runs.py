"""`drengine run` and `drengine resume`: arguments only; the work loads Azure's libraries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from drengine.cli.output import output_option
from drengine.cli.plan import auth_option
from drengine.cli.stores import run_or_latest

if TYPE_CHECKING:
    from drengine.azure.ports import AuthKind

_wait = click.option(
    "--wait",
    is_flag=True,
    help="Stay while people are waited for, instead of a clean stop (exit 5).",
)


_copy_to = click.option(
    "--copy-to",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="DRENGINE_COPY_TO",
    help="A folder off this host, made where absent: the journals are copied there before each"
    " send. Required for the class incident; a resume copies where the run before it did.",
)
_no_copy = click.option("--no-copy", is_flag=True, help="Incident: go on without such a copy.")
_tsa = click.option(
    "--tsa",
    metavar="URL",
    envvar="DRENGINE_TSA",
    help="A time-stamp authority: at gates and before sends that cannot be undone the heads of"
    " all chains are stamped. The run never waits for it.",
)


@click.command("run")
@click.argument("plan", type=click.Path(path_type=Path))
@_wait
@click.option("--initiator", help="Who starts it, for the journal; by default the user here.")
@click.option(
    "--approvers",
    type=click.Path(path_type=Path, file_okay=False),
    help="A trust folder: only signed decisions of the people in it count.",
)
@_copy_to
@_no_copy
@_tsa
@auth_option
@output_option
def run_command(
    *,
    plan: Path,
    wait: bool,
    initiator: str | None,
    approvers: Path | None,
    copy_to: Path | None,
    no_copy: bool,
    tsa: str | None,
    auth: AuthKind,
    output_format: str,
) -> int:
    """Start the one run of PLAN, or go on with it.

    Before anything is sent: the plan's digest and input files are checked, the session
    is compared with the plan, and the targets are claimed. Every record is durable
    before the next thing happens; Ctrl-C stops cleanly and says how to go on.

    Ends with 0 (recovered), 10 (recovered, objective missed), 4 (a step failed), 5 (a
    person is waited for), 8 (refused, nothing sent) or 12 (an outcome is unknown).
    """
    from drengine.cli.running import Manner, start  # noqa: PLC0415 - loads Azure's libraries

    manner = Manner(auth, wait, output_format == "json", approvers, copy_to, no_copy, tsa)
    return start(plan, initiator, manner)


@click.command("resume")
@run_or_latest
@_wait
@_copy_to
@_no_copy
@_tsa
@auth_option
@output_option
def resume_command(
    *,
    run: str,
    wait: bool,
    copy_to: Path | None,
    no_copy: bool,
    tsa: str | None,
    auth: AuthKind,
    output_format: str,
) -> int:
    """Go on with RUN where its journal ends; @latest, the default, is the newest.

    Failed and refused steps begin again; operations that Azure still works on are found
    by what the journal holds. A request whose answer was lost is looked for, not
    repeated; what cannot be told ends as an unknown outcome for 'drengine resolve'.
    """
    from drengine.cli.running import Manner, go_on  # noqa: PLC0415 - loads Azure's libraries

    manner = Manner(auth, wait, output_format == "json", copy_to=copy_to, no_copy=no_copy, tsa=tsa)
    return go_on(run, manner)
