"""A contribution: one custodian's sealed share, with the statement made about it.

The share is a JWE to the combiner's one-time key. Its protected header carries the
request's digest, the custodian's x5t#S256 and the digest of the statement, so that its
tag covers all of them. Where a signing key is enrolled, a signature covers statement
and sealed share for everybody else: that is the attestation, and it holds no share.

Not here: opening or sealing (`sealing`), signatures (`signing`), files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from drengine.ceremony.domain import MAX_CUSTODIANS, MIN_REQUIRED
from drengine.ceremony.fields import CLASSES, Fields, read_canonical
from drengine.ceremony.strict import encode_base64url
from drengine.errors import CeremonyError, InputFileError
from drengine.model.canonical import canonical, digest, sha256_hex

SHARE_TYPE: Final = "drengine/ceremony-share/v1"
ATTESTATION_TYPE: Final = "drengine/ceremony-attestation/v1"
MAX_SHARE_BYTES: Final = 16 * 1024
STATEMENT_TEXT: Final = (
    "I compared the request code, opened only my own share, and sealed it to this request."
)
_ANSWERS: Final = ("yes", "no", "unknown")
_UNWRAPS: Final = ("software", "oaep-in-token", "raw-rsa-in-token")
_HOLDER: Final = (
    "encrypted",
    "extractable",
    "kind",
    "never_extractable",
    "token_label",
    "token_serial",
    "unwrap",
)
_STATEMENT: Final = (
    "at_ms",
    "ceremony",
    "class",
    "custodian",
    "exchange_x5t_256",
    "holder",
    "host",
    "key",
    "request",
    "required",
    "text",
    "tool_sha256",
    "tool_version",
    "x5t_256",
)


@dataclass(frozen=True, slots=True)
class HolderFacts:
    """What holds the key, as the holder itself says it.

    Attributes:
        kind: `pem` or `pkcs11`.
        encrypted: whether a PEM file was under a passphrase; true for tokens.
        extractable, never_extractable: `yes`, `no` or `unknown`.
        unwrap: where the RSA operation ran and who took the padding off.
    """

    kind: str
    encrypted: bool
    token_label: str = ""
    token_serial: str = ""
    extractable: str = "unknown"
    never_extractable: str = "unknown"
    unwrap: str = "software"

    def to_json(self) -> dict[str, Any]:
        """Return the facts as a JSON object."""
        return {
            "kind": self.kind,
            "encrypted": self.encrypted,
            "token_label": self.token_label,
            "token_serial": self.token_serial,
            "extractable": self.extractable,
            "never_extractable": self.never_extractable,
            "unwrap": self.unwrap,
        }

    @classmethod
    def read(cls, found: Fields) -> HolderFacts:
        """Read what `to_json` wrote."""
        return cls(
            kind=found.choice("kind", ("pem", "pkcs11")),
            encrypted=found.flag("encrypted"),
            token_label=found.text("token_label", empty=True),
            token_serial=found.text("token_serial", empty=True),
            extractable=found.choice("extractable", _ANSWERS),
            never_extractable=found.choice("never_extractable", _ANSWERS),
            unwrap=found.choice("unwrap", _UNWRAPS),
        )


HOLDER_NAMES: Final = _HOLDER


@dataclass(frozen=True, slots=True)
class Statement:
    """What a custodian states; `key` is the public key that signs it, or empty."""

    ceremony: str
    run_class: str
    request: str
    exchange_x5t_256: str
    required: int
    custodian: str
    x5t_256: str
    holder: HolderFacts
    host: str
    key: bytes
    at_ms: int
    tool_version: str
    tool_sha256: str

    def to_json(self) -> dict[str, Any]:
        """Return the statement as a JSON object."""
        return {
            "ceremony": self.ceremony,
            "class": self.run_class,
            "request": self.request,
            "exchange_x5t_256": self.exchange_x5t_256,
            "required": self.required,
            "custodian": self.custodian,
            "x5t_256": self.x5t_256,
            "holder": self.holder.to_json(),
            "host": self.host,
            "key": encode_base64url(self.key),
            "at_ms": self.at_ms,
            "text": STATEMENT_TEXT,
            "tool_version": self.tool_version,
            "tool_sha256": self.tool_sha256,
        }

    @property
    def digest(self) -> str:
        """SHA-256 of the statement's canonical bytes."""
        return digest(self.to_json())


def read_statement(found: Fields) -> Statement:
    """Read a statement.

    Raises:
        CeremonyError: says which member is wrong.
    """
    found.same("text", STATEMENT_TEXT)
    return Statement(
        ceremony=found.text("ceremony"),
        run_class=found.choice("class", CLASSES),
        request=found.digest("request"),
        exchange_x5t_256=found.thumbprint("exchange_x5t_256"),
        required=found.number("required", least=MIN_REQUIRED, most=MAX_CUSTODIANS),
        custodian=found.text("custodian"),
        x5t_256=found.thumbprint("x5t_256"),
        holder=HolderFacts.read(found.inner("holder", _HOLDER)),
        host=found.text("host"),
        key=found.binary("key", sizes=(0, 32)),
        at_ms=found.time("at_ms"),
        tool_version=found.text("tool_version"),
        tool_sha256=found.digest("tool_sha256"),
    )


@dataclass(frozen=True, slots=True)
class Attestation:
    """A statement with its signature and the digest of the sealed share: no share in it."""

    statement: Statement
    share_sha256: str
    signature: bytes

    @property
    def is_signed(self) -> bool:
        """Whether it carries a signature; whether that verifies is another question."""
        return bool(self.signature)

    def to_json(self) -> dict[str, Any]:
        """Return the attestation as a JSON object."""
        return {
            "type": ATTESTATION_TYPE,
            "statement": self.statement.to_json(),
            "share_sha256": self.share_sha256,
            "signature": encode_base64url(self.signature),
        }

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return canonical(self.to_json())


def signed_bytes(statement: Statement, share_sha256: str) -> bytes:
    """Return what a custodian's signature covers."""
    covered = {"share_sha256": share_sha256, "statement": statement.to_json()}
    return ATTESTATION_TYPE.encode() + b"\n" + canonical(covered)


@dataclass(frozen=True, slots=True)
class Contribution:
    """A custodian's message to the combiner."""

    statement: Statement
    share: str = field(repr=False)
    signature: bytes

    @property
    def attestation(self) -> Attestation:
        """The part without the share, for everybody to see."""
        share_sha256 = sha256_hex(self.share.encode("ascii"))
        return Attestation(self.statement, share_sha256, self.signature)

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return canonical(
            {
                "type": SHARE_TYPE,
                "statement": self.statement.to_json(),
                "share": self.share,
                "signature": encode_base64url(self.signature),
            }
        )


def parse_contribution(data: bytes) -> Contribution:
    """Read a contribution; nothing in it is verified yet.

    Raises:
        InputFileError: not a contribution; says what is wrong with it.
    """
    try:
        names = ("share", "signature", "statement")
        found = read_canonical(data, SHARE_TYPE, names, max_bytes=MAX_SHARE_BYTES)
        return Contribution(
            read_statement(found.inner("statement", _STATEMENT)),
            found.ascii("share"),
            found.binary("signature", sizes=(0, 64)),
        )
    except CeremonyError as error:
        raise InputFileError(
            f"reading the contribution: {error.message}",
            hint="Ask this custodian for the file again; nothing was opened.",
        ) from None


def parse_attestation(data: bytes) -> Attestation:
    """Read an attestation; its signature is not verified yet.

    Raises:
        InputFileError: not an attestation; says what is wrong with it.
    """
    try:
        names = ("share_sha256", "signature", "statement")
        return read_attestation(
            read_canonical(data, ATTESTATION_TYPE, names, max_bytes=MAX_SHARE_BYTES)
        )
    except CeremonyError as error:
        raise InputFileError(f"reading the attestation: {error.message}") from None


def read_attestation(found: Fields) -> Attestation:
    """Read the members of an attestation.

    Raises:
        CeremonyError: says which member is wrong.
    """
    return Attestation(
        read_statement(found.inner("statement", _STATEMENT)),
        found.digest("share_sha256"),
        found.binary("signature", sizes=(0, 64)),
    )
