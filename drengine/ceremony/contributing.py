"""The process in which one custodian's share is opened, and sealed again at once.

Started fresh by `contribute`, and gone after it. It opens one holder and, where one is
enrolled, the signing key; nothing else of this custodian, nothing of any other.

Rules: those of `serving`. The share leaves sealed to the combiner's one-time key only.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from drengine.ceremony.certificates import thumbprint_of
from drengine.ceremony.checking import check_person, check_signing_key
from drengine.ceremony.contribution import Contribution, Statement
from drengine.ceremony.domain import parse_security_domain
from drengine.ceremony.holding import open_holder
from drengine.ceremony.keyfile import open_signing_key
from drengine.ceremony.messages import (
    KeySource,
    TokenSource,
    decode_bytes,
    decode_source,
    encode_bytes,
    encode_source,
)
from drengine.ceremony.request import CeremonyRequest, parse_request
from drengine.ceremony.sealing import combiner_key_of, seal_share
from drengine.ceremony.serving import serve_once
from drengine.ceremony.signing import public_bytes, sign_statement
from drengine.ceremony.unseal import open_share_with
from drengine.errors import DomainError, ShareError
from drengine.model.canonical import sha256_hex

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from drengine.ceremony.contribution import HolderFacts
    from drengine.ceremony.hardening import Hardening
    from drengine.ceremony.shamir import Share


@dataclass(frozen=True, slots=True)
class ContributeOrder:
    """What the child is asked to do: all that a contribution is made from."""

    request: bytes
    domain: bytes = field(repr=False)
    holder: KeySource | TokenSource
    signing: KeySource | None
    custodian: str
    host: str
    at_ms: int
    tool_version: str
    tool_sha256: str
    accept_open_permissions: bool = False
    accept_plain_key: bool = False

    def to_bytes(self) -> bytes:
        """Return the order as it crosses the pipe."""
        return json.dumps(
            {
                "request": encode_bytes(self.request),
                "domain": encode_bytes(self.domain),
                "holder": encode_source(self.holder),
                "signing": None if self.signing is None else encode_source(self.signing),
                "custodian": self.custodian,
                "host": self.host,
                "at_ms": self.at_ms,
                "tool_version": self.tool_version,
                "tool_sha256": self.tool_sha256,
                "accept_open_permissions": self.accept_open_permissions,
                "accept_plain_key": self.accept_plain_key,
            }
        ).encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes) -> ContributeOrder:
        """Read what `to_bytes` wrote in the parent process."""
        found: dict[str, Any] = json.loads(data)
        signing = None if found["signing"] is None else decode_source(found.pop("signing"))
        found.pop("signing", None)
        if signing is not None and not isinstance(signing, KeySource):
            raise TypeError("a signing key is a file")
        return cls(
            request=decode_bytes(found.pop("request")),
            domain=decode_bytes(found.pop("domain")),
            holder=decode_source(found.pop("holder")),
            signing=signing,
            **found,
        )


def main() -> NoReturn:
    """Serve one order and end."""
    serve_once(_perform)


def main_with_token() -> NoReturn:
    """Serve one order that needs a token, whose module may write its own lock files."""
    serve_once(_perform, may_write_files=True)


def _perform(data: bytes, hardening: Hardening) -> bytes:
    since_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    contribution = perform(ContributeOrder.from_bytes(data))
    return json.dumps(
        {
            "contribution": encode_bytes(contribution.to_bytes()),
            "since_ns": since_ns,
            "memory_locked": hardening.memory_locked,
            "swap_active": hardening.swap_active,
        }
    ).encode("ascii")


def perform(order: ContributeOrder) -> Contribution:
    """Open one share, seal it to the combiner, and state what was done.

    Raises:
        DrError: whatever is wrong with request, domain, holder or signing key.
    """
    request = parse_request(order.request)
    combiner_key_of(request)
    if sha256_hex(order.domain) != request.domain_sha256:
        raise DomainError("the security-domain file is not the one that the request names")
    domain = parse_security_domain(order.domain)
    signing_key = _signing_key(order)
    signs = b"" if signing_key is None else public_bytes(signing_key)
    with open_holder(order.holder, accept_open_permissions=order.accept_open_permissions) as (
        holder,
        certificate,
    ):
        x5t_256 = "" if certificate is None else thumbprint_of(certificate)
        check_signing_key(request, order.custodian, x5t_256, signs)
        _require_encrypted(order, request, holder.facts)
        share = open_share_with(domain, certificate, holder)
        facts = holder.facts
    check_person(request, order.custodian, share.holder)
    return _contribution(order, request, share, facts, signing_key)


def _signing_key(order: ContributeOrder) -> Ed25519PrivateKey | None:
    if order.signing is None:
        return None
    return open_signing_key(order.signing, accept_open_permissions=order.accept_open_permissions)


def _require_encrypted(
    order: ContributeOrder, request: CeremonyRequest, facts: HolderFacts
) -> None:
    if facts.encrypted or request.run_class != "incident" or order.accept_plain_key:
        return
    raise ShareError(
        "the key file has no passphrase; an incident's ceremony takes no such key by itself",
        hint="Add --accept-plain-key: the attestation then says so.",
    )


def _contribution(
    order: ContributeOrder,
    request: CeremonyRequest,
    share: Share,
    facts: HolderFacts,
    signing_key: Ed25519PrivateKey | None,
) -> Contribution:
    statement = Statement(
        ceremony=request.ceremony,
        run_class=request.run_class,
        request=request.digest,
        exchange_x5t_256=request.exchange_x5t_256,
        required=request.required,
        custodian=order.custodian,
        x5t_256=share.holder,
        holder=facts,
        host=order.host,
        key=b"" if signing_key is None else public_bytes(signing_key),
        at_ms=order.at_ms,
        tool_version=order.tool_version,
        tool_sha256=order.tool_sha256,
    )
    sealed = seal_share(share, request, statement, os.urandom)
    signature = b""
    if signing_key is not None:
        signature = sign_statement(signing_key, statement, sha256_hex(sealed.encode("ascii")))
    return Contribution(statement, sealed, signature)
