"""Verifies a sealed bundle against a trust folder, and says everything that is wrong.

On top of what `verify` does for any folder of evidence: manifest, signature, statement,
approvals, time stamps, the chain of bundles, and which records nothing anchors.

Trust comes from the trust folder alone; keys inside the bundle are not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from drengine.errors import DrError
from drengine.evidence.bundle import (
    APPROVERS,
    ATTESTATION,
    BUNDLE,
    FORMAT,
    HSM_SIGNATURE,
    INVENTORY,
    MANIFEST,
    PAE,
    SIGNATURE,
    is_outside,
    is_stamp,
    manifest_of,
    media_of,
    predicate_of,
    role_of,
    statement_of,
)
from drengine.evidence.collect import read_plan
from drengine.evidence.history import history_problems
from drengine.evidence.recovered import signature_problem
from drengine.evidence.stamps import check_stamp
from drengine.evidence.sums import SUMS
from drengine.evidence.verify import FolderCheck, Watch
from drengine.evidence.watching import BundleWatch
from drengine.journal.verify import Problem
from drengine.model.canonical import parse_canonical, parse_line, sha256_hex
from drengine.model.facts import EvidenceFacts
from drengine.trust.dsse import Envelope, parse_json, read_envelope
from drengine.trust.judging import verify_with
from drengine.trust.register import Register, Trust

CHECKPOINT: Final = "drengine/checkpoint/v1"


@dataclass(frozen=True, slots=True)
class BundleReport:
    """What a verification found.

    Attributes:
        problems: everything that does not hold; notes: what could not be checked, and why.
        stamps: (file, time) of every time stamp that verifies.
        hsm_key: the recovered HSM's key that signed the manifest too, where one did.
        unanchored: records that no approver's signature and no time stamp covers.
    """

    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    facts: EvidenceFacts | None
    sealed_by: str = ""
    signers: tuple[tuple[str, str, str, str], ...] = ()
    stamps: tuple[tuple[str, str], ...] = ()
    unanchored: tuple[str, ...] = ()
    manifest_sha256: str = ""
    sums_sha256: str = ""
    hsm_key: str = ""

    @property
    def holds(self) -> bool:
        """Whether nothing was found."""
        return not self.problems


def is_bundle(path: Path) -> bool:
    """Whether a folder looks like a sealed bundle."""
    return any((path / name).exists() for name in (ATTESTATION, MANIFEST))


def verify_bundle(path: Path, trust: Trust, others: Sequence[Path] = ()) -> BundleReport:
    """Check a sealed bundle.

    Parameters:
        others: bundles that came before, for the chain of bundles.
    """
    if path.is_symlink() or not path.is_dir():
        return BundleReport((Problem(str(path), "is not a folder of evidence"),), (), None)
    return _Bundle(path, trust, others).run()


@dataclass(slots=True)
class _Bundle:
    path: Path
    trust: Trust
    others: Sequence[Path]
    sealed_by: str = ""
    hsm_key: str = ""
    stamps: list[tuple[str, str]] = field(default_factory=list)

    def run(self) -> BundleReport:
        check = FolderCheck(self.path, BUNDLE, notes=[])
        check.list_files()
        with check.sums_beside(is_outside):
            manifest = self._manifest(check)
            envelope = self._envelope(check)
            watch = self._watch(check)
            facts = check.check_journals()
        if envelope is not None:
            self._signature(check, envelope)
            if facts is None:
                self._subjects(check, envelope)
        check.refuse_without(facts)
        if facts is not None and watch is not None:
            self._contents(check, facts, watch, manifest, envelope)
        self._stamps(check, watch)
        if HSM_SIGNATURE in check.files and watch is not None:
            self._recovered(check, watch)
        if manifest is not None:
            check.problems += history_problems(self.path, manifest, self.others)
        return BundleReport(
            problems=tuple(check.problems),
            notes=tuple(check.notes),
            facts=facts,
            sealed_by=self.sealed_by,
            signers=tuple(watch.signers) if watch else (),
            stamps=tuple(self.stamps),
            unanchored=tuple(watch.spans()) if watch else (),
            manifest_sha256=check.sums_sha256 and check.digest(MANIFEST),
            sums_sha256=check.sums_sha256,
            hsm_key=self.hsm_key,
        )

    def _manifest(self, check: FolderCheck) -> dict[str, Any] | None:
        data = check.document(MANIFEST)
        if data is None:
            return None
        try:
            doc = parse_canonical(data.removesuffix(b"\n"))
        except ValueError as error:
            check.problem(MANIFEST, str(error))
            return None
        if doc.get("format") != FORMAT:
            check.problem(MANIFEST, f"is not of format {FORMAT}")
            return None
        self._listed(check, doc)
        return doc

    def _listed(self, check: FolderCheck, doc: Mapping[str, Any]) -> None:
        rows = doc.get("files")
        listed = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        named = [str(row.get("path")) for row in listed]
        for name in sorted({name for name in named if named.count(name) > 1}):
            check.problem(MANIFEST, f"lists {name[:80]!r} twice")
        here = {name for name in check.files if not is_outside(name) and name != MANIFEST}
        for name in sorted(set(named) - here):
            check.problem(MANIFEST, f"lists {name[:80]!r}, which is not a file here")
        for name in sorted(here - set(named)):
            check.problem(name, f"is not listed in {MANIFEST}")

    def _envelope(self, check: FolderCheck) -> Envelope | None:
        data = check.document(ATTESTATION)
        if data is None:
            return None
        try:
            return read_envelope(parse_line(data))
        except ValueError as error:
            check.problem(ATTESTATION, str(error))
            return None

    def _signature(self, check: FolderCheck, envelope: Envelope) -> None:
        by = [key for key in self.trust.sealers if key.keyid == envelope.signatures[0].keyid]
        if len(envelope.signatures) != 1:
            check.problem(ATTESTATION, f"has {len(envelope.signatures)} signatures, expected one")
        elif not by:
            keyid = envelope.signatures[0].keyid[:16]
            check.problem(ATTESTATION, f"is signed by {keyid}, a key that the trust folder lacks")
        elif not verify_with(by[0], envelope.signatures[0].sig, envelope.covered):
            check.problem(ATTESTATION, "its signature does not verify")
        elif by[0].revoked_ms is not None:
            check.problem(ATTESTATION, "is signed with a key that the trust folder has revoked")
        else:
            self.sealed_by = by[0].keyid
        if (covered := check.document(PAE)) is not None and covered != envelope.covered:
            check.problem(PAE, "is not what was signed")
        raw = check.document(SIGNATURE)
        if raw is not None and raw != envelope.signatures[0].sig:
            check.problem(SIGNATURE, "is not the signature of the attestation")

    def _subjects(self, check: FolderCheck, envelope: Envelope) -> None:
        """Compare what is signed with the files where no facts are there to remake all of it."""
        for name in (MANIFEST, SUMS):
            if name in check.files and check.digest(name).encode() not in envelope.payload:
                check.problem(name, "is not the one that was signed")

    def _recovered(self, check: FolderCheck, watch: BundleWatch) -> None:
        data, before = check.document(HSM_SIGNATURE), check.document(INVENTORY)
        if data is None or before is None:
            return
        why, key = signature_problem(data, watch.plan, before, check.digest(MANIFEST))
        if why:
            check.problem(HSM_SIGNATURE, why)
        else:
            self.hsm_key = key

    def _watch(self, check: FolderCheck) -> BundleWatch | None:
        if BUNDLE.plan not in check.files:
            return None
        try:
            data = check.files[BUNDLE.plan].read_bytes()
            plan = read_plan(parse_canonical(data.removesuffix(b"\n")))
        except (DrError, ValueError):
            return None  # told by the check of the folder
        wanted: dict[str, set[int]] = {}
        for doc in self._checkpoints(check).values():
            for head in _heads(doc):
                wanted.setdefault(head[0], set()).add(head[1])
        watch = BundleWatch(plan, self.trust.register, wanted)
        listening: Watch = watch
        check.watch = listening
        return watch

    def _contents(
        self,
        check: FolderCheck,
        facts: EvidenceFacts,
        watch: BundleWatch,
        manifest: Mapping[str, Any] | None,
        envelope: Envelope | None,
    ) -> None:
        """Make manifest and statement anew and compare."""
        root = watch.tree.root()
        previous = manifest.get("previous_bundle") if manifest else None
        self._approvals(check, facts, watch)
        if manifest is not None:
            remade = parse_canonical(manifest_of(facts, root, {}, previous)[:-1])
            for key in remade.keys() - {"files"}:
                if manifest.get(key) != remade[key]:
                    check.problem(MANIFEST, f"{key} is not what the journals give")
            if manifest.keys() != remade.keys():
                check.problem(MANIFEST, "has other keys than a manifest has")
            self._rows(check, manifest)
        if envelope is None or not {MANIFEST, SUMS} <= check.files.keys():
            return
        expected = statement_of(
            check.files[MANIFEST].read_bytes(),
            check.files[SUMS].read_bytes(),
            predicate_of(facts, root, previous),
        )
        if expected != envelope.payload:
            check.problem(ATTESTATION, _differs(expected, envelope.payload))

    def _rows(self, check: FolderCheck, manifest: Mapping[str, Any]) -> None:
        for row in manifest["files"]:
            name = str(row.get("path")) if isinstance(row, dict) else ""
            if name not in check.files:
                continue
            expected = {
                "path": name,
                "sha256": check.digest(name),
                "size": check.files[name].stat().st_size,
                "media": media_of(name),
                "role": role_of(name),
                "redacted": name == "inputs/inputs.redacted.json",
            }
            for key, value in expected.items():
                if row.get(key) != value:
                    check.problem(MANIFEST, f"{key} of {name} is not what the file has")

    def _approvals(self, check: FolderCheck, facts: EvidenceFacts, watch: BundleWatch) -> None:
        here = {name for name in check.files if name.startswith("approvals/")}
        for name in sorted(watch.envelopes.keys() - here):
            check.problem(name, "is missing: the journal holds this signed decision")
        for name in sorted(here - watch.envelopes.keys()):
            check.problem(name, "is a decision that the journals do not hold")
        for name in sorted(here & watch.envelopes.keys()):
            if check.digest(name) != watch.envelopes[name]:
                check.problem(name, "is not the signed decision that the journal holds")
        if watch.unsigned:
            check.notes.append(f"{watch.unsigned} decisions are not signed.")
        if not facts.approvers:
            return
        data = check.document(APPROVERS)
        try:
            register = Register.from_json(parse_json(data)) if data is not None else None
        except (ValueError, KeyError, TypeError) as error:
            check.problem(APPROVERS, f"cannot be read: {error}")
            return
        if register is not None and register.digest != facts.approvers:
            check.problem(APPROVERS, "is not the register that record 0 names")
        if self.trust.register.digest != facts.approvers:
            check.notes.append(
                "The trust folder's approvers are not exactly those of the run; decisions were"
                " judged by the trust folder."
            )

    def _checkpoints(self, check: FolderCheck) -> dict[str, Any]:
        out = {}
        for name in sorted(check.files):
            if name.startswith("checkpoints/") and name.endswith(".json"):
                try:
                    doc = parse_json(check.files[name].read_bytes())
                    why = "" if isinstance(doc, dict) else "is not a JSON object"
                except (ValueError, OSError) as error:
                    doc, why = {}, str(error)
                if not why:
                    out[name] = doc
                elif (told := Problem(name, why)) not in check.problems:
                    check.problems.append(told)
        return out

    def _stamps(self, check: FolderCheck, watch: BundleWatch | None) -> None:
        for name in sorted(name for name in check.files if is_stamp(name)):
            self._stamp(check, ATTESTATION, name)
        for name, doc in self._checkpoints(check).items():
            token = f"{name.removesuffix('.json')}.tsr"
            if doc.get("schema") != CHECKPOINT:
                check.problem(name, f"is not of schema {CHECKPOINT}")
            elif token in check.files and self._stamp(check, name, token) and watch is not None:
                found = [watch.anchor(*head) for head in _heads(doc)]
                check.problems += [Problem(name, why) for why in found if why]
            elif token not in check.files:
                check.notes.append(f"{name} was not stamped: {doc.get('unstamped', 'no reason')}")

    def _stamp(self, check: FolderCheck, data: str, token: str) -> bool:
        if data not in check.files:
            return False
        if self.trust.tsa is None:
            check.notes.append(f"{token}: the trust folder has no root for time stamps.")
            return False
        found = check_stamp(check.files[data], check.files[token], self.trust.tsa)
        if found.why:
            check.problem(token, found.why)
            return False
        self.stamps.append((token, found.time))
        return True


def _heads(doc: Any) -> list[tuple[str, int, str]]:
    rows = doc.get("heads") if isinstance(doc, dict) else None
    return [
        (str(row["run"]), row["seq"], str(row["sha256"]))
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict) and isinstance(row.get("seq"), int) and "run" in row
    ]


def _differs(expected: bytes, found: bytes) -> str:
    try:
        said, true = parse_json(found), parse_json(expected)
    except ValueError as error:
        return f"its statement {error}"
    if not isinstance(said, dict) or said.keys() != true.keys():
        return "its statement has other keys than one of drengine"
    for key in ("_type", "predicateType"):
        if said[key] != true[key]:
            return f"its statement has another {key}"
    if said["subject"] != true["subject"]:
        return "what is signed names other digests of manifest.json and SHA256SUMS"
    claims, facts = said["predicate"], true["predicate"]
    wrong = [key for key in facts if not isinstance(claims, dict) or claims.get(key) != facts[key]]
    shown = ", ".join(f"{key} {json.dumps(facts[key])[:80]}" for key in wrong)
    return f"what is signed is not what the journals give: {shown or 'its form'}"


def manifest_digest(path: Path) -> str:
    """Return the digest by which the next bundle names this one.

    Raises:
        OSError: there is no manifest.
    """
    return sha256_hex((path / MANIFEST).read_bytes())
