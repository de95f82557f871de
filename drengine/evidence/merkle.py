"""Merkle trees as RFC 6962 has them: one root for many records, one short proof for one.

Pure. What a leaf holds of a record is the SHA-256 of its line, which the next record names
too. A leaf is hashed behind a zero byte, an inner node behind a one byte, so that neither can
stand for the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence


def content_of(line: bytes) -> bytes:
    """Return what the leaf of a record holds: the 32 bytes of its line's SHA-256."""
    return hashlib.sha256(line).digest()


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf."""
    return hashlib.sha256(b"\x00" + data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """A tree that grows leaf by leaf and holds one hash per level only."""

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._peaks: list[bytes] = []
        self._count = 0
        for leaf in leaves:
            self.add(leaf)

    def add(self, data: bytes) -> None:
        """Add the next leaf."""
        top = leaf_hash(data)
        # Each bit of the count is a full subtree; those that the leaf completes are joined.
        full, peaks = self._count, self._peaks
        while full & 1:
            top = _node(peaks.pop(), top)
            full >>= 1
        peaks.append(top)
        self._count += 1

    def root(self) -> str:
        """Return the root of the leaves so far as hex digits."""
        if not self._peaks:
            return hashlib.sha256(b"").hexdigest()
        top = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
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
