"""`ceremony inspect`: what a security-domain file says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from drengine.cli import output
from drengine.cli.quorum.asking import FILE

if TYPE_CHECKING:
    from drengine.ceremony.domain import SecurityDomain


@click.command("inspect")
@click.option("--sd-file", type=FILE, required=True, help="The security-domain file.")
@output.output_option
def inspect_command(*, sd_file: Path, output_format: str) -> int:
    """Show what a security-domain file says of itself; opens nothing."""
    from drengine.ceremony.domain import (  # noqa: PLC0415 - only this command needs it
        MAX_DOMAIN_BYTES,
        parse_security_domain,
    )
    from drengine.ceremony.files import read_input  # noqa: PLC0415 - only this command needs it

    domain = parse_security_domain(
        read_input(sd_file, "the security-domain file", max_bytes=MAX_DOMAIN_BYTES)
    )
    if output_format == "json":
        output.emit("drengine/ceremony-domain/v1", _domain_json(domain))
    else:
        output.say(_domain_text(domain))
    return 0


def _domain_json(domain: SecurityDomain) -> dict[str, object]:
    return {
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
