"""Chains as both stores see them: a run that arrives whole, and steps over several records.

Pure. The rules of one line are `codec`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import tee
from typing import Final

from drengine.journal import codec, refusals
from drengine.journal.port import ArrivingChain, RunRow
from drengine.model.canonical import MAX_DEPTH, canonical, plain
from drengine.model.ids import RunId, root_of
from drengine.model.records import GENESIS_PREV, Draft, Head, Record, RecordType, Signal

DOCUMENT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
BEFORE_GENESIS: Final = Head(-1, GENESIS_PREV)

MAX_SIGNAL_BYTES: Final = codec.MAX_LINE_BYTES // 4
"""The longest body of a signal: a record of it may say twice what it says, and in a longer form."""

MAX_SIGNAL_NAME: Final = 512
"""The longest id, kind or actor of a signal."""

_DEPTH_OF_RECORD: Final = 8
"""So many levels of nesting are left to the record that holds a signal's body."""


def extend(
    run: RunId, head: Head, drafts: Sequence[Draft]
) -> tuple[list[bytes], list[Record], Head]:
    """Return the lines and records that put `drafts` behind `head`, and the new head.

    Raises:
        Unwritable: a draft cannot be written as a record.
    """
    lines: list[bytes] = []
    records: list[Record] = []
    for draft in drafts:
        line, record = codec.encode(draft, run, head.seq + 1, head.sha256)
        lines.append(line)
        records.append(record)
        head = Head(record.seq, record.sha256)
    return lines, records, head


def records_until(lines: Iterator[bytes], run: RunId, start: Head, end: Head) -> Iterator[Record]:
    """Yield the records after `start` up to `end`, which the chain must reach exactly.

    Raises:
        JournalDamaged: names the first record that does not follow or is missing.
    """
    if start.seq >= end.seq:
        if start != end:
            codec.damaged(run, start.seq, f"the store has record {end.seq} as the chain's end")
        return
    last = start.seq
    for record in codec.records_of(lines, run, start):
        last = record.seq
        if last == end.seq and record.sha256 != end.sha256:
            codec.damaged(run, last, "is not the record that the store has as the chain's end")
        yield record
        if last == end.seq:
            return
    codec.damaged(run, last + 1, f"is missing: the store has record {end.seq} as the chain's end")


def arriving(chain: ArrivingChain, here: Iterator[bytes]) -> Iterator[tuple[Record, bytes]]:
    """Yield what an arriving chain has beyond the lines that are here.

    Raises:
        JournalError: the chains part, or the one that is here is longer.
        JournalDamaged: the arriving chain does not follow or does not reach its head.
    """
    lines, checked = tee(chain.lines())
    for record in records_until(checked, chain.run, BEFORE_GENESIS, chain.head):
        line, mine = next(lines), next(here, None)
        if mine is None:
            yield record, line
        elif mine != line:
            raise refusals.chains_part(chain.run, record.seq)
    if next(here, None) is not None:
        raise refusals.longer_here(chain.run, chain.head.seq)


def check_genesis(run: RunId, genesis: Draft) -> None:
    """Refuse what cannot begin a chain.

    Raises:
        JournalError: the id is not fit for file names, or the record is not `run.created`.
    """
    try:
        codec.check_run_id(run)
    except ValueError as error:
        raise refusals.bad_run_id(run, str(error)) from error
    if genesis.type is not RecordType.RUN_CREATED:
        raise refusals.not_a_genesis(run, genesis)


def check_signal(signal: Signal) -> None:
    """Refuse a signal at the door that could not be taken in: it would stay in the inbox for ever.

    Raises:
        InputError: it is too long, too deep, has no canonical form, or does not say from whom.
    """
    names = (signal.id, signal.kind, signal.actor)
    if not all(0 < len(name) <= MAX_SIGNAL_NAME for name in names):
        raise refusals.odd_signal(
            signal, f"its id, kind and sender have 1 to {MAX_SIGNAL_NAME} characters"
        )
    try:
        plain(signal.body, _DEPTH_OF_RECORD)
        size = len(canonical(signal.body))
        canonical(names)
    except RecursionError:
        raise refusals.odd_signal(signal, f"nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise refusals.odd_signal(signal, str(error)) from error
    if size > MAX_SIGNAL_BYTES:
        raise refusals.long_signal(signal, size, MAX_SIGNAL_BYTES)


def check_document_name(run: RunId, name: str) -> None:
    """Refuse a document name that is not fit for a file name.

    Raises:
        JournalError: it is not.
    """
    if not DOCUMENT_NAME.fullmatch(name):
        raise refusals.bad_document_name(run, name)


def listing_order(rows: Sequence[RunRow]) -> list[RunRow]:
    """Return rows that came oldest first as newest first, children behind their parents."""
    born = {row.run: place for place, row in enumerate(rows)}

    def place_of(row: RunRow) -> tuple[int, list[str]]:
        root = root_of(row.run)
        return -born.get(root, born[row.run]), row.run.split("/")

    return sorted(rows, key=place_of)
