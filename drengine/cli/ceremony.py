"""`drengine ceremony`: the group of the ceremony's commands.

Not here: any command; `quorum` names them, and loads the one that is asked for.
"""

from __future__ import annotations

import click

from drengine.cli.quorum import CeremonyGroup


@click.group("ceremony", cls=CeremonyGroup)
def ceremony() -> None:
    """Hold a quorum ceremony: each custodian opens their own share, keys never meet.

    \b
      Before      enroll, check, init-domain, script
      Combiner    open, add, deviation, combine, cancel, status
      Custodian   contribute
      Afterwards  verify, attach

    How to hold one: docs/ceremony.md. All keys in one place? 'combine --key ...'.
    """
    from drengine.ceremony.hardening import clear_dumpable  # noqa: PLC0415 - lazy for --help

    clear_dumpable()  # passphrases and PINs are asked for in this process
