"""What the keeper of a ceremony's one-time key signs: which blob was made, from whose shares, how.

Pure. Custodians sign what they give before there is a blob; this is signed after it, by a key
that the request names and that goes with the one-time key. Who held the key is left out of it:
the signature shows that the process which made the blob says so, and nobody who came later.

Rule: every entry from the signed head to `combined` follows from what is signed here and from
the request. The session writes these entries, and who proves a transcript makes them again; so
nobody can accuse, leave out or excuse a custodian between the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from drengine.ceremony import strict
from drengine.ceremony.domain import MAX_CUSTODIANS
from drengine.ceremony.fields import Fields
from drengine.ceremony.messages import encode_bytes
from drengine.ceremony.transcript import Draft, remark
from drengine.model.canonical import canonical

if TYPE_CHECKING:
    from drengine.ceremony.request import CeremonyRequest

MADE_TYPE: Final = "drengine/ceremony-made/v1"
SENTENCE: Final = (
    "The security domain's plain contents existed in the memory of process {pid} on host {host} "
    "for {ms} ms, and nowhere else that drengine knows of."
)
_MAX_NUMBER: Final = 2**53
_NAMES: Final = (
    "at_ms",
    "blob_sha256",
    "blob_size",
    "custodians",
    "exchange_subject",
    "head",
    "memory_locked",
    "misfits",
    "pid",
    "plain_ms",
    "request",
    "swap_active",
    "twins",
    "type",
)


@dataclass(frozen=True, slots=True)
class Made:
    """How one blob came about.

    Attributes:
        request: digest of the request, which names domain, target and exchange key.
        head: of the transcript when combining began; the contributions stand before it.
        at_ms: when the contributions were held against the request.
        custodians: whose shares fitted, by x5t#S256.
        misfits: whose shares did not, each with why; the blob is made without them.
        twins: groups of custodians, as text, who gave one and the same share.
        plain_ms: how long the domain was plain at most, in the process `pid`.
        memory_locked, swap_active: how the memory of that process stood.
    """

    request: str
    head: str
    at_ms: int
    blob_sha256: str
    blob_size: int
    exchange_subject: str
    custodians: tuple[str, ...]
    misfits: tuple[tuple[str, str], ...]
    twins: tuple[tuple[str, ...], ...]
    plain_ms: int
    memory_locked: bool
    swap_active: bool
    pid: int

    def to_json(self) -> dict[str, Any]:
        """Return what is signed as a JSON object."""
        return {
            "type": MADE_TYPE,
            "request": self.request,
            "head": self.head,
            "at_ms": self.at_ms,
            "blob_sha256": self.blob_sha256,
            "blob_size": self.blob_size,
            "exchange_subject": self.exchange_subject,
            "custodians": list(self.custodians),
            "misfits": [{"why": why, "x5t_256": x5t_256} for x5t_256, why in self.misfits],
            "twins": [list(group) for group in self.twins],
            "plain_ms": self.plain_ms,
            "memory_locked": self.memory_locked,
            "swap_active": self.swap_active,
            "pid": self.pid,
        }

    def signed_bytes(self) -> bytes:
        """Return what the signature covers."""
        return canonical(self.to_json())


def read_made(value: object) -> Made:
    """Read what a `combined` entry says was signed.

    Raises:
        CeremonyError: a member is missing, one too many, or not what it must be.
    """
    found = Fields(strict.members(value, _NAMES, "'made'"), "made.")
    found.same("type", MADE_TYPE)
    misfits = found.each("misfits", ("why", "x5t_256"), least=0, most=MAX_CUSTODIANS)
    return Made(
        request=found.digest("request"),
        head=found.digest("head"),
        at_ms=found.time("at_ms"),
        blob_sha256=found.digest("blob_sha256"),
        blob_size=found.number("blob_size", least=1, most=_MAX_NUMBER),
        exchange_subject=strict.text(found.raw("exchange_subject"), "'made.exchange_subject'"),
        custodians=found.texts("custodians", most=MAX_CUSTODIANS),
        misfits=tuple(
            (one.thumbprint("x5t_256"), strict.text(one.raw("why"), "'made.misfits.why'"))
            for one in misfits
        ),
        twins=_twins(found.raw("twins")),
        plain_ms=found.number("plain_ms", least=1, most=_MAX_NUMBER),
        memory_locked=found.flag("memory_locked"),
        swap_active=found.flag("swap_active"),
        pid=found.number("pid", least=1, most=_MAX_NUMBER),
    )


def _twins(value: object) -> tuple[tuple[str, ...], ...]:
    groups = strict.elements(value, "'made.twins'", least=0, most=MAX_CUSTODIANS)
    return tuple(
        tuple(
            strict.text(one, "'made.twins'")
            for one in strict.elements(group, "'made.twins'", least=2, most=MAX_CUSTODIANS)
        )
        for group in groups
    )


def sentence_of(made: Made, request: CeremonyRequest) -> str:
    """Say where the plain domain was, and for how long."""
    return SENTENCE.format(pid=made.pid, host=request.combiner_host, ms=made.plain_ms)


def entries_of(made: Made, signature: bytes, request: CeremonyRequest) -> list[Draft]:
    """Return the entries that stand between the signed head and the end of combining."""
    left_out = [remark(f"{why}; the blob is made without it") for _, why in made.misfits]
    twins = [
        remark(f"{' and '.join(group)} gave the same share: it is not the own of them all")
        for group in made.twins
    ]
    body = {
        "made": made.to_json(),
        "sentence": sentence_of(made, request),
        "signature": encode_bytes(signature),
    }
    return [*left_out, *twins, Draft("combined", request.combiner, body)]
