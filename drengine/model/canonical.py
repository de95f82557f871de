"""Canonical JSON: the one way a value becomes bytes that are hashed.

Rules: sorted keys, no white space, UTF-8 without escapes beyond JSON's own, no
floats (durations are integer milliseconds), no NaN, keys are strings. Two equal
values give the same bytes on every machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeAlias

import orjson

Json: TypeAlias = (
    "bool | int | str | list[Json] | tuple[Json, ...] | dict[str, Json] | Mapping[str, Json] | None"
)
JsonObject: TypeAlias = Mapping[str, Any]
"""A JSON object whose values are checked where it is written: `canonical` refuses anything else."""

MAX_DEPTH = 40
SCALARS = frozenset({type(None), bool, int, str})
_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


def plain(value: object, depth: int = 0) -> Json:
    """Return `value` as dicts, lists and scalars, refusing what canonical JSON has no form for.

    Raises:
        ValueError: for floats, foreign types, non-string keys and nesting beyond `MAX_DEPTH`.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if type(value) in SCALARS or isinstance(value, (int, str)):
        return value  # type: ignore[return-value]
    if isinstance(value, (dict, Mapping)):
        out: dict[str, Json] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"key {key!r} is not a string")
            out[str(key)] = plain(item, depth + 1)
        return out
    if isinstance(value, (list, tuple)):
        return [plain(item, depth + 1) for item in value]
    raise ValueError(f"{type(value).__name__} has no canonical form")


def canonical(value: object) -> bytes:
    """Return the canonical JSON bytes of `value`, without a trailing newline.

    Raises:
        ValueError: see `plain`.
    """
    checked = plain(value)
    try:
        return orjson.dumps(checked, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        # It stops at whole numbers beyond 64 bits, which have a form, and at text that is
        # no Unicode, which has none.
        return _ENCODER.encode(checked).encode("utf-8", "strict")


def digest(value: object) -> str:
    """Return the SHA-256 of the canonical bytes of `value` as 64 lower-case hex digits."""
    return hashlib.sha256(canonical(value)).hexdigest()


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()
