"""What crosses the pipe between `combine` and its child, and the report of both.

Not here: any work. Values, and their JSON in the two directions.

Rules:
- The request carries paths of key files, never their content; passphrases are in it
  and in no repr.
- The answer is a blob with a report, or an error by name: no traceback, no locals.
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from drengine.errors import (
    CeremonyError,
    DomainError,
    DrError,
    InputFileError,
    InternalError,
    QuorumError,
    ShareError,
)

_CROSSING: Final[dict[str, type[DrError]]] = {
    kind.__name__: kind
    for kind in (
        CeremonyError,
        DomainError,
        InputFileError,
        InternalError,
        QuorumError,
        ShareError,
    )
}


@dataclass(frozen=True, slots=True)
class KeySource:
    """One custodian's key file, the certificate where it is not beside it, a passphrase."""

    path: Path
    certificate: Path | None = None
    passphrase: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class TokenSource:
    """One custodian's key in a PKCS#11 token; `key_label` may be empty: all keys are looked at."""

    module: Path
    token_label: str
    certificate: Path
    key_label: str = ""
    token_serial: str = ""
    pin: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class CombineRequest:
    """What the child is asked to do."""

    domain: bytes = field(repr=False)
    exchange_certificate: bytes = field(repr=False)
    keys: tuple[KeySource, ...]
    accept_open_permissions: bool

    def to_bytes(self) -> bytes:
        """Return the request as JSON."""
        keys = [
            {
                "path": str(key.path),
                "certificate": None if key.certificate is None else str(key.certificate),
                "passphrase": None if key.passphrase is None else _encode(key.passphrase),
            }
            for key in self.keys
        ]
        return json.dumps(
            {
                "domain": _encode(self.domain),
                "exchange_certificate": _encode(self.exchange_certificate),
                "keys": keys,
                "accept_open_permissions": self.accept_open_permissions,
            }
        ).encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes) -> CombineRequest:
        """Read what `to_bytes` wrote in the parent process."""
        found = json.loads(data)
        keys = tuple(
            KeySource(
                path=Path(key["path"]),
                certificate=None if key["certificate"] is None else Path(key["certificate"]),
                passphrase=None if key["passphrase"] is None else _decode(key["passphrase"]),
            )
            for key in found["keys"]
        )
        return cls(
            domain=_decode(found["domain"]),
            exchange_certificate=_decode(found["exchange_certificate"]),
            keys=keys,
            accept_open_permissions=found["accept_open_permissions"],
        )


@dataclass(frozen=True, slots=True)
class CustodianUsed:
    """One custodian whose key was used.

    `matched_by` is `certificate`, or `trial` where the key was tried on every share.
    """

    x5t_256: str
    key_file: str
    holder: str
    key_encrypted: bool
    matched_by: str


@dataclass(frozen=True, slots=True)
class ChildReport:
    """What the child says of itself; nothing in it is secret.

    `plain_since_ns` is the machine's monotonic clock when decryption began.
    """

    domain_sha256: str
    required: int
    custodians: tuple[CustodianUsed, ...]
    exchange_x5t_256: str
    exchange_subject: str
    plain_since_ns: int
    core_dumps_off: bool
    not_dumpable: bool
    memory_locked: bool
    swap_active: bool


@dataclass(frozen=True, slots=True)
class CombineReport:
    """What a combine did, for people and for evidence.

    `plain_milliseconds` runs from the first decryption until the child was gone.
    """

    out: Path
    blob_sha256: str
    blob_size_bytes: int
    domain_sha256: str
    required: int
    custodians: tuple[CustodianUsed, ...]
    exchange_x5t_256: str
    exchange_subject: str
    plain_milliseconds: int
    core_dumps_off: bool
    not_dumpable: bool
    memory_locked: bool
    swap_active: bool

    def to_json(self) -> dict[str, Any]:
        """Return the report as the JSON object that `-o json` prints."""
        return {"schema": "drengine/ceremony-combine/v1", **asdict(self), "out": str(self.out)}


@dataclass(frozen=True, slots=True)
class Combined:
    """The child's good answer."""

    blob: bytes = field(repr=False)
    report: ChildReport

    def to_bytes(self) -> bytes:
        """Return the answer as JSON."""
        answer = {"blob": _encode(self.blob), "report": asdict(self.report)}
        return json.dumps(answer).encode("ascii")


def encode_source(source: KeySource | TokenSource) -> dict[str, Any]:
    """Return a source as the JSON that crosses a pipe, with its passphrase or PIN."""
    if isinstance(source, KeySource):
        return {
            "kind": "pem",
            "path": str(source.path),
            "certificate": None if source.certificate is None else str(source.certificate),
            "passphrase": None if source.passphrase is None else _encode(source.passphrase),
        }
    return {
        "kind": "pkcs11",
        "module": str(source.module),
        "token_label": source.token_label,
        "certificate": str(source.certificate),
        "key_label": source.key_label,
        "token_serial": source.token_serial,
        "pin": _encode(source.pin),
    }


def decode_source(found: dict[str, Any]) -> KeySource | TokenSource:
    """Read what `encode_source` wrote in the parent process."""
    if found["kind"] == "pem":
        certificate, passphrase = found["certificate"], found["passphrase"]
        return KeySource(
            Path(found["path"]),
            None if certificate is None else Path(certificate),
            None if passphrase is None else _decode(passphrase),
        )
    return TokenSource(
        module=Path(found["module"]),
        token_label=found["token_label"],
        certificate=Path(found["certificate"]),
        key_label=found["key_label"],
        token_serial=found["token_serial"],
        pin=_decode(found["pin"]),
    )


def absolute_source(source: KeySource | TokenSource) -> KeySource | TokenSource:
    """Return a source with absolute paths, not resolved: links must be seen and refused."""
    if isinstance(source, TokenSource):
        return replace(source, certificate=source.certificate.absolute())
    certificate = None if source.certificate is None else source.certificate.absolute()
    return replace(source, path=source.path.absolute(), certificate=certificate)


def read_result(data: bytes) -> dict[str, Any]:
    """Read what a child answered: an object, or a refusal.

    Raises:
        DrError: the child's refusal, as the same kind of error.
        ValueError, KeyError, TypeError: this is no answer; the child broke off.
    """
    answer = json.loads(data)
    if "error" in answer:
        refusal = answer["error"]
        raise _CROSSING.get(refusal["kind"], InternalError)(
            refusal["message"], hint=refusal["hint"]
        )
    return dict(answer)


def encode_bytes(data: bytes) -> str:
    """Return bytes as they stand in the JSON of a pipe."""
    return _encode(data)


def decode_bytes(text: str) -> bytes:
    """Read what `encode_bytes` wrote."""
    return _decode(text)


def write_refusal(error: DrError) -> bytes:
    """Return the child's other answer: an error by name, with its text."""
    refusal = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
    return json.dumps({"error": refusal}).encode("ascii")


def read_answer(data: bytes) -> Combined:
    """Read what the child answered.

    Raises:
        DrError: the child's refusal, as the same kind of error.
        ValueError, KeyError, TypeError: this is no answer; the child broke off.
    """
    answer = read_result(data)
    report = answer["report"]
    custodians = tuple(CustodianUsed(**used) for used in report.pop("custodians"))
    return Combined(_decode(answer["blob"]), ChildReport(custodians=custodians, **report))


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
