"""Certificates: read one from PEM or DER, and compute its x5t#S256.

Not here: trust. Custodians' certificates are self-signed and often expired; they
only name a key. Dates and chains are not looked at.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from drengine.ceremony.strict import encode_base64url
from drengine.errors import CeremonyError

_DER_SEQUENCE: Final = b"\x30"
_MAX_SUBJECT: Final = 256


@contextmanager
def _without_warnings() -> Iterator[None]:
    # The library remarks on serial numbers and names that break X.520; both mean nothing
    # here, and nobody at the screen can do anything about them.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def load_certificate(data: bytes) -> x509.Certificate:
    """Read exactly one certificate.

    Raises:
        CeremonyError: none, more than one, or not readable.
    """
    # DER is told by its first byte. Looking for a PEM marker anywhere would take an
    # attested exchange certificate of a real HSM for PEM: its attestation extension
    # carries a whole PEM chain, and the first certificate of that would be used.
    try:
        with _without_warnings():
            if data.startswith(_DER_SEQUENCE):
                found = [x509.load_der_x509_certificate(data)]
            else:
                found = x509.load_pem_x509_certificates(data)
    except (ValueError, x509.InvalidVersion):
        raise CeremonyError("it is not an X.509 certificate in PEM or DER") from None
    if len(found) != 1:
        raise CeremonyError(f"it holds {len(found)} certificates; which one is meant is not sure")
    try:
        # The key is parsed late; a broken one must be refused here, not where it is used.
        found[0].public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise CeremonyError("its public key cannot be read") from None
    return found[0]


def subject_of(certificate: x509.Certificate) -> str:
    """Return the subject for people to read; control characters become question marks."""
    try:
        with _without_warnings():
            subject = certificate.subject.rfc4514_string()
    except (ValueError, TypeError):
        return "(unreadable)"
    return "".join(sign if sign.isprintable() else "?" for sign in subject[:_MAX_SUBJECT])


def thumbprint_of(certificate: x509.Certificate) -> str:
    """Return the x5t#S256 of a certificate: base64url of the SHA-256 of its DER."""
    return encode_base64url(hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest())
