"""`drengine journal`: move a run to another host, and check its chains."""

from __future__ import annotations

from pathlib import Path

import click

from drengine.cli import output
from drengine.cli.elsewhere import bring_up_to_date, refuse_behind
from drengine.cli.family import read_family
from drengine.cli.onward import bare_resume
from drengine.cli.places import open_clock
from drengine.cli.stores import find_run, open_store, owner_name, run_argument, user_name
from drengine.errors import VerificationError
from drengine.journal.verify import Problem, verify_folder, verify_run


@click.group("journal")
def journal() -> None:
    """Export and import journals.

    A journal is a file of one JSON line per record, each naming the SHA-256 of the line
    before it. It is the checkpoint, the audit trail and the evidence at once.
    """


@journal.command("export")
@run_argument
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="A new file that ends with .tar, or a new folder.",
)
@click.option(
    "--hand-over",
    is_flag=True,
    help="Give the run away: this host refuses to go on with it from then on.",
)
@click.option("--to", default="another host", help="Who takes it, for the record.")
@output.output_option
def export_command(*, run: str, out: Path, hand_over: bool, to: str, output_format: str) -> int:
    """Write RUN, its children, its plan and its objects, byte for byte.

    Without --hand-over it is a copy: another host takes it in only with a declared
    take-over, and this one can still go on.
    """
    from drengine.engine import handover  # noqa: PLC0415 - only here
    from drengine.journal.exchange import check_export, export_run  # noqa: PLC0415 - only here

    with open_store() as store:
        found = find_run(store, run)
        check_export(found, out)
        if hand_over:
            family = read_family(store, found)
            if left := len(family.inbox):
                output.talk(
                    f"⚠ {left} messages that no process has read stay here: give them again"
                )
            refuse_behind(store, found, family.root.copies_to)
            handover.give(store, found, to, owner_name(), f"operator:{user_name()}", open_clock())
            bring_up_to_date(store, found, family.root.copies_to)
        export_run(store, found, out)
        head = store.head(found)
    if output_format == "json":
        facts = {"run": found, "out": str(out), "head": {"seq": head.seq, "sha256": head.sha256}}
        output.emit("drengine/exported/v1", facts)
        return 0
    output.say(f"✓ {found} to {out}; it ends with record {head.seq}, {head.sha256}")
    take = "" if hand_over else " --take-over REASON"
    output.say(f"Next, on the other host: drengine journal import {out}{take}")
    if hand_over:
        output.say("This host refuses to go on with the run now.")
    return 0


@journal.command("import", short_help="Take a run in from an export.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--take-over",
    metavar="REASON",
    default="",
    help="Why it is taken from a host that did not hand it over: it is dead, or was stopped.",
)
@output.output_option
def import_command(*, file: Path, take_over: str, output_format: str) -> int:
    """Take a run in from an export, check all of it, and record the take-over.

    Before its first send this host says on the target HSM whose turn it is (the tag
    drengine-holder). The host it came from reads that before each of its sends and stops.
    """
    from drengine.journal.exchange import import_run  # noqa: PLC0415 - only here

    clock = open_clock()
    with open_store() as store:
        found = import_run(
            store,
            file,
            actor=f"operator:{user_name()}",
            at_ms=clock.now_ms(),
            mono_ms=clock.mono_ms(),
            wall_ms=clock.wall_ms(),
            take_over=take_over.strip(),
        )
        follow = bare_resume(read_family(store, found))
    if output_format == "json":
        output.emit("drengine/imported/v1", {"run": found, "next": follow})
        return 0
    output.say(f"✓ {found} is here now, and the take-over is recorded")
    if take_over:
        output.say("It was taken over: make sure that the process of the other host has ended.")
    output.say(f"Next: {follow}")
    return 0


@journal.command("verify", short_help="Check every chain of a run or folder.")
@click.argument("run_or_folder")
@output.output_option
def verify_command(*, run_or_folder: str, output_format: str) -> int:
    """Check every chain of a run of this home, or of a folder of exported journals.

    Exits 0 where everything follows, 9 where it does not.
    """
    folder = Path(run_or_folder)
    if folder.is_dir():
        return _tell(verify_folder(folder), str(folder), output_format)
    with open_store() as store:
        found = find_run(store, run_or_folder)
        return _tell(verify_run(store, found), found, output_format)


def _tell(problems: list[Problem], what: str, output_format: str) -> int:
    if output_format == "json":
        told = {"of": what, "problems": [str(problem) for problem in problems]}
        output.emit("drengine/journal-verified/v1", told)
        return VerificationError.exit_code if problems else 0
    for problem in problems:
        output.say(f"✗ {problem}")
    if problems:
        return VerificationError.exit_code
    output.say(f"✓ {what}: every record follows from the one before it")
    output.say("  A cut-off end shows only against a head kept elsewhere (report, approval).")
    return 0
