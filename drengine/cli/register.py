"""The register of approvers that a run is started with.

Rules: its digest stands in record 0 and the document beside the journal, so that every
resume, on any host, judges by the same register. A run cannot change it later.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from drengine.engine.world import Judge, World
from drengine.errors import JournalDamaged, UsageError
from drengine.journal.port import JournalStore
from drengine.model.ids import RunId
from drengine.trust.judging import judge
from drengine.trust.register import Register, read_trust

DOCUMENT: Final = "approvers"


def with_approvers(world: World, run: RunId, folder: Path | None) -> World:
    """Return the world with a judge, where the run has a register or is given one now.

    Raises:
        UsageError: the run exists and has another register, or none.
        JournalDamaged: the register that record 0 names is not there.
    """
    known = _recorded(world.store, run)
    register = read_trust(folder).register if folder else None
    if known is None:
        if register is None:
            return world
        world.store.put_document(run, DOCUMENT, register.to_json())
        return _judging(world, register)
    if register is not None and register.digest != known:
        raise UsageError(
            f"run {run} was started {'with another' if known else 'without a'} register of"
            " approvers, which cannot change; nothing was sent",
            hint=f"Leave --approvers out: drengine resume {run}",
        )
    return _judging(world, kept_register(world.store, run, known)) if known else world


def _recorded(store: JournalStore, run: RunId) -> str | None:
    """Return what record 0 says: None where there is none yet, empty where it names none."""
    if not store.exists(run):
        return None
    first = next(iter(store.read(run)))
    return str(first.body.get("approvers", ""))


def kept_register(store: JournalStore, run: RunId, digest: str) -> Register:
    """Return the register kept beside a run's journal.

    Raises:
        JournalDamaged: it is not there, or not the one that record 0 names.
    """
    try:
        register = Register.from_json(store.get_document(run, DOCUMENT))
    except ValueError as error:
        raise JournalDamaged(f"run {run}: its register of approvers {error}") from None
    if register.digest != digest:
        raise JournalDamaged(
            f"run {run}: its register of approvers is not the one that record 0 names"
        )
    return register


def _judging(world: World, register: Register) -> World:
    by_register: Judge = lambda doc, terms: judge(doc, terms, register)  # noqa: E731 - a port
    return replace(world, judge=by_register, approvers=register.digest)
