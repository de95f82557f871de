"""The custodian register: who holds what, where, and when they last proved it.

A folder of small signed documents: one enrolment a custodian, and proofs of possession.

Not here: making keys (`possession`), and counting quorums (`readiness`).

Rules:
- An enrolment and a proof are signed by the custodian's signing key; a later proof is by
  the enrolled key or does not count.
- Nothing in the register is secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from drengine.ceremony.contribution import HOLDER_NAMES, HolderFacts
from drengine.ceremony.fields import Fields, read_canonical
from drengine.ceremony.strict import encode_base64url
from drengine.errors import CeremonyError, InputFileError
from drengine.model.canonical import canonical, sha256_hex

ENROLMENT_TYPE: Final = "drengine/ceremony-enrolment/v1"
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
    "contact",
    "holder",
    "key",
    "location",
    "name",
    "signature",
    "x5t_256",
)
CHALLENGE_TYPE: Final = "drengine/ceremony-challenge/v1"
_PROOF: Final = ("at_ms", "challenger", "holder", "key", "nonce", "signature", "x5t_256")
_CHALLENGERS: Final = ("self", "register")


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A custodian's entry; `certificate` is DER, `key` the public Ed25519 signing key."""

    name: str
    x5t_256: str
    certificate: bytes
    holder: HolderFacts
    location: str
    contact: str
    key: bytes
    at_ms: int
    signature: bytes = b""

    def signed_bytes(self) -> bytes:
        """Return what the signature covers: all but itself."""
        return _covered(self.to_json())

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
    """Everything in a register whose signatures verify."""

    enrolments: tuple[Enrolment, ...] = ()
    proofs: tuple[Proof, ...] = ()
    commits: frozenset[str] = frozenset()

    def was_challenged(self, proof: Proof) -> bool:
        """Tell whether somebody else drew the nonce: its challenge is in the register."""
        return proof.challenger == "register" and sha256_hex(proof.nonce) in self.commits

    def of(self, x5t_256: str) -> Enrolment | None:
        """Return the newest enrolment of a certificate."""
        found = [one for one in self.enrolments if one.x5t_256 == x5t_256]
        return max(found, key=lambda one: one.at_ms, default=None)

    def last_proof(self, enrolment: Enrolment) -> Proof | None:
        """Return the newest proof by an enrolment's own signing key."""
        found = [
            one
            for one in self.proofs
            if one.x5t_256 == enrolment.x5t_256 and one.key == enrolment.key
        ]
        return max(found, key=lambda one: one.at_ms, default=None)
