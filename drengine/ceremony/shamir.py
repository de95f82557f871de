"""Shamir's secret sharing over GF(257), as Managed HSM lays it out.

Every byte of the master key is the constant term of its own polynomial of degree
M-1; a share is the value of all of them at one x. A value can be 256, so a word of a
share has nine bits for the value and seven for x: `(x << 9) | v`, little endian.

Not here: how shares travel, and what says that a secret is right; that is a `check`
which callers pass in.

Rules:
- x is 1..127 and the same in every word, v is at most 256.
- Two shares with one x are refused: they would divide by zero.
- A surplus share must lie on the curve. With a `check`, all quorums are tried, so
  that a wrong share gets a name whenever enough right ones are there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Final

from drengine.errors import QuorumError, ShareError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PRIME: Final = 257
SECRET_BYTES: Final = 32
_VALUE_BITS: Final = 9
_VALUE_MASK: Final = (1 << _VALUE_BITS) - 1
_MAX_X: Final = 127


@dataclass(frozen=True, slots=True)
class Share:
    """One custodian's points: one x, one value per byte of the secret.

    `holder` says whose it is, for messages; `values` never appear in a repr.
    """

    holder: str
    x: int
    values: tuple[int, ...] = field(repr=False)

    @classmethod
    def from_bytes(cls, data: bytes, holder: str) -> Share:
        """Read a share from its little-endian words.

        Raises:
            ShareError: a wrong length, more than one x, or a value outside the field.
        """
        if len(data) != 2 * SECRET_BYTES:
            raise ShareError(f"{holder}: the share has {len(data)} bytes, not {2 * SECRET_BYTES}")
        words = [int.from_bytes(data[at : at + 2], "little") for at in range(0, len(data), 2)]
        numbers = {word >> _VALUE_BITS for word in words}
        values = tuple(word & _VALUE_MASK for word in words)
        if len(numbers) != 1 or max(values) >= PRIME:
            raise ShareError(f"{holder}: what the key opened is not a share of a security domain")
        number = numbers.pop()
        if number == 0:
            raise ShareError(f"{holder}: the share has the number 0, which no custodian has")
        return cls(holder, number, values)

    def to_bytes(self) -> bytes:
        """Return the share as little-endian words."""
        words = ((self.x << _VALUE_BITS) | value for value in self.values)
        return b"".join(word.to_bytes(2, "little") for word in words)


@dataclass(frozen=True, slots=True)
class Recovered:
    """A secret that the check accepted, and the holders whose shares are not of it."""

    secret: bytes = field(repr=False)
    wrong_holders: tuple[str, ...]


def combine(shares: Sequence[Share], required: int) -> bytes:
    """Interpolate the secret and hold every surplus share against the curve.

    Raises:
        QuorumError: too few shares, or two with one number.
        ShareError: the shares do not belong together.
    """
    _require_quorum(shares, required)
    quorum, surplus = shares[:required], shares[required:]
    if any(_values_at(quorum, share.x) != share.values for share in surplus):
        raise ShareError(f"the {len(shares)} shares do not lie on one curve: one of them is wrong")
    secret = _secret_of(quorum)
    if secret is None:
        raise ShareError("the shares do not belong together: they give no bytes")
    return secret


def recover(
    shares: Sequence[Share], required: int, check: Callable[[bytes], bool]
) -> Recovered | None:
    """Find the secret that `check` accepts, trying every quorum among the shares.

    At most C(10, 5) = 252 quorums exist. Returns None when no quorum gives a secret
    that the check accepts: then nothing can be said about whose share is wrong.

    Raises:
        QuorumError: too few shares, or two with one number.
    """
    _require_quorum(shares, required)
    for quorum in combinations(shares, required):
        secret = _secret_of(quorum)
        if secret is not None and check(secret):
            wrong = (s.holder for s in shares if _values_at(quorum, s.x) != s.values)
            return Recovered(secret, tuple(wrong))
    return None


def _require_quorum(shares: Sequence[Share], required: int) -> None:
    if len(shares) < required:
        raise QuorumError(f"{len(shares)} shares were given, {required} are needed")
    holder_of: dict[int, str] = {}
    for share in shares:
        if not 0 < share.x <= _MAX_X:
            raise ShareError(f"{share.holder}: the share number {share.x} is not 1..{_MAX_X}")
        if share.x in holder_of:
            raise QuorumError(
                f"{holder_of[share.x]} and {share.holder} hold the same share "
                f"(number {share.x}); a quorum needs different ones"
            )
        holder_of[share.x] = share.holder


def _secret_of(quorum: Sequence[Share]) -> bytes | None:
    values = _values_at(quorum, 0)
    return None if max(values) == PRIME - 1 else bytes(values)


def _values_at(quorum: Sequence[Share], x: int) -> tuple[int, ...]:
    """Evaluate the polynomials through `quorum` at x (Lagrange)."""
    factors = []
    for share in quorum:
        factor = 1
        for other in quorum:
            if other.x != share.x:
                factor = factor * (x - other.x) * pow(share.x - other.x, -1, PRIME) % PRIME
        factors.append(factor)
    columns = zip(*(share.values for share in quorum), strict=True)
    return tuple(
        sum(factor * value for factor, value in zip(factors, column, strict=True)) % PRIME
        for column in columns
    )
