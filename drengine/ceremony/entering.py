"""What the register would not count is refused before it is written, or better, begun.

Pure. Not here: what counts (`register`, `succession`), and files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drengine.ceremony.register import (
    Enrolment,
    Proof,
    Register,
    contested,
    parse_challenge,
)
from drengine.ceremony.succession import is_ahead
from drengine.errors import CeremonyError
from drengine.model.times import utc_seconds

if TYPE_CHECKING:
    from drengine.ceremony.succession import Line


def time_for(register: Register, now_ms: int) -> int:
    """Return now, or a little later where an entry that counts was written by a faster clock."""
    counting = [one.at_ms for one in register.enrolments if not is_ahead(one.at_ms, now_ms)]
    return max([now_ms, *(at_ms + 1 for at_ms in counting)])


def require_open(register: Register, x5t_256: str, now_ms: int, *, another: bool) -> None:
    """Check that a certificate may be entered, before any key is made or opened.

    Parameters:
        another: the entry brings a new signing key, without the one before.

    Raises:
        CeremonyError: it is contested, or enrolled with a signing key that is not given.
    """
    current = _uncontested(register, x5t_256, now_ms, "enrolling").current
    if current is not None and another:
        raise _replaced_by_nobody(current)


def require_replaceable(register: Register, x5t_256: str, key: bytes, now_ms: int) -> None:
    """Check that a signing key may consent to another one, before that one is made.

    Raises:
        CeremonyError: the certificate is contested, not enrolled, or with another signing key.
    """
    current = _uncontested(register, x5t_256, now_ms, "enrolling").current
    if current is None:
        raise _nothing_replaced(x5t_256)
    if current.key != key:
        raise _replaced_by_nobody(current)


def require_following(register: Register, enrolment: Enrolment) -> None:
    """Check that an entry follows what stands in the register.

    Raises:
        CeremonyError: it does not; says what is enrolled.
    """
    line = _uncontested(register, enrolment.x5t_256, enrolment.at_ms, "enrolling")
    if line.current is None:
        if enrolment.replaced_key:
            raise _nothing_replaced(enrolment.x5t_256)
    elif line.current.key not in (enrolment.key, enrolment.replaced_key):
        raise _replaced_by_nobody(line.current)


def _uncontested(register: Register, x5t_256: str, at_ms: int, doing: str) -> Line:
    line = register.line(x5t_256, at_ms)
    if line.against:
        raise CeremonyError(f"{doing}: {contested(x5t_256, line)}; nothing was written")
    return line


def _nothing_replaced(x5t_256: str) -> CeremonyError:
    return CeremonyError(
        f"enrolling: {x5t_256} is not enrolled in this register, so no signing key is replaced; "
        "nothing was written",
        hint="Leave --old-signing-key out, or give the right --register.",
    )


def _replaced_by_nobody(current: Enrolment) -> CeremonyError:
    return CeremonyError(
        f"enrolling: {current.name} ({current.x5t_256}) is enrolled with another signing key since "
        f"{utc_seconds(current.at_ms)}, and that key has not signed for this one; nothing was "
        "written",
        hint="Give it with --old-signing-key. Where it is lost, the register's keeper makes sure "
        f"that it is {current.name} who asks, takes {current.file} and this certificate's earlier "
        "entries out of the register, notes why, and you enrol anew.",
    )


def require_enrolled(register: Register, x5t_256: str, now_ms: int) -> Enrolment:
    """Return the entry of a certificate that counts.

    Raises:
        CeremonyError: there is none, or two stand against each other.
    """
    current = _uncontested(register, x5t_256, now_ms, "checking a key").current
    if current is None:
        raise CeremonyError(
            f"checking a key: the certificate {x5t_256} is not enrolled in this register, so a "
            "proof would count for nothing; nothing was written",
            hint="Enrol with 'drengine ceremony enroll', or give the right key or --register.",
        )
    return current


def require_counting(register: Register, proof: Proof, now_ms: int) -> None:
    """Check that a proof would count.

    Raises:
        CeremonyError: its certificate is not enrolled, or with another signing key.
    """
    enrolled = require_enrolled(register, proof.x5t_256, now_ms)
    if proof.key != enrolled.key:
        raise CeremonyError(
            f"checking a key: {enrolled.name} ({enrolled.x5t_256}) is enrolled with another "
            "signing key than this one, so the proof would count for nothing; nothing was written",
            hint="Give the enrolled key with --signing-key, or enrol this one: 'drengine ceremony "
            "enroll … --signing-key NEW --old-signing-key OLD'.",
        )


def require_asked(register: Register, challenge: bytes) -> None:
    """Check that a challenge is the register's own.

    Raises:
        InputFileError: it is not a challenge.
        CeremonyError: it is not in the register.
    """
    asked = parse_challenge(challenge)
    known = {(one.commit, one.x5t_256) for one in register.challenges}
    if (asked.commit, asked.x5t_256) not in known:
        raise CeremonyError(
            "checking a key: the challenge is not in this register, so its proof would count for "
            "nothing; nothing was opened",
            hint="Give the register in which 'drengine ceremony challenge' wrote it.",
        )
