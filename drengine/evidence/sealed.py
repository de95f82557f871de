"""Verifies a sealed bundle against a trust folder, and says everything that is wrong.

On top of what `verify` does for any folder of evidence: manifest, signature, statement,
approvals, time stamps, the chain of bundles, and which records nothing anchors.

Trust comes from the trust folder alone; keys inside the bundle are not looked at.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    STAMPS,
    is_outside,
    manifest_of,
    media_of,
    predicate_of,
    role_of,
    statement_for,
)
from drengine.evidence.history import history_problems
from drengine.evidence.recovered import signature_problem
from drengine.evidence.remade import Comparison
from drengine.evidence.stamped import StampCheck
from drengine.evidence.sums import SUMS
from drengine.evidence.verify import UNFORESEEN, FolderCheck, Watch
from drengine.evidence.watching import BundleWatch
from drengine.evidence.words import utc
from drengine.journal.verify import Problem
from drengine.model.canonical import parse_canonical, parse_line, sha256_hex
from drengine.model.facts import EvidenceFacts
from drengine.trust.dsse import Envelope, parse_json, read_envelope
from drengine.trust.judging import why_not_sealed
from drengine.trust.register import Register, Trust


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


def verify_bundle(
    path: Path, trust: Trust, others: Sequence[Path] = (), *, takes_unsigned: bool = False
) -> BundleReport:
    """Check a sealed bundle.

    Parameters:
        others: bundles that came before, for the chain of bundles.
        takes_unsigned: whether unsigned decisions count though the trust folder names people.
    """
    if path.is_symlink() or not path.is_dir():
        return BundleReport((Problem(str(path), "is not a folder of evidence"),), (), None)
    return _Bundle(path, trust, others, takes_unsigned).run()


def contradictions(path: Path) -> tuple[Problem, ...]:
    """Return everything for which a bundle contradicts itself.

    For a caller without a trust folder: decisions are judged by the register in the bundle, and
    whose key sealed it is not asked, since nothing in a bundle can say that.
    """
    if path.is_symlink() or not path.is_dir():
        return (Problem(str(path), "is not a folder of evidence"),)
    trust = Trust(_register_in(path), (), None, path)
    return _Bundle(path, trust, (), takes_unsigned=True, asks_key=False).run().problems


def _register_in(path: Path) -> Register:
    try:
        return Register.from_json(parse_json((path / APPROVERS).read_bytes()))
    except (OSError, *UNFORESEEN):
        return Register(())  # a missing or a broken one is told where it is compared


@dataclass(slots=True)
class _Bundle:
    path: Path
    trust: Trust
    others: Sequence[Path]
    takes_unsigned: bool = False
    asks_key: bool = True
    sealed_by: str = ""
    hsm_key: str = ""

    def run(self) -> BundleReport:
        check = FolderCheck(self.path, BUNDLE, notes=[])
        check.list_files()
        stamping = StampCheck(check, self.trust.tsa)
        with check.sums_beside(is_outside):
            manifest = self._manifest(check)
            envelope = self._envelope(check)
            watch = self._watch(check, stamping)
            facts = check.check_journals()
        with _listed(check, ATTESTATION):
            if envelope is not None:
                self._signature(check, envelope)
                if facts is None:
                    self._subjects(check, envelope)
        check.refuse_without(facts)
        with _listed(check, MANIFEST):
            if facts is not None and watch is not None:
                self._contents(check, facts, watch, manifest, envelope)
        with _listed(check, STAMPS):
            stamping.run(watch)
            if self.sealed_by and watch is not None:
                self._sealed_in_time(check, watch, stamping)
        with _listed(check, HSM_SIGNATURE):
            if HSM_SIGNATURE in check.files and watch is not None:
                self._recovered(check, watch)
        with _listed(check, "the chain of bundles"):
            if manifest is not None:
                self._history(check, manifest)
        return BundleReport(
            problems=tuple(check.problems),
            notes=tuple(check.notes),
            facts=facts,
            sealed_by=self.sealed_by,
            signers=tuple(watch.signers) if watch else (),
            stamps=tuple(stamping.stamps),
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
        self._compare_names(check, doc)
        return doc

    def _compare_names(self, check: FolderCheck, doc: Mapping[str, Any]) -> None:
        rows = doc.get("files")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            check.problem(MANIFEST, "has no list of files")
        named = Counter(str(row.get("path")) for row in _listed_files(doc))
        for name in sorted(name for name, times in named.items() if times > 1):
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
        if not self.asks_key:
            if (count := len(envelope.signatures)) != 1:
                check.problem(ATTESTATION, f"has {count} signatures, expected one")
        elif why := why_not_sealed(envelope, self.trust.sealers):
            check.problem(ATTESTATION, why)
        else:
            self.sealed_by = envelope.signatures[0].keyid
        if (covered := check.document(PAE)) is not None and covered != envelope.covered:
            check.problem(PAE, "is not what was signed")
        raw = check.document(SIGNATURE)
        if raw is not None and raw != envelope.signatures[0].sig:
            check.problem(SIGNATURE, "is not the signature of the attestation")

    def _history(self, check: FolderCheck, manifest: Mapping[str, Any]) -> None:
        named = manifest.get("previous_bundle")
        if self.others:
            check.problems += history_problems(self.path, manifest, self.others, self.trust)
        elif named is not None:
            run = named.get("run") if isinstance(named, Mapping) else None
            check.notes.append(
                f"The bundle before this one, of run {run}, was not given (--history): whether"
                " this one follows from it, and whether it drops a corrective action, was not"
                " looked at."
            )

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

    def _sealed_in_time(self, check: FolderCheck, watch: BundleWatch, stamping: StampCheck) -> None:
        """Judge the sealing key by the newest record, which is older than the seal, and stamps."""
        (key,) = (key for key in self.trust.sealers if key.keyid == self.sealed_by)
        for at_ms in (watch.newest_ms, *stamping.sealed_ms):
            if why := key.refuses(at_ms):
                self.sealed_by = ""
                check.problem(ATTESTATION, f"is sealed at {utc(at_ms)} or later, but {why}")
                return
        if key.not_after_ms is not None and not stamping.sealed_ms:
            check.notes.append(
                f"The sealing key counts until {utc(key.not_after_ms)}. No time stamp shows that"
                f" it sealed before; it was judged by the newest record, {utc(watch.newest_ms)}."
            )

    def _watch(self, check: FolderCheck, stamping: StampCheck) -> BundleWatch | None:
        wanted = stamping.wanted()
        if (plan := check.plan) is None:
            return None  # told by the check of the folder
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
        keyid = envelope.signatures[0].keyid if envelope is not None else ""
        sealed_by = str(manifest.get("sealed_by", "")) if manifest else ""
        Comparison(check, watch, facts, keyid, sealed_by).run()
        if manifest is not None:
            remade = parse_canonical(manifest_of(facts, root, {}, previous, sealed_by)[:-1])
            for key in remade.keys() - {"files"}:
                if manifest.get(key) != remade[key]:
                    check.problem(MANIFEST, f"{key} is not what the journals give")
            if manifest.keys() != remade.keys():
                check.problem(MANIFEST, "has other keys than a manifest has")
            self._rows(check, manifest)
        if envelope is None or not {MANIFEST, SUMS} <= check.files.keys():
            return
        digests = (check.digest(MANIFEST), check.digest(SUMS))
        expected = statement_for(digests, predicate_of(facts, root, previous))
        if expected != envelope.payload:
            check.problem(ATTESTATION, _differs(expected, envelope.payload))

    def _rows(self, check: FolderCheck, manifest: Mapping[str, Any]) -> None:
        for row in _listed_files(manifest):
            name = str(row.get("path"))
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
        self._unregistered(check, watch)
        if not facts.approvers:
            return
        data = check.document(APPROVERS)
        try:
            register = Register.from_json(parse_json(data)) if data is not None else None
        except UNFORESEEN as error:
            check.problem(APPROVERS, f"cannot be read: {error}")
            return
        if register is not None and register.digest != facts.approvers:
            check.problem(APPROVERS, "is not the register that record 0 names")
        if self.trust.register.digest != facts.approvers:
            check.notes.append(
                "The trust folder's approvers are not exactly those of the run; decisions were"
                " judged by the trust folder."
            )

    def _unregistered(self, check: FolderCheck, watch: BundleWatch) -> None:
        """Refuse unsigned decisions where the verifier knows whose signature to expect."""
        people = len(self.trust.register.people)
        if not people or self.takes_unsigned:
            return
        for run in sorted(watch.unregistered):
            check.problem(
                run,
                "was asked for decisions with no register of approvers, so that none is signed,"
                f" but the trust folder names {people} who approve; where that is as it was meant,"
                " verify with --unsigned-decisions",
            )


@contextmanager
def _listed(check: FolderCheck, place: str) -> Iterator[None]:
    """List what an edited file led to where no check foresaw it."""
    try:
        yield
    except UNFORESEEN as error:
        check.problem(place, f"cannot be checked: {type(error).__name__} {error}")


def _listed_files(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = manifest.get("files")
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


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
