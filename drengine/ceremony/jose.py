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
from typing import TYPE_CHECKING, Final, Protocol

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
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

CONTENT_KEY_BYTES: Final = 64
_HALF: Final = CONTENT_KEY_BYTES // 2
_OAEP: Final = rsa_padding.OAEP(
    mgf=rsa_padding.MGF1(algorithm=hashes.SHA256()), algorithm=hashes.SHA256(), label=None
)


class Unwrapper(Protocol):
    """Whatever holds an RSA key that opens shares: a key in memory, or a token."""

    @property
    def public_key(self) -> RSAPublicKey:
        """The public half."""
        ...

    def unwrap(self, wrapped_key: bytes) -> bytes:
        """Undo RSA-OAEP-256.

        Raises:
            CeremonyError: this key does not open it; nothing more is said.
        """
        ...


class SoftwareKey:
    """A private key in this process's memory."""

    def __init__(self, private_key: RSAPrivateKey) -> None:
        self._private_key = private_key

    @property
    def public_key(self) -> RSAPublicKey:
        """The public half."""
        return self._private_key.public_key()

    def unwrap(self, wrapped_key: bytes) -> bytes:
        """Undo RSA-OAEP-256.

        Raises:
            CeremonyError: this key does not open it.
        """
        try:
            return self._private_key.decrypt(wrapped_key, _OAEP)
        except ValueError:
            raise CeremonyError("this key does not open it") from None


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
    """Unwrap the content key with an RSA key in memory, then open the JWE.

    Raises:
        CeremonyError: the key does not open it, or the tag does not verify.
    """
    return open_with(jwe, SoftwareKey(private_key))


def open_with(jwe: CompactJwe, holder: Unwrapper) -> bytes:
    """Let a holder unwrap the content key, then open the JWE.

    Raises:
        CeremonyError: the key does not open it, or the tag does not verify.
    """
    key_bits = holder.public_key.key_size
    if len(jwe.wrapped_key) != (key_bits + 7) // 8:
        raise CeremonyError(
            f"it is sealed to an RSA key of {len(jwe.wrapped_key) * 8} bits; "
            f"this key has {key_bits}"
        )
    return open_direct(jwe, holder.unwrap(jwe.wrapped_key))


def seal_direct(plaintext: bytes, *, content_key: bytes, iv: bytes, kid: str) -> CompactJwe:
    """Seal bytes under a content key that both sides can derive."""
    return _seal(KeyAgreement.DIRECT, plaintext, content_key, iv=iv, kid=kid, wrapped_key=b"")


def seal_to_key(
    plaintext: bytes,
    public_key: RSAPublicKey,
    *,
    content_key: bytes,
    iv: bytes,
    kid: str,
    extra: Mapping[str, str] | None = None,
) -> CompactJwe:
    """Seal bytes to the holder of one RSA key; the tag covers `extra` header members too.

    Raises:
        CeremonyError: the key is RSA by its form, but nothing can be encrypted with it.
    """
    try:
        wrapped_key = public_key.encrypt(content_key, _OAEP)
    except ValueError:
        raise CeremonyError(
            "sealing to an RSA public key: its numbers are not those of a key, so it was "
            "damaged on its way; nothing was sealed"
        ) from None
    return _seal(
        KeyAgreement.RSA,
        plaintext,
        content_key,
        iv=iv,
        kid=kid,
        wrapped_key=wrapped_key,
        extra=extra,
    )


def _seal(
    agreement: KeyAgreement,
    plaintext: bytes,
    content_key: bytes,
    *,
    iv: bytes,
    kid: str,
    wrapped_key: bytes,
    extra: Mapping[str, str] | None = None,
) -> CompactJwe:
    _require_content_key(content_key)
    header_text = write_header(agreement, kid, extra)
    padder = PKCS7(BLOCK_BYTES * 8).padder()
    encryptor = Cipher(algorithms.AES(content_key[_HALF:]), modes.CBC(iv)).encryptor()
    padded = padder.update(plaintext) + padder.finalize()
    ciphertext = encryptor.update(padded) + encryptor.finalize()
    tag = _tag(content_key[:_HALF], header_text, iv, ciphertext)
    return CompactJwe(header_text, kid, wrapped_key, iv, ciphertext, tag, extra or {})


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
