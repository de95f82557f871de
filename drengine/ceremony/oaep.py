"""Take OAEP padding off in software, for tokens that only do the raw RSA operation.

EME-OAEP (RFC 8017 §7.1.2) with SHA-256 for both hashes and no label. SoftHSM up to 2.6
and many PIV cards refuse SHA-256 inside the token.

Rules:
- One path through the whole block and one refusal for everything that is wrong: which
  part was wrong would let somebody open any share by asking often (Manger 2001).
- Python cannot promise constant time. Nothing here branches or returns early on secret
  bytes but the one decision at the end.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from drengine.errors import CeremonyError

_HASH_BYTES: Final = 32
_EMPTY_LABEL: Final = hashlib.sha256(b"").digest()


def unpad_oaep(block: bytes, size: int, message_bytes: int) -> bytes:
    """Return the message in an OAEP block.

    Parameters:
        block: what the raw RSA operation gave; leading zero bytes may be missing.
        size: bytes of the modulus.
        message_bytes: the only length that the message may have.

    Raises:
        CeremonyError: it is no such block; nothing more is said.
    """
    # Sizes are public: a block that cannot hold the message is told by its length alone.
    if len(block) > size or size < 2 * _HASH_BYTES + 2 + message_bytes:
        raise CeremonyError("this key does not open it")
    padded = block.rjust(size, b"\0")
    first, masked_seed = padded[:1], padded[1 : 1 + _HASH_BYTES]
    masked = padded[1 + _HASH_BYTES :]
    seed = _xor(masked_seed, _mask(masked, _HASH_BYTES))
    content = _xor(masked, _mask(seed, len(masked)))
    zeros = len(content) - _HASH_BYTES - 1 - message_bytes
    separator = b"\0" * zeros + b"\1"
    # The length of the message is known, so the padding is one fixed text to compare.
    good = hmac.compare_digest(first, b"\0")
    good &= hmac.compare_digest(content[:_HASH_BYTES], _EMPTY_LABEL)
    good &= hmac.compare_digest(content[_HASH_BYTES:-message_bytes], separator)
    if not good:
        raise CeremonyError("this key does not open it")
    return content[-message_bytes:]


def _mask(seed: bytes, length: int) -> bytes:
    """Return MGF1 with SHA-256."""
    blocks = b""
    for counter in range(-(-length // _HASH_BYTES)):
        blocks += hashlib.sha256(seed + counter.to_bytes(4, "big")).digest()
    return blocks[:length]


def _xor(left: bytes, right: bytes) -> bytes:
    both = int.from_bytes(left, "big") ^ int.from_bytes(right, "big")
    return both.to_bytes(len(left), "big")
