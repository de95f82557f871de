"""Compact JWEs and the key derivation that security domains are made of.

Only what the Managed HSM uses: `dir` and `RSA-OAEP-256` with `A256CBC-HS512` (RFC 7518,
5.2), and the counter-mode KDF of SP 800-108 with HMAC-SHA512.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import struct
from typing import Any, Final

from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.asymmetric import padding as rsa_padding
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

CEK_BYTES: Final = 64
_HALF: Final = 32
_IV_BYTES: Final = 16
_PARTS: Final = 5
_OAEP: Final = rsa_padding.OAEP(
    mgf=rsa_padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None
)


class JoseError(ValueError):
    """A JWE is malformed, or its authentication tag does not fit."""


def b64(raw: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    """Read base64url with or without padding.

    Raises:
        JoseError: it is not base64url.
    """
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, TypeError) as error:
        raise JoseError("not base64url") from error


def derive(master: bytes, label: str) -> bytes:
    """Derive the 64 bytes for `label`, with an empty context, from a master key."""
    message = struct.pack(">I", 1) + label.encode() + b"\0" + struct.pack(">I", CEK_BYTES * 8)
    return hmac.digest(master, message, "sha512")


def seal_direct(cek: bytes, plaintext: bytes, kid: str) -> str:
    """Return a compact JWE under a key both sides have."""
    header = {"alg": "dir", "enc": "A256CBC-HS512", "kid": kid}
    return _seal(header, b"", cek, plaintext)


def seal_to(public_key: rsa.RSAPublicKey, plaintext: bytes, kid: str) -> str:
    """Return a compact JWE that only the holder of the private key can open."""
    header = {"alg": "RSA-OAEP-256", "enc": "A256CBC-HS512", "kid": kid}
    cek = secrets.token_bytes(CEK_BYTES)
    return _seal(header, public_key.encrypt(cek, _OAEP), cek, plaintext)


def open_direct(compact: str, cek: bytes) -> bytes:
    """Open a JWE made by `seal_direct`.

    Raises:
        JoseError: it is malformed or was not sealed under this key.
    """
    parts = _split(compact, "dir")
    if parts[1]:
        raise JoseError("a direct JWE must have no encrypted key")
    return _open(parts, cek)


def open_with(private_key: rsa.RSAPrivateKey, compact: str) -> bytes:
    """Open a JWE made by `seal_to`.

    Raises:
        JoseError: it is malformed or was not sealed to this key.
    """
    parts = _split(compact, "RSA-OAEP-256")
    try:
        cek = private_key.decrypt(unb64(parts[1]), _OAEP)
    except ValueError as error:
        raise JoseError("the encrypted key does not open") from error
    return _open(parts, cek)


def _seal(header: dict[str, str], encrypted_key: bytes, cek: bytes, plaintext: bytes) -> str:
    head = b64(json.dumps(header, separators=(",", ":")).encode())
    iv = secrets.token_bytes(_IV_BYTES)
    padder = padding.PKCS7(128).padder()
    padded = padder.update(plaintext) + padder.finalize()
    encryptor = Cipher(algorithms.AES(cek[_HALF:]), modes.CBC(iv)).encryptor()
    body = encryptor.update(padded) + encryptor.finalize()
    tag = _tag(cek, head, iv, body)
    return ".".join([head, b64(encrypted_key), b64(iv), b64(body), b64(tag)])


def _tag(cek: bytes, head: str, iv: bytes, body: bytes) -> bytes:
    aad = head.encode()
    message = aad + iv + body + struct.pack(">Q", 8 * len(aad))
    return hmac.digest(cek[:_HALF], message, "sha512")[:_HALF]


def _split(compact: str, alg: str) -> list[str]:
    parts = compact.split(".")
    if len(parts) != _PARTS:
        raise JoseError("a compact JWE has five parts")
    try:
        header: Any = json.loads(unb64(parts[0]))
    except ValueError as error:
        raise JoseError("the JWE header is not JSON") from error
    if not isinstance(header, dict):
        raise JoseError("the JWE header is not an object")
    if (header.get("alg"), header.get("enc")) != (alg, "A256CBC-HS512"):
        raise JoseError("the JWE uses other algorithms")
    return parts


def _open(parts: list[str], cek: bytes) -> bytes:
    iv, body, tag = (unb64(part) for part in parts[2:])
    if len(cek) != CEK_BYTES or len(iv) != _IV_BYTES or not body or len(body) % _IV_BYTES:
        raise JoseError("the JWE has parts of a wrong length")
    if not hmac.compare_digest(tag, _tag(cek, parts[0], iv, body)):
        raise JoseError("the authentication tag does not fit")
    decryptor = Cipher(algorithms.AES(cek[_HALF:]), modes.CBC(iv)).decryptor()
    padded = decryptor.update(body) + decryptor.finalize()
    unpadder = padding.PKCS7(128).unpadder()
    try:
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError as error:
        raise JoseError("the padding does not fit") from error
