"""Roots of time-stamp authorities, as they come in a file: what they are, and which are new.

`openssl ts -verify -CAfile` trusts what is entered; so what cannot be a root is refused here,
where a person still looks, and not years later when a stamp is to be verified.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from drengine.errors import InputError
from drengine.model.canonical import Json
from drengine.model.times import utc_text


@dataclass(frozen=True, slots=True)
class Root:
    """One certificate that is trusted for time stamps.

    Attributes:
        subject: the name in it; sha256: of the certificate, as authorities publish it.
        is_anchor: whether it signed itself; another one only helps to build the chain.
    """

    subject: str
    sha256: str
    not_after_ms: int
    is_anchor: bool
    pem: str

    def to_json(self) -> dict[str, Json]:
        """Return what a person compares with the authority's own word."""
        return {
            "subject": self.subject,
            "sha256": self.sha256,
            "not_after": utc_text(self.not_after_ms),
            "anchor": self.is_anchor,
        }


def read_roots(pem: str) -> tuple[Root, ...]:
    """Return the certificates in a PEM text.

    Raises:
        InputError: it holds a private key, no certificate, or none that signed itself.
    """
    if "PRIVATE KEY" in pem:
        raise InputError("the file holds a private key; nothing was entered")
    try:
        found = tuple(map(_root, x509.load_pem_x509_certificates(pem.encode("ascii"))))
    except (ValueError, x509.InvalidVersion):
        raise InputError(
            "the file holds no certificate in PEM; nothing was entered",
            hint="openssl x509 -inform DER -in FILE -out FILE.pem makes PEM of DER.",
        ) from None
    if not any(root.is_anchor for root in found):
        raise InputError(
            "no certificate in the file signed itself: it is an authority's stamping or"
            " intermediate certificate, and openssl would believe none of its stamps; nothing was"
            " entered",
            hint="Ask the authority for its root, and compare the digest with what it publishes.",
        )
    return found


def _root(found: x509.Certificate) -> Root:
    return Root(
        subject=found.subject.rfc4514_string(),
        sha256=found.fingerprint(SHA256()).hex(),
        not_after_ms=int(found.not_valid_after_utc.timestamp() * 1000),
        is_anchor=_signed_itself(found),
        pem=found.public_bytes(Encoding.PEM).decode("ascii"),
    )


def _signed_itself(found: x509.Certificate) -> bool:
    try:
        found.verify_directly_issued_by(found)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True
