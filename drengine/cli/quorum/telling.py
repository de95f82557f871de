"""The combiner's other commands: what is said to a ceremony that is open in another terminal.

Not here: any of the work. The session answers; this prints.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from drengine.cli import output
from drengine.cli.quorum.asking import FILE, add_contributions

session_option = click.option(
    "--session", type=FILE, required=True, help="The folder of the open ceremony."
)


@click.command("add")
@session_option
@click.argument("files", nargs=-1, required=True, type=FILE)
@output.output_option
def add_command(*, session: Path, files: tuple[Path, ...], output_format: str) -> int:
    """Hand contributions to the open ceremony as they come in; FILE may be '-'."""
    found = add_contributions(session, files)
    if output_format == "json":
        output.emit("drengine/ceremony-progress/v1", found)
    else:
        output.say(f"{len(found['contributed'])} of {found['required']} contributed")
    return 0


@click.command("drop")
@session_option
@click.option("--custodian", required=True, help="Whose: the name, or the x5t#S256.")
@click.option("--by", required=True, help="Who takes it out.")
@click.option("--reason", required=True, help="Why; it stands in the transcript.")
@output.output_option
def drop_command(*, session: Path, custodian: str, by: str, reason: str, output_format: str) -> int:
    """Take one contribution out of the open ceremony; its custodian may contribute anew.

    For one that is damaged, false, or was made under another's name. The transcript keeps it,
    and says who took it out and why.
    """
    from drengine.ceremony.wire import ask_session  # noqa: PLC0415 - lazy for --help

    asked = {"do": "drop", "custodian": custodian, "by": by, "reason": reason}
    found = ask_session(session, asked)
    if output_format == "json":
        output.emit("drengine/ceremony-progress/v1", found)
        return 0
    dropped = found["dropped"]
    output.say(f"✓ taken out: the contribution of {dropped['custodian']} ({dropped['x5t_256']})")
    output.say(f"{len(found['contributed'])} of {found['required']} contributed")
    output.say(
        f"Next: drengine ceremony add --session {shlex.quote(str(session))} FILE   # this"
        " custodian's new one"
    )
    return 0


@click.command("cancel")
@session_option
@click.option("--reason", required=True, help="Why; it stands in the transcript.")
@click.option("--by", required=True, help="Who cancels.")
def cancel_command(*, session: Path, reason: str, by: str) -> int:
    """End the open ceremony: its one-time key is gone, its contributions open nothing."""
    from drengine.ceremony.wire import ask_session  # noqa: PLC0415 - lazy for --help

    found = ask_session(session, {"do": "cancel", "reason": reason, "by": by})
    output.say(f"✓ cancelled; transcript head {found['head']}")
    if not found["noted"]:
        output.talk(f"⚠ the transcript in {session} could not be written: note it on the paper")
    output.say("A new ceremony has a new request: drengine ceremony open --session NEW_FOLDER …")
    return 0


@click.command("deviation")
@session_option
@click.option("--text", required=True, help="What went otherwise than the script says.")
@click.option("--by", required=True, help="Who notes it.")
def deviation_command(*, session: Path, text: str, by: str) -> int:
    """Write a deviation from the script into the transcript."""
    from drengine.ceremony.wire import ask_session  # noqa: PLC0415 - lazy for --help

    found = ask_session(session, {"do": "deviation", "text": text, "by": by})
    output.say(f"✓ noted; transcript head {found['head']}")
    return 0
