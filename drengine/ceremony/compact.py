"""The compact form of a JWE: five base64url segments, taken apart and put together.

Not here: cryptography. `jose` opens and seals what this module has checked.

Rules (RFC 7516 §7.1, and what Managed HSM writes):
- The header has exactly `alg`, `enc`, `kid` and what the caller names. Only `dir` and
  `RSA-OAEP-256` with `A256CBC-HS512` exist here, and a caller says which it expects.
- The initialisation vector has 16 bytes and the tag has 32, no more and no less: a
  reader that takes a shorter tag takes unauthenticated bytes.
- The order of the header's members is free, since the tag covers the header's text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from drengine.ceremony import strict
from drengine.errors import CeremonyError

CONTENT_ENCRYPTION: Final = "A256CBC-HS512"
IV_BYTES: Final = 16
TAG_BYTES: Final = 32
BLOCK_BYTES: Final = 16
MAX_JWE_CHARACTERS: Final = 512 * 1024
_MAX_HEADER_BYTES: Final = 1024
# RSA-2048 to RSA-8192
_MIN_WRAPPED_BYTES: Final = 256
_MAX_WRAPPED_BYTES: Final = 1024
_SEGMENTS: Final = 5


class KeyAgreement(Enum):
    """How a JWE's content key comes about."""

    DIRECT = "dir"
    RSA = "RSA-OAEP-256"


@dataclass(frozen=True, slots=True)
class CompactJwe:
    """A JWE whose shape is right; nothing in it is authenticated yet.

    `header_text` is the first segment as it was written: the tag covers its letters.
    `extra` are header members beyond Azure's own; only ceremony shares have some.
    """

    header_text: str
    kid: str
    wrapped_key: bytes
    iv: bytes
    ciphertext: bytes
    tag: bytes
    extra: Mapping[str, str] = field(default_factory=dict)

    def to_text(self) -> str:
        """Return the five segments joined by dots."""
        rest = (self.wrapped_key, self.iv, self.ciphertext, self.tag)
        return ".".join((self.header_text, *map(strict.encode_base64url, rest)))


def write_header(agreement: KeyAgreement, kid: str, extra: Mapping[str, str] | None = None) -> str:
    """Return the first segment, with its members in the order that Azure writes."""
    header = {"alg": agreement.value, "enc": CONTENT_ENCRYPTION, "kid": kid, **(extra or {})}
    written = json.dumps(header, separators=(",", ":"))
    return strict.encode_base64url(written.encode("ascii"))


def parse_jwe(
    written: str,
    agreement: KeyAgreement,
    *,
    kid: str | None = None,
    extra_names: Sequence[str] = (),
) -> CompactJwe:
    """Take a compact JWE apart and check every length in it.

    Parameters:
        kid: the only key id allowed; None allows any, because Azure puts a random
            one on shares.
        extra_names: header members that must be there besides Azure's own.

    Raises:
        CeremonyError: says which segment is not what it must be.
    """
    if len(written) > MAX_JWE_CHARACTERS:
        raise CeremonyError(f"it has {len(written)} characters, over {MAX_JWE_CHARACTERS}")
    segments = written.split(".")
    if len(segments) != _SEGMENTS:
        raise CeremonyError(f"it has {len(segments)} segments; a compact JWE has {_SEGMENTS}")
    names = ("header", "wrapped key", "initialisation vector", "ciphertext", "tag")
    header, wrapped, iv, ciphertext, tag = (
        strict.decode_base64url(segment, f"its {name}")
        for segment, name in zip(segments, names, strict=True)
    )
    found_kid, extra = _read_header(header, agreement, extra_names)
    if kid is not None and found_kid != kid:
        raise CeremonyError(f"its header names the key {found_kid[:64]!r}, not {kid!r}")
    _check_lengths(agreement, wrapped, iv, ciphertext, tag)
    return CompactJwe(segments[0], found_kid, wrapped, iv, ciphertext, tag, extra)


def _read_header(
    data: bytes, agreement: KeyAgreement, extra_names: Sequence[str]
) -> tuple[str, dict[str, str]]:
    names = ("alg", "enc", "kid", *extra_names)
    try:
        header = strict.members(strict.load_json(data, max_bytes=_MAX_HEADER_BYTES), names, "it")
    except CeremonyError as error:
        raise CeremonyError(f"its header is refused: {error.message}") from None
    strict.literal(header["alg"], agreement.value, "its header's 'alg'")
    strict.literal(header["enc"], CONTENT_ENCRYPTION, "its header's 'enc'")
    extra = {name: strict.text(header[name], f"its header's {name!r}") for name in extra_names}
    return strict.text(header["kid"], "its header's 'kid'"), extra


def _check_lengths(
    agreement: KeyAgreement, wrapped: bytes, iv: bytes, ciphertext: bytes, tag: bytes
) -> None:
    if agreement is KeyAgreement.DIRECT and wrapped:
        raise CeremonyError("its wrapped key is not empty, as it must be with 'dir'")
    if agreement is KeyAgreement.RSA and not (
        _MIN_WRAPPED_BYTES <= len(wrapped) <= _MAX_WRAPPED_BYTES
    ):
        raise CeremonyError(
            f"its wrapped key has {len(wrapped)} bytes; RSA-2048 or larger has "
            f"{_MIN_WRAPPED_BYTES} to {_MAX_WRAPPED_BYTES}"
        )
    if len(iv) != IV_BYTES:
        raise CeremonyError(f"its initialisation vector has {len(iv)} bytes, not {IV_BYTES}")
    if len(tag) != TAG_BYTES:
        raise CeremonyError(
            f"its authentication tag has {len(tag)} bytes, not {TAG_BYTES}: it was cut or altered"
        )
    if not ciphertext or len(ciphertext) % BLOCK_BYTES:
        raise CeremonyError(f"its ciphertext has {len(ciphertext)} bytes, not whole AES blocks")
