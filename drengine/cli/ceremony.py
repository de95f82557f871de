"""`drengine ceremony`: the group of the ceremony's commands, and looking at a domain.

Not here: any of the work, and any key: these commands prompt, print and pass on.

Rule: the work is imported inside the commands, so that `--help` loads no cryptography.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from drengine.cli.quorum import COMMANDS

if TYPE_CHECKING:
    from drengine.ceremony.domain import SecurityDomain

_FILE: Final = click.Path(path_type=Path)
_output = click.option(
    "-o",
    "--output",
    "output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to print the result.",
)


@click.group("ceremony")
def ceremony() -> None:
    """Hold a quorum ceremony: each custodian opens their own share, keys never meet.

    \b
      Before      enroll, check, init-domain, script
      Combiner    open, add, deviation, combine, cancel, status
      Custodian   contribute
      Afterwards  verify, attach

    How to hold one: docs/ceremony.md. All keys in one place? 'combine --key ...'.
    """


for _command in COMMANDS:
    ceremony.add_command(_command)


@ceremony.command("inspect")
@click.option("--sd-file", type=_FILE, required=True, help="The security-domain file.")
@_output
def inspect_command(*, sd_file: Path, output: str) -> None:
    """Show what a security-domain file says of itself; opens nothing."""
    from drengine.ceremony.domain import (  # noqa: PLC0415 - only this command needs it
        MAX_DOMAIN_BYTES,
        parse_security_domain,
    )
    from drengine.ceremony.files import read_input  # noqa: PLC0415 - only this command needs it

    domain = parse_security_domain(
        read_input(sd_file, "the security-domain file", max_bytes=MAX_DOMAIN_BYTES)
    )
    if output == "json":
        click.echo(json.dumps(_domain_json(domain), indent=2))
    else:
        click.echo(_domain_text(domain))


def _domain_json(domain: SecurityDomain) -> dict[str, object]:
    return {
        "schema": "drengine/ceremony-domain/v1",
        "sha256": domain.sha256,
        "size_bytes": domain.size_bytes,
        "required": domain.required,
        "custodians": list(domain.custodians),
        "parts": list(domain.tags),
    }


def _domain_text(domain: SecurityDomain) -> str:
    return "\n".join(
        [
            f"Security domain: {domain.size_bytes} bytes, SHA-256 {domain.sha256}",
            f"Quorum:          {domain.required} of {len(domain.custodians)} custodians",
            "Custodians (x5t#S256 of their certificates):",
            *(f"  {x5t_256}" for x5t_256 in domain.custodians),
            f"Parts:           {', '.join(domain.tags)}",
            "This is what the file says of itself. Only a quorum can tell that it is true.",
        ]
    )
