"""Canonical JSON: the one way a value becomes bytes that are hashed.

Rules: sorted keys, no white space, UTF-8 without escapes beyond JSON's own, no
floats (durations are integer milliseconds), no NaN, keys are strings. Two equal
values give the same bytes on every machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NoReturn, TypeAlias

import msgspec

Json: TypeAlias = (
    "bool | int | str | list[Json] | tuple[Json, ...] | dict[str, Json] | Mapping[str, Json] | None"
)
JsonObject: TypeAlias = Mapping[str, Any]
"""A JSON object whose values are checked where it is written: `canonical` refuses anything else."""

MAX_DEPTH = 40
SCALARS = frozenset({type(None), bool, int, str})


def no_float(text: str) -> NoReturn:
    """Refuse a number with a fraction or an exponent, or one that is none; for readers of JSON.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"{text[:20]} is a number that canonical JSON has no form for")


_ENCODER = msgspec.json.Encoder(order="sorted")
encode, encode_lines = _ENCODER.encode, _ENCODER.encode_lines
"""They write what is known to be plain, the second one value a line; everything else goes
through `canonical`."""
_DECODE = msgspec.json.Decoder(float_hook=no_float).decode


def plain(value: object, depth: int = 0) -> Json:
    """Return `value` as dicts, lists and scalars, refusing what canonical JSON has no form for.

    Raises:
        ValueError: for floats, foreign types, non-string keys and nesting beyond `MAX_DEPTH`.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if type(value) in SCALARS:
        return value  # type: ignore[return-value]
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, (dict, Mapping)):
        out: dict[str, Json] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"key {key!r} is not a string")
            out[str.__str__(key)] = plain(item, depth + 1)
        return out
    if isinstance(value, (list, tuple)):
        return [plain(item, depth + 1) for item in value]
    raise ValueError(f"{type(value).__name__} has no canonical form")


def canonical(value: object) -> bytes:
    """Return the canonical JSON bytes of `value`, without a trailing newline.

    Raises:
        ValueError: see `plain`.
    """
    return encode(value if _is_plain(value, MAX_DEPTH) else plain(value))


def _is_plain(value: object, depth: int) -> bool:
    """Whether `plain` would return a value that is equal; most values need no copy."""
    kind = type(value)
    if kind in SCALARS:
        return True
    if not depth or (kind is not dict and kind is not list):
        return False
    if kind is dict:
        for key in value:  # type: ignore[attr-defined]
            if type(key) is not str:
                return False
        value = value.values()  # type: ignore[attr-defined]
    for item in value:  # type: ignore[attr-defined] # noqa: SIM110 - twice as fast as all()
        if type(item) not in SCALARS and not _is_plain(item, depth - 1):
            return False
    return True


def digest(value: object) -> str:
    """Return the SHA-256 of the canonical bytes of `value` as 64 lower-case hex digits."""
    return hashlib.sha256(canonical(value)).hexdigest()


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def parse_strict(text: str) -> Any:
    """Return the JSON value of `text`, in whatever form: no key twice, no float, no NaN.

    Raises:
        ValueError: says what is wrong, and where.
    """
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise ValueError("nested too deep") from None


def parse_canonical(data: bytes) -> dict[str, Any]:
    """Return the JSON object whose canonical bytes are exactly `data`.

    Raises:
        ValueError: says why it is not one.
    """
    if (quick := _parse_quickly(data)) is not None:
        return quick
    doc = parse_strict(data.decode("utf-8"))
    if canonical(doc) != data:
        raise ValueError("is not in canonical form")
    if not isinstance(doc, dict):
        raise ValueError("is not a JSON object")
    return doc


def _parse_quickly(data: bytes) -> dict[str, Any] | None:
    """Return what `parse_canonical` returns, or None where it has to look for itself.

    A library in native code reads and writes again; what comes out the same is canonical,
    but for the depth, which it does not limit.
    """
    try:
        doc = _DECODE(data)
        certain = type(doc) is dict and encode(doc) == data and is_shallow(data)
    except (ValueError, RecursionError):
        return None
    return doc if certain else None


def is_shallow(data: bytes) -> bool:
    """Whether a JSON text is certainly nested no deeper than `MAX_DEPTH` levels.

    Raises:
        ValueError, RecursionError: it has many brackets, and cannot be read.
    """
    # More often than not the brackets alone tell, those in its strings included.
    brackets = data.count(b"{") + data.count(b"[")
    return brackets <= MAX_DEPTH or _is_plain(_DECODE(data), MAX_DEPTH)


def parse_line(data: bytes) -> dict[str, Any]:
    """Return the JSON object of a file that is one canonical line, its newline included.

    Raises:
        ValueError: says why it is not one.
    """
    if not data.endswith(b"\n"):
        raise ValueError("does not end with a newline")
    return parse_canonical(data[:-1])


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"key {twice[:60]!r} stands twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_float=no_float, parse_constant=no_float)
