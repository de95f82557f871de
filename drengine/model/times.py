"""UTC texts and epoch milliseconds. Pure.

Every document of drengine writes a time in one form, to the millisecond. What people and
services write is read more widely (`instant_ms`).
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

# Some versions of Python read 24:00 as the next day's midnight: one time, one text.
_MINUTE: Final = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:", re.ASCII)
_SECONDS: Final = {f"{second:02}.": second * 1000 for second in range(60)}
_THOUSANDTHS: Final = {f"{ms:03}Z": ms for ms in range(1000)}
# Looked up and not formatted: every record has a time.
_SECOND_TEXTS: Final = tuple(_SECONDS)
_THOUSANDTH_TEXTS: Final = tuple(_THOUSANDTHS)
_INSTANT: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)", re.ASCII
)
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - all arithmetic here is UTC without a zone
_MILLISECOND: Final = timedelta(milliseconds=1)
_MAX_MS: Final = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z


def utc_text(ms: int) -> str:
    """Return epoch milliseconds as `2026-11-22T10:00:00.123Z`.

    Raises:
        ValueError: before 1970 or after 9999.
    """
    if type(ms) is not int or not 0 <= ms <= _MAX_MS:
        raise ValueError(f"{ms!r} is not a time in epoch milliseconds from 1970 to 9999")
    minute, rest = divmod(ms, 60_000)
    return _minute_text(minute) + _SECOND_TEXTS[rest // 1000] + _THOUSANDTH_TEXTS[rest % 1000]


def utc_seconds(ms: int) -> str:
    """Return epoch milliseconds as `2026-11-22T10:00:00Z`, for people and for services."""
    return f"{utc_text(ms)[:19]}Z"


@lru_cache(maxsize=256)
def _minute_text(minute: int) -> str:
    """Return `2026-11-22T10:00:` for a count of minutes; see `_minute_ms`."""
    return (_EPOCH + timedelta(minutes=minute)).isoformat(timespec="seconds")[:17]


def utc_ms(text: object) -> int:
    """Return the epoch milliseconds of such a text.

    Raises:
        ValueError: when `text` is not exactly in that form.
    """
    try:
        if isinstance(text, str):
            return _minute_ms(text[:17]) + _SECONDS[text[17:20]] + _THOUSANDTHS[text[20:]]
    except KeyError:
        pass
    raise ValueError(f"{str(text)[:40]!r} is not a time like 2026-11-22T10:00:00.123Z")


@lru_cache(maxsize=256)
def _minute_ms(text: str) -> int:
    """Return when a minute begins; a long run has thousands of records with few minutes.

    Raises:
        KeyError: it is not in the form of `2026-11-22T10:00:`.
        ValueError: there is no such minute, or it is before 1970.
    """
    if not _MINUTE.fullmatch(text):
        raise KeyError(text)
    ms = (datetime.fromisoformat(text[:-1]) - _EPOCH) // _MILLISECOND
    if ms < 0:
        raise ValueError(f"{text!r} is before 1970")
    return ms


def instant_ms(value: object) -> int | None:
    """Return the epoch milliseconds of a UTC text with or without fractions, None for another."""
    found = _INSTANT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    try:
        whole = datetime.fromisoformat(f"{found[1]}T{found[2]}")
    except ValueError:
        return None
    fraction = int((found[3] or "0")[:3].ljust(3, "0"))
    return (whole - _EPOCH) // _MILLISECOND + fraction
