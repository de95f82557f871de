"""UTC texts and epoch milliseconds."""

from __future__ import annotations

import calendar
import time


def utc_text(ms: int) -> str:
    """Return epoch milliseconds as UTC text with `Z`."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(ms / 1000))}.{ms % 1000:03}Z"


def utc_ms(value: object) -> int | None:
    """Return the epoch milliseconds of a UTC text, None where it is not one."""
    if not isinstance(value, str):
        return None
    seconds, _, rest = value.removesuffix("Z").partition(".")
    try:
        at = calendar.timegm(time.strptime(seconds, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return None
    return at * 1000 + int((rest + "000")[:3])
