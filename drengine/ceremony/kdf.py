"""The key derivation of a security domain: SP 800-108 in counter mode, HMAC-SHA-512.

Each part of the domain has a content key of its own, derived from the master key
with the part's tag as label and an empty context (`"kdf": "sp108_kdf"`).
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

KDF_NAME: Final = "sp108_kdf"
_CONTENT_KEY_BITS: Final = 512


def derive_key(key: bytes, label: str, context: str, length_bits: int) -> bytes:
    """Derive `length_bits` bits; counter and length are 32-bit, big endian."""
    fixed = label.encode() + b"\0" + context.encode() + length_bits.to_bytes(4, "big")
    blocks = b""
    counter = 1
    while len(blocks) * 8 < length_bits:
        blocks += hmac.digest(key, counter.to_bytes(4, "big") + fixed, hashlib.sha512)
        counter += 1
    return blocks[: length_bits // 8]


def derive_content_key(master_key: bytes, tag: str) -> bytes:
    """Derive the content key of the part that carries this tag."""
    return derive_key(master_key, tag, "", _CONTENT_KEY_BITS)
