"""A journal's lines from a stream, in bounded memory. What a line says is `codec`'s matter."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from drengine.journal.codec import BATCH_BYTES, MAX_LINE_BYTES
from drengine.model.canonical import sha256_hex
from drengine.model.records import Head


def lines_in(content: bytes) -> list[bytes]:
    """Return the lines of a journal that was read whole, with their newlines."""
    return io.BytesIO(content).readlines()


def end_of(lines: Sequence[bytes]) -> Head | None:
    """Return the end of a chain of these lines, unchecked; None where there is no line."""
    return Head(len(lines) - 1, sha256_hex(lines[-1])) if lines else None


def split_lines(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a stream with their newlines.

    It never holds more than one long record; of a line longer than any it yields a part that is
    too long as well.
    """
    while block := stream.read(BATCH_BYTES):
        yield from io.BytesIO(block + stream.readline(MAX_LINE_BYTES + 1))
