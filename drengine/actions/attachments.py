"""Documents of a ceremony that are attached to the delivery which waits for its blob.

Attestations come in one by one and show how far the custodians are; the transcript comes
at the end and says how the blob was made. Neither has a share in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from drengine.actions.contract import Attached
from drengine.errors import DrError
from drengine.model.canonical import JsonObject
from drengine.model.findings import Finding, block, ok, warn
from drengine.model.runbook import RunClass

_RULE = "ceremony"


def check_attestation(data: bytes, expects: JsonObject, run_class: RunClass) -> Attached:
    """Return what a custodian's attestation says, and whether it is for this delivery.

    The signature must verify under the key that the attestation itself names; that this
    is the enrolled key is proved with the transcript, whose request names it.
    """
    from drengine.ceremony.contribution import parse_attestation  # noqa: PLC0415 - as below
    from drengine.ceremony.signing import check_signature  # noqa: PLC0415 - loads cryptography

    try:
        attestation = parse_attestation(data)
        check_signature(attestation, b"")
    except DrError as error:
        return Attached((block(_RULE, error.message, error.hint),))
    statement = attestation.statement
    made_for = {"exchange": statement.exchange_x5t_256}
    wrong = _misfit(statement.run_class, made_for, expects, run_class)
    if wrong is not None:
        return Attached((wrong,))
    if not attestation.is_signed:
        advice = "It counts when the transcript is attached."
        message = f"the attestation of {statement.custodian} is not signed"
        return Attached((block(_RULE, message, advice),))
    facts = {
        "request": statement.request,
        "ceremony": statement.ceremony,
        "custodian": statement.x5t_256,
        "name": statement.custodian,
        "holder": statement.holder.kind,
        "required": statement.required,
    }
    said = f"{statement.custodian} contributed to ceremony {statement.ceremony}, signed"
    return Attached((ok(_RULE, said),), facts)


def check_transcript(data: bytes, expects: JsonObject, run_class: RunClass) -> Attached:
    """Return what a ceremony's transcript proves, and whether it is for this delivery."""
    from drengine.ceremony.proving import prove  # noqa: PLC0415 - loads cryptography

    try:
        proven = prove(data)
    except DrError as error:
        return Attached((block(_RULE, error.message, error.hint),))
    made_for = {"exchange": proven.exchange_x5t_256, "domain": proven.domain_sha256}
    if proven.request is not None:
        made_for["target"] = proven.request.target
    wrong = _misfit(proven.run_class, made_for, expects, run_class)
    if wrong is not None:
        return Attached((wrong,))
    findings: list[Finding] = [
        ok(_RULE, f"the transcript holds: {proven.outcome}, {len(proven.attestations)} contributed")
    ]
    if not proven.blob_sha256:
        findings.append(warn(_RULE, f"no blob was made in this ceremony: it is {proven.outcome}"))
    if proven.form == "combine":
        findings.append(warn(_RULE, "the keys of a quorum met in one process on one machine"))
    if proven.unsigned:
        findings.append(warn(_RULE, f"not signed: {', '.join(proven.unsigned)}"))
    if proven.remarks:
        findings.append(warn(_RULE, f"{len(proven.remarks)} deviations: {proven.remarks[0]}"))
    facts = {
        "form": proven.form,
        "outcome": proven.outcome,
        "blob": proven.blob_sha256,
        "head": proven.head,
        "required": proven.required,
        "custodians": [one.statement.x5t_256 for one in proven.attestations],
        "signed": list(proven.signed),
        "deviations": list(proven.remarks),
    }
    return Attached(tuple(findings), facts)


_WRONG: Final[Mapping[str, tuple[str, str]]] = {
    "exchange": (
        "exchange key",
        "The exchange key changed, or this is another run's: hold a new ceremony.",
    ),
    "domain": (
        "security domain",
        "Another HSM's domain stays for ever: hold a new ceremony with the plan's file.",
    ),
    "target": ("target", "It was held for another HSM: hold a new ceremony."),
}
"""What a ceremony is for: its name, and what to do where the run waits for another."""


def _misfit(
    of_class: str, made_for: Mapping[str, str], expects: JsonObject, run_class: RunClass
) -> Finding | None:
    if of_class != str(run_class):
        return block(
            _RULE,
            f"it is of a ceremony of class {of_class}, this run is of class {run_class}",
            "A drill's ceremony never serves an incident: hold a new one.",
        )
    for name, value in made_for.items():
        # A runbook of one's own need not name the domain or the target.
        if value != expects.get(name, "" if name == "exchange" else value):
            what, advice = _WRONG[name]
            told = f"it is of a ceremony for {what} {value}, the run waits for {expects.get(name)}"
            return block(_RULE, told, advice)
    return None
