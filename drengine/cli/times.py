"""Durations as options give them."""

from __future__ import annotations

from drengine.errors import InputError


def option_ms(option: str, text: str) -> int:
    """Return the milliseconds that an option's duration, such as `8h`, means.

    Raises:
        InputError: it is not a duration.
    """
    from drengine.runbook.durations import parse_duration  # noqa: PLC0415 - on this path only

    try:
        return parse_duration(text)
    except ValueError as error:
        raise InputError(f"{option} {text!r}: {error}") from None
