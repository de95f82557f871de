"""What sealing puts into a bundle beside journals and reports, made from plan and records.

Pure, so that whoever verifies makes the same bytes again and compares them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from drengine.evidence.bundle import redacted_inputs
from drengine.model.canonical import canonical
from drengine.model.facts import EvidenceFacts
from drengine.model.ids import RunId, run_file_name
from drengine.model.plan import Plan, PlanPart
from drengine.model.records import Record
from drengine.model.records import RecordType as R

REDACTED: Final = "inputs/inputs.redacted.json"
ENVIRONMENT: Final = "inputs/environment.json"
FINGERPRINTS: Final = "artifacts/sd/fingerprints.json"
KEYS_AFTER: Final = "artifacts/keys/inventory.after.json"
ATTACHED: Final = "artifacts/attached/"
PAGES: Final = frozenset({"reports/report.pdf", "reports/executive.pdf"})
"""Printed pages: not made by every seal, and not made again by a verification."""

_CHECKPOINT: Final = re.compile(r"checkpoints/[0-9]{2,3}\.(?:json|tsr)", re.ASCII)


def inputs_of(plan: Plan, facts: EvidenceFacts) -> dict[str, bytes]:
    """Return the runbooks, the inputs without machine paths, and what the run was made with."""
    texts = _runbooks(plan.root)
    files = {f"inputs/{name}.yaml": text.encode() for name, text in texts.items()}
    files[REDACTED] = canonical(redacted_inputs(plan.root.inputs)) + b"\n"
    files[ENVIRONMENT] = canonical(_environment(facts)) + b"\n"
    domain = plan.root.discovery.get("domain")
    if isinstance(domain, Mapping):
        files[FINGERPRINTS] = canonical(domain) + b"\n"
    return files


def _runbooks(part: PlanPart) -> dict[str, str]:
    out = {part.runbook_name: part.runbook_text}
    for child in part.children.values():
        out |= _runbooks(child)
    return out


def _environment(facts: EvidenceFacts) -> dict[str, object]:
    return {
        "schema": "drengine/environment/v1",
        "cloud": dict(facts.cloud),
        "tool": dict(facts.tool),
        "initiator": facts.initiator,
        "openings": {run.run: run.openings for run in facts.runs},
    }


def probes_of(record: Record) -> dict[str, bytes]:
    """Return what a step read back, where the record is of one that succeeded."""
    evidence = record.body.get("evidence")
    if record.type is not R.STEP_SUCCEEDED or not isinstance(evidence, Mapping):
        return {}
    stem = run_file_name(RunId(record.run)).removesuffix(".jsonl")
    name = f"artifacts/probes/{stem}.{record.seq}.{record.body.get('step')}.json"
    after = {KEYS_AFTER} if "keys" in evidence else set()
    return dict.fromkeys({name, *after}, canonical(evidence) + b"\n")


def attached_of(record: Record) -> str:
    """Return the SHA-256 of a document that a record names and that is kept beside the chain."""
    body, named = record.body, None
    if record.type is R.NOTE and "attached" in body:
        named = body.get("sha256")
    elif record.type is R.STEP_MARKED:
        named = body.get("evidence")
    return named if isinstance(named, str) else ""


def inventory_of_plan(plan: Plan) -> str:
    """Return the SHA-256 of the inventory from before, as the plan names it; empty without one."""
    inventory = plan.root.inputs.get("inventory")
    named = inventory.get("sha256") if isinstance(inventory, Mapping) else None
    return named if isinstance(named, str) else ""


def is_checkpoint(name: str) -> bool:
    """Whether this is the name of a checkpoint or of the stamp over one."""
    return _CHECKPOINT.fullmatch(name) is not None
