"""The process in which a quorum's sealed shares become a restore blob.

Started fresh by `keeper` for one attempt, with the one-time key on its standard input,
and gone after it. It opens no key file: the only private key it sees is the one-time key.

Rules:
- Those of `serving`. The blob leaves, readable only by the new HSM.
- A share that does not open or does not fit stands in nobody's way: where a quorum of the
  others opens the domain, the blob is made of theirs, and the answer says who did not fit.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key

from drengine.ceremony.certificates import subject_of, thumbprint_of
from drengine.ceremony.checking import check_contribution, check_distinct, drop_command
from drengine.ceremony.contribution import Contribution, parse_contribution
from drengine.ceremony.domain import parse_security_domain
from drengine.ceremony.messages import decode_bytes, encode_bytes
from drengine.ceremony.request import parse_request
from drengine.ceremony.rewrap import load_exchange_certificate, make_restore_blob
from drengine.ceremony.sealing import open_sealed_share
from drengine.ceremony.serving import serve_once
from drengine.ceremony.unseal import open_with_quorum
from drengine.errors import CeremonyError, DomainError, QuorumError, ShareError
from drengine.model.canonical import sha256_hex

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drengine.ceremony.domain import SecurityDomain
    from drengine.ceremony.hardening import Hardening
    from drengine.ceremony.request import CeremonyRequest
    from drengine.ceremony.shamir import Share
    from drengine.ceremony.unseal import OpenedDomain


@dataclass(frozen=True, slots=True)
class JoinOrder:
    """What is public about an attempt; `keeper` adds the one-time key.

    Attributes:
        folder: the ceremony's folder, for the advice in a refusal; nothing is read there.
    """

    request: bytes
    domain: bytes = field(repr=False)
    exchange_certificate: bytes = field(repr=False)
    contributions: Sequence[bytes] = field(repr=False)
    now_ms: int
    folder: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the order as it crosses the pipe."""
        return {
            "request": encode_bytes(self.request),
            "domain": encode_bytes(self.domain),
            "exchange_certificate": encode_bytes(self.exchange_certificate),
            "contributions": [encode_bytes(one) for one in self.contributions],
            "now_ms": self.now_ms,
            "folder": self.folder,
        }

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> JoinOrder:
        """Read what `to_json` wrote."""
        return cls(
            request=decode_bytes(found["request"]),
            domain=decode_bytes(found["domain"]),
            exchange_certificate=decode_bytes(found["exchange_certificate"]),
            contributions=[decode_bytes(one) for one in found["contributions"]],
            now_ms=int(found["now_ms"]),
            folder=str(found["folder"]),
        )


def main() -> NoReturn:
    """Serve one attempt and end."""
    serve_once(_perform)


def _perform(data: bytes, hardening: Hardening) -> bytes:
    found = json.loads(data)
    private_key = load_der_private_key(decode_bytes(found["key"]), None)
    if not isinstance(private_key, RSAPrivateKey):
        raise TypeError("the one-time key is an RSA key")
    answer = perform(JoinOrder.from_json(found), private_key)
    answer["memory_locked"] = hardening.memory_locked
    answer["swap_active"] = hardening.swap_active
    return json.dumps(answer).encode("ascii")


@dataclass(slots=True)
class _Opened:
    """Shares as they came out, and why some custodians' do not fit: by x5t#S256."""

    shares: list[Share] = field(default_factory=list, repr=False)
    x5t_256_of: dict[str, str] = field(default_factory=dict)
    misfits: dict[str, str] = field(default_factory=dict)


def perform(order: JoinOrder, private_key: RSAPrivateKey) -> dict[str, Any]:
    """Open the shares, open the domain, make the blob.

    Raises:
        DrError: whatever is wrong with request, domain or exchange certificate, or with so
            many shares that no quorum is left; names whose, as far as that can be told.
    """
    request = parse_request(order.request)
    domain = parse_security_domain(order.domain)
    exchange = load_exchange_certificate(order.exchange_certificate)
    if sha256_hex(order.domain) != request.domain_sha256:
        raise DomainError("the security-domain file is not the one that the request names")
    if thumbprint_of(exchange) != request.exchange_x5t_256:
        raise CeremonyError("the exchange certificate is not the one that the request names")
    contributions = [parse_contribution(one) for one in order.contributions]
    _check(contributions, request, domain, order.now_ms)
    since_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    opened = _open_shares(contributions, request, private_key)
    joined = _join(opened, domain, order.folder)
    blob = make_restore_blob(joined.parts, exchange, os.urandom)
    return {
        "blob": encode_bytes(blob),
        "since_ns": since_ns,
        "custodians": [
            one.statement.x5t_256
            for one in contributions
            if one.statement.x5t_256 not in opened.misfits
        ],
        "misfits": opened.misfits,
        "twins": [list(group) for group in joined.twins],
        "exchange_subject": subject_of(exchange),
        "pid": os.getpid(),
    }


def _check(
    contributions: Sequence[Contribution],
    request: CeremonyRequest,
    domain: SecurityDomain,
    now_ms: int,
) -> None:
    """Refuse, before any share is opened, what can be refused then."""
    if len(contributions) < domain.required:
        raise QuorumError(
            f"this ceremony needs {domain.required} of its {len(domain.shares)} custodians; "
            f"{len(contributions)} contributed",
            hint=f"Wait for {domain.required - len(contributions)} more.",
        )
    check_distinct(contributions)
    for contribution in contributions:
        check_contribution(contribution, request, now_ms=now_ms)


def _open_shares(
    contributions: Sequence[Contribution], request: CeremonyRequest, private_key: RSAPrivateKey
) -> _Opened:
    opened = _Opened()
    for contribution in contributions:
        x5t_256 = contribution.statement.x5t_256
        try:
            share = open_sealed_share(contribution, request, private_key)
        except ShareError as error:
            opened.misfits[x5t_256] = error.message
        else:
            opened.shares.append(share)
            opened.x5t_256_of[share.holder] = x5t_256
    return opened


def _join(opened: _Opened, domain: SecurityDomain, folder: str) -> OpenedDomain:
    """Open the domain with those that fit; enter the others in `opened.misfits`."""
    if len(opened.shares) < domain.required:
        raise ShareError(
            f"{'; '.join(opened.misfits.values())}; {len(opened.shares)} of the "
            f"{domain.required} needed shares are left, no blob was made",
            hint=_advice(opened.misfits, folder),
        )
    try:
        joined = open_with_quorum(domain, opened.shares)
    except QuorumError as error:
        said = "; ".join((error.message, *opened.misfits.values()))
        raise QuorumError(said, hint=_advice(opened.misfits, folder)) from None
    for holder in joined.wrong_holders:
        x5t_256 = opened.x5t_256_of[holder]
        opened.misfits[x5t_256] = f"the share of {holder} is not of this security domain"
    return joined


def _advice(misfits: Mapping[str, str], folder: str) -> str:
    """Say what to do; the ceremony is open still."""
    more = (
        "The ceremony stays open. Add the contribution of one more custodian and combine again: "
        "with enough right shares the wrong ones are found and left out."
    )
    drops = [drop_command(folder, x5t_256) for x5t_256 in misfits] or [drop_command(folder, "X5T")]
    return f"{more} To have somebody contribute anew, take theirs out first: {'; '.join(drops)}"
