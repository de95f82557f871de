"""Sealing a run: from the store to a bundle that stands whole or not at all.

Rules:
- Sealing reads; it appends nothing to any chain.
- Everything is made before the first byte is written; it is written beside its place and
  renamed there. A full disk leaves nothing.
- The signing key is the caller's; it is used once, over the statement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import drengine
from drengine.errors import InputError, JournalError
from drengine.evidence.bundle import (
    ACTIONS,
    APPROVERS,
    ATTESTATION,
    BUNDLE,
    INVENTORY,
    MANIFEST,
    PAE,
    SIGNATURE,
    approvals_of,
    manifest_of,
    merkle_root,
    predicate_of,
    statement_of,
)
from drengine.evidence.contents import (
    ATTACHED,
    attached_of,
    inputs_of,
    inventory_of_plan,
    probes_of,
)
from drengine.evidence.folder import Sources, facts_bytes, read_sources, write_files
from drengine.evidence.readme import README, bundle_readme
from drengine.evidence.sealable import require_verifiable, require_whole
from drengine.evidence.sums import SUMS, write_sums
from drengine.journal.port import JournalStore
from drengine.model.canonical import JsonObject, canonical, sha256_hex
from drengine.model.facts import EvidenceFacts
from drengine.model.ids import RunId, run_file_name
from drengine.model.plan import Plan
from drengine.model.records import Record
from drengine.resources import template_folder
from drengine.trust.dsse import Envelope
from drengine.trust.signers import Signer, signed

VERIFIER: Final = "verify.py"
"""The verifier that ships in every bundle, byte for byte; it imports nothing of drengine."""

Reports = Callable[[EvidenceFacts, JsonObject], Mapping[str, bytes]]
"""Makes the reports of a bundle, of facts and actions: file name below `reports/` -> content."""


@dataclass(frozen=True, slots=True)
class SealRequest:
    """What is to be sealed, and with what.

    Attributes:
        previous: `{run, manifest_sha256}` of the bundle before this one, None for the first.
        actions: deviations, lessons and corrective actions as `actions.json` holds them.
        checkpoints: file name below `checkpoints/` -> content.
    """

    run: RunId
    out: Path
    signer: Signer
    reports: Reports
    previous: JsonObject | None = None
    actions: JsonObject | None = None
    checkpoints: Mapping[str, bytes] = field(default_factory=dict)


def seal(store: JournalStore, request: SealRequest) -> Path:
    """Write the sealed bundle of a run and return its folder.

    Raises:
        InputError: the folder is not free or cannot be written, or what would be written could
            not be verified; nothing was left there.
        JournalDamaged: a chain does not verify.
    """
    sources = read_sources(store, request.run)
    records = sources.records()
    require_whole(request.run, Plan.from_json(sources.plan), records)
    facts = sources.facts_of(records)
    files = _content(store, sources, records, facts)
    actions = request.actions or {"schema": "drengine/actions/v1"}
    reports = request.reports(facts, actions)
    files |= {f"reports/{name}": data for name, data in reports.items()}
    files |= {f"checkpoints/{name}": data for name, data in request.checkpoints.items()}
    files[ACTIONS] = canonical(actions) + b"\n"
    files[README] = bundle_readme(facts, request.signer.keyid).encode()
    root = merkle_root(sources.lines.items())
    manifest = manifest_of(facts, root, files, request.previous, drengine.__version__)
    sealed = {**files, MANIFEST: manifest}
    sums = write_sums({name: sha256_hex(data) for name, data in sealed.items()})
    predicate = predicate_of(facts, root, request.previous)
    envelope = signed(statement_of(manifest, sums, predicate), request.signer)
    whole = {**sealed, SUMS: sums, **_attested(envelope)}
    require_verifiable(request.run, whole)
    return write_files(request.out, whole)


def _attested(envelope: Envelope) -> dict[str, bytes]:
    return {
        ATTESTATION: canonical(envelope.to_json()) + b"\n",
        PAE: envelope.covered,
        SIGNATURE: envelope.signatures[0].sig,
    }


def _content(
    store: JournalStore,
    sources: Sources,
    records: Mapping[str, Sequence[Record]],
    facts: EvidenceFacts,
) -> dict[str, bytes]:
    """Return everything that comes from the journals and what stands beside them."""
    plan = Plan.from_json(sources.plan)
    files = {
        f"journals/{run_file_name(RunId(run))}": b"".join(lines)
        for run, lines in sources.lines.items()
    }
    for chain in records.values():
        files |= approvals_of(chain)
    files[BUNDLE.plan] = canonical(sources.plan) + b"\n"
    files[BUNDLE.facts] = facts_bytes(facts)
    files |= inputs_of(plan, facts)
    if facts.approvers:
        register = store.get_document(RunId(facts.run), "approvers")
        files[APPROVERS] = canonical(register) + b"\n"
    files[VERIFIER] = (template_folder() / VERIFIER).read_bytes()
    return {**files, **_artifacts(store, plan, records)}


def _artifacts(
    store: JournalStore, plan: Plan, records: Mapping[str, Sequence[Record]]
) -> dict[str, bytes]:
    """Return inventories, custody and attached documents, as far as they are kept here."""
    out = {}
    if (data := _object(store, inventory_of_plan(plan))) is not None:
        out[INVENTORY] = data
    for run in sorted(records):
        for record in records[run]:
            out |= probes_of(record)
            named = attached_of(record)
            if (data := _object(store, named)) is not None:
                out[f"{ATTACHED}{named}"] = data
    return out


def _object(store: JournalStore, sha256: str) -> bytes | None:
    if not sha256 or not store.has_object(sha256):
        return None
    try:
        return store.get_object(sha256)
    except JournalError as error:
        raise InputError(
            f"sealing: an object beside the journal is damaged: {error.message}"
        ) from error
