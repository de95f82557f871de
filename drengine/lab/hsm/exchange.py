"""The exchange key of a HSM that waits for a security domain.

RSA-4096 with a self-signed certificate for `<hsm>.managedhsm.azure.net`, one per HSM;
it opens one restore blob and is destroyed when the upload has succeeded.
"""

from __future__ import annotations

import base64
import datetime as dt
from functools import lru_cache
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from drengine.lab.hsm.domain import certificate_der
from drengine.lab.hsm.jose import b64

EXCHANGE_BITS: Final = 4096


def new_exchange(host: str, private_der: bytes, now_ms: int) -> dict[str, str]:
    """Return the stored form of an exchange key and its certificate."""
    key = _load(private_der)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = dt.datetime.fromtimestamp(now_ms // 1000, dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(minutes=10))
        .not_valid_after(now + dt.timedelta(days=365))
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_encipherment(), critical=True)
        .sign(key, hashes.SHA256())
    )
    return {
        "key": base64.b64encode(private_der).decode(),
        "certificate": base64.b64encode(certificate_der(certificate)).decode(),
    }


def open_exchange(stored: dict[str, str]) -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    """Return key and certificate from their stored form."""
    certificate = x509.load_der_x509_certificate(base64.b64decode(stored["certificate"]))
    return _load(base64.b64decode(stored["key"])), certificate


def transfer_jwk(stored: dict[str, str]) -> dict[str, Any]:
    """Return the public half as the JWK that `GET /securitydomain/upload` carries."""
    key, certificate = open_exchange(stored)
    numbers = key.public_key().public_numbers()
    return {
        "e": b64(numbers.e.to_bytes(3, "big")),
        "key_ops": ["wrapKey", "verify", "encrypt"],
        "kid": "not used",
        "kty": "RSA",
        "n": b64(numbers.n.to_bytes(EXCHANGE_BITS // 8, "big")),
        "x5c": [stored["certificate"]],
        "x5t": b64(certificate.fingerprint(hashes.SHA1())),  # noqa: S303 - RFC 7517 says SHA-1
        "x5t#S256": b64(certificate.fingerprint(hashes.SHA256())),
    }


@lru_cache(maxsize=8)
def _load(private_der: bytes) -> rsa.RSAPrivateKey:
    key = serialization.load_der_private_key(private_der, None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("an exchange key is an RSA key")
    return key


def _key_encipherment() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
