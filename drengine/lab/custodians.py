"""The custodians of the estate's security domain: keys, certificates and the file.

A real ceremony keeps these apart; a lab has them all in one folder, for one person to
try things with. Each key lies beside its certificate under the same name, the way the
Azure command line looks for it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from drengine.lab.tls import write_private

VALID_DAYS: Final = 3650


def write_custodians(folder: Path, private_keys: Sequence[bytes]) -> list[x509.Certificate]:
    """Write `custodian-N.key` and `custodian-N.cer` for each key; return the certificates."""
    folder.mkdir(mode=0o700, exist_ok=True)
    certificates = []
    for number, der in enumerate(private_keys, start=1):
        key = serialization.load_der_private_key(der, None, unsafe_skip_rsa_key_validation=True)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise TypeError("a custodian's key is an RSA key")
        certificate = _self_signed(key, f"Lab custodian {number}")
        write_private(folder / f"custodian-{number}.key", _pem(key))
        public = certificate.public_bytes(serialization.Encoding.PEM)
        (folder / f"custodian-{number}.cer").write_bytes(public)
        certificates.append(certificate)
    return certificates


def _pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _self_signed(key: rsa.RSAPrivateKey, name: str) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=VALID_DAYS))
        .public_key(key.public_key())
        .sign(key, hashes.SHA256())
    )
