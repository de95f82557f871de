"""Lines of a journal read and written in native code, where they have the usual form.

It only takes what the reader in `codec` would take too, and leaves all else, each refusal and
its words included, to that: nothing means "look for yourself". A property test holds the two
against each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec

from drengine.model.canonical import encode, encode_lines, is_shallow, no_float
from drengine.model.records import RecordType

ABSENT: Final = msgspec.UNSET
"""A `wall` that a line has not: the engine's clock was the wall clock."""


MAX_MONO: Final = (1 << 63) - 1


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What stands in a line: its keys, each of its type, none missing and none more."""

    actor: Annotated[str, msgspec.Meta(min_length=1)]
    at: str
    body: dict[str, Any]
    mono: Annotated[int, msgspec.Meta(ge=0, le=MAX_MONO)]
    prev: str
    run: str
    seq: int
    type: RecordType
    wall: str | msgspec.UnsetType = ABSENT


_DECODER: Final = msgspec.json.Decoder(Line, float_hook=no_float)


def lines_of(batch: Sequence[bytes]) -> list[Line]:
    """Return what stands in canonical lines, each with its newline; nothing if one may be none.

    All are read and written again at once, which is faster than one after the other.
    """
    data = b"".join(batch)
    try:
        found = _DECODER.decode_lines(data)
        # As many newlines as lines, one behind each: none hides another, or a part of one.
        certain = (
            encode_lines(found) == data
            and len(found) == len(batch) == data.count(b"\n")
            and all(line.endswith(b"\n") and is_shallow(line) for line in batch)
        )
    except (ValueError, RecursionError):
        return []
    return found if certain else []


def written(told: Line) -> tuple[bytes, Line | None]:
    """Return a line, and what stands in it: None where that is not certainly what was told.

    What the encoder takes and canonical JSON does not is not equal to what is read back.
    """
    try:
        line = encode(told) + b"\n"
        found = _DECODER.decode(line)
        certain = found == told and is_shallow(line)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return b"", None
    return line, found if certain else None


def members_of(told: Line) -> dict[str, Any]:
    """Return the members of the object that a line is."""
    members = msgspec.structs.asdict(told)
    return {name: value for name, value in members.items() if value is not ABSENT}
