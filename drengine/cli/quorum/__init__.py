"""The commands of the quorum ceremony, by who runs them; each is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "inspect": ("looking:inspect_command", "Show what a security-domain file says of itself."),
    "enroll": ("enrol:enroll_command", "Enrol a custodian in the register, signed."),
    "check": ("enrol:check_command", "Prove that you still hold your key."),
    "challenge": ("enrol:challenge_command", "Draw a challenge for one custodian."),
    "init-domain": ("founding:init_domain_command", "Activate a HSM and keep its domain."),
    "keep": ("after:keep_command", "Write the domain that a run downloaded into a file."),
    "script": ("paper:script_command", "Write the numbered paper script."),
    "open": ("hold:open_command", "Combiner: open a ceremony and hold it."),
    "contribute": ("custody:contribute_command", "Custodian: seal your share to a combiner."),
    "add": ("telling:add_command", "Combiner: take in contributions."),
    "drop": ("telling:drop_command", "Combiner: take a contribution out again."),
    "combine": ("combining:combine_command", "Combiner: make the restore blob."),
    "deviation": ("telling:deviation_command", "Note a deviation from the script."),
    "cancel": ("telling:cancel_command", "End the open ceremony."),
    "show": ("hold:show_command", "Show a message as a QR code."),
    "status": ("after:status_command", "Show a ceremony: who contributed, what was refused."),
    "verify": ("after:verify_command", "Prove a transcript; needs no key."),
    "attach": ("after:attach_command", "Attach attestations and the transcript to a run."),
}


class CeremonyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands, in the order of the table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"drengine.cli.quorum.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the listing from the table alone."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in COMMANDS.items()])
