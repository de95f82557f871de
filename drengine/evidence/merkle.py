"""Merkle trees as RFC 6962 has them: one root for many records, one short proof for one.

Pure. What a leaf holds of a record is the SHA-256 of its line, which the next record names
too. A leaf is hashed behind a zero byte, an inner node behind a one byte, so that neither can
stand for the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

_AT_ONCE: Final = 1024


def content_of(line: bytes) -> bytes:
    """Return what the leaf of a record holds: the 32 bytes of its line's SHA-256."""
    return hashlib.sha256(line).digest()


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf."""
    return hashlib.sha256(b"\x00" + data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """A tree that grows leaf by leaf, and of what it has taken in holds one hash per level only.

    It takes leaves in many at a time, which is faster than one by one.
    """

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._new: list[bytes] = []
        self._halves: list[bytes | None] = []  # of each level, the node that waits for another
        for leaf in leaves:
            self.add(leaf)

    def add(self, data: bytes) -> None:
        """Add the next leaf."""
        self._new.append(data)
        if len(self._new) == _AT_ONCE:
            self._take_in()

    def _take_in(self) -> None:
        sha256 = hashlib.sha256
        row = [sha256(b"\x00" + leaf).digest() for leaf in self._new]
        self._new.clear()
        level = 0
        while row:
            if level == len(self._halves):
                self._halves.append(None)
            if (half := self._halves[level]) is not None:
                row.insert(0, half)
            self._halves[level] = row.pop() if len(row) % 2 else None
            pairs = iter(row)
            row = [sha256(b"\x01" + left + next(pairs)).digest() for left in pairs]
            level += 1

    def root(self) -> str:
        """Return the root of the leaves so far as hex digits."""
        self._take_in()
        peaks = [half for half in self._halves if half is not None]
        if not peaks:
            return hashlib.sha256(b"").hexdigest()
        top = peaks[0]
        for peak in peaks[1:]:
            top = _node(peak, top)
        return top.hex()


def _split(size: int) -> int:
    return 1 << ((size - 1).bit_length() - 1)


class Proofs:
    """The audit paths of a whole tree; each inner node is computed once for all of them.

    Parameters:
        hashes: the leaf hashes, at least one.
    """

    def __init__(self, hashes: Sequence[bytes]) -> None:
        self._hashes = hashes
        self._roots: dict[tuple[int, int], bytes] = {}

    def of(self, index: int) -> list[str]:
        """Return the audit path of a leaf, from the leaf upwards."""
        path: list[str] = []
        begin, end = 0, len(self._hashes)
        while end - begin > 1:
            cut = begin + _split(end - begin)
            if index < cut:
                path.append(self._root(cut, end).hex())
                end = cut
            else:
                path.append(self._root(begin, cut).hex())
                begin = cut
        return path[::-1]

    def _root(self, begin: int, end: int) -> bytes:
        if end - begin == 1:
            return self._hashes[begin]
        if (begin, end) not in self._roots:
            cut = begin + _split(end - begin)
            self._roots[begin, end] = _node(self._root(begin, cut), self._root(cut, end))
        return self._roots[begin, end]


def root_from(data: bytes, index: int, size: int, path: Sequence[str]) -> str:
    """Return the root that a leaf and its audit path lead to (RFC 9162, 2.1.3.2).

    Raises:
        ValueError: the path is not one of a tree of that size.
    """
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} among {size}")
    here, last, top = index, size - 1, leaf_hash(data)
    for text in path:
        if last == 0:
            raise ValueError("the path is too long")
        other = bytes.fromhex(text)
        if here & 1 or here == last:
            top = _node(other, top)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            top = _node(top, other)
        here, last = here >> 1, last >> 1
    if last != 0:
        raise ValueError("the path is too short")
    return top.hex()
