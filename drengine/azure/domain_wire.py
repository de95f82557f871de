"""What a security-domain download sends: custodians' certificates as JWKs, and the quorum.

Source: recorded downloads (CertificateInfo, api-version 7.2). `kid` and `use` are absent
on the wire although the model calls them required.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from drengine.azure.hsm_keys import to_base64url
from drengine.errors import InputFileError


def download_body(certificates: Sequence[bytes], required: int) -> dict[str, Any]:
    """Return the body of POST /securitydomain/download.

    Raises:
        InputFileError: a certificate is not of an RSA key.
    """
    return {"certificates": [_jwk(der) for der in certificates], "required": required}


def _jwk(der: bytes) -> dict[str, Any]:
    try:
        key = x509.load_der_x509_certificate(der).public_key()
    except (ValueError, x509.InvalidVersion, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPublicKey):
        raise InputFileError("a custodian's certificate is not one of an RSA key")
    numbers = key.public_numbers()
    return {
        "kty": "RSA",
        "key_ops": ["verify", "encrypt", "wrapKey"],
        "n": to_base64url(_bytes_of(numbers.n)),
        "e": to_base64url(_bytes_of(numbers.e)),
        "x5c": [base64.b64encode(der).decode("ascii")],
        # The service's own field; SHA-1 names the certificate here and guards nothing.
        "x5t": to_base64url(hashlib.sha1(der, usedforsecurity=False).digest()),
        "x5t#S256": to_base64url(hashlib.sha256(der).digest()),
        "alg": "RSA-OAEP-256",
    }


def _bytes_of(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")
