"""Passphrases of new keys: typed twice, and long enough.

Not here: passphrases that open keys that exist (`secrets`, `quorum.asking`).
"""

from __future__ import annotations

import click

from drengine.errors import InputError


def confirm(typed: str, what: str) -> None:
    """Have the passphrase of a new key typed once more: a slip makes a key nobody can open.

    Raises:
        InputError: it is too short, or the two differ; nothing was made.
    """
    from drengine.lockedkeys import require_long  # noqa: PLC0415 - with a new key only

    require_long(typed.encode("utf-8", "surrogateescape"), what)
    again = click.prompt(f"Once more, for {what}", hide_input=True, err=True)
    if again != typed:
        raise InputError(
            f"making {what}: the two passphrases differ; nothing was made",
            hint="Give the command again.",
        )
