"""The line of a certificate's entries in the register: which signing key follows which.

Pure. Not here: reading the entries and verifying their signatures (`registry`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from drengine.ceremony.fields import comparable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from drengine.ceremony.register import Enrolment

CLOCK_LEEWAY_MS: Final = 5 * 60_000
"""How far two machines' clocks may be apart before it is said."""


@dataclass(frozen=True, slots=True)
class Line:
    """The entries of one certificate.

    Attributes:
        held: those that follow one another, the oldest first.
        against: those that bring another signing key and do not follow.
    """

    held: tuple[Enrolment, ...]
    against: tuple[Enrolment, ...]

    @property
    def current(self) -> Enrolment | None:
        """The entry that counts; none where the line is contested, or nobody is enrolled."""
        return self.held[-1] if self.held and not self.against else None

    @property
    def names(self) -> str:
        """The names that the entries give, for messages."""
        return " or ".join(dict.fromkeys(one.name for one in (*self.held[-1:], *self.against)))

    @property
    def files(self) -> str:
        """The names of the entries' files, for messages."""
        return ", ".join(one.file for one in (*self.held, *self.against))

    @property
    def renamed(self) -> tuple[tuple[Enrolment, Enrolment], ...]:
        """The entries in which a name changed, each with the one before it."""
        return tuple(
            (one, after)
            for one, after in pairwise(self.held)
            if comparable(one.name) != comparable(after.name)
        )

    def keys_at(self, at_ms: int) -> frozenset[bytes]:
        """Return the signing keys that counted at a time, as far as clocks can tell."""
        earlier = (
            one.key for one, after in pairwise(self.held) if after.at_ms > at_ms - CLOCK_LEEWAY_MS
        )
        return frozenset((*earlier, *(one.key for one in self.held[-1:])))


def line_of(entries: Iterable[Enrolment], *, at_ms: int) -> Line:
    """Return the line of one certificate's entries, as it stood at a time."""
    known = (one for one in entries if not is_ahead(one.at_ms, at_ms))
    held: list[Enrolment] = []
    against: list[Enrolment] = []
    for one in dict.fromkeys(sorted(known, key=lambda one: (one.at_ms, one.signature))):
        (held if not held or _follows(held[-1], one) else against).append(one)
    return Line(tuple(held), tuple(against))


def _follows(last: Enrolment, one: Enrolment) -> bool:
    """Nobody replaces a signing key who does not hold it."""
    return last.key in (one.key, one.replaced_key)


def is_ahead(at_ms: int, now_ms: int) -> bool:
    """Tell whether a time is after now, by more than clocks differ."""
    return at_ms > now_ms + CLOCK_LEEWAY_MS
