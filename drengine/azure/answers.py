"""Reading what a service answered: its error, its wish to be left alone, its JSON.

Pure functions. Text of a service is quoted in messages only after `redacted`, since
services do repeat what they were sent: also inside a URL that they have encoded once more,
as JSON, or for a web page.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from html.entities import html5
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from drengine.azure.endpoints import host_of

MAX_RETRY_AFTER_SECONDS: Final = 600.0
"""However long a service asks for, a wait is not longer than this before it is asked again."""

_MAX_QUOTE: Final = 500
_MASK: Final = "•••"
_MAX_CODE: Final = 100
_MAX_READ: Final = 20_000
"""So much of a text is looked at; far less of it is ever shown."""

_LEVELS: Final = 8
"""So many encodings within each other are looked through."""

_NAMES: Final = (
    "sig|signature|sas|token|secret|password|client_secret|assertion|account_?key|sharedaccesskey"
)
_SECRETS: Final = (
    re.compile(rf"(?i)((?<![A-Za-z])(?:{_NAMES})[\"']?\s*[=:]\s*[\"']?)[^\s&\"']+"),
    re.compile(r"(?i)(\bhttps?://)[^/\s]+(?=@)"),  # the password of a proxy
    re.compile(r"(?i)(\bbearer\s+)[A-Za-z0-9._~+/=-]+"),
    re.compile(r"(?i)(\bSharedKey(?:Lite)?\s+[^\s:]+:)\S+"),
    re.compile(r"()\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){0,4}"),
)
"""What is hidden is the rest of a match behind its first group."""

_ESCAPE: Final = re.compile(
    r"%([0-9A-Fa-f]{2})|\\{1,32}u00([0-9A-Fa-f]{2})|\\{1,32}x([0-9A-Fa-f]{2})|&#[xX]0*([0-9A-Fa-f]{1,2});"
    r"|&#0*([0-9]{1,3});|&([A-Za-z]{2,8});|\\{1,32}([\"'/&=])"
)
_DECIMAL, _NAMED, _SIGN = 5, 6, 7  # groups of it; the ones before are hexadecimal

Spans = list[tuple[int, int]]


def redacted(text: str) -> str:
    """Return `text` on one line, shortened, with everything masked that looks like a secret."""
    text = text[:_MAX_READ]
    hidden = [
        (spans[found.end(1)][0], spans[found.end() - 1][1])
        for plain, spans in _levels(text)
        for pattern in _SECRETS
        for found in pattern.finditer(plain)
    ]
    line = " ".join(_masked(text, hidden).split())
    return line if len(line) <= _MAX_QUOTE else f"{line[:_MAX_QUOTE]}…"


def code_text(value: object) -> str:
    """Return an error code or an id that a service gave: redacted, and of a code's length."""
    return redacted(str(value or ""))[:_MAX_CODE]


def place_text(value: object) -> str:
    """Return the URL of a place that a service named, without query, fragment and password."""
    try:
        parts = urlsplit(str(value or ""))
        place = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
    except ValueError:
        return ""
    return redacted(place.geturl())


def without(secrets: Sequence[str], text: str) -> str:
    """Return `text` with every secret masked, in whatever encoding it is quoted there.

    Parameters:
        secrets: a SAS each; its signature is looked for alone, too.
    """
    wanted = [
        _plain(part)
        for secret in secrets
        for part in (secret, *_SIGNATURE.findall(_plain(secret)))
        if part
    ]
    hidden = [
        (spans[start][0], spans[end - 1][1])
        for plain, spans in _levels(text)
        for part in wanted
        for start, end in _quotes(plain, part)
    ]
    return _masked(text, hidden)


_SIGNATURE: Final = re.compile(r"(?i)(?:^|[?&])sig=([^&]+)")
_SHORTEST_PART: Final = 12
"""A quote may be cut off; so many characters of a secret are one."""


def _quotes(text: str, secret: str) -> Iterator[tuple[int, int]]:
    """Find where a text quotes a secret, or the beginning of it."""
    head = secret[:_SHORTEST_PART]
    start = text.find(head)
    while start >= 0:
        end = start
        for said, meant in zip(text[start:], secret, strict=False):
            if said != meant:
                break
            end += 1
        yield start, end
        start = text.find(head, end)


def _plain(text: str) -> str:
    return list(_levels(text))[-1][0]


def _levels(text: str) -> Iterator[tuple[str, Spans]]:
    """Return a text, and what it is once decoded, twice decoded, and so on.

    With each comes where its characters stand in the text: for URLs, JSON, source and HTML.
    """
    spans = [(at, at + 1) for at in range(len(text))]
    yield text, spans
    for _ in range(_LEVELS):
        decoded, spans = _decoded(text, spans)
        if decoded == text:
            return
        text = decoded
        yield text, spans


def _decoded(text: str, spans: Spans) -> tuple[str, Spans]:
    signs: list[str] = []
    places: Spans = []
    at = 0
    for found in _ESCAPE.finditer(text):
        sign = _meant(found)
        if sign is None:
            continue
        start, end = found.span()
        signs += [text[at:start], sign]
        places += [*spans[at:start], (spans[start][0], spans[end - 1][1])]
        at = end
    return "".join([*signs, text[at:]]), [*places, *spans[at:]]


def _meant(escape: re.Match[str]) -> str | None:
    """Return the one character that an escape stands for, None where it is none."""
    said, kind = escape[escape.lastindex or 0], escape.lastindex
    if kind == _SIGN:
        return said
    if kind == _NAMED:
        sign = html5.get(f"{said};", "")
        return sign if len(sign) == 1 else None
    return chr(int(said, 10 if kind == _DECIMAL else 16))


def _masked(text: str, hidden: Sequence[tuple[int, int]]) -> str:
    shown, at = "", 0
    for start, end in sorted(hidden):
        if start >= at:
            shown += text[at:start] + _MASK
        at = max(at, end)
    return shown + text[at:]


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer of a service.

    Attributes:
        headers: names in lower case.
        url: of the request.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str = ""

    @property
    def request_id(self) -> str:
        """The service's id of the request."""
        return code_text(self.headers.get("x-ms-request-id"))

    @property
    def status_url(self) -> str:
        """Where the service tells how the request goes on; empty where it names no usable URL.

        A relative one is meant from the request's own.
        """
        named = self.headers.get("azure-asyncoperation") or self.headers.get("location") or ""
        return absolute_url(self.url, named)

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


def absolute_url(base: str, named: str) -> str:
    """Return the URL that `named` means in an answer to `base`; empty where it means none."""
    if not named:
        return ""
    try:
        found = urljoin(base, named.strip())
        host_of(found)
    except ValueError:
        return ""
    return found


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError("the body is nested too deeply to be read") from None


def is_list_page(body: bytes) -> bool:
    """Tell whether a body is a page of a listing: a list of objects, and no error beside it."""
    try:
        page = _parsed(body)
    except ValueError:
        return False
    value = page.get("value") if isinstance(page, dict) else None
    return (
        isinstance(value, list)
        and not page.get("error")
        and all(isinstance(item, dict) for item in value)
    )


def is_service_error(body: bytes, headers: Mapping[str, str]) -> bool:
    """Tell whether an answer is the service's own error, and not one of something in between.

    The service names a code, as JSON, XML or in a header. Where its answer has no body at all,
    the id that it gives to each request is its mark.
    """
    if not body:
        return bool(headers.get("x-ms-error-code") or headers.get("x-ms-request-id"))
    return bool(service_error(body, headers)[0])


def service_error(body: bytes, headers: Mapping[str, str]) -> tuple[str, str]:
    """Return code and text of the error that an answer carries; empty where it carries none."""
    try:
        found = _parsed(body)
    except ValueError:
        code = headers.get("x-ms-error-code") or _xml_text(body, "Code")
        return code_text(code), redacted(_xml_text(body, "Message"))
    error = found.get("error", found) if isinstance(found, dict) else None
    if not isinstance(error, dict):
        return "", redacted(str(error)) if error else ""
    return code_text(error.get("code")), redacted(str(error.get("message") or ""))


def _xml_text(body: bytes, tag: str) -> str:
    found = re.search(rf"<{tag}>(.{{1,2000}}?)</{tag}>".encode(), body, re.DOTALL)
    return found.group(1).decode("utf-8", "replace") if found else ""


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
