"""The security-domain file: what it says of itself, before any key is near.

Not here: opening it (`unseal`), and reading it from a disk (`combine`, the command
line). This module needs no cryptographic library.

Rules:
- Limits come before parsing; every shape, length and base64 text is checked here,
  so that later refusals are about keys and authentication tags only.
- Nothing in the file is authenticated by this module: N, M and the custodians are
  what the file *says* until a quorum has opened it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from drengine.ceremony import strict
from drengine.ceremony.compact import CompactJwe, KeyAgreement, parse_jwe
from drengine.ceremony.parts import SealedPart, parse_parts
from drengine.errors import CeremonyError, DomainError

MAX_DOMAIN_BYTES: Final = 1024 * 1024
MIN_CUSTODIANS: Final = 3
MAX_CUSTODIANS: Final = 10
MIN_REQUIRED: Final = 2
_VERSION: Final = 2
_HINT: Final = (
    "Nothing was opened. Take another copy of the security-domain file; its SHA-256 at "
    "download time shows which copy is whole."
)


@dataclass(frozen=True, slots=True)
class SealedShare:
    """One custodian's share, sealed to the certificate with this x5t#S256."""

    x5t_256: str
    jwe: CompactJwe = field(repr=False)


@dataclass(frozen=True, slots=True)
class SecurityDomain:
    """A security-domain file whose shape is right."""

    required: int
    shares: tuple[SealedShare, ...]
    parts: tuple[SealedPart, ...]
    sha256: str
    size_bytes: int

    @property
    def custodians(self) -> tuple[str, ...]:
        """The x5t#S256 of every custodian's certificate, in the order of the file."""
        return tuple(share.x5t_256 for share in self.shares)

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of the encrypted parts, in the order of the file."""
        return tuple(part.tag for part in self.parts)


def parse_security_domain(data: bytes) -> SecurityDomain:
    """Read a security-domain file.

    Raises:
        DomainError: says what the file lacks or has too much of.
    """
    try:
        return _parse(data)
    except CeremonyError as error:
        raise DomainError(
            f"reading the security-domain file: {error.message}", hint=_HINT
        ) from None


def _parse(data: bytes) -> SecurityDomain:
    top = strict.members(
        strict.load_json(data, max_bytes=MAX_DOMAIN_BYTES),
        ("EncData", "SharedKeys", "version"),
        "the file",
    )
    version = strict.integer(top["version"], "'version'")
    if version != _VERSION:
        raise CeremonyError(f"'version' is {version}; drengine knows only {_VERSION}")
    keys = strict.members(
        top["SharedKeys"], ("enc_shares", "key_algorithm", "required"), "'SharedKeys'"
    )
    strict.literal(keys["key_algorithm"], "shamir_share", "'SharedKeys.key_algorithm'")
    shares = _parse_shares(keys["enc_shares"])
    return SecurityDomain(
        required=_parse_required(keys["required"], len(shares)),
        shares=shares,
        parts=parse_parts(top["EncData"]),
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
    )


def _parse_required(value: object, custodians: int) -> int:
    required = strict.integer(value, "'SharedKeys.required'")
    if not MIN_REQUIRED <= required <= custodians:
        raise CeremonyError(
            f"'SharedKeys.required' is {required}; with {custodians} custodians it can only "
            f"be {MIN_REQUIRED} to {custodians}"
        )
    return required


def _parse_shares(value: object) -> tuple[SealedShare, ...]:
    listed = strict.elements(
        value, "'SharedKeys.enc_shares'", least=MIN_CUSTODIANS, most=MAX_CUSTODIANS
    )
    shares = tuple(_parse_share(entry, number) for number, entry in enumerate(listed))
    seen: set[str] = set()
    for share in shares:
        if share.x5t_256 in seen:
            raise CeremonyError(f"the custodian {share.x5t_256} is listed twice")
        seen.add(share.x5t_256)
    return shares


def _parse_share(value: object, number: int) -> SealedShare:
    where = f"'SharedKeys.enc_shares[{number}]'"
    entry = strict.members(value, ("enc_key", "x5t_256"), where)
    x5t_256 = strict.thumbprint(entry["x5t_256"], f"the x5t_256 of {where}")
    written = strict.text(entry["enc_key"], f"the enc_key of {where}")
    try:
        return SealedShare(x5t_256, parse_jwe(written, KeyAgreement.RSA))
    except CeremonyError as error:
        raise CeremonyError(f"the share of custodian {x5t_256}: {error.message}") from None
