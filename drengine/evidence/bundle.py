"""The sealed bundle: what is in it, where, and what is signed.

```
<run>/
  README.txt               what this is, and six commands that check it
  manifest.json            every file with digest, size and role; heads; Merkle root
  SHA256SUMS               every file, manifest.json among them
  attestation.dsse.json    in-toto statement over manifest.json and SHA256SUMS, signed
  attestation*.tsr         time stamps over it, where there are any; stamps.json says more
  hsm-signature.json       the recovered HSM's signature over manifest.json, where there is one
  openssl/                 the signed bytes and the signature as openssl reads them
  journals/ approvals/ inputs/ artifacts/ checkpoints/ reports/
  facts.json actions.json verify.py
```

Pure. The same journals give the same bytes; only signature and stamps differ.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from drengine.evidence.merkle import Tree, content_of
from drengine.evidence.sums import SUMS
from drengine.model.canonical import Json, JsonObject, canonical, sha256_hex
from drengine.model.facts import EvidenceFacts, ObjectiveFacts
from drengine.model.ids import RunId, run_file_name
from drengine.model.records import Record
from drengine.model.records import RecordType as R
from drengine.trust.dsse import IN_TOTO, STATEMENT

FORMAT: Final = "drengine/evidence-bundle/v1"
PREDICATE: Final = "urn:drengine:dr-run:v1"
MANIFEST: Final = "manifest.json"
ATTESTATION: Final = "attestation.dsse.json"
STAMPS: Final = "stamps.json"
PAE: Final = "openssl/attestation.pae"
SIGNATURE: Final = "openssl/engine.sig"
APPROVERS: Final = "inputs/approvers.json"
ACTIONS: Final = "actions.json"
INVENTORY: Final = "artifacts/keys/inventory.before.json"
HSM_SIGNATURE: Final = "hsm-signature.json"
_STAMP: Final = re.compile(r"attestation(?:\.[0-9]{1,2})?\.tsr", re.ASCII)
_MEDIA: Final = {
    ".jsonl": "application/jsonl",
    ".json": "application/json",
    ".yaml": "application/yaml",
    ".tsr": "application/timestamp-reply",
    ".html": "text/html",
    ".md": "text/markdown",
    ".py": "text/x-python",
    ".xml": "application/xml",
    ".svg": "image/svg+xml",
    ".pdf": "application/pdf",
    ".txt": "text/plain",
}
_ROLES: Final = {
    "journals": "journal",
    "approvals": "approval",
    "inputs": "input",
    "artifacts": "artifact",
    "checkpoints": "checkpoint",
    "reports": "report",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a folder of evidence keeps what is checked against the journals."""

    plan: str
    facts: str
    report: str
    approvers: str
    actions: str


FOLDER: Final = Layout("plan.json", "facts.json", "report.html", "approvers.json", ACTIONS)
BUNDLE: Final = Layout("inputs/plan.json", "facts.json", "reports/report.html", APPROVERS, ACTIONS)


def is_outside(name: str) -> bool:
    """Whether a file stands beside what is signed: signatures, stamps, and nothing else."""
    return name in (SUMS, ATTESTATION, STAMPS, PAE, SIGNATURE, HSM_SIGNATURE) or is_stamp(name)


def is_stamp(name: str) -> bool:
    """Whether this is the name of a time stamp over the attestation."""
    return _STAMP.fullmatch(name) is not None


def merkle_root(journals: Iterable[tuple[str, Iterable[bytes]]]) -> str:
    """Return the root over every record of every journal, journals in order of run ids."""
    tree = Tree()
    for _, lines in sorted(journals, key=lambda pair: pair[0]):
        for line in lines:
            tree.add(content_of(line))
    return tree.root()


def manifest_of(
    facts: EvidenceFacts,
    root: str,
    files: Mapping[str, bytes],
    previous: JsonObject | None,
    sealed_by: str,
) -> bytes:
    """Return manifest.json for the files of a bundle, itself and what is outside left out.

    Parameters:
        sealed_by: the version that seals, and so renders the reports.
    """
    listed: list[Json] = [
        {
            "path": name,
            "sha256": sha256_hex(files[name]),
            "size": len(files[name]),
            "media": media_of(name),
            "role": role_of(name),
            "redacted": name == "inputs/inputs.redacted.json",
        }
        for name in sorted(files)
    ]
    doc: dict[str, Json] = {"format": FORMAT, **_identity(facts, root), "files": listed}
    doc["previous_bundle"] = previous
    doc["sealed_by"] = sealed_by
    return canonical(doc) + b"\n"


def _identity(facts: EvidenceFacts, root: str) -> dict[str, Json]:
    return {
        "run": facts.run,
        "class": facts.run_class,
        "lab": facts.is_lab,
        "status": facts.status,
        "plan": facts.plan_digest,
        "journals": [
            {"run": run.run, "records": run.records, "sha256": run.head_sha256}
            for run in sorted(facts.runs, key=lambda each: each.run)
        ],
        "merkle_root": root,
        "tool": dict(facts.tool),
    }


def media_of(name: str) -> str:
    """Return the media type of a file by its name."""
    suffix = f".{name.rpartition('.')[2]}"
    known = _MEDIA.get(suffix)
    return known or mimetypes.types_map.get(suffix, "application/octet-stream")


def role_of(name: str) -> str:
    """Return what a file is in the bundle."""
    return _ROLES.get(name.partition("/")[0], name.rpartition("/")[2].partition(".")[0].lower())


def predicate_of(facts: EvidenceFacts, root: str, previous: JsonObject | None) -> dict[str, Json]:
    """Return what a bundle's statement says about the run."""
    return {
        **_identity(facts, root),
        "verdict": str(facts.verdict),
        "rto": _objective(facts.rto),
        "rpo": _objective(facts.rpo),
        "criteria": {each.id: str(each.holds) for each in facts.criteria},
        "previous_bundle": previous,
    }


def _objective(objective: ObjectiveFacts) -> dict[str, Json]:
    return {
        "target_ms": objective.target_ms,
        "actual_ms": objective.actual_ms,
        "reached": str(objective.reached),
        "simulated": objective.is_simulated,
    }


def statement_of(manifest: bytes, sums: bytes, predicate: JsonObject) -> bytes:
    """Return the in-toto statement that is signed."""
    return statement_for((sha256_hex(manifest), sha256_hex(sums)), predicate)


def statement_for(digests: tuple[str, str], predicate: JsonObject) -> bytes:
    """Return the statement over the digests of manifest.json and SHA256SUMS."""
    return canonical(
        {
            "_type": STATEMENT,
            "subject": [
                {"name": name, "digest": {"sha256": sha256}}
                for name, sha256 in zip((MANIFEST, SUMS), digests, strict=True)
            ],
            "predicateType": PREDICATE,
            "predicate": dict(predicate),
        }
    )


def approvals_of(records: Iterable[Record]) -> dict[str, bytes]:
    """Return file name -> signed decision for every one in a chain."""
    out = {}
    for record in records:
        envelope = record.body.get("envelope")
        if isinstance(envelope, Mapping) and record.type in SIGNED:
            out[approval_name(record)] = canonical(envelope) + b"\n"
    return out


SIGNED: Final = (R.GATE_APPROVED, R.GATE_REJECTED, R.GATE_VOIDED)
"""Records that may hold a signed decision."""


def approval_name(record: Record) -> str:
    """Return the file name of the signed decision in a record."""
    stem = run_file_name(RunId(record.run)).removesuffix(".jsonl")
    person = re.sub(r"[^A-Za-z0-9._-]", "-", record.actor.rpartition(":")[2]).lstrip(".-") or "x"
    return f"approvals/{stem}.{record.seq}.{person}.dsse.json"


def redacted_inputs(inputs: JsonObject) -> dict[str, Any]:
    """Return inputs without machine paths: a file is named by its digest alone."""
    out: dict[str, Any] = {}
    for name, value in inputs.items():
        if isinstance(value, Mapping) and value.keys() == {"path", "sha256", "size"}:
            shown = {"redacted": True, "sha256": value["sha256"], "size": value["size"]}
            out[name] = shown
        elif isinstance(value, str) and value.partition(":")[0] in _REFERENCES:
            out[name] = {"redacted": True, "reference": value.partition(":")[0]}
        else:
            out[name] = value
    return out


_REFERENCES: Final = ("env", "file", "fd", "prompt", "mint")

PAYLOAD_TYPE: Final = IN_TOTO
