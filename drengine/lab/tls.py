"""The lab's private certificate authority and the server certificates it issues.

The authority belongs to one lab home and is made there. Its private key never leaves
that folder, and no program trusts it unless it is told to, for that lab, by environment.
Certificates carry what `VERIFY_X509_STRICT` asks for.
"""

from __future__ import annotations

import datetime as dt
import os
import ssl
import threading
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS: Final = 3650
LEAF_DAYS: Final = 397


class TrustAnchor:
    """The authority of one lab home.

    Parameters:
        home: the lab home; `ca.pem` and `tls/` are made in it.
    """

    def __init__(self, home: Path) -> None:
        self.ca_file = home / "ca.pem"
        self._folder = home / "tls"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._lock = threading.Lock()
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._key, self._certificate = self._load_or_make()
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())

    def context_for(self, host: str) -> ssl.SSLContext:
        """Return the server context that presents a certificate for `host`."""
        with self._lock:
            context = self._contexts.get(host)
            if context is None:
                context = self._contexts[host] = self._make_context(host)
            return context

    def _load_or_make(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        key_file = self._folder / "ca.key"
        if key_file.exists() and self.ca_file.exists():
            key = serialization.load_pem_private_key(key_file.read_bytes(), None)
            if not isinstance(key, ec.EllipticCurvePrivateKey):
                raise TypeError(f"{key_file} must hold an elliptic-curve key")
            return key, x509.load_pem_x509_certificate(self.ca_file.read_bytes())
        fresh = ec.generate_private_key(ec.SECP256R1())
        certificate = _authority_certificate(fresh)
        write_private(key_file, private_pem(fresh))
        self.ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return fresh, certificate

    def _make_context(self, host: str) -> ssl.SSLContext:
        chain = self._leaf(host).public_bytes(serialization.Encoding.PEM)
        file = self._folder / f"leaf-{threading.get_ident()}.pem"
        write_private(file, chain + private_pem(self._leaf_key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(file)
        finally:
            file.unlink()
        return context

    def _leaf(self, host: str) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
        builder = _builder(name, self._certificate.subject, LEAF_DAYS)
        public_key = self._leaf_key.public_key()
        issuer_id = self._certificate.extensions.get_extension_for_class(
            x509.SubjectKeyIdentifier
        ).value
        return (
            builder.public_key(public_key)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id),
                critical=False,
            )
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(self._key, hashes.SHA256())
        )


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the key as unencrypted PKCS#8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def write_private(file: Path, content: bytes) -> None:
    """Write a file that only its owner may read, replacing what was there."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)


def _builder(subject: x509.Name, issuer: x509.Name, days: int) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _authority_certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "drengine lab authority")])
    subject_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        _builder(name, name, CA_DAYS)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(subject_id, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject_id),
            critical=False,
        )
        .add_extension(_usage(sign_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )
