"""What a database really holds: a key of its own, and rows that only this key opens.

The data-encryption key (DEK) is 32 random bytes. It is kept only wrapped by the
encryption protector; the rows are kept only encrypted under it. So a database in the
lab is readable exactly when the protector's key material can be used.

Rules:
- a DEK lives in memory for the length of one job or request and is never stored;
- a row is bound to its database by name, but not to its instance: a geo-replica has the
  same rows.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

if TYPE_CHECKING:
    from collections.abc import Mapping

DEK_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_ROWS: Final = 3


class WrongKey(Exception):
    """The key does not open the rows: other key material, or damaged ciphertext."""


def new_dek() -> bytes:
    """Return a fresh data-encryption key."""
    return secrets.token_bytes(DEK_BYTES)


def new_rows(dek: bytes, database: str) -> list[dict[str, str | int]]:
    """Return canary rows with random text, encrypted under the database's key."""
    cipher = AESGCM(dek)
    rows: list[dict[str, str | int]] = []
    for number in range(1, _ROWS + 1):
        nonce = secrets.token_bytes(_NONCE_BYTES)
        text = f"{database} canary {number} {secrets.token_hex(8)}"
        sealed = nonce + cipher.encrypt(nonce, text.encode(), _binding(database, number))
        rows.append({"id": number, "sealed": base64.b64encode(sealed).decode()})
    return rows


def open_rows(dek: bytes, database: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Decrypt canary rows.

    Raises:
        WrongKey: the key is not the one that the rows were written with.
    """
    opened = []
    try:
        cipher = AESGCM(dek)
        for row in rows:
            sealed = base64.b64decode(row["sealed"])
            nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            text = cipher.decrypt(nonce, rest, _binding(database, row["id"]))
            opened.append({"id": row["id"], "text": text.decode()})
    except (InvalidTag, ValueError):
        raise WrongKey(f"the key does not open the rows of {database}") from None
    return opened


def rows_digest(opened: list[dict[str, Any]]) -> str:
    """Return a SHA-256 over opened rows, equal wherever the rows are equal."""
    text = json.dumps(opened, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _binding(database: str, number: int) -> bytes:
    return f"{database.lower()}/{number}".encode()


def public_key(jwk: Mapping[str, Any]) -> rsa.RSAPublicKey:
    """Return the RSA public key of a key bundle's `key` part."""
    return rsa.RSAPublicNumbers(_number(jwk["e"]), _number(jwk["n"])).public_key()


def _number(text: str) -> int:
    return int.from_bytes(from_base64url(text), "big")


def thumbprint(key: rsa.RSAPublicKey) -> str:
    """Return the thumbprint of key material: the same on whatever host it lies."""
    encoded = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha1(encoded, usedforsecurity=False).hexdigest().upper()


def wrap_locally(key: rsa.RSAPublicKey, dek: bytes) -> bytes:
    """Wrap a key as `wrapkey` with RSA-OAEP-256 does; it needs the public part only."""
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    return key.encrypt(dek, oaep)


def wrap_with_service_key(service_key: str, dek: bytes) -> bytes:
    """Wrap a DEK under the instance's own key, for the service-managed protector."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(base64.b64decode(service_key)).encrypt(nonce, dek, None)


def unwrap_with_service_key(service_key: str, wrapped: bytes) -> bytes:
    """Undo `wrap_with_service_key`."""
    cipher = AESGCM(base64.b64decode(service_key))
    return cipher.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], None)


def to_base64url(data: bytes) -> str:
    """Return base64url text without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def from_base64url(text: str) -> bytes:
    """Return the bytes of base64url text without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
