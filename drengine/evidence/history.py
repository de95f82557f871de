"""The chain of bundles: each names the one before, none is left out, no action is dropped.

A bundle from before is believed only after its own seal was checked: against its files, and
against the keys of the trust folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drengine.evidence.bundle import (
    ACTIONS,
    ATTESTATION,
    BUNDLE,
    FORMAT,
    MANIFEST,
    PREDICATE,
    is_outside,
)
from drengine.evidence.sums import SUMS
from drengine.evidence.verify import FolderCheck
from drengine.journal.verify import Problem
from drengine.model.canonical import parse_canonical, parse_line
from drengine.trust.dsse import Envelope, parse_json, read_envelope
from drengine.trust.judging import why_not_sealed
from drengine.trust.register import Trust


@dataclass(frozen=True, slots=True)
class Earlier:
    """A sealed bundle that is believed."""

    path: Path
    manifest: Mapping[str, Any]
    manifest_sha256: str
    actions: bytes

    @property
    def previous(self) -> object:
        """The digest by which it names the bundle before it."""
        named = self.manifest.get("previous_bundle")
        return named.get("manifest_sha256") if isinstance(named, Mapping) else None


def read_earlier(path: Path, trust: Trust | None) -> Earlier:
    """Read a bundle from before: its files are those that were sealed.

    Parameters:
        trust: whose seal counts; None where that is not asked.

    Raises:
        ValueError: it is no sealed bundle, or its seal does not hold.
    """
    if path.is_symlink() or not path.is_dir():
        raise ValueError("is not a folder of evidence")
    check = FolderCheck(path, BUNDLE, notes=[])
    check.list_files()
    with check.sums_beside(is_outside):
        data, sealed, actions = (check.document(name) for name in (MANIFEST, ATTESTATION, ACTIONS))
    if check.problems or data is None or sealed is None or actions is None:
        raise ValueError(str(check.problems[0]))
    manifest = parse_canonical(data.removesuffix(b"\n"))
    if manifest.get("format") != FORMAT:
        raise ValueError(f"{MANIFEST} is not of format {FORMAT}")
    envelope = read_envelope(parse_line(sealed))
    if _subjects(envelope) != {name: check.digest(name) for name in (MANIFEST, SUMS)}:
        raise ValueError(f"what is signed does not name its {MANIFEST} and {SUMS}")
    if trust is not None and (why := why_not_sealed(envelope, trust.sealers)):
        raise ValueError(f"{ATTESTATION} {why}")
    return Earlier(path, manifest, check.digest(MANIFEST), actions)


def _subjects(envelope: Envelope) -> dict[str, str]:
    statement = parse_canonical(envelope.payload)
    rows = statement.get("subject")
    if statement.get("predicateType") != PREDICATE or not isinstance(rows, list):
        return {}
    try:
        return {str(row["name"]): str(row["digest"]["sha256"]) for row in rows}
    except (KeyError, TypeError):
        return {}


def history_problems(
    path: Path, manifest: Mapping[str, Any], others: Sequence[Path], trust: Trust
) -> list[Problem]:
    """Return what is wrong between a bundle and those that are said to come before it."""
    out: list[Problem] = []
    known: dict[str, Earlier] = {}
    for other in others:
        try:
            found = read_earlier(other, trust)
            known[found.manifest_sha256] = found
        except (OSError, ValueError) as error:
            out.append(Problem(str(other), f"is not a sealed bundle to compare with: {error}"))
    mine = FolderCheck(path, BUNDLE, notes=[])
    mine.list_files()
    named = manifest.get("previous_bundle")
    before = named.get("manifest_sha256") if isinstance(named, Mapping) else None
    if before is None:
        where = ", ".join(str(other) for other in others)
        return [*out, Problem(MANIFEST, f"names no bundle before it, but there is {where}")]
    if before not in known:
        out.append(Problem(MANIFEST, f"names a bundle before it ({str(before)[:16]}) not given"))
    out += [
        Problem(MANIFEST, f"is a fork: {other.path} names the same bundle before it")
        for other in known.values()
        if other.manifest_sha256 != mine.digest(MANIFEST) and other.previous == before
    ]
    if before in known:
        out += _dropped(mine, known[before])
    return out


def open_actions(doc: Any) -> dict[str, Mapping[str, Any]]:
    """Return id -> corrective action that is not closed."""
    rows = doc.get("actions") if isinstance(doc, dict) else None
    return {
        str(row["id"]): row
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict) and "id" in row and row.get("status") != "closed"
    }


def _dropped(mine: FolderCheck, before: Earlier) -> list[Problem]:
    try:
        was, now = parse_json(before.actions), parse_json(mine.document(ACTIONS) or b"")
    except ValueError as error:
        return [Problem(ACTIONS, f"cannot be compared with {before.path}: {error}")]
    rows = now.get("actions", []) if isinstance(now, dict) else []
    kept = {str(row.get("id")) for row in rows if isinstance(row, dict)}
    return [
        Problem(ACTIONS, f"lacks corrective action {name}, which was open in {before.path}")
        for name in sorted(open_actions(was).keys() - kept)
    ]
