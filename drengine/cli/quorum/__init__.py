"""The commands of the quorum ceremony, by who runs them."""

from __future__ import annotations

from typing import Final

import click

from drengine.cli.quorum.after import (
    attach_command,
    keep_command,
    status_command,
    verify_command,
)
from drengine.cli.quorum.combining import combine_command
from drengine.cli.quorum.custody import contribute_command
from drengine.cli.quorum.enrol import challenge_command, check_command, enroll_command
from drengine.cli.quorum.founding import init_domain_command
from drengine.cli.quorum.hold import (
    add_command,
    cancel_command,
    deviation_command,
    open_command,
    show_command,
)
from drengine.cli.quorum.paper import script_command

COMMANDS: Final[tuple[click.Command, ...]] = (
    enroll_command,
    check_command,
    challenge_command,
    script_command,
    open_command,
    contribute_command,
    add_command,
    combine_command,
    deviation_command,
    cancel_command,
    show_command,
    status_command,
    verify_command,
    attach_command,
    keep_command,
    init_domain_command,
)
