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
from drengine.model.canonical import JsonObject
from drengine.model.ids import RunId, root_of
from drengine.model.run import RunState
from drengine.trust.approval import Asked
from drengine.trust.judging import judge, terms_of
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


def another_key(run: RunId) -> str:
    """Return what helps where a key or a role does not count."""
    return (
        "Use the key and the role of somebody whom the run's register names for it. The register"
        f" cannot change: where it is wrong, drengine cancel {root_of(run)} --reason TEXT, mend"
        " it, and start a new plan."
    )


def why_uncounted(
    store: JournalStore,
    state: RunState,
    asked: Asked,
    request: JsonObject,
    envelope: JsonObject,
    actor: str,
    now_ms: int,
) -> str:
    """Say why the engine would not count a signed decision; empty where it would.

    The engine judges again when it takes it in: what this host says decides nothing.
    """
    known = str(state.genesis.get("approvers", ""))
    if not known:
        return ""
    terms = terms_of(asked, request, initiator=str(state.genesis["initiator"]), at_ms=now_ms)
    judged = judge(envelope, terms, kept_register(store, root_of(state.run), known))
    if judged.person is not None and not judged.why and judged.person.actor != actor:
        return f"the key is {judged.person.name}'s, and it was given as {actor}"
    return judged.why


def _judging(world: World, register: Register) -> World:
    by_register: Judge = lambda doc, terms: judge(doc, terms, register)  # noqa: E731 - a port
    return replace(world, judge=by_register, approvers=register.digest)
