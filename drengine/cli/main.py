"""The entry point: one command, its subcommands loaded only when they are asked for.

Rules:
- `--help`, `--version` and completion import no subcommand: the table below says all
  that they show.
- Only this module catches `DrError`; it prints what, why and what to do next, and exits
  with the error's code. Nobody else calls `sys.exit`.
- What nobody expected goes, redacted, into a file that only its owner can read; the
  screen names the file.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from drengine import __version__
from drengine.cli import output
from drengine.errors import DrError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

INTERRUPTED: Final = 130
USAGE: Final = 2


class Lazy(NamedTuple):
    """Where a subcommand is and what a listing says of it."""

    place: str
    help: str
    section: str


RECOVER, PREPARE, DECIDE, PROVE, LEARN, LAB = (
    "Recover",
    "Prepare",
    "Decide",
    "Prove",
    "Look up",
    "Practise",
)

COMMANDS: Final[dict[str, Lazy]] = {
    "plan": Lazy("plan:plan_command", "Look at the cloud, freeze inputs, write a plan.", RECOVER),
    "run": Lazy("runs:run_command", "Start the one run of a plan.", RECOVER),
    "resume": Lazy("runs:resume_command", "Go on with a run where its journal ends.", RECOVER),
    "status": Lazy("status:status_command", "Show a run: steps, waits, next command.", RECOVER),
    "watch": Lazy("status:watch_command", "Follow a run until it rests.", RECOVER),
    "approve": Lazy("people:approve_command", "Agree to what a gate asks.", DECIDE),
    "reject": Lazy("people:reject_command", "Refuse what a gate asks.", DECIDE),
    "request": Lazy(
        "deliveries:request_command", "Write what a delivery needs for its custodians.", DECIDE
    ),
    "deliver": Lazy("deliveries:deliver_command", "Hand in the file a run waits for.", DECIDE),
    "resolve": Lazy("resolving:resolve_command", "Say how an unknown outcome turned out.", DECIDE),
    "skip": Lazy("byhand:skip_command", "Leave a step out, with a reason.", DECIDE),
    "mark-done": Lazy("byhand:mark_done_command", "Say that a step was done by hand.", DECIDE),
    "rollback": Lazy("byhand:rollback_command", "Undo what a run has done, and end it.", DECIDE),
    "take-over": Lazy("byhand:take_over_command", "End the process that holds a run.", DECIDE),
    "approval": Lazy("approvals:approval", "Sign decisions elsewhere; take them back.", DECIDE),
    "pause": Lazy("steering:pause_command", "Let a run begin nothing new.", DECIDE),
    "continue": Lazy("steering:continue_command", "Take back a pause.", DECIDE),
    "cancel": Lazy("steering:cancel_command", "End a run for good.", DECIDE),
    "inventory": Lazy(
        "inventory:inventory_command", "Record what a healthy HSM and its consumers hold.", PREPARE
    ),
    "validate": Lazy("documents:validate_command", "Check runbooks; touches nothing.", PREPARE),
    "lint": Lazy("documents:lint_command", "Check runbooks for weak places.", PREPARE),
    "schema": Lazy("documents:schema_command", "Print the runbook format as JSON Schema.", PREPARE),
    "ready": Lazy("ready:ready_command", "Tell whether a quorum can be reached today.", PREPARE),
    "ceremony": Lazy("ceremony:ceremony", "Hold a quorum ceremony.", PREPARE),
    "report": Lazy("proof:report_command", "Write a run's evidence folder and report.", PROVE),
    "verify": Lazy("proof:verify_command", "Check an evidence folder, without the store.", PROVE),
    "evidence": Lazy("evidence:evidence", "Seal, stamp, redact and archive evidence.", PROVE),
    "key": Lazy("keys:key", "Make signing keys; keep a trust folder.", PREPARE),
    "coverage": Lazy("learning:coverage_command", "Say which controls runs support.", PROVE),
    "diff": Lazy("learning:diff_command", "Compare two runs, step by step.", PROVE),
    "trends": Lazy("learning:trends_command", "Show times and deviations over runs.", PROVE),
    "actions": Lazy("actions:actions", "Track corrective actions across drills.", PROVE),
    "journal": Lazy("journals:journal", "Export and import journals.", PROVE),
    "rules": Lazy("catalogue:rules_command", "List the rules, with source and advice.", LEARN),
    "explain": Lazy("catalogue:explain_command", "Explain a code, a rule, an action.", LEARN),
    "completion": Lazy("completion:completion_command", "Print a shell completion script.", LEARN),
    "drill": Lazy(
        "drill:drill_command", "Destroy and recover an embedded lab, with evidence.", LAB
    ),
    "lab": Lazy("labs:lab", "Run the local Azure by hand.", LAB),
}
SECTIONS: Final = (RECOVER, DECIDE, PREPARE, PROVE, LEARN, LAB)


class LazyGroup(click.Group):
    """A group whose subcommands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the subcommands, in the order of the table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one subcommand."""
        del ctx
        found = COMMANDS.get(cmd_name)
        if found is None:
            return None
        module, _, name = found.place.partition(":")
        command: click.Command = getattr(import_module(f"drengine.cli.{module}"), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a subcommand, or say which ones are meant."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib  # noqa: PLC0415 - only for a name that does not exist

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            meant = f" Did you mean '{near[0]}'?" if near else ""
            ctx.fail(f"No such command '{args[0]}'.{meant}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the listing from the table alone."""
        del ctx
        for section in SECTIONS:
            rows = [(name, lazy.help) for name, lazy in COMMANDS.items() if lazy.section == section]
            with formatter.section(section):
                formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a subcommand's name from the table alone."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only to complete

        names = [name for name in COMMANDS if name.startswith(incomplete)]
        items = [CompletionItem(name, help=COMMANDS[name].help) for name in names]
        return [*items, *click.Command.shell_complete(self, ctx, incomplete)]


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "--version", prog_name="drengine")
def cli() -> None:
    """Recover an Azure Managed HSM and the databases it protects, with evidence.

    A recovery is a runbook made into a plan, and the plan's one run. Every step is in
    the run's journal before and after it touches Azure: after any interruption,
    'drengine resume' goes on where it stopped and repeats nothing that cannot be repeated.

    \b
      drengine drill                                the whole recovery, on an embedded lab
      drengine plan RUNBOOK --class drill ... --out plan.json
      drengine run plan.json
      drengine status

    Exit codes: 0 done, 4 step failed, 5 waiting for a person, 8 refused, 12 unknown
    outcome; all of them: 'drengine explain exit-codes'.
    """


def main() -> None:
    """Run the command line of this process and exit."""
    # A core file would hold tokens and whatever secret a run was given.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    output.prepare_streams()
    as_json = _wants_json(arguments)
    try:
        result: Any = cli.main(list(arguments), prog_name="drengine", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Abort:
        output.talk("Interrupted; nothing was decided.")
        return INTERRUPTED
    except KeyboardInterrupt:
        output.talk("Interrupted.")
        return INTERRUPTED
    except click.ClickException as error:
        return _usage(error, as_json=as_json)
    except DrError as error:
        output.show_error(error, as_json=as_json)
        return error.exit_code
    except BrokenPipeError:
        # The reader went away; that is no fault, and the interpreter must not say so either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the one place where the unexpected ends
        from drengine.cli.crash import record_crash  # noqa: PLC0415 - only when all else failed

        output.show_error(record_crash(error), as_json=as_json)
        return 1
    return result if isinstance(result, int) else 0


def _usage(error: click.ClickException, *, as_json: bool) -> int:
    if as_json:
        from drengine.errors import UsageError  # noqa: PLC0415 - only on this path

        output.show_error(UsageError(error.format_message()), as_json=True)
    else:
        error.show()
    return USAGE


def _wants_json(arguments: Sequence[str]) -> bool:
    """Whether the line asks for JSON: an error must keep to it even where parsing failed."""
    joined = {"-ojson", "-o=json", "--output=json"}
    pairs = pairwise(arguments)
    return bool(joined & set(arguments)) or any(
        name in ("-o", "--output") and value == "json" for name, value in pairs
    )


if __name__ == "__main__":
    main()
