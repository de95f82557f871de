"""Showing some records of a sealed run and withholding the rest, still verifiable.

A disclosure holds the signed statement, which names the Merkle root over all records, and
for each record shown its line and the path to that root. What is withheld shows only in
the count. It proves that the records shown are in the sealed run, not that nothing else is.
Whoever gets one needs neither drengine nor the bundle: `verify.py` and a README lie in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from drengine.errors import InputError, VerificationError
from drengine.evidence.bundle import ATTESTATION, PREDICATE
from drengine.evidence.folder import write_files
from drengine.evidence.merkle import Proofs, content_of, leaf_hash, root_from
from drengine.evidence.readme import README, disclosure_readme
from drengine.evidence.seal import VERIFIER
from drengine.evidence.verify import FolderCheck
from drengine.model.canonical import canonical, parse_canonical, parse_line
from drengine.resources import template_folder
from drengine.trust.dsse import Envelope, parse_json, read_envelope
from drengine.trust.judging import verify_with
from drengine.trust.register import Trust

SCHEMA: Final = "drengine/disclosure/v1"
DISCLOSURE: Final = "disclosure.json"
_REGULATOR: Final = frozenset(
    ("run.created", "run.finished", "run.cancelled", "gate.requested", "gate.approved",
     "gate.rejected", "gate.voided", "step.succeeded", "step.skipped", "child.finished")
)  # fmt: skip
_AUDITOR: Final = _REGULATOR | {
    *("intent", "answer.operation", "answer.done", "answer.refused", "answer.lost", "doubt.raised"),
    *("step.failed", "step.marked", "step.attested", "outcome.unknown", "outcome.found"),
    *("outcome.absent", "delivery.requested", "delivery.accepted", "generation.ended", "note"),
}
_FILES: Final = frozenset({DISCLOSURE, ATTESTATION, VERIFIER, README})
PROFILES: Final = {"regulator": _REGULATOR, "auditor": _AUDITOR, "internal": None}


def disclose(bundle: Path, profile: str, out: Path, only: Iterable[str] = ()) -> Path:
    """Write what a profile shows of a sealed bundle into a new folder.

    Parameters:
        only: `RUN:SEQ` of the records to show, instead of those of the profile.

    Raises:
        InputError: there is no such profile or record, or the folder is taken.
    """
    if profile not in PROFILES:
        raise InputError(f"there is no profile '{profile}': {', '.join(PROFILES)}")
    chosen, shown = frozenset(only), PROFILES[profile]
    wanted = set(chosen)
    lines = list(_lines(bundle))
    proofs = Proofs([leaf_hash(content_of(line)) for _, line in lines])
    records = []
    for index, (run, line) in enumerate(lines):
        doc = parse_canonical(line[:-1])
        name = f"{run}:{doc['seq']}"
        if name in chosen if chosen else shown is None or doc["type"] in shown:
            wanted.discard(name)
            path = proofs.of(index)
            records.append({"index": index, "line": line[:-1].decode(), "path": path})
    if wanted:
        raise InputError(
            f"there is no record {', '.join(sorted(wanted))} in {bundle}; nothing was written",
            hint="--record RUN:SEQ, as the report and 'journals/' name them.",
        )
    named = None if chosen else profile
    doc = {"schema": SCHEMA, "profile": named, "size": len(lines), "records": records}
    attestation = (bundle / ATTESTATION).read_bytes()
    files = {DISCLOSURE: canonical(doc) + b"\n", ATTESTATION: attestation}
    files[VERIFIER] = (template_folder() / VERIFIER).read_bytes()
    files[README] = _readme(doc, read_envelope(parse_json(attestation)))
    return write_files(out, files)


def _readme(doc: Mapping[str, Any], envelope: Envelope) -> bytes:
    said = parse_canonical(envelope.payload)["predicate"]
    keyid = envelope.signatures[0].keyid
    return disclosure_readme(said, keyid, _count(doc), doc["size"]).encode()


def _count(doc: Mapping[str, Any]) -> int:
    return len({row["index"] for row in doc["records"]})


def _lines(bundle: Path) -> Iterable[tuple[str, bytes]]:
    files = {
        file.name.removesuffix(".jsonl").replace("~", "/"): file
        for file in (bundle / "journals").glob("*.jsonl")
    }
    if not files or not (bundle / ATTESTATION).is_file():
        raise InputError(f"{bundle} is not a sealed bundle", hint="drengine evidence seal RUN")
    for run in sorted(files):
        for line in files[run].read_bytes().splitlines(keepends=True):
            yield run, line


def check_disclosure(folder: Path, trust: Trust) -> dict[str, Any]:
    """Verify a disclosure and return how much of which run it shows.

    Raises:
        VerificationError: the seal, or a record's proof, does not hold.
    """
    try:
        return _checked(folder, trust)
    except (OSError, ValueError, KeyError, TypeError) as error:
        told = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise VerificationError(f"checking {folder}: {told}; do not rely on it") from None


def _checked(folder: Path, trust: Trust) -> dict[str, Any]:
    _require_files(folder)
    doc = parse_line((folder / DISCLOSURE).read_bytes())
    if doc["schema"] != SCHEMA:
        raise ValueError(f"{DISCLOSURE} is not of the kind {SCHEMA}")
    envelope = read_envelope(parse_json((folder / ATTESTATION).read_bytes()))
    said = _sealed_statement(envelope, trust)
    for row in doc["records"]:
        _require_part(row, doc["size"], said["merkle_root"])
    if doc["size"] != sum(journal["records"] for journal in said["journals"]):
        raise ValueError("it counts other records than were sealed")
    readme = folder / README
    if readme.exists() and readme.read_bytes() != _readme(doc, envelope):
        raise ValueError(f"its {README} is not the one of this disclosure")
    return {
        "run": said["run"],
        "class": said["class"],
        "lab": said["lab"],
        "shown": _count(doc),
        "of": doc["size"],
        "profile": doc["profile"],
        "records": [_row(row["line"]) for row in doc["records"]],
        "notes": _notes(folder),
    }


def _notes(folder: Path) -> list[str]:
    shipped = (template_folder() / VERIFIER).read_bytes()
    if not (folder / VERIFIER).exists() or (folder / VERIFIER).read_bytes() == shipped:
        return []
    return [f"its {VERIFIER} is not the one of this drengine: do not run it unread"]


def _require_files(folder: Path) -> None:
    """Refuse whatever a disclosure does not have: it would be read as if it were proved."""
    if folder.is_symlink():
        raise ValueError("it is a symbolic link; name the folder itself")
    check = FolderCheck(folder)
    check.list_files()
    for name in sorted(check.files.keys() - _FILES):
        check.problem(name, "is not a file that a disclosure has")
    if check.problems:
        raise ValueError("; ".join(str(problem) for problem in check.problems))


def _row(line: str) -> dict[str, Any]:
    """Return what names a record in a list."""
    doc = parse_canonical(line.encode())
    named = {key: doc[key] for key in ("run", "seq", "at", "type", "actor")}
    return {**named, "step": doc["body"].get("step")}


def _sealed_statement(envelope: Envelope, trust: Trust) -> dict[str, Any]:
    (signature,) = envelope.signatures
    by = [key for key in trust.sealers if key.keyid == signature.keyid]
    if not by or not verify_with(by[0], signature.sig, envelope.covered):
        raise ValueError("the seal is not by a key of the trust folder")
    if by[0].revoked_ms is not None:
        raise ValueError("the seal is by a key that the trust folder has revoked")
    statement = parse_canonical(envelope.payload)
    if statement["predicateType"] != PREDICATE:
        raise ValueError("what is sealed is not a run")
    said: dict[str, Any] = statement["predicate"]
    return said


def _require_part(row: dict[str, Any], size: int, root: str) -> None:
    content = content_of(row["line"].encode() + b"\n")
    if root_from(content, row["index"], size, row["path"]) != root:
        raise ValueError(f"the record at place {row['index']} is not part of what was sealed")
