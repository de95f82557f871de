"""The chain of bundles: each names the one before, none is left out, no action is dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drengine.evidence.bundle import ACTIONS, MANIFEST
from drengine.journal.verify import Problem
from drengine.model.canonical import sha256_hex
from drengine.trust.dsse import parse_json


def history_problems(
    path: Path, manifest: Mapping[str, Any], others: Sequence[Path]
) -> list[Problem]:
    """Return what is wrong between a bundle and those that are said to come before it."""
    if not others:
        return []
    known = {}
    out: list[Problem] = []
    for other in others:
        try:
            data = (other / MANIFEST).read_bytes()
            known[sha256_hex(data)] = (other, parse_json(data))
        except (OSError, ValueError) as error:
            out.append(Problem(str(other), f"is not a bundle to compare with: {error}"))
    previous = manifest.get("previous_bundle")
    named = previous.get("manifest_sha256") if isinstance(previous, Mapping) else None
    if named is None:
        where = ", ".join(str(other) for other in others)
        return [*out, Problem(MANIFEST, f"names no bundle before it, but there is {where}")]
    if named not in known:
        out.append(Problem(MANIFEST, f"names a bundle before it ({str(named)[:16]}) not given"))
    out += _forks(path, named, known)
    if named in known:
        out += _dropped(path, known[named][0])
    return out


def _forks(path: Path, named: object, known: Mapping[str, tuple[Path, Any]]) -> list[Problem]:
    mine = sha256_hex((path / MANIFEST).read_bytes())
    out = []
    for digest, (other, doc) in known.items():
        claims = doc.get("previous_bundle") if isinstance(doc, dict) else None
        theirs = claims.get("manifest_sha256") if isinstance(claims, Mapping) else None
        if digest != mine and theirs == named:
            out.append(Problem(MANIFEST, f"is a fork: {other} names the same bundle before it"))
    return out


def open_actions(doc: Any) -> dict[str, Mapping[str, Any]]:
    """Return id -> corrective action that is not closed."""
    rows = doc.get("actions") if isinstance(doc, dict) else None
    return {
        str(row["id"]): row
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict) and "id" in row and row.get("status") != "closed"
    }


def _dropped(path: Path, before: Path) -> list[Problem]:
    try:
        was = parse_json((before / ACTIONS).read_bytes())
        now = parse_json((path / ACTIONS).read_bytes())
    except (OSError, ValueError) as error:
        return [Problem(ACTIONS, f"cannot be compared with {before}: {error}")]
    rows = now.get("actions", []) if isinstance(now, dict) else []
    kept = {str(row.get("id")) for row in rows if isinstance(row, dict)}
    return [
        Problem(ACTIONS, f"lacks corrective action {name}, which was open in {before}")
        for name in sorted(open_actions(was).keys() - kept)
    ]
