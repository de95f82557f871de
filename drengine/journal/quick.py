"""A line of a journal read in native code, where it has the usual form.

It only takes what the reader in `codec` would take too, and leaves all else, each refusal and
its words included, to that: None means "look for yourself". A property test holds the two
against each other.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from drengine.model.canonical import encode, is_shallow, no_float

ABSENT: Final = msgspec.UNSET
"""A `wall` that a line has not: the engine's clock was the wall clock."""


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What stands in a line: its keys, each of its type, none missing and none more."""

    actor: str
    at: str
    body: dict[str, Any]
    mono: int
    prev: str
    run: str
    seq: int
    type: str
    wall: str | msgspec.UnsetType = ABSENT


_DECODE = msgspec.json.Decoder(Line, float_hook=no_float).decode


def line_of(data: bytes) -> Line | None:
    """Return what stands in a canonical line with its newline; None where it is not certain."""
    try:
        found = _DECODE(data)
        certain = encode(found) + b"\n" == data and is_shallow(data)
    except (ValueError, RecursionError):
        return None
    return found if certain else None


def written(told: Line) -> tuple[bytes, Line | None]:
    """Return a line, and what stands in it: None where that is not certainly what was told.

    What the encoder takes and canonical JSON does not is not equal to what is read back.
    """
    try:
        line = encode(told) + b"\n"
        found = _DECODE(line)
        certain = found == told and is_shallow(line)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return b"", None
    return line, found if certain else None


def members_of(told: Line) -> dict[str, Any]:
    """Return the members of the object that a line is."""
    members = msgspec.structs.asdict(told)
    return {name: value for name, value in members.items() if value is not ABSENT}
