"""Read a plan that was written before. What does not carry its own digest is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from drengine.errors import InputFileError, LimitExceeded, PlanStale
from drengine.model.canonical import digest, plain, sha256_hex
from drengine.model.plan import PLAN_SCHEMA, Plan, PlanPart
from drengine.runbook.input_types import read_json
from drengine.runbook.suggest import shown

MAX_BYTES: Final = 16 * 1024 * 1024

_PLAN: Final[Mapping[str, type]] = {
    "class": str,
    "created_at": str,
    "tool_version": str,
    "cloud": dict,
    "root": dict,
    "summary": dict,
}
_PART: Final[Mapping[str, type]] = {
    "runbook": dict,
    "inputs": dict,
    "deferred": list,
    "discovery": dict,
    "children": dict,
}
_RUNBOOK: Final[Mapping[str, type]] = {"name": str, "sha256": str, "text": str}
_CLOUD: Final[Mapping[str, type]] = {
    "name": str,
    "tenant": str,
    "subscription": str,
    "principal": str,
    "hsm_suffix": str,
    "storage_suffix": str,
    "lab": bool,
}
_HINT: Final = "Make a plan with: drengine plan RUNBOOK --class CLASS --out plan.json"


def read_plan(text: bytes) -> Plan:
    """Return the plan that `text` holds.

    Raises:
        LimitExceeded: when it is larger than a plan can be.
        InputFileError: when it is not a plan.
        PlanStale: when it is not what was planned: a digest does not agree.
    """
    if len(text) > MAX_BYTES:
        raise LimitExceeded(f"the plan has {len(text):,} bytes; at most {MAX_BYTES:,} are read")
    doc = _json_object(text)
    if doc.get("schema") != PLAN_SCHEMA:
        found = shown(str(doc.get("schema")))
        raise InputFileError(f"not a plan: schema is {found}, expected {PLAN_SCHEMA!r}", hint=_HINT)
    _check_digest(doc)
    try:
        _check_kinds(doc, _PLAN, "the plan")
        _check_kinds(doc["cloud"], _CLOUD, "the cloud")
        _check_part(doc["root"])
        plan = Plan.from_json(doc)
    except (ValueError, KeyError, TypeError) as error:
        raise InputFileError(f"not a plan: {_reason(error)}", hint=_HINT) from error
    _check_texts(plan.root)
    return plan


def _json_object(text: bytes) -> dict[str, Any]:
    try:
        doc = read_json(text.decode("utf-8"), MAX_BYTES)
        plain(doc)  # refuses what is nested beyond the canonical form
    except UnicodeDecodeError as error:
        raise InputFileError("not a plan: it is not UTF-8", hint=_HINT) from error
    except ValueError as error:
        raise InputFileError(f"not a plan: {error}", hint=_HINT) from error
    if not isinstance(doc, dict):
        raise InputFileError("not a plan: it is not a JSON object", hint=_HINT)
    return doc


def _check_digest(doc: dict[str, Any]) -> None:
    said = doc.get("digest")
    if not isinstance(said, str):
        raise InputFileError("not a plan: it has no digest", hint=_HINT)
    try:
        found = digest({key: value for key, value in doc.items() if key != "digest"})
    except ValueError as error:
        raise InputFileError(f"not a plan: {error}", hint=_HINT) from error
    if found != said:
        raise PlanStale(
            f"the plan was changed after it was made: it says its digest is {shown(said)}, but it "
            f"is {found}; nothing was started",
            hint=_HINT,
        )


def _check_texts(part: PlanPart) -> None:
    found = sha256_hex(part.runbook_text.encode())
    if found != part.runbook_sha256:
        raise PlanStale(
            f"runbook {shown(part.runbook_name)} in the plan is not the one that was planned: "
            f"SHA-256 is {found}, expected {shown(part.runbook_sha256)}; nothing was started",
            hint=_HINT,
        )
    for child in part.children.values():
        _check_texts(child)


def _check_part(doc: Any) -> None:
    """Raise ValueError or KeyError where a part is not of the shape that `PlanPart` takes."""
    _check_kinds(doc, _PART, "a part")
    _check_kinds(doc["runbook"], _RUNBOOK, "a runbook")
    if not all(isinstance(name, str) for name in doc["deferred"]):
        raise ValueError("deferred is not a list of names")
    for child in doc["children"].values():
        _check_part(child)


def _check_kinds(doc: Any, kinds: Mapping[str, type], what: str) -> None:
    if not isinstance(doc, dict):
        raise ValueError(f"{what} is not an object")
    for name, kind in kinds.items():
        if type(doc[name]) is not kind:
            raise ValueError(f"{name} of {what} is not of type {kind.__name__}")


def _reason(error: Exception) -> str:
    return f"key {error} is missing" if isinstance(error, KeyError) else str(error)
