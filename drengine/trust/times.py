"""UTC texts with milliseconds, as every document of drengine writes them. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_FORM: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def utc_text(ms: int) -> str:
    """Return epoch milliseconds as UTC text."""
    moment = _EPOCH + timedelta(milliseconds=ms)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03}Z"


def utc_ms(text: object) -> int:
    """Return the epoch milliseconds of a UTC text.

    Raises:
        ValueError: it is not in the one form.
    """
    if not isinstance(text, str) or not _FORM.fullmatch(text):
        raise ValueError(f"{str(text)[:40]!r} is not a UTC time such as 2026-11-22T10:00:00.000Z")
    whole = datetime.fromisoformat(f"{text[:-1]}+00:00")
    return (whole - _EPOCH) // timedelta(milliseconds=1)
