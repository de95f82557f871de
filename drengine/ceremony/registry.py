"""The register's folder: read it, verify it, add to it.

Not here: what the documents say (`register`).
"""

from __future__ import annotations

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
ENROLMENT_PREFIX: Final = "custodian-"
PROOF_PREFIX: Final = "proof-"
CHALLENGE_PREFIX: Final = "challenge-"


def read_register(folder: Path) -> Register:
    """Read a register; every document in it must verify.

    Raises:
        InputFileError: no folder, or a document that is malformed or not signed by its key.
    """
    if not folder.is_dir():
        raise InputFileError(
            f"reading the custodian register: there is no folder {folder}",
            hint="Custodians make their entries with 'drengine ceremony enroll'.",
        )
    names = sorted(path for path in folder.iterdir() if path.suffix == ".json")
    if len(names) > _MAX_DOCUMENTS:
        raise InputFileError(f"reading {folder}: more than {_MAX_DOCUMENTS} documents")
    enrolments, proofs, commits = [], [], set()
    for path in names:
        data = read_input(path, "a document of the register", max_bytes=MAX_DOCUMENT_BYTES)
        try:
            if path.name.startswith(ENROLMENT_PREFIX):
                enrolments.append(verified_enrolment(data))
            elif path.name.startswith(PROOF_PREFIX):
                proofs.append(verified_proof(data))
            elif path.name.startswith(CHALLENGE_PREFIX):
                commits.add(parse_challenge(data).commit)
        except InputFileError as error:
            raise InputFileError(
                f"{path}: {error.message}", hint="Take this document from a copy of the register."
            ) from None
    return Register(tuple(enrolments), tuple(proofs), frozenset(commits))


def verified_enrolment(data: bytes) -> Enrolment:
    """Read an enrolment and check its signature and its certificate.

    Raises:
        InputFileError: says what does not hold.
    """
    found = parse_enrolment(data)
    if not is_signed_by(found.key, found.signature, found.signed_bytes()):
        raise InputFileError("the enrolment's signature does not verify: it was changed")
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
    """Write a document into a register, as a new file.

    Raises:
        InputFileError: it cannot be written.
    """
    prefix = _PREFIXES[type(document)]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputFileError(f"making the register {folder}: {error.strerror}") from None
    mark = sha256_hex(document.x5t_256.encode())[:8]
    path = folder / f"{prefix}{mark}-{document.at_ms}.json"
    write_new(path, document.to_bytes(), "the register's document")
    return path
