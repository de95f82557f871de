"""Counting secrets in all of a process's memory; for processes that the tests start.

A needle crosses inverted, as hexadecimal: what looks for it would find its own input otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_NOT_READABLE = ("[vvar]", "[vsyscall]", "[vvar_vclock]")


def inverted(needles: Iterable[bytes]) -> str:
    """Return needles as the text that `count` takes."""
    return " ".join(bytes(255 - b for b in one).hex() for one in needles)


def count(words: str) -> list[int]:
    """Return how often each needle stands in this process's memory, its own copy included."""
    needles = [bytes(255 - b for b in bytes.fromhex(word)) for word in words.split()]
    copies = [0] * len(needles)
    own = Path("/proc/self")
    with (own / "maps").open() as maps, (own / "mem").open("rb", 0) as memory:
        for line in maps:
            span, mode, *_, name = [*line.rstrip().split(None, 5), ""][:6]
            if "r" not in mode or name in _NOT_READABLE:
                continue
            low, high = (int(end, 16) for end in span.split("-"))
            try:
                memory.seek(low)
                content = memory.read(high - low)
            except OSError:
                continue
            for number, needle in enumerate(needles):
                copies[number] += content.count(needle)
            del content
    return copies
