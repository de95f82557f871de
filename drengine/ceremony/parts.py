"""The `EncData` object that a security domain and a restore blob have in common.

Not here: which master key opens it. Shared by `domain` and `blob`, so that both
refuse the same things.

Rules:
- Every part's JWE names the part's tag as its key id, and tags do not repeat.
- The three parts that Managed HSM writes must be there. A part with another tag is
  kept: it is carried from the domain to the blob as the others are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from drengine.ceremony import strict
from drengine.ceremony.compact import CompactJwe, KeyAgreement, parse_jwe
from drengine.ceremony.kdf import KDF_NAME
from drengine.errors import CeremonyError

if TYPE_CHECKING:
    from collections.abc import Sequence

REQUIRED_TAGS: Final = ("hsm_backup", "base_enclave_backup", "partition_enclave_backup")
_MAX_PARTS: Final = 16
_TAG: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class SealedPart:
    """One encrypted part of the domain, by its tag."""

    tag: str
    jwe: CompactJwe = field(repr=False)


def parse_parts(value: object) -> tuple[SealedPart, ...]:
    """Read `EncData`.

    Raises:
        CeremonyError: names the part that is missing, repeated or malformed.
    """
    enc_data = strict.members(value, ("data", "kdf"), "'EncData'")
    strict.literal(enc_data["kdf"], KDF_NAME, "'EncData.kdf'")
    listed = strict.elements(enc_data["data"], "'EncData.data'", least=1, most=_MAX_PARTS)
    parts = tuple(_parse_part(entry, number) for number, entry in enumerate(listed))
    _require_tags(parts)
    return parts


def _parse_part(value: object, number: int) -> SealedPart:
    where = f"'EncData.data[{number}]'"
    entry = strict.members(value, ("compact_jwe", "tag"), where)
    tag = strict.text(entry["tag"], f"the tag of {where}")
    if not _TAG.match(tag):
        raise CeremonyError(f"the tag of {where} is not a plain word of at most 64 letters")
    written = strict.text(entry["compact_jwe"], f"the JWE of part {tag!r}")
    try:
        return SealedPart(tag, parse_jwe(written, KeyAgreement.DIRECT, kid=tag))
    except CeremonyError as error:
        raise CeremonyError(f"part {tag!r}: {error.message}") from None


def _require_tags(parts: Sequence[SealedPart]) -> None:
    tags = [part.tag for part in parts]
    repeated = sorted({tag for tag in tags if tags.count(tag) > 1})
    if repeated:
        raise CeremonyError(f"part {repeated[0]!r} is there twice")
    missing = [tag for tag in REQUIRED_TAGS if tag not in tags]
    if missing:
        raise CeremonyError(
            f"it lacks {' and '.join(map(repr, missing))}; "
            f"a security domain has {', '.join(REQUIRED_TAGS)}"
        )
