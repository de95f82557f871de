"""`drengine plan`: discovery once, then a frozen file that a person can read and approve.

The command only parses; making the plan is imported when it is called, because it
loads Azure's libraries.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from drengine.cli.output import output_option
from drengine.model.runbook import RunClass

if TYPE_CHECKING:
    from drengine.azure.ports import AuthKind

auth_option = click.option(
    "--auth",
    type=click.Choice(["azure-cli", "environment"]),
    default="azure-cli",
    show_default=True,
    envvar="DRENGINE_AUTH",
    show_envvar=True,
    help="Who acts: the account of 'az login', or the service principal of AZURE_CLIENT_ID.",
)


@click.command("plan")
@click.argument("runbook")
@click.option(
    "--class",
    "run_class",
    type=click.Choice([str(each) for each in RunClass]),
    required=True,
    help="What the run is for; it stands on every screen and page.",
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=VALUE",
    help="One input of the runbook; secrets only as references (env:NAME, file:PATH).",
)
@click.option(
    "--inputs",
    "inputs_file",
    type=click.Path(path_type=Path),
    help="A YAML or JSON file of inputs; --input wins over it.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("plan.json"),
    show_default=True,
    help="Where to write the plan.",
)
@auth_option
@output_option
def plan_command(
    *,
    runbook: str,
    run_class: str,
    inputs: tuple[str, ...],
    inputs_file: Path | None,
    out: Path,
    auth: AuthKind,
    output_format: str,
) -> int:
    """Make a plan of RUNBOOK: look at the cloud once, freeze everything, send nothing.

    RUNBOOK is a file, or the name of a shipped runbook (mhsm-full-recovery). The plan
    holds the runbook's text, the inputs, what was discovered, and its own digest. It
    starts one run; 'drengine run' refuses it when an input file has changed since.

    \b
      drengine plan mhsm-full-recovery --class incident --inputs inputs.yaml --out plan.json
      drengine plan mhsm-full-recovery --class drill --input target_hsm=contoso-dr2 ...
    """
    from drengine.cli.planning import PlanRequest, make  # noqa: PLC0415 - loads Azure's libraries

    return make(
        PlanRequest(
            runbook=runbook,
            run_class=RunClass(run_class),
            inputs=inputs,
            inputs_file=inputs_file,
            out=out,
            auth=auth,
        ),
        output_format,
    )
