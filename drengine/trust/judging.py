"""Whether a signed approval counts: the one place that knows every condition.

Used twice: by the engine before it records a decision, and by whoever verifies a bundle,
against the trust folder of their own. Signatures of SSH and CMS are checked by their own
programs; everything else is pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from drengine.errors import DrError
from drengine.model.canonical import JsonObject
from drengine.model.times import utc_text
from drengine.trust.approval import Approval, Asked, Judged, Terms, read_approval
from drengine.trust.dsse import Envelope
from drengine.trust.keys import is_signed_by
from drengine.trust.outside import cms_verifies, ssh_verifies
from drengine.trust.people import Approver, TrustedKey
from drengine.trust.register import Register

SKEW_MS = 5 * 60_000
"""How far ahead an approver's clock may be."""


def judge(doc: object, terms: Terms, register: Register) -> Judged:
    """Return whether a signed decision counts, and whose it is."""
    try:
        envelope, approval = read_approval(doc)
    except ValueError as error:
        return Judged(f"the signed approval {error}")
    found = _signer(envelope, register)
    if isinstance(found, str):
        return Judged(found, approval)
    person, key = found
    why = (
        _not_about(approval.asked, terms.asked)
        or _not_theirs(approval, person)
        or _not_allowed(approval, person, terms)
        or _not_in_time(approval, key, terms)
    )
    return Judged(why, approval, person, key.keyid)


def _signer(envelope: Envelope, register: Register) -> tuple[Approver, TrustedKey] | str:
    if len(envelope.signatures) != 1:
        return f"it carries {len(envelope.signatures)} signatures, expected one"
    (signature,) = envelope.signatures
    found = register.owner_of(signature.keyid)
    if found is None:
        return f"the key {signature.keyid[:16]} is not in the register of approvers"
    try:
        verifies = verify_with(found[1], signature.sig, envelope.covered)
    except DrError as error:
        return f"its signature could not be checked: {error.message}"
    return found if verifies else f"the signature is not {found[0].name}'s: it does not verify"


def verify_with(key: TrustedKey, signature: bytes, data: bytes) -> bool:
    """Tell whether a signature is this key's, whatever its kind.

    Raises:
        InputFileError: the program that checks it is not here.
    """
    match key.kind:
        case "ssh":
            return ssh_verifies(key.public, signature, data)
        case "cms":
            return cms_verifies(key.public, signature, data)
        case _:
            return is_signed_by(key.public, signature, data)


def why_not_sealed(envelope: Envelope, sealers: Sequence[TrustedKey]) -> str:
    """Say why a seal does not count by these keys, whenever it was made; empty where it does."""
    if len(envelope.signatures) != 1:
        return f"has {len(envelope.signatures)} signatures, expected one"
    (signature,) = envelope.signatures
    by = [key for key in sealers if key.keyid == signature.keyid]
    if not by:
        return f"is signed by {signature.keyid[:16]}, a key that the trust folder lacks"
    if not verify_with(by[0], signature.sig, envelope.covered):
        return "its signature does not verify"
    if by[0].revoked_ms is not None:
        return "is signed with a key that the trust folder has revoked"
    return ""


def _not_about(said: Asked, asked: Asked) -> str:
    if said.run != asked.run:
        return f"it was given for run {said.run}, this is {asked.run}"
    if said.plan != asked.plan:
        return "it was given for another plan"
    if (said.run_class, said.lab) != (asked.run_class, asked.lab):
        return f"it was given for a {said.run_class}{' in a lab' if said.lab else ''}"
    if (said.step, said.seq, said.digest) != (asked.step, asked.seq, asked.digest):
        return f"it decides on another request than record {asked.seq}"
    if said.sha256 != asked.sha256:
        return f"record {asked.seq} is not the one that was approved: the chain before it changed"
    if said.facts != asked.facts:
        return "the facts it lists are not those that the gate showed"
    return ""


def _not_theirs(approval: Approval, person: Approver) -> str:
    if approval.by != person.name:
        return f"it names {approval.by[:40]!r}, but the key is {person.name}'s"
    return ""


def _not_allowed(approval: Approval, person: Approver, terms: Terms) -> str:
    asked = terms.asked
    if person.simulated and not (asked.lab and asked.run_class == "drill"):
        return f"{person.name} is played by drills; this is no drill in a lab"
    if approval.break_glass:
        return _glass(approval, terms)
    if approval.decision == "approve" and person.is_initiator(terms.initiator):
        return f"{person.name} started the run and cannot approve it"
    if approval.decision == "withdraw":
        return ""
    if approval.role and approval.role not in person.roles:
        return f"{person.name} does not hold the role {approval.role[:40]!r}"
    if terms.roles and approval.role not in terms.roles:
        return f"the gate asks for {' or '.join(terms.roles)}, it was given as {approval.role!r}"
    return ""


def _glass(approval: Approval, terms: Terms) -> str:
    if not terms.break_glass:
        return "break-glass: the runbook does not allow it at this gate"
    if approval.decision != "approve":
        return "break-glass only approves"
    return "" if approval.reason.strip() else "break-glass needs a reason"


def _not_in_time(approval: Approval, key: TrustedKey, terms: Terms) -> str:
    if approval.issued_ms > terms.at_ms + SKEW_MS:
        return f"it is dated {utc_text(approval.issued_ms)}, after its use"
    if approval.expires_ms < terms.at_ms:
        return f"it expired at {utc_text(approval.expires_ms)}"
    return key.refuses(approval.issued_ms) or key.refuses(terms.at_ms)


def terms_of(asked: Asked, request: JsonObject, *, initiator: str, at_ms: int) -> Terms:
    """Return what a gate's request record asks."""
    return Terms(
        asked=asked,
        roles=tuple(str(role) for role in request.get("roles", ())),
        break_glass=request.get("break_glass") is True,
        initiator=initiator,
        at_ms=at_ms,
    )
