"""Shamir's secret sharing over GF(257), as Managed HSM lays it out.

Every byte of the master key is the constant term of its own polynomial of degree
M-1; a share is the value of all of them at one x. A value can be 256, so a word of a
share has nine bits for the value and seven for x: `(x << 9) | v`, little endian.

Not here: how shares travel, and what says that a secret is right; that is a `check`
which callers pass in.

Rules:
- x is 1..127 and the same in every word, v is at most 256.
- Two shares with one x never stand in one quorum: they would divide by zero.
- A surplus share must lie on the curve. With a `check`, all quorums are tried, so
  that a wrong share gets a name whenever enough right ones are there, also one that
  took an honest custodian's number.
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
        QuorumError: too few shares, or too few different numbers among them.
    """
    _require_numbers(shares, required)
    for quorum in combinations(shares, required):
        if len({share.x for share in quorum}) < required:
            continue
        secret = _secret_of(quorum)
        if secret is not None and check(secret):
            wrong = (s.holder for s in shares if _values_at(quorum, s.x) != s.values)
            return Recovered(secret, tuple(wrong))
    return None


def same_numbers(shares: Sequence[Share]) -> list[tuple[Share, ...]]:
    """Return the shares that have a number in common, by number."""
    numbers = sorted({share.x for share in shares})
    found = (tuple(share for share in shares if share.x == number) for number in numbers)
    return [group for group in found if len(group) > 1]


def _require_quorum(shares: Sequence[Share], required: int) -> None:
    _require_count(shares, required)
    if same := same_numbers(shares):
        raise _same_share(same[0])


def _require_numbers(shares: Sequence[Share], required: int) -> None:
    _require_count(shares, required)
    if len({share.x for share in shares}) < required:
        raise _same_share(same_numbers(shares)[0])


def _require_count(shares: Sequence[Share], required: int) -> None:
    if len(shares) < required:
        raise QuorumError(f"{len(shares)} shares were given, {required} are needed")
    for share in shares:
        if not 0 < share.x <= _MAX_X:
            raise ShareError(f"{share.holder}: the share number {share.x} is not 1..{_MAX_X}")


def _same_share(group: Sequence[Share]) -> QuorumError:
    return QuorumError(
        f"{' and '.join(share.holder for share in group)} hold the same share "
        f"(number {group[0].x}); a quorum needs different ones",
        hint="One of them has a share that is not theirs, and with so few nobody can tell who: "
        "with one more custodian it can be told.",
    )


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
