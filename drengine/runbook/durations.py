"""Durations as people write them (`4h`, `1h30m`) and as the plan holds them: milliseconds."""

from __future__ import annotations

import re
from typing import Final

PATTERN: Final = r"^(?=[0-9])([0-9]{1,4}d)?([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}s)?$"
EXAMPLES: Final = "such as 4h, 30m, 90s or 1h30m"

_DURATION: Final = re.compile(PATTERN)
_UNITS: Final = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000))


def parse_duration(text: str) -> int:
    """Return the milliseconds that `text` stands for.

    Raises:
        ValueError: when it is not whole days, hours, minutes and seconds, in that order.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"expected a duration {EXAMPLES}")
    return sum(
        int(amount[:-1]) * unit
        for amount, (_, unit) in zip(found.groups(), _UNITS, strict=True)
        if amount
    )


def format_duration(milliseconds: int) -> str:
    """Return `milliseconds` as days, hours, minutes and seconds; a fraction is rounded up."""
    left = -(-milliseconds // 1_000) * 1_000
    out = ""
    for name, unit in _UNITS:
        count, left = divmod(left, unit)
        out += f"{count}{name}" if count else ""
    return out or "0s"
