"""`drengine ready`: can we reach a quorum today, and who is overdue?

Reads a security-domain file and the custodian register; asks nobody and opens nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from drengine.cli import output
from drengine.cli.places import open_clock

if TYPE_CHECKING:
    from drengine.ceremony.readiness import Readiness, Standing

_NOT_REACHED: Final = 10
_TO_CHECK: Final = ("overdue", "never proved", "clock wrong")
_FILE: Final = click.Path(path_type=Path)


@click.command("ready")
@click.option("--sd-file", type=_FILE, required=True, help="The security-domain file.")
@click.option("--register", type=_FILE, required=True, help="The custodian register's folder.")
@click.option(
    "--max-days",
    type=click.IntRange(min=1),
    default=365,
    show_default=True,
    help="How old a proof of possession may be.",
)
@output.output_option
def ready_command(*, sd_file: Path, register: Path, max_days: int, output_format: str) -> int:
    """Tell whether a quorum of the domain's custodians can be reached today.

    A custodian counts who is enrolled with the domain's certificate and has proved, not
    too long ago, to hold its key. Ends with 10 where no quorum can be reached.
    """
    from drengine.ceremony.domain import (  # noqa: PLC0415 - lazy for --help
        MAX_DOMAIN_BYTES,
        parse_security_domain,
    )
    from drengine.ceremony.files import read_input  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.readiness import judge  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.registry import read_register  # noqa: PLC0415 - lazy for --help

    domain = parse_security_domain(
        read_input(sd_file, "the security-domain file", max_bytes=MAX_DOMAIN_BYTES)
    )
    known, now_ms = read_register(register), open_clock().now_ms()
    found = judge(domain.required, domain.custodians, known, now_ms=now_ms, max_days=max_days)
    remarks = known.remarks(now_ms)
    if output_format == "json":
        facts = {"reached": found.reached, "required": found.required, "ready": found.ready}
        listed = [one.to_json() for one in found.custodians]
        noted = {"custodians": listed, "remarks": list(remarks)}
        output.emit("drengine/ready/v1", {**facts, **noted})
    else:
        _print(found, remarks)
    return 0 if found.reached else _NOT_REACHED


def _print(found: Readiness, remarks: Sequence[str]) -> None:
    answer = "✓ yes" if found.reached else "✗ NO"
    spare = f"{found.spare} to spare" if found.reached else f"{-found.spare} missing"
    output.say(
        f"{answer}: {found.ready} of {len(found.custodians)} custodians are ready, "
        f"{found.required} are needed ({spare})"
    )
    for one in found.custodians:
        output.say(f"  {_line(one)}")
    for remark in remarks:
        output.say(f"⚠ {remark}.")
    unknown = [one.x5t_256 for one in found.custodians if one.word == "not enrolled"]
    late = [one.name for one in found.custodians if one.word in _TO_CHECK and one.holder]
    if late:
        output.say(f"Next: 'drengine ceremony check' by {', '.join(late)}")
    if unknown:
        output.say(f"Next: 'drengine ceremony enroll' by the holders of {', '.join(unknown)}")


def _line(one: Standing) -> str:
    symbol = "✓" if one.counts else "⚠"
    age = "" if one.days is None else f", proved {one.days} days ago"
    where = f", {one.holder} in {one.location}, {one.contact}" if one.holder else ""
    return f"{symbol} {one.name or one.x5t_256}: {one.word}{age}{where}"
