"""What an approver signs: an in-toto statement about one gate request.

Pure. The statement names run, plan, the request record (seq, digest of what was shown,
hash of its line in the chain) with the facts it lists, and what the person says about it.

Since the line's hash covers every record before it, whoever rewrites the chain before a
gate needs the keys of everybody who approved there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from drengine.model.canonical import Json, JsonObject, canonical
from drengine.model.times import utc_ms, utc_text
from drengine.trust.dsse import IN_TOTO, STATEMENT, Envelope, parse_json, read_envelope
from drengine.trust.people import Approver

APPROVAL: Final = "urn:drengine:approval:v1"
REQUEST_SCHEMA: Final = "drengine/approval-request/v1"
DECISIONS: Final = ("approve", "reject", "withdraw")
_NONCE: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Asked:
    """A gate request, as far as a decision about it is bound to it.

    Attributes:
        seq, digest, sha256: the request record's place, the digest of what it shows, and the
            hash of its line.
        lab: whether the run acts in a lab.
    """

    run: str
    plan: str
    run_class: str
    lab: bool
    step: str
    seq: int
    digest: str
    sha256: str
    facts: JsonObject

    def to_json(self) -> dict[str, Json]:
        """Return the request as it stands in a statement."""
        return {
            "run": self.run,
            "plan": self.plan,
            "class": self.run_class,
            "lab": self.lab,
            "step": self.step,
            "request": {"seq": self.seq, "digest": self.digest, "sha256": self.sha256},
            "facts": dict(self.facts),
        }

    @staticmethod
    def from_json(doc: Any) -> Asked:
        """Return the request that `doc` describes.

        Raises:
            ValueError: it does not describe one.
        """
        _keys(doc, {"run", "plan", "class", "lab", "step", "request", "facts"}, "a gate request")
        request = doc["request"]
        _keys(request, {"seq", "digest", "sha256"}, "the request record")
        texts = (doc["run"], doc["plan"], doc["class"], doc["step"])
        if not all(isinstance(text, str) for text in texts) or type(doc["lab"]) is not bool:
            raise ValueError("a gate request has fields of another type")
        if type(request["seq"]) is not int or not isinstance(doc["facts"], dict):
            raise ValueError("a gate request has fields of another type")
        if not all(_is_sha256(text) for text in (doc["plan"], *_digests(request))):
            raise ValueError("a digest in a gate request is not a SHA-256")
        return Asked(
            run=doc["run"],
            plan=doc["plan"],
            run_class=doc["class"],
            lab=doc["lab"],
            step=doc["step"],
            seq=request["seq"],
            digest=request["digest"],
            sha256=request["sha256"],
            facts=doc["facts"],
        )


@dataclass(frozen=True, slots=True)
class Approval:
    """What one person says about a gate request.

    Attributes:
        decision: approve, reject or withdraw.
        expires_ms: not valid for a send after this.
        break_glass: fewer approvals than the gate asks shall do, for the reason given.
    """

    asked: Asked
    decision: str
    by: str
    role: str
    reason: str
    issued_ms: int
    expires_ms: int
    nonce: str
    break_glass: bool = False

    def to_bytes(self) -> bytes:
        """Return the statement that is signed."""
        return canonical(
            {
                "_type": STATEMENT,
                "subject": [
                    {"name": "plan", "digest": {"sha256": self.asked.plan}},
                    {"name": "gate-request", "digest": {"sha256": self.asked.sha256}},
                ],
                "predicateType": APPROVAL,
                "predicate": {
                    "asked": self.asked.to_json(),
                    "decision": self.decision,
                    "by": self.by,
                    "role": self.role,
                    "reason": self.reason,
                    "issued": utc_text(self.issued_ms),
                    "expires": utc_text(self.expires_ms),
                    "nonce": self.nonce,
                    "break_glass": self.break_glass,
                },
            }
        )


@dataclass(frozen=True, slots=True)
class Terms:
    """What a gate asks of a decision.

    Attributes:
        roles: empty where any approver will do.
        break_glass: whether the runbook allows it at this gate.
        at_ms: when the decision is used.
    """

    asked: Asked
    roles: Sequence[str]
    break_glass: bool
    initiator: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of a signed decision.

    Attributes:
        why: why it does not count; empty where it does.
    """

    why: str = ""
    approval: Approval | None = None
    person: Approver | None = None
    keyid: str = ""


_PREDICATE: Final = {
    "asked",
    "decision",
    "by",
    "role",
    "reason",
    "issued",
    "expires",
    "nonce",
    "break_glass",
}


def read_approval(doc: object) -> tuple[Envelope, Approval]:
    """Return envelope and statement of a signed approval, the signature not yet checked.

    Raises:
        ValueError: it is not one in its one form.
    """
    envelope = read_envelope(doc, IN_TOTO)
    statement = parse_json(envelope.payload)
    _keys(statement, {"_type", "subject", "predicateType", "predicate"}, "an in-toto statement")
    if statement["_type"] != STATEMENT or statement["predicateType"] != APPROVAL:
        raise ValueError("is not a statement about a gate request")
    said = statement["predicate"]
    _keys(said, _PREDICATE, "an approval")
    texts = (said["by"], said["role"], said["reason"])
    if not all(isinstance(text, str) for text in texts) or type(said["break_glass"]) is not bool:
        raise ValueError("an approval has fields of another type")
    if said["decision"] not in DECISIONS:
        raise ValueError(f"decides {str(said['decision'])[:20]!r}, expected {DECISIONS}")
    if not isinstance(said["nonce"], str) or not _NONCE.fullmatch(said["nonce"]):
        raise ValueError("its nonce is not 32 hex digits")
    approval = Approval(
        asked=Asked.from_json(said["asked"]),
        decision=said["decision"],
        by=said["by"],
        role=said["role"],
        reason=said["reason"],
        issued_ms=utc_ms(said["issued"]),
        expires_ms=utc_ms(said["expires"]),
        nonce=said["nonce"],
        break_glass=said["break_glass"],
    )
    # Also checks the subjects: the same values give the same bytes and no others.
    if approval.to_bytes() != envelope.payload:
        raise ValueError("the statement is not in canonical form")
    return envelope, approval


def _keys(doc: object, wanted: set[str], what: str) -> None:
    if not isinstance(doc, dict) or doc.keys() != wanted:
        raise ValueError(f"{what} has other keys than {', '.join(sorted(wanted))}")


def _digests(request: JsonObject) -> tuple[object, object]:
    return request["digest"], request["sha256"]


def _is_sha256(text: object) -> bool:
    return isinstance(text, str) and _SHA256.fullmatch(text) is not None
