"""A journal's lines from a stream, in bounded memory. What a line says is `codec`'s matter."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

from drengine.journal.codec import BATCH_BYTES, MAX_LINE_BYTES


def split_lines(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a stream with their newlines.

    It never holds more than one long record; of a line longer than any it yields a part that is
    too long as well.
    """
    while block := stream.read(BATCH_BYTES):
        yield from io.BytesIO(block + stream.readline(MAX_LINE_BYTES + 1))
