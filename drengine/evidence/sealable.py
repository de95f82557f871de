"""What must hold before a run is sealed, so that nothing is sealed that could not be verified.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from drengine.errors import InputError
from drengine.evidence.bundle import ATTESTATION, BUNDLE, MANIFEST
from drengine.evidence.family import KIN, Family
from drengine.evidence.sums import MAX_SUMS_BYTES, SUMS, is_safe_name
from drengine.evidence.verify import MAX_DOCUMENT_BYTES, MAX_FILE_BYTES, MAX_FILES
from drengine.model.plan import Plan
from drengine.model.records import Record
from drengine.trust.dsse import MAX_ENVELOPE_BYTES

_LIMITS: Final = {
    SUMS: MAX_SUMS_BYTES,
    ATTESTATION: MAX_ENVELOPE_BYTES,
    **dict.fromkeys((MANIFEST, BUNDLE.plan, BUNDLE.facts, BUNDLE.report), MAX_DOCUMENT_BYTES),
}
"""File name -> how many bytes of it are read by whoever verifies; others have one limit."""


def require_whole(run: str, plan: Plan, records: Mapping[str, Sequence[Record]]) -> None:
    """Refuse a run whose chains would not pass as a whole.

    Raises:
        InputError: a child has no journal yet.
    """
    family = Family(plan)
    for chain in sorted(records):
        for record in records[chain]:
            if record.type in KIN:
                list(family.take(record))  # what is wrong at a record is the verifier's to say
    for child, why in family.problems():
        raise InputError(
            f"sealing {run}: child run {child}: {why}; nothing was sealed",
            hint=f"drengine resume {run} goes on with it; seal when it has.",
        )


def require_verifiable(run: str, files: Mapping[str, bytes]) -> None:
    """Refuse a bundle that is larger than what is read when it is verified.

    Raises:
        InputError: says which file is too large, or that there are too many.
    """
    for why in _excesses(files):
        raise InputError(f"sealing {run}: {why}; nothing was sealed")


def _excesses(files: Mapping[str, bytes]) -> Iterator[str]:
    if len(files) > MAX_FILES:
        yield f"it has {len(files):,} files, more than {MAX_FILES:,}, which could not be verified"
    for name, data in files.items():
        if not is_safe_name(name):
            yield f"{name[:80]!r} is not a name that evidence uses"
        if len(data) > (most := _LIMITS.get(name, MAX_FILE_BYTES)):
            yield (f"{name} would have {len(data):,} bytes; verifying reads at most {most:,} of it")
