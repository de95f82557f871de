"""Contribute one share to a ceremony: the custodian's half, on the custodian's machine.

Not here: the secret part (`contributing`). This process opens no key; it looks at the
request, has the code typed in, and passes on.

Rules:
- All that can be refused without a key is refused before one is opened.
- The code is typed by a person who has it from the combiner over another channel.
"""

from __future__ import annotations

import hashlib
import os
import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from drengine.ceremony.certificates import thumbprint_of
from drengine.ceremony.checking import check_contribution, check_person, check_signing_key
from drengine.ceremony.code import is_code_of
from drengine.ceremony.contributing import ContributeOrder
from drengine.ceremony.contribution import Contribution, parse_contribution
from drengine.ceremony.domain import parse_security_domain
from drengine.ceremony.fields import require_text
from drengine.ceremony.holding import token_certificate
from drengine.ceremony.keyfile import find_certificate
from drengine.ceremony.messages import (
    KeySource,
    TokenSource,
    absolute_source,
    decode_bytes,
    read_result,
)
from drengine.ceremony.request import CeremonyRequest, parse_request, require_valid
from drengine.ceremony.sealing import combiner_key_of
from drengine.ceremony.spawn import TOKEN_ENVIRONMENT, ask_child, no_answer, start_line
from drengine.errors import CeremonyError, DomainError, QuorumError
from drengine.model.canonical import sha256_hex

if TYPE_CHECKING:
    from collections.abc import Mapping

_MODULE: Final = "drengine.ceremony.contributing"
_START: Final = start_line(_MODULE)
_START_WITH_TOKEN: Final = start_line(_MODULE).replace(
    "import main; main()", "import main_with_token; main_with_token()"
)
_MACHINE_ID: Final = "/etc/machine-id"
_NO_IDENTITY: Final = (b"", b"uninitialized")
"""What images bear before their first start: every machine made of them would be one."""


@dataclass(frozen=True, slots=True)
class Contributed:
    """A contribution with how long its share was plain in the child's memory."""

    contribution: Contribution
    plain_milliseconds: int
    memory_locked: bool
    swap_active: bool


def look_at(request_bytes: bytes, domain_bytes: bytes, *, now_ms: int) -> CeremonyRequest:
    """Check request and domain as far as that goes without a key.

    Raises:
        InputFileError, DomainError, CeremonyError: says what does not fit.
    """
    request = parse_request(request_bytes)
    require_valid(request, now_ms)
    combiner_key_of(request)
    found = sha256_hex(domain_bytes)
    if found != request.domain_sha256:
        raise DomainError(
            f"this security-domain file has SHA-256 {found}, the request names "
            f"{request.domain_sha256}: it is another domain, or one of the two was changed",
            hint="Use the copy that was kept since the domain was downloaded, and compare its "
            "SHA-256 with the combiner's by voice. Nothing was opened.",
        )
    domain = parse_security_domain(domain_bytes)
    invited = [one.x5t_256 for one in request.custodians]
    if request.required != domain.required or not set(invited) <= set(domain.custodians):
        raise QuorumError("the request's quorum or custodians are not those of the domain")
    return request


def require_code(request: CeremonyRequest, typed: str) -> None:
    """Refuse to go on unless the typed code is the request's.

    Raises:
        CeremonyError: it is not; the right code is not shown.
    """
    if not is_code_of(typed, request.digest):
        raise CeremonyError(
            "the typed code is not the code of this request; nothing was opened",
            hint="Have the combiner read the code aloud again. If it still differs, this request "
            "is not the combiner's: stop, and say so.",
        )


def contribute(order: ContributeOrder) -> Contributed:
    """Let a child open the share and seal it; check what comes back.

    Raises:
        DrError: whatever the child refuses.
    """
    require_text(order.custodian, "the custodian's name")
    request = look_at(order.request, order.domain, now_ms=order.at_ms)
    holder = absolute_source(order.holder)
    signing = None if order.signing is None else absolute_source(order.signing)
    if signing is not None and not isinstance(signing, KeySource):
        raise TypeError("a signing key is a file")
    x5t_256 = _check_certificate(request, holder, order.custodian)
    if signing is None:
        check_signing_key(request, order.custodian, x5t_256, b"")
    with_token = isinstance(holder, TokenSource)
    answer, gone_ns = ask_child(
        _START_WITH_TOKEN if with_token else _START,
        replace(order, holder=holder, signing=signing).to_bytes(),
        environment=TOKEN_ENVIRONMENT if with_token else (),
        doing="contributing",
    )
    try:
        found = read_result(answer)
        contribution = parse_contribution(decode_bytes(found["contribution"]))
        plain_ms = max(1, (gone_ns - int(found["since_ns"])) // 1_000_000)
        locked, swap = bool(found["memory_locked"]), bool(found["swap_active"])
    except (ValueError, KeyError, TypeError):
        raise no_answer("contributing", "broke off in the middle of its answer") from None
    check_contribution(contribution, request, now_ms=order.at_ms)
    return Contributed(contribution, plain_ms, locked, swap)


def _check_certificate(request: CeremonyRequest, holder: KeySource | TokenSource, name: str) -> str:
    """Refuse a custodian who is not invited before a key is opened, where a certificate says.

    Return the invited certificate's x5t#S256; empty where only the key can tell.
    """
    if isinstance(holder, TokenSource):
        certificate, _ = token_certificate(holder)
    elif (found := find_certificate(holder)) is not None:
        certificate = found
    else:
        return ""
    x5t_256 = thumbprint_of(certificate)
    # A renewed certificate is not in the request: then only the key can tell.
    if request.invited(x5t_256) is None:
        return ""
    check_person(request, name, x5t_256)
    return x5t_256


def host_name(environ: Mapping[str, str] = os.environ) -> str:
    """Return what tells machines apart in evidence: a name, and a digest of the machine id."""
    try:
        identity = Path(_MACHINE_ID).read_bytes()
    except OSError:
        identity = b""
    if identity.strip() in _NO_IDENTITY:
        identity = platform.node().encode()
    mark = hashlib.sha256(b"drengine ceremony host\n" + identity).hexdigest()[:12]
    user = environ.get("USER") or str(os.getuid())
    return f"{user}@{platform.node() or 'unnamed'} {mark}"
