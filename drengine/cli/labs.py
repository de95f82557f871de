"""`drengine lab`: the local Azure by hand.

Everything is in `drengine.lab.commands`; this module only parses and prints.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from drengine.cli import output
from drengine.cli.labfaults import fault_group
from drengine.errors import InputError


def _default_home() -> Path:
    if named := os.environ.get("DRENGINE_LAB"):
        return Path(named)
    shared = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(shared) / "drengine-lab"


_home = click.option(
    "--home",
    type=click.Path(path_type=Path),
    default=_default_home,
    show_default="$DRENGINE_LAB or ~/.local/share/drengine-lab",
    help="The lab's folder: state, certificates, the operator's throw-away sign-in.",
)


@click.group("lab")
def lab() -> None:
    """Run a local Azure: real HTTPS, real keys, public names, on this machine only.

    \b
      drengine lab up
      drengine lab exec -- drengine plan mhsm-full-recovery --class drill ...
      drengine lab disaster hsm-purged
      drengine lab down
    """


@lab.command("up", short_help="Start the lab; again after a kill.")
@_home
@click.option("--speed", type=click.FloatRange(min=0.001), help="Virtual seconds per second.")
@click.option("--fast", is_flag=True, help="Compressed time and short polls, for tests.")
@click.option(
    "--estate",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A YAML or JSON file that says what a new lab holds; see docs/lab.md.",
)
@click.option("--console", is_flag=True, help="Serve a page on loopback that shows the lab.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A lab setting.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0 takes any free port.")
@output.output_option
def up_command(
    *,
    home: Path,
    speed: float | None,
    fast: bool,
    estate: Path | None,
    console: bool,
    settings: tuple[str, ...],
    port: int,
    output_format: str,
) -> int:
    """Start the lab, with a default estate where it is new; again after a kill."""
    from drengine.lab import commands  # noqa: PLC0415 - the lab is loaded by its commands only

    status = commands.up_from_file(
        home,
        estate,
        speed=speed,
        fast=fast,
        settings=settings_of(settings),
        port=port,
        console=console,
    )
    if output_format == "json":
        output.emit("drengine/lab-status/v1", status)
    else:
        _show(status)
        output.say(f"Next: drengine lab exec --home {home} -- COMMAND")
    return 0


def settings_of(pairs: tuple[str, ...]) -> dict[str, Any] | None:
    """Return the lab's settings that NAME=VALUE arguments give, None without any.

    Raises:
        InputError: there is no such setting, or it cannot have that value.
    """
    import json  # noqa: PLC0415 - only where settings are given

    from drengine.lab.settings import misfit  # noqa: PLC0415 - as above

    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"--set {pair!r} is not NAME=VALUE")
        found[name] = value
        if misfit(name, value):  # `null` is a word where the setting takes words
            with suppress(ValueError):
                found[name] = json.loads(value)
        if wrong := misfit(name, found[name]):
            raise InputError(f"--set {pair}: {wrong}", hint="docs/lab.md lists the settings.")
    return found or None


@lab.command("down")
@_home
def down_command(*, home: Path) -> int:
    """Stop the lab; its state stays for the next 'up'."""
    from drengine.lab import commands  # noqa: PLC0415 - as above

    output.say("The lab is stopped." if commands.down(home) else "The lab was not running.")
    return 0


@lab.command("status", short_help="Show what is in the lab.")
@_home
@output.output_option
def status_command(*, home: Path, output_format: str) -> int:
    """Show what is in the lab, and the names and files that a runbook needs."""
    from drengine.lab import commands  # noqa: PLC0415 - as above

    status = commands.status(home)
    if output_format == "json":
        output.emit("drengine/lab-status/v1", status)
    else:
        _show(status)
    return 0


@lab.command("env", short_help="Print the environment of a client of the lab.")
@_home
@output.output_option
def env_command(*, home: Path, output_format: str) -> int:
    """Print the environment of a client of the lab, for 'eval "$(drengine lab env)"'.

    It holds the password of the lab's made-up operator; it opens nothing else. What the shell
    has of its own and leads past the lab (NO_PROXY, any other AZURE_*) is unset.
    """
    from drengine.lab import commands  # noqa: PLC0415 - as above

    found = commands.env(home)
    unset = commands.to_unset(os.environ, found)
    if output_format == "json":
        output.emit("drengine/lab-env/v1", {"env": found, "unset": unset})
        return 0
    output.say(f"unset {' '.join(unset)}")
    for name, value in sorted(found.items()):
        output.say(f"export {name}={shlex.quote(value)}")
    return 0


@lab.command(
    "exec",
    context_settings={"ignore_unknown_options": True},
    short_help="Run a command as a client of the lab.",
)
@_home
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_command(*, home: Path, command: tuple[str, ...]) -> int:
    """Run COMMAND (az, drengine, curl, ...) as a client of the lab; its exit code is ours."""
    from drengine.lab import commands  # noqa: PLC0415 - as above

    sys.stdout.flush()
    return commands.exec_(home, command)


@lab.command("log")
@_home
@click.option("--after", type=click.IntRange(min=0), default=0, help="Only later numbers.")
@click.option("--effects", is_flag=True, help="Only calls that changed something.")
@click.option("--counts", is_flag=True, help="How often each effect was accepted.")
@output.output_option
def log_command(*, home: Path, after: int, effects: bool, counts: bool, output_format: str) -> int:
    """Show every request that the lab answered, in order."""
    from drengine.lab import commands  # noqa: PLC0415 - as above

    if counts:
        found = commands.effects(home, after)
        if output_format == "json":
            output.emit("drengine/lab-effects/v1", {"effects": found})
        else:
            for effect, count in found.items():
                output.say(f"{count:5} {effect}")
        return 0
    calls = [call for call in commands.log(home, after) if not effects or call.get("effect")]
    if output_format == "json":
        output.emit("drengine/lab-log/v1", {"calls": calls})
        return 0
    for call in calls:
        at = time.strftime("%H:%M:%S", time.gmtime(call["virtual_ms"] / 1000))
        effect = f"  [{call['effect']} {call['target'] or ''}]" if call.get("effect") else ""
        line = f"{call['method']:6} {call['status']} {call['host']}{call['path']}{effect}"
        output.say(f"{call['seq']:5} {at} {line}")
    return 0


@lab.command("clock")
@_home
@click.option(
    "--speed",
    type=click.FloatRange(min=0),
    help="Virtual seconds per second; 0 lets time stand still but for --advance.",
)
@click.option("--advance", type=click.FloatRange(min=0), help="Jump so many seconds ahead.")
@output.output_option
def clock_command(
    *, home: Path, speed: float | None, advance: float | None, output_format: str
) -> int:
    """Show the lab's clock, or change it."""
    from drengine.lab import commands  # noqa: PLC0415 - as above

    found = commands.set_clock(home, speed=speed, advance_seconds=advance)
    if output_format == "json":
        output.emit("drengine/lab-clock/v1", found)
    else:
        at = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(found["now_ms"] / 1000))
        output.say(f"{at}, {found['speed']:g} virtual seconds per second")
    return 0


@lab.command("disaster", short_help="Let a disaster happen.")
@_home
@click.argument("kind", default="hsm-purged")
@click.option("--target", default="", help="A region, key or instance; each kind has a default.")
@output.output_option
def disaster_command(*, home: Path, kind: str, target: str, output_format: str) -> int:
    """Let a disaster happen: the source HSM gone for good, where no KIND is given.

    \b
      hsm-purged  hsm-deleted      the source HSM
      region-lost  region-back     --target REGION
      key-deleted  key-disabled    --target KEY
      access-revoked               --target INSTANCE, else all: their roles on HSMs
      identity-deleted             --target INSTANCE, else all
      network-cut  network-back    --target INSTANCE, else all
    """
    from drengine.lab import commands  # noqa: PLC0415 - as above

    found = commands.disaster(home, kind, target)
    if output_format == "json":
        output.emit("drengine/lab-disaster/v1", found)
    else:
        output.say(f"{kind}: {found.get('hsm') or found.get('target')}.")
        if found.get("hsm"):
            output.say("Next: drengine plan mhsm-full-recovery --class drill …   # docs/lab.md")
    return 0


lab.add_command(fault_group)


def _show(status: dict[str, Any]) -> None:
    source, domain = status["source_hsm"], status["security_domain"]
    clock = status["clock"]
    running = f"running, process {status['pid']}" if status["running"] else "stopped"
    output.say(f"Lab             {status['home']} ({running})")
    if status.get("console"):
        output.say(f"Console         {status['console']}")
    output.say(f"Clock           {clock['speed']:g} virtual seconds per second")
    output.say(f"Subscription    {status['subscription']}, group {status['resource_group']}")
    output.say(f"Source HSM      {source['name']} in {source['location']}")
    keys = len(domain["keys"])
    output.say(f"Security domain {domain['file']} ({domain['required']} of {keys} keys)")
    storage = status["storage"]
    output.say(f"Backup          {storage['account']}/{storage['container']}")
    output.say(f"                folder {status['backup']['folder']}")
    for each in status["instances"]:
        databases = ", ".join(
            str(one["name"] if isinstance(one, dict) else one) for one in each["databases"]
        )
        output.say(f"Instance        {each['name']} ({each['role']}): {databases}")
