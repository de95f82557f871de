"""Strict reading of what comes from outside: base64url and JSON.

Not here: any meaning. The modules that know what a document is give the place
names and turn a refusal into the error of their own document.

Rules:
- base64url has no padding, no foreign character and one spelling only: bits that
  carry nothing must be zero, otherwise two texts would name the same bytes.
- Limits come before parsing. Repeated member names, floats, `NaN` and members that
  nobody asked for are refused, and every refusal is a `CeremonyError`.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

from drengine.errors import CeremonyError

_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]*\Z")
# A security domain with ten custodians and sixteen parts has 30 brackets.
_MAX_BRACKETS: Final = 128
# Every quote begins a match, one without an end too: so the time is linear in the length.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_DIGEST_BYTES: Final = 32


def encode_base64url(data: bytes) -> str:
    """Write bytes as base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64url(text: str, where: str) -> bytes:
    """Read base64url without padding, in its one canonical spelling.

    Raises:
        CeremonyError: names `where` the text stood.
    """
    if not _BASE64URL.match(text) or len(text) % 4 == 1:
        raise CeremonyError(f"{where} is not base64url without padding")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if encode_base64url(data) != text:
        raise CeremonyError(f"{where} is base64url with stray bits at its end")
    return data


def load_json(data: bytes, *, max_bytes: int, max_brackets: int = _MAX_BRACKETS) -> object:
    """Parse one JSON document after its size and nesting were checked.

    A UTF-8 byte-order mark is passed over: Windows tools add one when they save.

    Raises:
        CeremonyError: too large, too nested, not JSON, or with a repeated member.
    """
    if len(data) > max_bytes:
        raise CeremonyError(f"it has {len(data)} bytes; drengine reads at most {max_bytes}")
    if count_brackets(data) > max_brackets:
        raise CeremonyError(f"it has more than {max_brackets} nested objects and lists")
    try:
        return json.loads(
            data.decode("utf-8-sig"),
            object_pairs_hook=_unique_members,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
    except UnicodeDecodeError:
        raise CeremonyError("it is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise CeremonyError(
            f"it is not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        ) from None
    except ValueError:
        # An integer with thousands of digits is the only one left.
        raise CeremonyError("it holds a number of unreasonable size") from None


def count_brackets(data: bytes) -> int:
    """Return how many objects and lists a JSON text begins; what stands in its strings is text."""
    bare = _STRING.sub(b"", data)
    return bare.count(b"{") + bare.count(b"[")


def _unique_members(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise CeremonyError(f"the member {name[:64]!r} stands twice in one object")
        found[name] = value
    return found


def _refuse_number(text: str) -> NoReturn:
    raise CeremonyError(f"the number {text[:32]!r} is not an integer")


def members(value: object, names: Sequence[str], where: str) -> Mapping[str, object]:
    """Return an object that has exactly the given members.

    Raises:
        CeremonyError: not an object, a member missing, or one too many.
    """
    if not isinstance(value, dict):
        raise CeremonyError(f"{where} is not an object")
    for name in names:
        if name not in value:
            raise CeremonyError(f"{where} has no member {name!r}")
    extra = sorted(str(name)[:64] for name in value if name not in names)
    if extra:
        raise CeremonyError(f"{where} has the unknown member {extra[0]!r}")
    return value


def elements(value: object, where: str, *, least: int, most: int) -> Sequence[object]:
    """Return a list whose length lies in the given range."""
    if not isinstance(value, list):
        raise CeremonyError(f"{where} is not a list")
    if not least <= len(value) <= most:
        raise CeremonyError(f"{where} has {len(value)} elements; expected {least} to {most}")
    return value


def text(value: object, where: str) -> str:
    """Return a string."""
    if not isinstance(value, str):
        raise CeremonyError(f"{where} is not a string")
    return value


def integer(value: object, where: str) -> int:
    """Return an integer; `true` is none."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise CeremonyError(f"{where} is not an integer")
    return value


def literal(value: object, expected: str, where: str) -> None:
    """Require one certain string."""
    if value != expected:
        shown = repr(value[:64]) if isinstance(value, str) else "something else"
        raise CeremonyError(f"{where} is {shown}; drengine knows only {expected!r}")


def thumbprint(value: object, where: str) -> str:
    """Return an x5t#S256: base64url of a SHA-256, in its canonical spelling."""
    written = text(value, where)
    if len(decode_base64url(written, where)) != _DIGEST_BYTES:
        raise CeremonyError(f"{where} is not the base64url of a SHA-256")
    return written
