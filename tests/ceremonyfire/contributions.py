"""A custodian's contribution as the tests make it: honest, or with one thing that is not."""

from __future__ import annotations

import os
from typing import Any

from drengine.ceremony.contribution import Contribution, HolderFacts, Statement
from drengine.ceremony.request import CeremonyRequest
from drengine.ceremony.sealing import seal_share
from drengine.ceremony.shamir import Share
from drengine.ceremony.signing import public_bytes, sign_statement
from drengine.model.canonical import sha256_hex

NOW = 1_790_000_000_000


def contribution(
    request: CeremonyRequest,
    share: Share,
    *,
    x5t_256: str,
    name: str,
    key: Any = None,
    host: str = "host 2",
    garble: bool = False,
) -> bytes:
    """Return the message.

    Parameters:
        key: what signs it; None for nobody.
        garble: whether the sealed share is damaged on its way, and signed so.
    """
    statement = Statement(
        ceremony=request.ceremony,
        run_class=request.run_class,
        request=request.digest,
        exchange_x5t_256=request.exchange_x5t_256,
        required=request.required,
        custodian=name,
        x5t_256=x5t_256,
        holder=HolderFacts("pem", encrypted=True),
        host=host,
        key=b"" if key is None else public_bytes(key),
        at_ms=NOW,
        tool_version="0",
        tool_sha256="0" * 64,
    )
    sealed = seal_share(share, request, statement, os.urandom)
    if garble:
        rest, _, tag = sealed.rpartition(".")
        sealed = f"{rest}.{'B' if tag[0] == 'A' else 'A'}{tag[1:]}"
    digest = sha256_hex(sealed.encode("ascii"))
    signature = b"" if key is None else sign_statement(key, statement, digest)
    return Contribution(statement, sealed, signature).to_bytes()
