"""Can we reach a quorum today? Answered from a domain and a register, and nothing else.

Pure. A custodian counts when enrolled with the domain's certificate and with a proof of
possession, by the enrolled signing key, that is not too old. A proof of the register's
challenge is as old as the challenge; one dated after now counts for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from drengine.ceremony.register import Enrolment, Proof, Register

DAY_MS: Final = 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class Standing:
    """How one custodian of the domain stands.

    Attributes:
        word: `ready`, `overdue`, `never proved`, `not enrolled`, `contested` (two entries stand
            against each other) or `clock wrong` (the entry or newest proof is dated after now).
        days: age of the last proof that counts, None where there is none.
        challenged: whether somebody else drew the nonce of that proof.
    """

    x5t_256: str
    name: str
    word: str
    days: int | None
    challenged: bool
    holder: str
    location: str
    contact: str

    @property
    def counts(self) -> bool:
        """Whether this custodian counts towards a quorum today."""
        return self.word == "ready"

    def to_json(self) -> dict[str, Any]:
        """Return the standing as a JSON object."""
        return {
            "x5t_256": self.x5t_256,
            "name": self.name,
            "standing": self.word,
            "days_since_proof": self.days,
            "challenged_by_register": self.challenged,
            "holder": self.holder,
            "location": self.location,
            "contact": self.contact,
        }


@dataclass(frozen=True, slots=True)
class Readiness:
    """The answer, with how each custodian stands."""

    required: int
    custodians: tuple[Standing, ...]

    @property
    def ready(self) -> int:
        """How many custodians count."""
        return sum(one.counts for one in self.custodians)

    @property
    def reached(self) -> bool:
        """Whether a quorum can be reached."""
        return self.ready >= self.required

    @property
    def spare(self) -> int:
        """How many more may fail before it cannot."""
        return self.ready - self.required


def judge(
    required: int,
    custodians: Sequence[str],
    register: Register,
    *,
    now_ms: int,
    max_days: int,
) -> Readiness:
    """Return whether a domain's quorum can be reached.

    Parameters:
        custodians: the x5t#S256 of the domain's certificates.
        max_days: how old a proof may be.
    """
    standings = [_stand(x5t, register, now_ms=now_ms, max_days=max_days) for x5t in custodians]
    return Readiness(required, tuple(standings))


def _stand(x5t_256: str, register: Register, *, now_ms: int, max_days: int) -> Standing:
    line = register.line(x5t_256, now_ms)
    enrolment = line.current
    if enrolment is None:
        word = "contested" if line.against else "not enrolled"
        ahead = [one.name for one in register.enrolments if one.x5t_256 == x5t_256]
        if ahead and not line.against:
            word = "clock wrong"
        return Standing(x5t_256, line.names or "".join(ahead[:1]), word, None, False, "", "", "")
    proof = register.last_proof(enrolment, now_ms)
    days = None if proof is None else _age(register, proof, now_ms)
    held = (enrolment if proof is None else proof).holder
    kind = f"token {held.token_serial or held.token_label}" if held.kind == "pkcs11" else "PEM file"
    return Standing(
        x5t_256=x5t_256,
        name=enrolment.name,
        word=_word(enrolment, register, days, now_ms=now_ms, max_days=max_days),
        days=days,
        challenged=proof is not None and register.challenge_of(proof) is not None,
        holder=kind,
        location=enrolment.location,
        contact=enrolment.contact,
    )


def _age(register: Register, proof: Proof, now_ms: int) -> int:
    proved_ms = register.proved_ms(proof) or 0
    return max(0, (now_ms - proved_ms) // DAY_MS)


def _word(
    enrolment: Enrolment, register: Register, days: int | None, *, now_ms: int, max_days: int
) -> str:
    if days is not None and days <= max_days:
        return "ready"
    if any(register.is_proof_ahead(one, now_ms) for one in register.proofs_by(enrolment)):
        return "clock wrong"
    return "never proved" if days is None else "overdue"
