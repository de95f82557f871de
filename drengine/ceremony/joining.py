"""The process in which a quorum's sealed shares become a restore blob.

Started fresh by `keeper` for one attempt, with the one-time key on its standard input,
and gone after it. It opens no key file: the only private key it sees is the one-time key.

Rules: those of `serving`. The blob leaves, readable only by the new HSM.
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
from drengine.ceremony.checking import check_contribution, check_distinct
from drengine.ceremony.contribution import parse_contribution
from drengine.ceremony.domain import parse_security_domain
from drengine.ceremony.messages import decode_bytes, encode_bytes
from drengine.ceremony.request import parse_request
from drengine.ceremony.rewrap import load_exchange_certificate, make_restore_blob
from drengine.ceremony.sealing import open_sealed_share
from drengine.ceremony.serving import serve_once
from drengine.ceremony.unseal import open_domain
from drengine.errors import CeremonyError, DomainError, QuorumError
from drengine.model.canonical import sha256_hex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drengine.ceremony.hardening import Hardening


@dataclass(frozen=True, slots=True)
class JoinOrder:
    """What is public about an attempt; `keeper` adds the one-time key."""

    request: bytes
    domain: bytes = field(repr=False)
    exchange_certificate: bytes = field(repr=False)
    contributions: Sequence[bytes] = field(repr=False)
    now_ms: int

    def to_json(self) -> dict[str, Any]:
        """Return the order as it crosses the pipe."""
        return {
            "request": encode_bytes(self.request),
            "domain": encode_bytes(self.domain),
            "exchange_certificate": encode_bytes(self.exchange_certificate),
            "contributions": [encode_bytes(one) for one in self.contributions],
            "now_ms": self.now_ms,
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


def perform(order: JoinOrder, private_key: RSAPrivateKey) -> dict[str, Any]:
    """Open the shares, open the domain, make the blob.

    Raises:
        DrError: whatever is wrong with request, domain, exchange certificate or a share.
    """
    request = parse_request(order.request)
    domain = parse_security_domain(order.domain)
    exchange = load_exchange_certificate(order.exchange_certificate)
    if sha256_hex(order.domain) != request.domain_sha256:
        raise DomainError("the security-domain file is not the one that the request names")
    if thumbprint_of(exchange) != request.exchange_x5t_256:
        raise CeremonyError("the exchange certificate is not the one that the request names")
    contributions = [parse_contribution(one) for one in order.contributions]
    if len(contributions) < domain.required:
        raise QuorumError(
            f"this ceremony needs {domain.required} of its {len(domain.shares)} custodians; "
            f"{len(contributions)} contributed",
            hint=f"Wait for {domain.required - len(contributions)} more.",
        )
    check_distinct(contributions)
    for contribution in contributions:
        check_contribution(contribution, request, now_ms=order.now_ms)
    since_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    shares = [open_sealed_share(one, request, private_key) for one in contributions]
    blob = make_restore_blob(open_domain(domain, shares), exchange, os.urandom)
    return {
        "blob": encode_bytes(blob),
        "since_ns": since_ns,
        "custodians": [one.statement.x5t_256 for one in contributions],
        "exchange_subject": subject_of(exchange),
        "pid": os.getpid(),
    }
