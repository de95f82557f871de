"""`drengine completion SHELL`: the script that a shell reads once."""

from __future__ import annotations

import click

from drengine.cli import output


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(*, shell: str) -> int:
    """Print the completion script of SHELL.

    \b
      bash:  eval "$(drengine completion bash)"
      zsh:   eval "$(drengine completion zsh)"
      fish:  drengine completion fish | source
    """
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - only here

    from drengine.cli.main import cli  # noqa: PLC0415 - it imports this module by name

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}")
    output.say(found(cli, {}, "drengine", "_DRENGINE_COMPLETE").source())
    return 0
