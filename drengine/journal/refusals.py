"""What every store refuses, said in the same words by each of them.

Pure: builds errors, decides nothing about storage.
"""

from __future__ import annotations

from pathlib import Path

from drengine.errors import (
    Fenced,
    HandedOver,
    InputError,
    JournalDamaged,
    JournalError,
    LimitExceeded,
    Locked,
)
from drengine.model.ids import RunId, root_of
from drengine.model.records import Draft, Head, RecordType, Signal


def no_run(run: RunId) -> JournalError:
    """Return the error for a run that is not here."""
    return JournalError(
        f"there is no run {run} in this journal store",
        hint="drengine status",
    )


def not_a_genesis(run: RunId, draft: Draft) -> JournalError:
    """Return the error for a first record that is not `run.created`."""
    return JournalError(
        f"creating run {run}: its first record would be {draft.type}, expected "
        f"{RecordType.RUN_CREATED}; nothing was written"
    )


def bad_run_id(run: str, reason: str) -> JournalError:
    """Return the error for a run id that cannot be a file name."""
    return JournalError(f"creating run {run[:80]!r}: {reason}; nothing was written")


def other_genesis(run: RunId) -> Locked:
    """Return the error for a run that exists and began differently."""
    return Locked(
        f"creating run {run}: it exists and began with another record 0; nothing was written",
        hint=f"drengine status {run}",
    )


def fenced(run: RunId, token: int, newest: int) -> Fenced:
    """Return the error for a lease that is not the newest."""
    return Fenced(
        f"run {run}: this process holds lease {token}, the newest is {newest}: another process "
        "took the run over; nothing was written",
        hint=f"drengine status {run}",
    )


def not_held(run: RunId, token: int) -> Fenced:
    """Return the error for a lease that this store object does not hold."""
    return Fenced(
        f"run {run}: lease {token} was given back or was never taken here; nothing was written",
        hint=f"drengine resume {run}",
    )


def held(run: RunId, owner: str) -> Locked:
    """Return the error for a run that a living process holds."""
    return Locked(
        f"run {run} is held by a living process: {owner}; nothing was changed",
        hint=f"drengine status {run}",
    )


def head_moved(run: RunId, found: Head, expect: Head) -> JournalDamaged:
    """Return the error for a chain whose end is not where the writer believes."""
    return JournalDamaged(
        f"run {run}: the chain ends at record {found.seq} ({found.sha256[:12]}…), expected record "
        f"{expect.seq} ({expect.sha256[:12]}…); nothing was written",
        hint=f"drengine journal verify {run}",
    )


def claimed(target: str, run: RunId, holder: str) -> Locked:
    """Return the error for a target that another run holds."""
    return Locked(
        f"run {run} needs {target}, but run {holder} holds it; nothing was claimed",
        hint=f"drengine status {holder}   # to give it up: drengine cancel {holder} --reason TEXT,"
        " then this command again",
    )


def other_document(run: RunId, name: str) -> JournalError:
    """Return the error for a document that would replace a different one."""
    return JournalError(
        f"run {run}: document {name!r} is here with other content and is written only once; "
        "nothing was written"
    )


def bad_document_name(run: RunId, name: str) -> JournalError:
    """Return the error for a document name that cannot be a file name."""
    return JournalError(f"run {run}: {name[:80]!r} is not a document name; nothing was written")


def no_document(run: RunId, name: str, reason: str) -> JournalDamaged:
    """Return the error for a document that cannot be had."""
    return JournalDamaged(
        f"run {run}: document {name!r}: {reason}",
        hint=f"drengine journal verify {run}",
    )


def bad_signal(run: RunId, id_: str, reason: str) -> JournalDamaged:
    """Return the error for a signal that is not what was put into the inbox."""
    return JournalDamaged(f"run {run}: signal {id_!r} in the inbox: {reason}; nothing was changed")


def odd_signal(signal: Signal, reason: str) -> InputError:
    """Return the error for a signal that no record can hold."""
    return InputError(
        f"handing {signal.kind[:20]!r} in to run {signal.run}: {reason}; nothing was handed in"
    )


def long_signal(signal: Signal, size: int, most: int) -> LimitExceeded:
    """Return the error for a signal that is longer than a record of it may be."""
    return LimitExceeded(
        f"handing {signal.kind!r} of {signal.actor} in to run {signal.run}: it has {size} bytes, "
        f"at most {most} are taken; nothing was handed in",
        hint="Say it in fewer words: a long reason belongs into a file of its own.",
    )


def no_object(sha256: str, reason: str) -> JournalDamaged:
    """Return the error for an object that cannot be had."""
    return JournalDamaged(f"object {sha256[:80]}: {reason}", hint="drengine journal verify")


def copy_has_more(
    run: RunId,
    place: Path,
    *,
    here: Head | None,
    there: Head | None,
    parts: int | None,
    taken: bool,
) -> JournalError:
    """Return the error for a run whose copy elsewhere holds records that are not here.

    Parameters:
        place: the folder of the run in the copy.
        here, there: the ends of both chains; None where there is none.
        parts: the record at which they part; None where the copy's goes on behind this one's.
        taken: whether the copy says behind that that another host took the run over.
    """
    root = root_of(run)
    how = "goes on" if parts is None else f"is another chain from record {parts} on"
    told = (
        f"run {run}: its copy in {place} {how}: it ends with {_end(there)}, the journal of this "
        f"home with {_end(here)}. "
    )
    certain = " Nothing is sent from here, and the copy was left as it is"
    take = f"drengine journal import {place} --take-over REASON"
    into_new = f"DRENGINE_HOME=FOLDER {take}"
    if taken:
        return HandedOver(
            f"{told}Another host took the run over, the copy says.{certain}",
            hint=f"Go on there. Is that host dead too? Into a new home: {into_new}",
        )
    hint = (
        f"{take}, which takes in what is missing here; then: drengine resume {root}"
        if parts is None
        else f"Go on with the chain that is right. The copy's, into a new home: {into_new}"
    )
    return JournalError(
        f"{told}What was done with the run since is not known here: was this home put back from"
        f" a backup?{certain}",
        hint=hint,
    )


def _end(head: Head | None) -> str:
    return f"record {head.seq} ({head.sha256[:12]}…)" if head else "no record"


def chains_part(run: RunId, seq: int) -> JournalError:
    """Return the error for an import whose chain is not the one that is here."""
    return JournalError(
        f"importing run {run}: another chain of this run is here; they part at record {seq}; "
        "nothing was imported",
        hint=f"drengine journal verify {run}",
    )


def longer_here(run: RunId, seq: int) -> JournalError:
    """Return the error for an import that would lose records."""
    return JournalError(
        f"importing run {run}: the chain that is here goes on after record {seq}, where the "
        "imported one ends; nothing was imported",
        hint=f"drengine status {run}",
    )


def nothing_new(run: RunId) -> JournalError:
    """Return the error for an import that holds no record that is not here."""
    return JournalError(
        f"importing run {run}: every record of it is here already; nothing was imported",
        hint=f"drengine status {run}",
    )
