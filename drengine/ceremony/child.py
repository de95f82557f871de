"""The one process in which keys meet: opens a quorum's shares and makes the blob.

Started fresh by `combine` for one request, and gone after it: `combine` writes the
request to its standard input and reads one answer from its standard output.

Not here: prompts, the network, files other than the keys and their certificates.

Rules:
- The process shuts itself off before it reads the request.
- Only an answer leaves: the blob with a report, or an error by code and safe text. An
  unforeseen exception crosses as its type and place; its text could quote a secret.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from drengine.ceremony.certificates import subject_of, thumbprint_of
from drengine.ceremony.domain import parse_security_domain
from drengine.ceremony.keyfile import CustodianKey, open_key_file
from drengine.ceremony.messages import (
    ChildReport,
    Combined,
    CombineRequest,
    CustodianUsed,
)
from drengine.ceremony.rewrap import (
    load_exchange_certificate,
    make_restore_blob,
    refuse_custodian,
)
from drengine.ceremony.serving import serve_once
from drengine.ceremony.unseal import open_domain, open_share, require_quorum
from drengine.errors import QuorumError, ShareError

if TYPE_CHECKING:
    from drengine.ceremony.domain import SecurityDomain
    from drengine.ceremony.hardening import Hardening
    from drengine.ceremony.shamir import Share


def main() -> NoReturn:
    """Serve one request and end."""
    serve_once(_perform)


def _perform(request: bytes, hardening: Hardening) -> bytes:
    return perform(CombineRequest.from_bytes(request), hardening).to_bytes()


def perform(request: CombineRequest, hardening: Hardening) -> Combined:
    """Open the quorum's shares, open the domain and make the blob.

    Raises:
        DrError: whatever is wrong with the domain, the exchange certificate or a key.
    """
    domain = parse_security_domain(request.domain)
    exchange = load_exchange_certificate(request.exchange_certificate)
    refuse_custodian(thumbprint_of(exchange), domain.custodians)
    require_quorum(domain, len(request.keys))
    keys = _open_keys(request)
    shares = _open_shares(domain, keys)
    since_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    named = [
        replace(share, holder=f"{share.holder} ({key.path})")
        for key, share in zip(keys, shares, strict=True)
    ]
    blob = make_restore_blob(open_domain(domain, named), exchange, os.urandom)
    report = ChildReport(
        domain_sha256=domain.sha256,
        required=domain.required,
        custodians=tuple(map(_custodian, keys, shares)),
        exchange_x5t_256=thumbprint_of(exchange),
        exchange_subject=subject_of(exchange),
        plain_since_ns=since_ns,
        core_dumps_off=hardening.core_dumps_off,
        not_dumpable=hardening.not_dumpable,
        memory_locked=hardening.memory_locked,
        swap_active=hardening.swap_active,
    )
    return Combined(blob, report)


def _open_keys(request: CombineRequest) -> list[CustodianKey]:
    keys: list[CustodianKey] = []
    for source in request.keys:
        key = open_key_file(source, accept_open_permissions=request.accept_open_permissions)
        for earlier in keys:
            if earlier.identity == key.identity:
                raise QuorumError(
                    f"{earlier.path} and {key.path} are the same key file",
                    hint="Each custodian counts once: give the keys of different custodians.",
                )
        keys.append(key)
    return keys


def _open_shares(domain: SecurityDomain, keys: list[CustodianKey]) -> list[Share]:
    shares: list[Share] = []
    key_of: dict[str, CustodianKey] = {}
    for key in keys:
        try:
            share = open_share(domain, key.certificate, key.private_key)
        except ShareError as error:
            raise ShareError(f"{key.path}: {error.message}", hint=error.hint) from None
        if share.holder in key_of:
            raise QuorumError(
                f"{key_of[share.holder].path} and {key.path} are keys of the same custodian, "
                f"x5t#S256 {share.holder}",
                hint="Each custodian counts once: give the keys of different custodians.",
            )
        key_of[share.holder] = key
        shares.append(share)
    return shares


def _custodian(key: CustodianKey, share: Share) -> CustodianUsed:
    named = key.certificate is not None and thumbprint_of(key.certificate) == share.holder
    return CustodianUsed(
        x5t_256=share.holder,
        key_file=str(key.path),
        holder="pem",
        key_encrypted=key.encrypted,
        matched_by="certificate" if named else "trial",
    )


if __name__ == "__main__":
    main()
