"""Times, durations and digests as people read them. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - all arithmetic here is UTC without a zone
_SECOND: Final = 1_000
_MINUTE: Final = 60 * _SECOND
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_SHOWN_DIGITS: Final = 12

INVISIBLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff]"
)


def utc(ms: int) -> str:
    """Return epoch milliseconds as `2026-11-22 10:00:00Z`; a fraction is cut off."""
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat(" ", "seconds")[:19] + "Z"


def clock(ms: int) -> str:
    """Return the time of day as `10:00`."""
    return utc(ms)[11:16]


def duration(ms: int | None) -> str:
    """Return milliseconds as `1h12m`, `4m30s`, `12s`; never more than two units."""
    if ms is None:
        return "—"
    if ms < 0:
        return f"-{duration(-ms)}"
    if 0 < ms < _SECOND:
        return "<1s"
    for unit, name, lower, lower_name in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "m"),
        (_MINUTE, "m", _SECOND, "s"),
    ):
        if ms >= unit:
            rest = ms % unit // lower
            return f"{ms // unit}{name}" + (f"{rest:02d}{lower_name}" if rest else "")
    return f"{ms // _SECOND}s"


def short(digest: str) -> str:
    """Return the beginning of a long digest."""
    return digest if len(digest) <= _SHOWN_DIGITS else f"{digest[:_SHOWN_DIGITS]}…"


def cut(text: str, most: int) -> str:
    """Return `text` if it has at most so many characters, else its beginning and a mark."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def visible(text: str) -> str:
    """Return `text` with every character that hides or reorders others written out."""
    return INVISIBLE.sub(lambda found: f"⟦U+{ord(found[0]):04X}⟧", text)


def size(count: int) -> str:
    """Return a number of bytes with thousands set apart."""
    return f"{count:,} bytes"
