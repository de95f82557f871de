"""`drengine inventory`: what a recovery is proved against, taken while the HSM is alive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from drengine.cli.output import output_option
from drengine.cli.plan import auth_option
from drengine.errors import InputFileError

if TYPE_CHECKING:
    from drengine.azure.ports import AuthKind


@click.command("inventory")
@click.option("--hsm", required=True, help="The HSM's name, anywhere in the subscription.")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The inventory file to write."
)
@click.option(
    "--sd-file",
    type=click.Path(path_type=Path),
    help="The security-domain file: its digest and quorum are noted, nothing is opened.",
)
@click.option(
    "--container-url",
    default="",
    help="The container with its backups: they are listed, so that a changed or incomplete one"
    " is refused later.",
)
@click.option("--replace", is_flag=True, help="Write over a file that is there.")
@auth_option
@output_option
def inventory_command(
    *,
    hsm: str,
    out: Path,
    sd_file: Path | None,
    container_url: str,
    replace: bool,
    auth: AuthKind,
    output_format: str,
) -> int:
    """Record keys, roles, canaries, and the databases that depend on HSM.

    Take it while the HSM is alive, best after every backup, and keep it with the
    backup: a recovery is proved against it. It holds public parts only. Wrapping one
    canary per key is all that it asks of the HSM beyond reading.
    """
    if out.exists() and not replace:
        raise InputFileError(
            f"{out} is there already, and a recovery is proved against it; nothing was asked",
            hint="Name another file, with the date in it perhaps; --replace writes over this one.",
        )
    from drengine.cli.taking import take  # noqa: PLC0415 - loads Azure's libraries

    return take(
        hsm,
        out,
        sd_file,
        container_url,
        auth,
        output_format,
    )
