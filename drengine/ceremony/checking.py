"""What can be told of a contribution before anything secret is touched.

The combiner's session asks this when a contribution arrives, and the child that opens
shares asks it again.

Not here: whether a share opens, and whether it is right: only a quorum can tell.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from drengine.ceremony.request import require_valid, same_person
from drengine.ceremony.sealing import check_binding
from drengine.ceremony.signing import check_signature
from drengine.errors import CeremonyError, QuorumError, ShareError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from drengine.ceremony.contribution import Attestation, Contribution
    from drengine.ceremony.request import CeremonyRequest

_ANOTHER: Final = "Another custodian contributes, or a new ceremony is opened with other roles."


def check_contribution(
    contribution: Contribution, request: CeremonyRequest, *, now_ms: int
) -> None:
    """Hold a contribution against the request it must be for.

    Raises:
        CeremonyError, ShareError: names the custodian and what does not fit.
    """
    require_valid(request, now_ms)
    check_attestation(contribution.attestation, request)
    check_binding(contribution, request)


def check_attestation(attestation: Attestation, request: CeremonyRequest) -> None:
    """Hold a statement against the request, and its signature against the enrolled key.

    Raises:
        CeremonyError, ShareError: names the custodian and what does not fit.
    """
    statement = attestation.statement
    who = f"the contribution of {statement.custodian!r} ({statement.x5t_256})"
    if statement.run_class != request.run_class:
        raise CeremonyError(
            f"{who} was given to a ceremony of class {statement.run_class}, this one is of class "
            f"{request.run_class}; a drill's share never serves an incident, nor the reverse",
            hint="Ask this custodian to contribute to this ceremony's request.",
        )
    expected = (request.ceremony, request.digest, request.exchange_x5t_256, request.required)
    found = (
        statement.ceremony,
        statement.request,
        statement.exchange_x5t_256,
        statement.required,
    )
    if found != expected:
        raise ShareError(
            f"{who} was given to another request: ceremony {statement.ceremony}, digest "
            f"{statement.request[:12]}…; this is {request.ceremony}, {request.digest[:12]}…",
            hint="Ask this custodian to contribute to this ceremony's request.",
        )
    check_person(request, statement.custodian, statement.x5t_256)
    invited = request.invited(statement.x5t_256)
    check_signature(attestation, invited.key if invited else b"")


def check_person(request: CeremonyRequest, name: str, x5t_256: str) -> None:
    """Check that somebody may contribute: invited, by this name, and in no other role.

    Raises:
        ShareError: not invited, enrolled under another name, or under the name of somebody
            who is enrolled with another certificate.
        CeremonyError: the combiner or a witness.
    """
    invited = request.invited(x5t_256)
    if invited is None:
        raise ShareError(
            f"{name!r} holds {x5t_256}, which is none of the {len(request.custodians)} "
            "certificates of this request",
            hint="Is this the security domain that this custodian's certificate was given for?",
        )
    if invited.name and same_person(invited.name) != same_person(name):
        raise ShareError(
            f"the certificate {x5t_256} is enrolled for {invited.name!r}, not for {name!r}",
            hint="Give the enrolled name with --name, or correct the register and open anew.",
        )
    owner = enrolled_as(request, name)
    if owner not in ("", x5t_256):
        raise ShareError(
            f"{name!r} is enrolled with the certificate {owner}, not with {x5t_256}: this is "
            "somebody else under that name",
            hint="Give your own name with --name. If the register is wrong, correct it and open "
            "anew.",
        )
    if same_person(name) == same_person(request.combiner):
        raise CeremonyError(
            f"{name!r} is the combiner of this ceremony; nobody is both", hint=_ANOTHER
        )
    if same_person(name) in map(same_person, request.witnesses):
        raise CeremonyError(
            f"{name!r} is a witness of this ceremony; nobody is both", hint=_ANOTHER
        )


def check_signing_key(request: CeremonyRequest, name: str, x5t_256: str, key: bytes) -> None:
    """Check, before a share is opened, that the statement about it will be signed as enrolled.

    Parameters:
        x5t_256: the custodian's certificate; empty or a renewed one where only the name tells.
        key: the public half of the signing key that was given; empty for none.

    Raises:
        ShareError: none was given though one is enrolled, or another one.
    """
    invited = request.invited(x5t_256) or request.invited(enrolled_as(request, name))
    if invited is None or not invited.key or key == invited.key:
        return
    what = "another signing key was given" if key else "no signing key was given"
    raise ShareError(
        f"{name!r} ({invited.x5t_256}) is enrolled with a signing key, and {what}; no share was "
        "opened",
        hint="Give the enrolled key with --signing-key. A new one is enrolled first, and counts in "
        "a ceremony that is opened after that.",
    )


def enrolled_as(request: CeremonyRequest, name: str) -> str:
    """Return the x5t#S256 that a name is enrolled with in the request, empty where it is not."""
    wanted = same_person(name)
    listed = (one for one in request.custodians if one.name and same_person(one.name) == wanted)
    return next((one.x5t_256 for one in listed), "")


def find_same(
    contribution: Contribution, others: Iterable[Contribution]
) -> tuple[Contribution, str] | None:
    """Return another contribution of the same custodian, with what the two have in common."""
    statement = contribution.statement
    for other in others:
        if other.statement.x5t_256 == statement.x5t_256:
            return other, f"the certificate {statement.x5t_256}"
        if same_person(other.statement.custodian) == same_person(statement.custodian):
            return other, f"the name {statement.custodian!r}"
        if statement.key and other.statement.key == statement.key:
            return other, "the signing key"
    return None


def check_distinct(contributions: Sequence[Contribution]) -> None:
    """Check that no custodian counts twice.

    Raises:
        QuorumError: names who does.
    """
    for at, contribution in enumerate(contributions):
        if found := find_same(contribution, contributions[:at]):
            raise counted_twice(*found, contribution)


def counted_twice(
    earlier: Contribution, common: str, later: Contribution, *, hint: str = ""
) -> QuorumError:
    """Return the error for two contributions that have a custodian in common."""
    return QuorumError(
        "two contributions are of the same custodian, or signed by the same key: they have "
        f"{common} in common; {_described(earlier)} came first, {_described(later)} came later",
        hint=hint or "Each custodian counts once: give contributions of different ones.",
    )


def _described(contribution: Contribution) -> str:
    statement = contribution.statement
    signed = "signed" if contribution.attestation.is_signed else "not signed"
    return f"{statement.custodian!r} ({statement.x5t_256}, {signed})"


def drop_command(folder: str, x5t_256: str) -> str:
    """Return the command that takes one contribution out of an open ceremony."""
    place = shlex.quote(folder) if folder else "FOLDER"
    # With '=': a thumbprint may begin with a dash.
    return f"drengine ceremony drop --session {place} --custodian={x5t_256} --by NAME --reason TEXT"
