"""The ceremony request: what custodians are asked to help with, and for whom.

It names the domain, the target and its exchange certificate, the class, the combiner's
one-time key and who may contribute. Its digest is bound inside every sealed share.

Not here: the private half of the one-time key (`keeper`), and files.

Rules:
- Whoever chooses the exchange certificate and the combiner's key receives the security
  domain. Both are under the digest, and the digest's code is compared by voice.
- The combiner is no custodian and no witness. An incident has a witness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from drengine.ceremony.code import code_of, words_of
from drengine.ceremony.domain import MAX_CUSTODIANS, MIN_CUSTODIANS, MIN_REQUIRED
from drengine.ceremony.fields import CLASSES, Fields, comparable, read_canonical
from drengine.ceremony.strict import encode_base64url
from drengine.errors import CeremonyError, InputFileError, QuorumError
from drengine.model.canonical import canonical, sha256_hex

REQUEST_TYPE: Final = "drengine/ceremony-request/v1"
MAX_REQUEST_BYTES: Final = 32 * 1024
"""Ten custodians, eight witnesses and every text as long as it may be, in any script."""
MAX_VALID_MS: Final = 7 * 24 * 3_600_000
_MAX_WITNESSES: Final = 8
_KEY_SIZES: Final = range(400, 600)
"""Bytes of an RSA-3072 or RSA-4096 public key as SubjectPublicKeyInfo."""
_NAMES: Final = (
    "ceremony",
    "class",
    "combiner",
    "custodians",
    "domain_sha256",
    "exchange_subject",
    "exchange_x5t_256",
    "expires_ms",
    "opened_ms",
    "purpose",
    "required",
    "run",
    "step",
    "target",
    "tool_sha256",
    "tool_version",
    "witnesses",
)


@dataclass(frozen=True, slots=True)
class Invited:
    """A custodian who may contribute.

    Attributes:
        name, key: from the register; empty where this custodian is not enrolled. `key` is
            the public Ed25519 key that must then sign the attestation.
    """

    x5t_256: str
    name: str = ""
    key: bytes = b""


@dataclass(frozen=True, slots=True)
class CeremonyRequest:
    """A request, as it is written, carried and shown.

    Attributes:
        combiner_key: the one-time key's public half, which shares are sealed to.
        combiner_signs: the public Ed25519 key that signs which blob was made, and then is gone.
    """

    ceremony: str
    run_class: str
    purpose: str
    run: str
    step: str
    target: str
    exchange_x5t_256: str
    exchange_subject: str
    domain_sha256: str
    required: int
    custodians: tuple[Invited, ...]
    combiner: str
    combiner_host: str
    combiner_key: bytes = field(repr=False)
    combiner_signs: bytes
    witnesses: tuple[str, ...]
    opened_ms: int
    expires_ms: int
    tool_version: str
    tool_sha256: str

    @property
    def digest(self) -> str:
        """SHA-256 of the request's canonical bytes."""
        return sha256_hex(self.to_bytes())

    @property
    def code(self) -> str:
        """The request code in hex digits."""
        return code_of(self.digest)

    @property
    def words(self) -> str:
        """The request code in words."""
        return words_of(self.digest)

    @property
    def unenrolled(self) -> tuple[str, ...]:
        """The x5t#S256 of those whom no register named: they contribute under any name."""
        return tuple(one.x5t_256 for one in self.custodians if not one.key)

    def invited(self, x5t_256: str) -> Invited | None:
        """Return the custodian of that certificate, None where not invited."""
        return next((one for one in self.custodians if one.x5t_256 == x5t_256), None)

    def to_json(self) -> dict[str, Any]:
        """Return the request as a JSON object."""
        return {
            "type": REQUEST_TYPE,
            "ceremony": self.ceremony,
            "class": self.run_class,
            "purpose": self.purpose,
            "run": self.run,
            "step": self.step,
            "target": self.target,
            "exchange_x5t_256": self.exchange_x5t_256,
            "exchange_subject": self.exchange_subject,
            "domain_sha256": self.domain_sha256,
            "required": self.required,
            "custodians": [
                {"key": encode_base64url(one.key), "name": one.name, "x5t_256": one.x5t_256}
                for one in self.custodians
            ],
            "combiner": {
                "host": self.combiner_host,
                "key": encode_base64url(self.combiner_key),
                "name": self.combiner,
                "signs": encode_base64url(self.combiner_signs),
            },
            "witnesses": list(self.witnesses),
            "opened_ms": self.opened_ms,
            "expires_ms": self.expires_ms,
            "tool_version": self.tool_version,
            "tool_sha256": self.tool_sha256,
        }

    def to_bytes(self) -> bytes:
        """Return the canonical bytes, which the digest covers."""
        return canonical(self.to_json())


def parse_request(data: bytes) -> CeremonyRequest:
    """Read a request.

    Raises:
        InputFileError: not a request; says what is wrong with it.
        CeremonyError: it breaks a rule of dual control.
    """
    try:
        request = _parse(read_canonical(data, REQUEST_TYPE, _NAMES, max_bytes=MAX_REQUEST_BYTES))
    except CeremonyError as error:
        raise InputFileError(
            f"reading the ceremony request: {error.message}",
            hint="Ask the combiner for the request file again; nothing was opened.",
        ) from None
    check_request(request)
    return request


def _parse(found: Fields) -> CeremonyRequest:
    combiner = found.inner("combiner", ("host", "key", "name", "signs"))
    listed = found.each(
        "custodians", ("key", "name", "x5t_256"), least=MIN_CUSTODIANS, most=MAX_CUSTODIANS
    )
    return CeremonyRequest(
        ceremony=found.text("ceremony"),
        run_class=found.choice("class", CLASSES),
        purpose=found.text("purpose"),
        run=found.text("run", empty=True),
        step=found.text("step", empty=True),
        target=found.text("target"),
        exchange_x5t_256=found.thumbprint("exchange_x5t_256"),
        exchange_subject=found.text("exchange_subject", empty=True),
        domain_sha256=found.digest("domain_sha256"),
        required=found.number("required", least=MIN_REQUIRED, most=len(listed)),
        custodians=tuple(map(_invited, listed)),
        combiner=combiner.text("name"),
        combiner_host=combiner.text("host"),
        combiner_key=combiner.binary("key", sizes=_KEY_SIZES),
        combiner_signs=combiner.binary("signs", sizes=(32,)),
        witnesses=found.texts("witnesses", most=_MAX_WITNESSES),
        opened_ms=found.time("opened_ms"),
        expires_ms=found.time("expires_ms"),
        tool_version=found.text("tool_version"),
        tool_sha256=found.digest("tool_sha256"),
    )


def _invited(one: Fields) -> Invited:
    return Invited(
        one.thumbprint("x5t_256"), one.text("name", empty=True), one.binary("key", sizes=(0, 32))
    )


def check_request(request: CeremonyRequest) -> None:
    """Hold a request against the rules of dual control.

    Raises:
        CeremonyError: says which rule.
        QuorumError: a custodian is listed twice.
    """
    _check_distinct(request.custodians)
    for one in request.custodians:
        if one.name and same_person(one.name) == same_person(request.combiner):
            raise CeremonyError(
                f"the combiner {request.combiner!r} is one of the custodians ({one.x5t_256}); "
                "nobody is both",
                hint="Let somebody else combine.",
            )
    _check_witnesses(request)
    if not request.opened_ms < request.expires_ms <= request.opened_ms + MAX_VALID_MS:
        raise CeremonyError("the request is valid for no time at all, or for more than seven days")


def _check_distinct(custodians: Sequence[Invited]) -> None:
    """Each certificate, name and signing key stands once; a refusal says with which ones."""
    for at, later in enumerate(custodians):
        for earlier in custodians[:at]:
            if (common := _in_common(earlier, later)) is not None:
                raise QuorumError(
                    f"the request lists {common} twice: {earlier.x5t_256} ({earlier.name!r}) and "
                    f"{later.x5t_256} ({later.name!r})",
                    hint="Each custodian counts once: correct the register and open anew.",
                )


def _in_common(one: Invited, other: Invited) -> str | None:
    if one.x5t_256 == other.x5t_256:
        return "one custodian"
    if one.name and other.name and same_person(one.name) == same_person(other.name):
        return f"the name {other.name!r}"
    return "one signing key" if one.key and one.key == other.key else None


def _check_witnesses(request: CeremonyRequest) -> None:
    witnesses = [same_person(name) for name in request.witnesses]
    if request.run_class == "incident" and not witnesses:
        raise CeremonyError(
            "a ceremony of class incident needs a witness, and the request names none",
            hint="Name one with --witness; a witness is neither combiner nor custodian.",
        )
    elsewhere = [one for one in request.custodians if same_person(one.name) in witnesses]
    if (
        elsewhere
        or same_person(request.combiner) in witnesses
        or len(set(witnesses)) != len(witnesses)
    ):
        who = "".join(f" ({one.name!r}, {one.x5t_256})" for one in elsewhere)
        raise CeremonyError(
            f"a witness is also combiner or custodian{who}, or is named twice; nobody is both",
            hint="Name somebody else with --witness.",
        )


def same_person(name: str) -> str:
    """Return a name in the form in which two spellings of it are equal."""
    return comparable(name)


def require_valid(request: CeremonyRequest, now_ms: int) -> None:
    """Refuse a request that has expired.

    Raises:
        CeremonyError: it has, by this machine's clock.
    """
    if now_ms >= request.expires_ms:
        raise CeremonyError(
            f"the request of ceremony {request.ceremony} expired "
            f"{(now_ms - request.expires_ms) // 60_000} minutes ago by this machine's clock",
            hint="Check this clock. The combiner opens a new ceremony; shares given to the old "
            "request cannot be used for it.",
        )
