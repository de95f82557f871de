"""The register's folder: read it, verify it, add to it.

Not here: what the documents say (`register`).
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from drengine.ceremony.certificates import load_certificate, thumbprint_of
from drengine.ceremony.files import read_input, write_new
from drengine.ceremony.register import (
    MAX_DOCUMENT_BYTES,
    Challenge,
    Enrolment,
    Proof,
    Register,
    parse_challenge,
    parse_enrolment,
    parse_proof,
)
from drengine.ceremony.signing import is_signed_by
from drengine.errors import CeremonyError, InputFileError
from drengine.model.canonical import sha256_hex

_MAX_DOCUMENTS: Final = 2000
# A register is there to be asked by anybody, whatever the umask of who adds to it.
_FOLDER_MODE, _FILE_MODE = 0o755, 0o644
ENROLMENT_PREFIX: Final = "custodian-"
PROOF_PREFIX: Final = "proof-"
CHALLENGE_PREFIX: Final = "challenge-"


def read_register(folder: Path, *, may_be_empty: bool = False) -> Register:
    """Read a register; every document in it must verify.

    Parameters:
        may_be_empty: take a folder in which nobody is enrolled, or none: the first entry is
            about to be written. To check something against nobody is to check nothing.

    Raises:
        InputFileError: no folder, nobody enrolled in it, or a document that is malformed or
            not signed by its key.
    """
    names = _documents(folder, may_be_empty=may_be_empty)
    enrolments, proofs, challenges = [], [], []
    for path in names:
        data = read_input(path, "a document of the register", max_bytes=MAX_DOCUMENT_BYTES)
        try:
            if path.name.startswith(ENROLMENT_PREFIX):
                enrolments.append(replace(verified_enrolment(data), file=path.name))
            elif path.name.startswith(PROOF_PREFIX):
                proofs.append(replace(verified_proof(data), file=path.name))
            elif path.name.startswith(CHALLENGE_PREFIX):
                challenges.append(replace(parse_challenge(data), file=path.name))
        except InputFileError as error:
            raise InputFileError(
                f"{path}: {error.message}",
                hint=error.hint or "Take this document from a copy of the register.",
            ) from None
    if not enrolments and not may_be_empty:
        raise _nobody_in(folder)
    return Register(tuple(enrolments), tuple(proofs), tuple(challenges))


def _documents(folder: Path, *, may_be_empty: bool) -> list[Path]:
    if not folder.is_dir():
        if may_be_empty and not os.path.lexists(folder):
            return []
        raise InputFileError(
            f"reading the custodian register: there is no folder {folder}",
            hint="Custodians make their entries with 'drengine ceremony enroll'.",
        )
    try:
        names = sorted(path for path in folder.iterdir() if path.suffix == ".json")
    except OSError as error:
        raise InputFileError(
            f"reading the custodian register {folder}: {error.strerror}",
            hint="Nothing in it is secret: its keeper makes it readable ('chmod -R a+rX').",
        ) from None
    if len(names) > _MAX_DOCUMENTS:
        raise InputFileError(f"reading {folder}: more than {_MAX_DOCUMENTS} documents")
    return names


def _nobody_in(folder: Path) -> InputFileError:
    near = [place for place in _near(folder) if _holds_entries(place)]
    if near:
        hint = f"Entries are in {', '.join(map(str, near))}: give that with --register."
    else:
        hint = "Give the folder with the files custodian-….json that 'ceremony enroll' wrote."
    return InputFileError(
        f"reading the custodian register: nobody is enrolled in {folder}, so nothing could be "
        "checked with it",
        hint=hint,
    )


def _near(folder: Path) -> list[Path]:
    try:
        inside = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        inside = []
    return [folder.absolute().parent, *inside[:_MAX_DOCUMENTS]]


def _holds_entries(folder: Path) -> bool:
    try:
        return any(folder.glob(f"{ENROLMENT_PREFIX}*.json"))
    except OSError:
        return False


def verified_enrolment(data: bytes) -> Enrolment:
    """Read an enrolment and check its signature and its certificate.

    Raises:
        InputFileError: says what does not hold.
    """
    found = parse_enrolment(data)
    if not is_signed_by(found.key, found.signature, found.signed_bytes()):
        raise InputFileError("the enrolment's signature does not verify: it was changed")
    if (found.replaced_key or found.consent) and not is_signed_by(
        found.replaced_key, found.consent, found.consent_bytes()
    ):
        raise InputFileError("the consent of the signing key before does not verify")
    try:
        thumbprint = thumbprint_of(load_certificate(found.certificate))
    except CeremonyError as error:
        raise InputFileError(f"the enrolment's certificate: {error.message}") from None
    if thumbprint != found.x5t_256:
        raise InputFileError("the enrolment's x5t#S256 is not that of its certificate")
    return found


def verified_proof(data: bytes) -> Proof:
    """Read a proof of possession and check its signature.

    Raises:
        InputFileError: says what does not hold.
    """
    found = parse_proof(data)
    if not is_signed_by(found.key, found.signature, found.signed_bytes()):
        raise InputFileError("the proof's signature does not verify: it was changed")
    return found


_PREFIXES: Final[dict[type, str]] = {
    Enrolment: ENROLMENT_PREFIX,
    Proof: PROOF_PREFIX,
    Challenge: CHALLENGE_PREFIX,
}


def add_to_register(folder: Path, document: Enrolment | Proof | Challenge) -> Path:
    """Write a document into a register, as a new file that everybody may read.

    Raises:
        InputFileError: it cannot be written.
    """
    prefix = _PREFIXES[type(document)]
    try:
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        if is_new:
            with suppress(PermissionError):  # FAT sticks have no modes
                folder.chmod(_FOLDER_MODE)
    except OSError as error:
        raise InputFileError(f"making the register {folder}: {error.strerror}") from None
    mark = sha256_hex(document.x5t_256.encode())[:8]
    path = folder / f"{prefix}{mark}-{document.at_ms}.json"
    write_new(path, document.to_bytes(), "the register's document", mode=_FILE_MODE)
    return path
