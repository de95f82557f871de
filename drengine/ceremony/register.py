"""The custodian register: who holds what, where, and when they last proved it.

A folder of small signed documents: one enrolment a custodian, and proofs of possession.

Not here: making keys (`possession`), and counting quorums (`readiness`).

Rules:
- An enrolment and a proof are signed by the custodian's signing key; a later proof is by
  the enrolled key or does not count.
- A certificate's first entry begins its line. Another signing key follows only with the
  consent of the one before, signed. An entry that does not follow stands against the line:
  dates are what the writer says, so nobody can tell which is genuine, and neither counts.
- A proof of a challenge of the register's is as old as the challenge.
- What is dated after now does not count, and is told.
- Nothing in the register is secret.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from drengine.ceremony.contribution import HOLDER_NAMES, HolderFacts
from drengine.ceremony.fields import Fields, read_canonical
from drengine.ceremony.strict import encode_base64url
from drengine.ceremony.succession import Line, is_ahead, line_of
from drengine.errors import CeremonyError, InputFileError
from drengine.model.canonical import canonical, sha256_hex
from drengine.model.times import utc_seconds

ENROLMENT_TYPE: Final = "drengine/ceremony-enrolment/v2"
_EARLIER_TYPE: Final = b'"type":"drengine/ceremony-enrolment/v1"'
_CONSENT_TYPE: Final = "drengine/ceremony-enrolment-consent/v1"
PROOF_TYPE: Final = "drengine/ceremony-proof/v1"
MAX_DOCUMENT_BYTES: Final = 16 * 1024
NONCE_BYTES: Final = 32
ACKNOWLEDGEMENT: Final = (
    "I hold a key of a security domain. I keep it and its passphrase or PIN to myself, use it "
    "only in a ceremony whose request code I have compared, and report its loss at once."
)
_CERTIFICATE_SIZES: Final = range(200, 8192)
_ENROLMENT: Final = (
    "acknowledgement",
    "at_ms",
    "certificate",
    "consent",
    "contact",
    "holder",
    "key",
    "location",
    "name",
    "replaced_key",
    "signature",
    "x5t_256",
)
CHALLENGE_TYPE: Final = "drengine/ceremony-challenge/v1"
_PROOF: Final = ("at_ms", "challenger", "holder", "key", "nonce", "signature", "x5t_256")
_CHALLENGERS: Final = ("self", "register")


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A custodian's entry; `certificate` is DER, `key` the public Ed25519 signing key.

    Attributes:
        replaced_key: the signing key enrolled before, where this entry brings another one.
        consent: that key's signature over this entry.
        file: the document's name in the register, for messages; not a part of it.
    """

    name: str
    x5t_256: str
    certificate: bytes
    holder: HolderFacts
    location: str
    contact: str
    key: bytes
    at_ms: int
    replaced_key: bytes = b""
    consent: bytes = b""
    signature: bytes = b""
    file: str = field(default="", compare=False)

    def signed_bytes(self) -> bytes:
        """Return what the signature covers: all but itself."""
        return _covered(self.to_json())

    def consent_bytes(self) -> bytes:
        """Return what the consent covers: all but the two signatures."""
        document = {**self.to_json(), "consent": "", "signature": ""}
        return _CONSENT_TYPE.encode() + b"\n" + canonical(document)

    def to_json(self) -> dict[str, Any]:
        """Return the entry as a JSON object."""
        return {
            "type": ENROLMENT_TYPE,
            "name": self.name,
            "x5t_256": self.x5t_256,
            "certificate": encode_base64url(self.certificate),
            "holder": self.holder.to_json(),
            "location": self.location,
            "contact": self.contact,
            "key": encode_base64url(self.key),
            "acknowledgement": ACKNOWLEDGEMENT,
            "at_ms": self.at_ms,
            "replaced_key": encode_base64url(self.replaced_key),
            "consent": encode_base64url(self.consent),
            "signature": encode_base64url(self.signature),
        }

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return canonical(self.to_json())


@dataclass(frozen=True, slots=True)
class Proof:
    """A custodian opened a challenge: they hold the key, and nothing else was opened.

    Attributes:
        nonce: what stood in the challenge, and only the key could show.
        challenger: `self` where the custodian's own machine drew the nonce, `register` where
            somebody else did.
    """

    x5t_256: str
    nonce: bytes
    challenger: str
    holder: HolderFacts
    key: bytes
    at_ms: int
    signature: bytes = b""
    file: str = field(default="", compare=False)

    def signed_bytes(self) -> bytes:
        """Return what the signature covers: all but itself."""
        return _covered(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return the proof as a JSON object."""
        return {
            "type": PROOF_TYPE,
            "x5t_256": self.x5t_256,
            "nonce": encode_base64url(self.nonce),
            "challenger": self.challenger,
            "holder": self.holder.to_json(),
            "key": encode_base64url(self.key),
            "at_ms": self.at_ms,
            "signature": encode_base64url(self.signature),
        }

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return canonical(self.to_json())


@dataclass(frozen=True, slots=True)
class Challenge:
    """A nonce sealed to one custodian's certificate, with its digest in the open."""

    x5t_256: str
    sealed: str
    commit: str
    at_ms: int
    file: str = field(default="", compare=False)

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return canonical(
            {
                "type": CHALLENGE_TYPE,
                "x5t_256": self.x5t_256,
                "sealed": self.sealed,
                "commit": self.commit,
                "at_ms": self.at_ms,
            }
        )


def parse_challenge(data: bytes) -> Challenge:
    """Read a challenge.

    Raises:
        InputFileError: not a challenge; says what is wrong with it.
    """
    try:
        names = ("at_ms", "commit", "sealed", "x5t_256")
        found = read_canonical(data, CHALLENGE_TYPE, names, max_bytes=MAX_DOCUMENT_BYTES)
        return Challenge(
            found.thumbprint("x5t_256"),
            found.ascii("sealed"),
            found.digest("commit"),
            found.time("at_ms"),
        )
    except CeremonyError as error:
        raise InputFileError(f"reading a challenge: {error.message}") from None


def _covered(document: dict[str, Any]) -> bytes:
    kind = str(document["type"])
    return kind.encode() + b"\n" + canonical({**document, "signature": ""})


def parse_enrolment(data: bytes) -> Enrolment:
    """Read an enrolment; its signature is not verified yet.

    Raises:
        InputFileError: not an enrolment; says what is wrong with it.
    """
    if _EARLIER_TYPE in data:
        raise InputFileError(
            "reading an enrolment: it is in the form of an earlier drengine (v1), which knew no "
            "consent of the signing key before",
            hint="Move this file out of the register; its custodian enrols anew with 'drengine "
            "ceremony enroll'.",
        )
    try:
        found = read_canonical(data, ENROLMENT_TYPE, _ENROLMENT, max_bytes=MAX_DOCUMENT_BYTES)
        found.same("acknowledgement", ACKNOWLEDGEMENT)
        return Enrolment(
            name=found.text("name"),
            x5t_256=found.thumbprint("x5t_256"),
            certificate=found.binary("certificate", sizes=_CERTIFICATE_SIZES),
            holder=_holder(found),
            location=found.text("location"),
            contact=found.text("contact"),
            key=found.binary("key", sizes=(32,)),
            at_ms=found.time("at_ms"),
            replaced_key=found.binary("replaced_key", sizes=(0, 32)),
            consent=found.binary("consent", sizes=(0, 64)),
            signature=found.binary("signature", sizes=(64,)),
        )
    except CeremonyError as error:
        raise InputFileError(f"reading an enrolment: {error.message}") from None


def parse_proof(data: bytes) -> Proof:
    """Read a proof of possession; its signature is not verified yet.

    Raises:
        InputFileError: not a proof; says what is wrong with it.
    """
    try:
        found = read_canonical(data, PROOF_TYPE, _PROOF, max_bytes=MAX_DOCUMENT_BYTES)
        return Proof(
            x5t_256=found.thumbprint("x5t_256"),
            nonce=found.binary("nonce", sizes=(NONCE_BYTES,)),
            challenger=found.choice("challenger", _CHALLENGERS),
            holder=_holder(found),
            key=found.binary("key", sizes=(32,)),
            at_ms=found.time("at_ms"),
            signature=found.binary("signature", sizes=(64,)),
        )
    except CeremonyError as error:
        raise InputFileError(f"reading a proof of possession: {error.message}") from None


def _holder(found: Fields) -> HolderFacts:
    return HolderFacts.read(found.inner("holder", HOLDER_NAMES))


@dataclass(frozen=True, slots=True)
class Register:
    """Everything in a register whose signatures verify; what of it counts depends on the time."""

    enrolments: tuple[Enrolment, ...] = ()
    proofs: tuple[Proof, ...] = ()
    challenges: tuple[Challenge, ...] = ()

    def line(self, x5t_256: str, at_ms: int) -> Line:
        """Return a certificate's entries as they followed one another up to a time."""
        return line_of((one for one in self.enrolments if one.x5t_256 == x5t_256), at_ms=at_ms)

    def of(self, x5t_256: str, at_ms: int) -> Enrolment | None:
        """Return the entry of a certificate that counts at a time; None where none does."""
        return self.line(x5t_256, at_ms).current

    def challenge_of(self, proof: Proof) -> Challenge | None:
        """Return the register's challenge that a proof answers: the first with its nonce."""
        commit = sha256_hex(proof.nonce)
        found = [
            one
            for one in self.challenges
            if (one.commit, one.x5t_256) == (commit, proof.x5t_256)
            and proof.challenger == "register"
        ]
        return min(found, key=lambda one: one.at_ms, default=None)

    def proved_ms(self, proof: Proof) -> int | None:
        """Return when a proof was fresh: when somebody else drew its nonce, else by its own word.

        None where it claims a challenge that is not in the register for this certificate.
        """
        if proof.challenger != "register":
            return proof.at_ms
        challenge = self.challenge_of(proof)
        return None if challenge is None else challenge.at_ms

    def is_proof_ahead(self, proof: Proof, now_ms: int) -> bool:
        """Tell whether a proof, or the challenge that it answers, is dated after now."""
        return is_ahead(max(proof.at_ms, self.proved_ms(proof) or 0), now_ms)

    def proofs_by(self, enrolment: Enrolment) -> list[Proof]:
        """Return the proofs that an enrolment's own signing key signed."""
        wanted = (enrolment.x5t_256, enrolment.key)
        return [one for one in self.proofs if (one.x5t_256, one.key) == wanted]

    def last_proof(self, enrolment: Enrolment, now_ms: int) -> Proof | None:
        """Return the newest proof by an enrolment's own signing key that counts."""
        found = [
            one
            for one in self.proofs_by(enrolment)
            if self.proved_ms(one) is not None and not self.is_proof_ahead(one, now_ms)
        ]
        return max(found, key=lambda one: self.proved_ms(one) or 0, default=None)

    def remarks(self, now_ms: int) -> tuple[str, ...]:
        """Say what in the register does not count, and why, and who has another name now."""
        dated: tuple[Enrolment | Proof | Challenge, ...]
        dated = (*self.enrolments, *self.proofs, *self.challenges)
        ahead = [
            f"{one.file} is dated {utc_seconds(one.at_ms)}, after this machine's clock: it does "
            "not count. Where this clock is right, delete it: on that day it would"
            for one in dated
            if is_ahead(one.at_ms, now_ms)
        ]
        unasked = [
            f"{one.file} answers a challenge that is not in the register for {one.x5t_256}: it "
            "does not count"
            for one in self.proofs
            if self.proved_ms(one) is None
        ]
        return (*self._contested(now_ms), *self._renamed(now_ms), *ahead, *unasked)

    def _lines(self, now_ms: int) -> Iterator[tuple[str, Line]]:
        for x5t_256 in dict.fromkeys(one.x5t_256 for one in self.enrolments):
            yield x5t_256, self.line(x5t_256, now_ms)

    def _contested(self, now_ms: int) -> Iterator[str]:
        for x5t_256, line in self._lines(now_ms):
            if line.against:
                yield contested(x5t_256, line)

    def _renamed(self, now_ms: int) -> Iterator[str]:
        for x5t_256, line in self._lines(now_ms):
            for one, after in line.renamed:
                yield (
                    f"{x5t_256} is enrolled for {after.name!r} ({after.file}), before for "
                    f"{one.name!r} ({one.file}): the same signing key, or one that it signed for, "
                    "says so. Ask them whether that is right"
                )


def contested(x5t_256: str, line: Line) -> str:
    """Say that two entries stand against each other, and what ends it."""
    return (
        f"{x5t_256} is enrolled with two signing keys, and the first has not signed for the "
        f"second ({line.names}: {line.files}). Neither counts until the register's keeper has "
        "asked the custodian and deleted the wrong file"
    )
