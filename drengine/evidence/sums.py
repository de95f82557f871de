"""SHA256SUMS: the list of a folder's files that `sha256sum --check` reads.

Pure. Only names are taken that mean the same everywhere: no `..`, no backslash, no
control character, nothing that two file systems could write differently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

SUMS: Final = "SHA256SUMS"
MAX_SUMS_BYTES: Final = 32 << 20
"""As long as the list of as many files as are verified, with the longest names, can be."""

_PART: Final = r"[A-Za-z0-9_~][A-Za-z0-9._~-]*"
_NAME: Final = re.compile(rf"{_PART}(?:/{_PART})*", re.ASCII)
_LINE: Final = re.compile(r"([0-9a-f]{64})  ([^\n\r\\]+)", re.ASCII)
_MAX_NAME: Final = 240


def is_safe_name(name: str) -> bool:
    """Whether `name` is a relative path that means the same file everywhere."""
    return len(name) <= _MAX_NAME and _NAME.fullmatch(name) is not None


def write_sums(digests: Mapping[str, str]) -> bytes:
    """Return the list for name -> SHA-256, in order of names."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode("ascii")


def read_sums(data: bytes) -> dict[str, str]:
    """Return name -> SHA-256.

    Raises:
        ValueError: the list is not exactly in the form that `write_sums` gives.
    """
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        raise ValueError("it has bytes that are not ASCII") from None
    found: dict[str, str] = {}
    lower: set[str] = set()
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        match = _LINE.fullmatch(line)
        if match is None or not is_safe_name(match[2]) or match[2] == SUMS:
            raise ValueError(f"line {number} is not `<sha256>  <name>` with a plain name")
        if match[2].lower() in lower:
            raise ValueError(f"line {number} names {match[2]!r} a second time")
        lower.add(match[2].lower())
        found[match[2]] = match[1]
    if write_sums(found) != data:
        raise ValueError("its lines are not in order of names, or its end is not one newline")
    return found
