"""`drengine lab fault`: spoil answers of the lab on purpose."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from drengine.cli import output
from drengine.errors import InputError


def _home() -> Path:
    if named := os.environ.get("DRENGINE_LAB"):
        return Path(named)
    shared = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(shared) / "drengine-lab"


_home_option = click.option(
    "--home",
    type=click.Path(path_type=Path),
    default=_home,
    show_default="$DRENGINE_LAB or ~/.local/share/drengine-lab",
    help="The lab's folder.",
)


@click.group("fault")
def fault_group() -> None:
    """Spoil answers: by endpoint, count and seed.

    \b
      drengine lab fault add throttled path=/backup count=3
      drengine lab fault add kind=reset-after method=PUT path=/restore
      drengine lab fault names
      drengine lab fault list
      drengine lab fault clear
    """


@fault_group.command("add")
@_home_option
@click.argument("words", nargs=-1, required=True, metavar="[NAME] [MEMBER=VALUE]...")
@output.output_option
def add_command(*, home: Path, words: tuple[str, ...], output_format: str) -> int:
    """Add a fault: a named one, members of a rule, or both.

    Members: kind, host, method, path (regular expressions for the whole), who (clients,
    instances, all), count (0: always), skip, probability, seed, status, code, message,
    retry_after, retry_after_ms, seconds, old, new.
    """
    from drengine.lab import commands  # noqa: PLC0415 - the lab is loaded by its commands only

    found = commands.add_fault(home, **_rule(words))
    if output_format == "json":
        output.emit("drengine/lab-fault/v1", found)
    else:
        output.say(f"Fault {found['id']} ({found['kind']}) holds from now on.")
    return 0


_NUMBERS = {"count": int, "skip": int, "seed": int, "status": int}
_FRACTIONS = {"probability": float, "seconds": float}


def _rule(words: tuple[str, ...]) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    for word in words:
        member, equals, value = word.partition("=")
        if not equals:
            rule["name"] = word
            continue
        kind = {**_NUMBERS, **_FRACTIONS}.get(member, str)
        try:
            rule[member] = kind(value)
        except ValueError:
            raise InputError(f"the fault's {member} must be a number, found {value!r}.") from None
    return rule


@fault_group.command("names")
@output.output_option
def names_command(*, output_format: str) -> int:
    """Show the named faults: known behaviour and defects of the service and its SDKs."""
    from drengine.lab.faults import NAMED  # noqa: PLC0415 - as above

    if output_format == "json":
        output.emit("drengine/lab-fault-names/v1", {"names": {n: w for n, (w, _) in NAMED.items()}})
        return 0
    for name, (why, _) in sorted(NAMED.items()):
        output.say(f"{name:24} {why}")
    return 0


@fault_group.command("list")
@_home_option
@output.output_option
def list_command(*, home: Path, output_format: str) -> int:
    """Show the faults that hold, with how often each was seen and hit."""
    from drengine.lab import commands  # noqa: PLC0415 - as above

    found = commands.list_faults(home)
    if output_format == "json":
        output.emit("drengine/lab-faults/v1", {"faults": found})
        return 0
    for one in found:
        count = one["count"] or "all"
        where = f"{one['method']} {one['host']}{one['path']}"
        output.say(f"{one['id']}  {one['kind']:14} {where}  {one['hit']} of {count}")
    return 0


@fault_group.command("clear")
@_home_option
@output.output_option
def clear_command(*, home: Path, output_format: str) -> int:
    """Forget all faults."""
    from drengine.lab import commands  # noqa: PLC0415 - as above

    count = commands.clear_faults(home)
    if output_format == "json":
        output.emit("drengine/lab-faults-cleared/v1", {"cleared": count})
    else:
        output.say(f"{count} faults forgotten.")
    return 0
