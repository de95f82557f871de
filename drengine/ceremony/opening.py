"""Open a ceremony: make the request for one domain, one target and one quorum.

Not here: holding it (`session`).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drengine.ceremony.certificates import subject_of, thumbprint_of
from drengine.ceremony.domain import parse_security_domain
from drengine.ceremony.fields import require_text
from drengine.ceremony.register import contested
from drengine.ceremony.request import CeremonyRequest, Invited, check_request, parse_request
from drengine.ceremony.rewrap import load_exchange_certificate, refuse_custodian
from drengine.errors import CeremonyError, InputFileError, QuorumError

if TYPE_CHECKING:
    from drengine.ceremony.register import Register


@dataclass(frozen=True, slots=True)
class Occasion:
    """Why a ceremony is held, and by whom; the operator says so.

    Attributes:
        accept_unenrolled: in an incident, invite custodians whom the register does not know:
            they contribute under any name, and unsigned.
    """

    run_class: str
    purpose: str
    target: str
    combiner: str
    witnesses: tuple[str, ...]
    valid_ms: int
    run: str = ""
    step: str = ""
    accept_unenrolled: bool = False


def make_request(
    occasion: Occasion,
    *,
    domain: bytes,
    exchange_certificate: bytes,
    register: Register,
    combiner_key: bytes,
    combiner_signs: bytes,
    host: str,
    now_ms: int,
    tool: dict[str, str],
) -> CeremonyRequest:
    """Return the request.

    Raises:
        DomainError, InputFileError: the domain or the certificate is not one.
        CeremonyError: a rule of dual control is broken.
    """
    for name in (occasion.target, occasion.purpose, occasion.combiner, *occasion.witnesses):
        require_text(name, "target, purpose or a name")
    found = parse_security_domain(domain)
    exchange = load_exchange_certificate(exchange_certificate)
    refuse_custodian(thumbprint_of(exchange), found.custodians)
    request = CeremonyRequest(
        ceremony=f"c-{secrets.token_hex(8)}",
        run_class=occasion.run_class,
        purpose=occasion.purpose,
        run=occasion.run,
        step=occasion.step,
        target=occasion.target,
        exchange_x5t_256=thumbprint_of(exchange),
        exchange_subject=subject_of(exchange)[:200],
        domain_sha256=found.sha256,
        required=found.required,
        custodians=tuple(_invited(x5t_256, register, now_ms) for x5t_256 in found.custodians),
        combiner=occasion.combiner,
        combiner_host=host,
        combiner_key=combiner_key,
        combiner_signs=combiner_signs,
        witnesses=occasion.witnesses,
        opened_ms=now_ms,
        expires_ms=now_ms + occasion.valid_ms,
        tool_version=tool["version"],
        tool_sha256=tool["files_sha256"],
    )
    _check(request, register, now_ms)
    _require_enrolled(request, register, accept_unenrolled=occasion.accept_unenrolled)
    return request


def _check(request: CeremonyRequest, register: Register, now_ms: int) -> None:
    """Refuse what no custodian could use, before there is a code that could be read aloud."""
    try:
        check_request(request)
        parse_request(request.to_bytes())
    except InputFileError as error:
        raise CeremonyError(
            f"opening a ceremony: its custodians could not read the request ({error.message}); "
            "nothing was opened",
            hint="Names and texts have 240 visible characters at most: change what is named.",
        ) from None
    except CeremonyError as error:
        entries = _entries(error.message, request, register, now_ms)
        raise type(error)(
            f"opening a ceremony: {error.message}; nothing was opened",
            hint=f"{error.hint}{entries}",
        ) from None


def _entries(message: str, request: CeremonyRequest, register: Register, now_ms: int) -> str:
    """Return the register's files about the certificates that a refusal names."""
    lines = {one.x5t_256: register.line(one.x5t_256, now_ms) for one in request.custodians}
    named = [f"{x5t}: {line.files}" for x5t, line in lines.items() if line.held and x5t in message]
    return f" In the register: {'; '.join(named)}." if named else ""


def _invited(x5t_256: str, register: Register, now_ms: int) -> Invited:
    line = register.line(x5t_256, now_ms)
    if line.against:
        raise QuorumError(f"opening a ceremony: {contested(x5t_256, line)}; nothing was opened")
    found = line.current
    return Invited(x5t_256) if found is None else Invited(x5t_256, found.name, found.key)


def _require_enrolled(
    request: CeremonyRequest, register: Register, *, accept_unenrolled: bool
) -> None:
    """A register that knows nobody of this domain is another domain's; an incident wants all."""
    missing = request.unenrolled
    if not register.enrolments:
        _require_a_register(request, accept_unenrolled=accept_unenrolled)
    elif len(missing) == len(request.custodians):
        raise QuorumError(
            "none of the domain's custodians is in the register: it is another domain's",
            hint="Give the right --register, or the right --sd-file.",
        )
    elif missing and request.run_class == "incident" and not accept_unenrolled:
        raise QuorumError(
            f"opening a ceremony of class incident: {len(missing)} of {len(request.custodians)} "
            f"custodians are not enrolled ({', '.join(missing)}): whoever holds such a key could "
            "contribute under any name, unsigned; nothing was opened",
            hint="Let them enrol, or add --accept-unenrolled; the transcript shows them.",
        )


def _require_a_register(request: CeremonyRequest, *, accept_unenrolled: bool) -> None:
    """An incident without a register knows no custodian by a key: somebody has to say so."""
    if request.run_class != "incident" or accept_unenrolled:
        return
    raise QuorumError(
        "opening a ceremony of class incident: no --register was given, so that none of the "
        f"{len(request.custodians)} custodians is known by name or signing key: whoever holds "
        "such a key could contribute under any name, unsigned; nothing was opened",
        hint="Give the custodian register with --register. Where there is none, add "
        "--accept-unenrolled; the transcript shows every custodian as not enrolled.",
    )
