"""P-256 keys in files: made here, kept as encrypted PKCS#8, named by their fingerprint.

Rules: a private key is written encrypted, 0600, never over another file; no message holds
a byte of a key or passphrase. A key's id is the SHA-256 of its public half in DER
(SubjectPublicKeyInfo), which `openssl pkey -pubin -outform DER | sha256sum` prints too.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from drengine.errors import InputFileError
from drengine.lockedkeys import lock_key, require_long
from drengine.model.canonical import sha256_hex
from drengine.trust.files import MAX_BYTES, read_bounded, write_new

PUBLIC_SUFFIX: Final = ".pub.pem"
PrivateKey = ec.EllipticCurvePrivateKey


def make_key() -> PrivateKey:
    """Make a new key."""
    return ec.generate_private_key(ec.SECP256R1())


def public_pem(key: PrivateKey) -> str:
    """Return the public half as PEM."""
    return (
        key.public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        .decode("ascii")
    )


def keyid_of(pem: str) -> str:
    """Return the id of a public key in PEM.

    Raises:
        ValueError: it is not a P-256 public key.
    """
    der = _public(pem).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sha256_hex(der)


def _public(pem: str) -> ec.EllipticCurvePublicKey:
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("is not a public key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise ValueError("is not an ECDSA key on P-256")
    return key


def sign(key: PrivateKey, data: bytes) -> bytes:
    """Sign with ECDSA and SHA-256; the signature is DER, as openssl reads it."""
    return key.sign(data, ec.ECDSA(SHA256()))


def is_signed_by(pem: str, signature: bytes, data: bytes) -> bool:
    """Tell whether a signature is this public key's."""
    try:
        _public(pem).verify(signature, data, ec.ECDSA(SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def save_key(key: PrivateKey, path: Path, passphrase: bytes) -> Path:
    """Write a private key, encrypted, and its public half beside it; return the latter.

    Raises:
        InputError: the passphrase is too short.
        InputFileError: a file is there already or cannot be written.
    """
    require_long(passphrase, f"the key {path}")
    data = lock_key(key, passphrase)
    public = path.with_suffix(PUBLIC_SUFFIX)
    if public.exists():
        raise InputFileError(f"making the key {path}: {public} exists already")
    write_new(path, data, "the key")
    write_new(public, public_pem(key).encode(), "the public key", 0o644)
    return public


def load_key(path: Path, passphrase: bytes) -> PrivateKey:
    """Read a private key.

    Raises:
        InputFileError: there is no such file, others may read it, it is no P-256 key, or the
            passphrase is wrong.
    """
    data = read_bounded(path, "the signing key", MAX_BYTES)
    if b"PRIVATE KEY" not in data and b"PUBLIC KEY" in data:
        raise InputFileError(
            f"{path} is the public half of a key; it signs nothing",
            hint="Name the private one, as 'drengine key init' wrote it.",
        )
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077 and os.name == "posix":
        raise InputFileError(
            f"the signing key {path} may be read by others (mode {mode:04o}, expected 0600)",
            hint=f"chmod 600 {path}; if others had it, make a new one",
        )
    encrypted = b"BEGIN ENCRYPTED PRIVATE KEY" in data
    if not encrypted:
        raise InputFileError(
            f"the signing key {path} is not an encrypted PKCS#8 key in PEM; it was not used",
            hint=f"openssl pkcs8 -topk8 -v2 aes-256-cbc -in {path} -out NEW",
        )
    try:
        key = load_pem_private_key(data, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InputFileError(
            f"opening the signing key {path}: the passphrase is wrong, or the file is damaged;"
            " nothing was signed",
            hint="Try again with the right passphrase.",
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise InputFileError(f"the signing key {path} is not an ECDSA key on P-256")
    return key
