"""Open a security domain: one custodian's share, then, with a quorum, its parts.

Not here: files, and the process in which this may happen (`child`).

Rules:
- A certificate names its share by x5t#S256. Where none matches (no certificate at
  hand, or a renewed one) the key is tried on every share: it is the key that opens.
- The master key counts as right when it authenticates at least one part. So a part
  that fails is told apart from a share that is wrong.
- A wrong share is named, whenever a quorum of the others opens the domain. With all keys
  in one place it is refused (a key is left out by hand); a ceremony goes on without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from drengine.ceremony.certificates import thumbprint_of
from drengine.ceremony.jose import SoftwareKey, open_direct, open_with
from drengine.ceremony.kdf import derive_content_key
from drengine.ceremony.shamir import Share, recover, same_numbers
from drengine.errors import CeremonyError, DomainError, QuorumError, ShareError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.x509 import Certificate

    from drengine.ceremony.domain import SealedShare, SecurityDomain
    from drengine.ceremony.jose import Unwrapper
    from drengine.ceremony.parts import SealedPart


@dataclass(frozen=True, slots=True)
class PlainPart:
    """One decrypted part of the security domain."""

    tag: str
    plaintext: bytes = field(repr=False)


def open_share(
    domain: SecurityDomain, certificate: Certificate | None, private_key: RSAPrivateKey
) -> Share:
    """Open one custodian's share with a key in memory; see `open_share_with`."""
    return open_share_with(domain, certificate, SoftwareKey(private_key))


def open_share_with(
    domain: SecurityDomain, certificate: Certificate | None, holder: Unwrapper
) -> Share:
    """Open the share that belongs to one custodian; `holder` is its x5t#S256 in the file.

    Raises:
        ShareError: the key is not the certificate's, fits no share, or the share is damaged.
    """
    x5t_256 = ""
    if certificate is not None:
        # Before any decryption: a wrong key or token slot must not cost a try.
        if certificate.public_key() != holder.public_key:
            raise ShareError(
                "the private key does not belong to its certificate "
                f"(x5t#S256 {thumbprint_of(certificate)})",
                hint="Give the certificate that belongs to this key with --cert, or none at "
                "all: then the key is tried on every share of the domain.",
            )
        x5t_256 = thumbprint_of(certificate)
    for sealed in domain.shares:
        if sealed.x5t_256 == x5t_256:
            return _open_named_share(sealed, holder)
    return _open_any_share(domain, x5t_256, holder)


def _open_named_share(sealed: SealedShare, holder: Unwrapper) -> Share:
    try:
        return Share.from_bytes(open_with(sealed.jwe, holder), sealed.x5t_256)
    except ShareError:
        raise
    except CeremonyError as error:
        raise ShareError(
            f"the share of custodian {sealed.x5t_256} does not open although key and "
            f"certificate are right: {error.message}",
            hint="This share is damaged in the security-domain file. Take another copy of "
            "the file, or another custodian.",
        ) from None


def _open_any_share(domain: SecurityDomain, x5t_256: str, holder: Unwrapper) -> Share:
    for sealed in domain.shares:
        try:
            plaintext = open_with(sealed.jwe, holder)
        except CeremonyError:
            continue
        return Share.from_bytes(plaintext, sealed.x5t_256)
    named = f"x5t#S256 {x5t_256}" if x5t_256 else "no certificate beside it, so no x5t#S256"
    raise ShareError(
        f"the key ({named}) opens none of the {len(domain.shares)} shares of this security "
        f"domain; its custodians are {', '.join(domain.custodians)}",
        hint="Check with 'drengine ceremony inspect' that this is the security domain which "
        "this custodian's certificate was given for.",
    )


@dataclass(frozen=True, slots=True)
class OpenedDomain:
    """The parts of a domain, and how the shares stand to them.

    Attributes:
        wrong_holders: whose share is not of this domain; a quorum of the others opened it.
        twins: holders of right shares with one number, so that one is not its holder's own.
    """

    parts: tuple[PlainPart, ...]
    wrong_holders: tuple[str, ...]
    twins: tuple[tuple[str, ...], ...]


def open_domain(domain: SecurityDomain, shares: Sequence[Share]) -> tuple[PlainPart, ...]:
    """Open every part of the domain; refuse where one of the shares is wrong.

    Raises:
        QuorumError: too few shares, one custodian twice, or shares that give no key.
        ShareError: names the custodian whose share is not of this domain.
        DomainError: names the part that does not authenticate.
    """
    opened = open_with_quorum(domain, shares)
    if opened.wrong_holders:
        raise ShareError(
            f"the share of custodian {', '.join(opened.wrong_holders)} is not of this "
            f"security domain; the other {len(shares) - len(opened.wrong_holders)} agree",
            hint="Run the command again without this custodian, and find out how the share "
            "came to be wrong.",
        )
    if opened.twins:
        raise QuorumError(
            f"{' and '.join(opened.twins[0])} hold the same share; a quorum needs different ones",
            hint="Run the command again without one of the two, and find out whose it is.",
        )
    return opened.parts


def open_with_quorum(domain: SecurityDomain, shares: Sequence[Share]) -> OpenedDomain:
    """Recover the master key from any quorum among the shares; name those that do not fit.

    Raises:
        QuorumError: too few shares, too few different ones, or no quorum gives the key.
        DomainError: names the part that does not authenticate.
    """
    require_quorum(domain, len(shares))
    recovered = recover(shares, domain.required, lambda key: _opens_any(domain, key))
    if recovered is None:
        raise _no_key_error(domain, shares)
    right = [share for share in shares if share.holder not in recovered.wrong_holders]
    return OpenedDomain(
        parts=tuple(_open_part(part, recovered.secret) for part in domain.parts),
        wrong_holders=recovered.wrong_holders,
        twins=tuple(tuple(one.holder for one in group) for group in same_numbers(right)),
    )


def require_quorum(domain: SecurityDomain, offered: int) -> None:
    """Refuse to begin with fewer custodians than the domain asks for.

    Raises:
        QuorumError: says how many are missing.
    """
    if offered < domain.required:
        raise QuorumError(
            f"this security domain needs the keys of {domain.required} of its "
            f"{len(domain.shares)} custodians; {offered} given",
            hint=f"Add {domain.required - offered} more with --key.",
        )


def _opens_any(domain: SecurityDomain, master_key: bytes) -> bool:
    for part in domain.parts:
        try:
            open_direct(part.jwe, derive_content_key(master_key, part.tag))
        except CeremonyError:
            continue
        return True
    return False


def _open_part(part: SealedPart, master_key: bytes) -> PlainPart:
    try:
        plaintext = open_direct(part.jwe, derive_content_key(master_key, part.tag))
    except CeremonyError as error:
        raise DomainError(
            f"opening part {part.tag!r} of the security domain: {error.message}; the quorum's "
            "key is right, so this part of the file is damaged or was altered",
            hint="Take another copy of the security-domain file. No blob was made.",
        ) from None
    return PlainPart(part.tag, plaintext)


def _no_key_error(domain: SecurityDomain, shares: Sequence[Share]) -> CeremonyError:
    holders = ", ".join(share.holder for share in shares)
    return QuorumError(
        f"the {len(shares)} shares opened, but no {domain.required} of them give a key that "
        f"authenticates any part of the security domain; custodians: {holders}",
        hint="Either a share is not of this domain or every part of the file is damaged. Add "
        "one more custodian's key: with a surplus share a wrong one can be named. Or take "
        "another copy of the file.",
    )
