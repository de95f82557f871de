"""Reading what a service answered: its error, its wish to be left alone, its JSON.

Pure functions. Text of a service is quoted in messages only after `redacted`, since
services do repeat what they were sent.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

MAX_RETRY_AFTER_SECONDS: Final = 600.0
"""However long a service asks for, a wait is not longer than this before it is asked again."""

_MAX_QUOTE: Final = 500
_MASK: Final = "•••"
_SECRETS: Final = (
    re.compile(
        r"(?i)(\b(?:sig|sas|token|secret|password|client_secret|assertion)"
        r"\"?\s*(?:=|:|%3D)\s*\"?)[^\s&\"']+"
    ),
    re.compile(r"(?i)(\bhttps?://)[^/\s@]+(?=@)"),  # the password of a proxy
    re.compile(r"(?i)(\bbearer\s+)[A-Za-z0-9._~+/=-]+"),
    re.compile(r"()\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){0,4}"),
)


def redacted(text: str) -> str:
    """Return `text` on one line, shortened, with everything masked that looks like a secret."""
    for pattern in _SECRETS:
        text = pattern.sub(rf"\1{_MASK}", text)
    line = " ".join(text.split())
    return line if len(line) <= _MAX_QUOTE else f"{line[:_MAX_QUOTE]}…"


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer of a service.

    Attributes:
        headers: names in lower case.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def request_id(self) -> str:
        """The service's id of the request."""
        return self.headers.get("x-ms-request-id", "")

    @property
    def retry_after_ms(self) -> int | None:
        """How long the service asks to wait, None where it does not."""
        seconds = retry_after_seconds(self.headers)
        return None if seconds is None else round(seconds * 1000)

    def json(self) -> dict[str, Any]:
        """Return the body as a JSON object; an empty body is an empty object.

        Raises:
            ValueError: the body is something else.
        """
        if not self.body:
            return {}
        found = _parsed(self.body)
        if not isinstance(found, dict):
            raise ValueError("the body is not a JSON object")
        return found

    def is_readable(self) -> bool:
        """Tell whether the body is empty or a JSON object."""
        try:
            self.json()
        except ValueError:
            return False
        return True


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError("the body is nested too deeply to be read") from None


def service_error(body: bytes, headers: Mapping[str, str]) -> tuple[str, str]:
    """Return code and text of the error that an answer carries; empty where it carries none."""
    try:
        found = _parsed(body)
    except ValueError:
        return headers.get("x-ms-error-code", ""), _xml_message(body)
    error = found.get("error", found) if isinstance(found, dict) else None
    if not isinstance(error, dict):
        return "", redacted(str(error)) if error else ""
    return str(error.get("code") or ""), redacted(str(error.get("message") or ""))


def _xml_message(body: bytes) -> str:
    found = re.search(rb"<Message>(.{1,2000}?)</Message>", body, re.DOTALL)
    return redacted(found.group(1).decode("utf-8", "replace")) if found else ""


def retry_after_seconds(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return how long a service asks to wait, bounded; None where it does not say anything usable.

    `retry-after-ms` and `x-ms-retry-after-ms` are milliseconds, `Retry-After` seconds or an
    HTTP date. A date is measured from the answer's own `Date`, so that a clock which is wrong
    here (or virtual there) does not matter.
    """
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        milliseconds = _number(headers.get(name))
        if milliseconds is not None:
            return _bounded(milliseconds / 1000)
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is None:
        seconds = _until(value, headers.get("date"), now)
    return None if seconds is None else _bounded(seconds)


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return None if math.isnan(number) else number


def _until(value: str | None, date: str | None, now: datetime | None) -> float | None:
    due = _date(value)
    if due is None:
        return None
    start = _date(date) or now or datetime.now(UTC)
    return (due - start).total_seconds()


def _date(value: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(value) if value else None
    except (ValueError, OverflowError):
        return None
    return found.replace(tzinfo=UTC) if found and found.tzinfo is None else found


def _bounded(seconds: float) -> float | None:
    if seconds < 0:
        return None
    return min(seconds, MAX_RETRY_AFTER_SECONDS)
