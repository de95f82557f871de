"""Open and seal the two kinds of JWE that a security domain is made of.

`dir` with a content key derived from the master key (the domain's parts), and
RSA-OAEP-256 to one certificate (shares, and the key of a restore blob); both with
A256CBC-HS512 (RFC 7518 §5.2.5: the first half of the key authenticates, the second
encrypts).

Not here: who may open what, and which file a JWE stood in; callers add that.

Rules:
- The tag is compared in constant time and before anything is decrypted.
- A content key has 64 bytes. Content keys and vectors are passed in; only the
  random seed inside OAEP is drawn by the cryptographic library itself.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding as rsa_padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from drengine.ceremony.compact import (
    BLOCK_BYTES,
    TAG_BYTES,
    CompactJwe,
    KeyAgreement,
    write_header,
)
from drengine.errors import CeremonyError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

CONTENT_KEY_BYTES: Final = 64
_HALF: Final = CONTENT_KEY_BYTES // 2
_OAEP: Final = rsa_padding.OAEP(
    mgf=rsa_padding.MGF1(algorithm=hashes.SHA256()), algorithm=hashes.SHA256(), label=None
)


def open_direct(jwe: CompactJwe, content_key: bytes) -> bytes:
    """Check the tag of a JWE and return what it holds.

    Raises:
        CeremonyError: the tag does not verify; nothing was decrypted then.
    """
    _require_content_key(content_key)
    expected = _tag(content_key[:_HALF], jwe.header_text, jwe.iv, jwe.ciphertext)
    if not hmac.compare_digest(expected, jwe.tag):
        raise CeremonyError("its authentication tag does not verify")
    decryptor = Cipher(algorithms.AES(content_key[_HALF:]), modes.CBC(jwe.iv)).decryptor()
    padded = decryptor.update(jwe.ciphertext) + decryptor.finalize()
    unpadder = PKCS7(BLOCK_BYTES * 8).unpadder()
    try:
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError:
        raise CeremonyError("its padding is wrong although its tag verifies") from None


def open_with_key(jwe: CompactJwe, private_key: RSAPrivateKey) -> bytes:
    """Unwrap the content key with an RSA key, then open the JWE.

    Raises:
        CeremonyError: the key does not open it, or the tag does not verify.
    """
    key_bytes = (private_key.key_size + 7) // 8
    if len(jwe.wrapped_key) != key_bytes:
        raise CeremonyError(
            f"it is sealed to an RSA key of {len(jwe.wrapped_key) * 8} bits; "
            f"this key has {private_key.key_size}"
        )
    try:
        content_key = private_key.decrypt(jwe.wrapped_key, _OAEP)
    except ValueError:
        raise CeremonyError("this key does not open it") from None
    return open_direct(jwe, content_key)


def seal_direct(plaintext: bytes, *, content_key: bytes, iv: bytes, kid: str) -> CompactJwe:
    """Seal bytes under a content key that both sides can derive."""
    return _seal(KeyAgreement.DIRECT, plaintext, content_key, iv=iv, kid=kid, wrapped_key=b"")


def seal_to_key(
    plaintext: bytes, public_key: RSAPublicKey, *, content_key: bytes, iv: bytes, kid: str
) -> CompactJwe:
    """Seal bytes to the holder of one RSA key."""
    wrapped_key = public_key.encrypt(content_key, _OAEP)
    return _seal(KeyAgreement.RSA, plaintext, content_key, iv=iv, kid=kid, wrapped_key=wrapped_key)


def _seal(
    agreement: KeyAgreement,
    plaintext: bytes,
    content_key: bytes,
    *,
    iv: bytes,
    kid: str,
    wrapped_key: bytes,
) -> CompactJwe:
    _require_content_key(content_key)
    header_text = write_header(agreement, kid)
    padder = PKCS7(BLOCK_BYTES * 8).padder()
    encryptor = Cipher(algorithms.AES(content_key[_HALF:]), modes.CBC(iv)).encryptor()
    padded = padder.update(plaintext) + padder.finalize()
    ciphertext = encryptor.update(padded) + encryptor.finalize()
    tag = _tag(content_key[:_HALF], header_text, iv, ciphertext)
    return CompactJwe(header_text, kid, wrapped_key, iv, ciphertext, tag)


def _tag(mac_key: bytes, header_text: str, iv: bytes, ciphertext: bytes) -> bytes:
    covered = header_text.encode("ascii")
    length_bits = (8 * len(covered)).to_bytes(8, "big")
    mac = hmac.digest(mac_key, covered + iv + ciphertext + length_bits, hashlib.sha512)
    return mac[:TAG_BYTES]


def _require_content_key(content_key: bytes) -> None:
    if len(content_key) != CONTENT_KEY_BYTES:
        raise CeremonyError(
            f"its content key has {len(content_key)} bytes, not {CONTENT_KEY_BYTES}"
        )
