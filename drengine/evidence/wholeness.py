"""Whether a sealed bundle is whole, as far as that can be told without a trusted key.

Everything that `sealed` checks of files, journals and numbers is checked here too, and that
what was signed is these files. Not checked is whose key signed: nothing in a bundle can say
that, so a caller without a trust folder has to say so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from drengine.evidence.bundle import (
    ATTESTATION,
    BUNDLE,
    MANIFEST,
    PAE,
    SIGNATURE,
    is_outside,
    predicate_of,
    statement_of,
)
from drengine.evidence.sums import SUMS
from drengine.evidence.verify import FolderCheck
from drengine.journal.verify import Problem
from drengine.model.canonical import parse_canonical, parse_line
from drengine.model.facts import EvidenceFacts
from drengine.trust.dsse import Envelope, read_envelope

_SEAL: Final = (MANIFEST, SUMS, ATTESTATION, PAE, SIGNATURE)


def wholeness_problems(bundle: Path) -> tuple[Problem, ...]:
    """Return everything for which a bundle is not whole; whose key sealed it is not asked."""
    check = FolderCheck(bundle, BUNDLE, notes=[])
    check.list_files()
    with check.sums_beside(is_outside):
        facts = check.check_journals()
    check.refuse_without(facts)
    missing = [name for name in _SEAL if name not in check.files]
    told = {problem.place for problem in check.problems}
    check.problems += [Problem(name, "is missing") for name in missing if name not in told]
    if facts is not None and not missing:
        check.problems += _seal_problems(check, facts)
    return tuple(check.problems)


def _seal_problems(check: FolderCheck, facts: EvidenceFacts) -> Iterator[Problem]:
    content = {name: check.files[name].read_bytes() for name in _SEAL}
    try:
        envelope = read_envelope(parse_line(content[ATTESTATION]))
    except ValueError as error:
        yield Problem(ATTESTATION, str(error))
        return
    if len(envelope.signatures) != 1:
        yield Problem(ATTESTATION, f"has {len(envelope.signatures)} signatures, expected one")
    elif content[SIGNATURE] != envelope.signatures[0].sig:
        yield Problem(SIGNATURE, "is not the signature of the attestation")
    if content[PAE] != envelope.covered:
        yield Problem(PAE, "is not what was signed")
    yield from _statement_problems(content, envelope, facts)


def _statement_problems(
    content: dict[str, bytes], envelope: Envelope, facts: EvidenceFacts
) -> Iterator[Problem]:
    try:
        manifest = parse_canonical(content[MANIFEST].removesuffix(b"\n"))
        said = predicate_of(facts, str(manifest["merkle_root"]), manifest["previous_bundle"])
    except (ValueError, KeyError) as error:
        yield Problem(MANIFEST, f"cannot be read: {error}")
        return
    if statement_of(content[MANIFEST], content[SUMS], said) != envelope.payload:
        yield Problem(ATTESTATION, "is not the seal of these files")
