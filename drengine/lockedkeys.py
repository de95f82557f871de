"""Private keys as they are kept: PKCS#8 under a passphrase, dear to guess at.

`cryptography` writes PKCS#8 with 2,048 rounds of PBKDF2 and lets nobody choose them, so the
envelope is written here: PBES2 (RFC 8018 §6.2) with PBKDF2-HMAC-SHA-256 and AES-256-CBC. What
reads any encrypted PKCS#8 reads it: `openssl pkey`, `az`, `load_pem_private_key`.

Not here: files, and reading keys.
"""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from drengine.errors import InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

ROUNDS: Final = 600_000
"""OWASP's figure for PBKDF2-HMAC-SHA-256; about a quarter of a second each time."""
MIN_PASSPHRASE: Final = 12
_PBES2: Final = bytes.fromhex("06092a864886f70d01050d")
_PBKDF2: Final = bytes.fromhex("06092a864886f70d01050c")
_HMAC_SHA256: Final = bytes.fromhex("300c06082a864886f70d02090500")
_AES_256_CBC: Final = bytes.fromhex("060960864801650304012a")
_BLOCK_BYTES: Final = 16
_PEM_LINE: Final = 64
_SEQUENCE, _OCTETS, _INTEGER = 0x30, 0x04, 0x02


def require_long(passphrase: bytes, what: str) -> None:
    """Refuse a passphrase that is too short for a new key.

    Raises:
        InputError: it is; nothing was made.
    """
    if len(passphrase.decode("utf-8", "replace")) < MIN_PASSPHRASE:
        raise InputError(
            f"making {what}: the passphrase has fewer than {MIN_PASSPHRASE} characters; nothing "
            "was made",
            hint="Take five words or more that nobody else would put together.",
        )


def lock_key(key: PrivateKeyTypes, passphrase: bytes) -> bytes:
    """Return a private key as encrypted PKCS#8 in PEM.

    Raises:
        InputError: the passphrase is too short.
    """
    require_long(passphrase, "a key")
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    salt, iv = os.urandom(_BLOCK_BYTES), os.urandom(_BLOCK_BYTES)
    derived = PBKDF2HMAC(SHA256(), 32, salt, ROUNDS).derive(passphrase)
    padder = PKCS7(8 * _BLOCK_BYTES).padder()
    sealer = Cipher(AES(derived), CBC(iv)).encryptor()
    sealed = sealer.update(padder.update(plain) + padder.finalize()) + sealer.finalize()
    rounds = ROUNDS.to_bytes(ROUNDS.bit_length() // 8 + 1)
    stretched = _der(_SEQUENCE, _der(_OCTETS, salt), _der(_INTEGER, rounds), _HMAC_SHA256)
    scheme = _der(
        _SEQUENCE,
        _der(_SEQUENCE, _PBKDF2, stretched),
        _der(_SEQUENCE, _AES_256_CBC, _der(_OCTETS, iv)),
    )
    envelope = _der(_SEQUENCE, _der(_SEQUENCE, _PBES2, scheme), _der(_OCTETS, sealed))
    return _pem(envelope)


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:  # noqa: PLR2004 - X.690 §8.1.3: the short form of a length ends here
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(length)]) + length + content


def _pem(envelope: bytes) -> bytes:
    text = base64.b64encode(envelope).decode("ascii")
    lines = [text[at : at + _PEM_LINE] for at in range(0, len(text), _PEM_LINE)]
    body = "\n".join(lines)
    marks = "-----BEGIN ENCRYPTED PRIVATE KEY-----", "-----END ENCRYPTED PRIVATE KEY-----"
    return f"{marks[0]}\n{body}\n{marks[1]}\n".encode("ascii")
