"""Record <-> line: how a record becomes bytes, and how a chain of lines is checked.

A line is one canonical JSON object and a newline. Its keys are `actor`, `at`,
`body`, `mono`, `prev`, `run`, `seq`, `type`, and `wall` only where the wall clock
differs from the engine's clock.

It does not read files, does not repair, and does not know stores.

Rules:
- J1: `prev` is the SHA-256 of the previous line *including its newline*, so that
  `sed -n Np FILE | sha256sum` gives it.
- J2: a line is accepted only if encoding what was read gives the same bytes again;
  this refuses duplicate keys, white space, other escapes and floats in one go.
- J3: record 0, and only record 0, is `run.created`.
- J4: a chain cannot show that its end was cut off or that its *last* line was
  rewritten; that needs an anchor, a `Head` kept elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn

from drengine.errors import JournalDamaged, Unwritable
from drengine.journal.quick import ABSENT, MAX_MONO, Line, lines_of, members_of, written
from drengine.model.canonical import canonical, parse_canonical, sha256_hex
from drengine.model.ids import RunId
from drengine.model.records import GENESIS_PREV, Draft, Head, Record, RecordType
from drengine.model.times import utc_ms, utc_text

MAX_LINE_BYTES: Final = 1 << 20
"""The longest line, newline included; larger things are objects beside the journal."""

MAX_RUN_ID: Final = 200
"""The longest run id, so that every file named after a run has a name that file systems take."""

BATCH_BYTES: Final = 1 << 16
"""So much is read at once, or one line that is longer."""

_KEYS: Final = frozenset({"actor", "at", "body", "mono", "prev", "run", "seq", "type"})
_KEYS_WITH_WALL: Final = _KEYS | {"wall"}
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9._-]+)*")
ENDINGS: Final = frozenset(
    {RecordType.RUN_FINISHED, RecordType.RUN_CANCELLED, RecordType.RUN_ROLLED_BACK}
)
_TYPES: Final[Mapping[str, RecordType]] = {str(kind): kind for kind in RecordType}


def check_run_id(run: str) -> RunId:
    """Return `run` as an id that is safe in file names and on command lines.

    Raises:
        ValueError: when it is not.
    """
    if len(run) > MAX_RUN_ID:
        raise ValueError(f"run id of {len(run)} characters, at most {MAX_RUN_ID}")
    if not _RUN_ID.fullmatch(run):
        raise ValueError(f"{_short(run)} is not a run id")
    return RunId(run)


def encode(draft: Draft, run: RunId, seq: int, prev: str) -> tuple[bytes, Record]:
    """Return the line of `draft` at its place, and the record as a reader of the line gets it.

    It is read back at once: what cannot be read again must not get into a chain, and the fold
    sees the same values, in the same order, now and after a restart.

    Raises:
        Unwritable: the draft has no canonical form or is too long; nothing was written.
    """
    at_ms, wall_ms, kind = draft.at_ms, draft.wall_ms, draft.type
    try:
        told = Line(
            actor=draft.actor,
            at=utc_text(at_ms),
            body=draft.body,  # type: ignore[arg-type] # any mapping; it is looked at below
            mono=draft.mono_ms,
            prev=prev,
            run=run,
            seq=seq,
            type=kind,
            wall=ABSENT if wall_ms is None else utc_text(wall_ms),
        )
        line, found = written(told)
        # What is read back is what was told, so that only this can be wrong with its place.
        if found is None or (kind is RecordType.RUN_CREATED) != (seq == 0):
            line = canonical(members_of(told)) + b"\n"
            found = _checked(line, seq, prev, run)
        elif len(line) > MAX_LINE_BYTES:
            _checked(line, seq, prev, run)
    except ValueError as error:
        raise Unwritable(
            f"run {run}: writing record {seq} ({kind}): {error}; nothing was written"
        ) from error
    return line, _record(line, found, at_ms, wall_ms)


def decode(line: bytes, expect_seq: int, expect_prev: str, run: RunId) -> Record:
    """Return the record of `line`, which must be the one that follows.

    Raises:
        JournalDamaged: names the record and what is wrong with it.
    """
    try:
        return _record_of(line, _checked(line, expect_seq, expect_prev, run))
    except ValueError as error:
        damaged(run, expect_seq, str(error), error)


def damaged(run: str, seq: int, reason: str, cause: BaseException | None = None) -> NoReturn:
    """Raise `JournalDamaged` in the one form in which damage is told."""
    raise JournalDamaged(
        f"run {run}: record {seq}: {reason}; nothing was repaired",
        hint=f"drengine journal verify {run}",
    ) from cause


def records_of(
    lines: Iterable[bytes], run: RunId | None = None, after: Head | None = None
) -> Iterator[Record]:
    """Yield the records of `lines` in turn, each checked to follow from the one before.

    Parameters:
        run: whose chain it must be; None takes the run that record 0 names.
        after: the end of what was read already; None starts at record 0.

    Raises:
        JournalDamaged: names the first record that does not follow.
    """
    end = after or Head(-1, GENESIS_PREV)
    rest = iter(lines)
    while batch := _batch(rest):
        run = run or _named_run(batch[0])
        if records := _usual(batch, end, run):
            end = Head(records[-1].seq, records[-1].sha256)
            yield from records
        odd = batch[len(records) :]
        for place, line in enumerate(odd, 1):
            seq = end.seq + 1
            is_torn = not line.endswith(b"\n") and len(line) <= MAX_LINE_BYTES
            if is_torn and place == len(odd) and next(rest, None) is None:
                damaged(run, seq, _torn(len(line), seq))
            record = decode(line, seq, end.sha256, run)
            end = Head(seq, record.sha256)
            yield record


def verify_lines(
    lines: Iterable[bytes], run: RunId | None = None, anchors: Iterable[Head] = ()
) -> Head:
    """Check a whole chain and return its end.

    Parameters:
        anchors: heads known from elsewhere; each must lie on this chain.

    Raises:
        JournalDamaged: names the first record that does not follow, is torn, or is missing.
    """
    wanted = {anchor.seq: anchor.sha256 for anchor in anchors}
    head: Head | None = None
    for record in records_of(lines, run):
        head, run = Head(record.seq, record.sha256), record.run
        if wanted.pop(head.seq, head.sha256) != head.sha256:
            damaged(run, head.seq, "is not the record that the anchor names")
    if head is None:
        damaged(run or "?", 0, "there is no record at all")
    if wanted:
        lost = f"the chain ends at record {head.seq}, but an anchor names a later record"
        damaged(run or "?", min(wanted), lost)
    return head


def ends_chain(line: bytes | None) -> bool:
    """Whether a chain whose last line this is belongs to a run that has ended."""
    return line is not None and kind_of(line) in ENDINGS


def kind_of(line: bytes) -> RecordType | None:
    """Return the type that a line names, None where it cannot be read; nothing else is checked."""
    try:
        return _TYPES.get(str(parse_canonical(line[:-1]).get("type")))
    except ValueError:
        return None


def _batch(lines: Iterator[bytes]) -> list[bytes]:
    """Return the next lines, at least one where there is one."""
    batch: list[bytes] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line) or BATCH_BYTES  # a store may hold rows without a byte, and many
        if size >= BATCH_BYTES:
            break
    return batch


def _usual(batch: Sequence[bytes], end: Head, run: RunId) -> list[Record]:
    """Return the records that follow from `end`, up to the first line that wants a careful look."""
    if max(map(len, batch)) > MAX_LINE_BYTES:
        return []
    records: list[Record] = []
    seq, prev = end.seq + 1, end.sha256
    try:
        for line, found in zip(batch, lines_of(batch), strict=False):
            if not _fits(found, seq, prev, run):
                break
            records.append(record := _record_of(line, found))
            seq, prev = seq + 1, record.sha256
    except ValueError:
        pass  # a time that is none
    return records


def _record_of(line: bytes, found: Line) -> Record:
    wall_ms = None if found.wall is ABSENT else utc_ms(found.wall)
    return _record(line, found, utc_ms(found.at), wall_ms)


def _record(line: bytes, found: Line, at_ms: int, wall_ms: int | None) -> Record:
    return Record(
        seq=found.seq,
        run=RunId(found.run),
        type=found.type,
        actor=found.actor,
        body=found.body,
        at_ms=at_ms,
        mono_ms=found.mono,
        wall_ms=wall_ms,
        prev=found.prev,
        sha256=sha256_hex(line),
    )


def _fits(found: Line, seq: int, prev: str, run: RunId) -> bool:
    """Whether a line of the usual form is one that `_checked` takes."""
    return (
        found.seq == seq
        and found.prev == prev
        and found.run == run
        and (found.type is RecordType.RUN_CREATED) == (seq == 0)
    )


def _checked(line: bytes, seq: int, prev: str, run: RunId) -> Line:
    """Read a line check by check, each of which says what it misses."""
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"its line is longer than {MAX_LINE_BYTES} bytes")
    if not line.endswith(b"\n"):
        raise ValueError("its line does not end with a newline")
    doc = parse_canonical(line[:-1])
    _check_keys(doc)
    _check_place(doc, seq, prev, run)
    doc["type"] = _type_of(doc["type"], seq)
    return Line(**doc)


def _check_keys(doc: Mapping[str, Any]) -> None:
    keys = doc.keys()
    if keys not in (_KEYS, _KEYS_WITH_WALL):
        odd = sorted((keys ^ _KEYS) - {"wall"})
        raise ValueError(f"keys missing or unknown: {_short(odd)}")
    if not isinstance(doc["body"], dict):
        raise ValueError("body is not an object")
    if not isinstance(doc["actor"], str) or not doc["actor"]:
        raise ValueError("actor is not a text")
    if type(doc["mono"]) is not int or not 0 <= doc["mono"] <= MAX_MONO:
        raise ValueError("mono is not a count of milliseconds")


def _check_place(doc: Mapping[str, Any], seq: int, prev: str, run: RunId) -> None:
    if doc["run"] != run:
        raise ValueError(f"it belongs to run {_short(doc['run'])}")
    if type(doc["seq"]) is not int or doc["seq"] != seq:
        raise ValueError(f"it says it is record {_short(doc['seq'])}")
    if doc["prev"] != prev:
        if not isinstance(doc["prev"], str) or not _HASH.fullmatch(doc["prev"]):
            raise ValueError("prev is not a SHA-256")
        raise ValueError(f"prev is {doc['prev'][:12]}…, but the line before has {prev[:12]}…")


def _type_of(name: object, seq: int) -> RecordType:
    kind = _TYPES.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(f"type {_short(name)} is not known")
    if (kind is RecordType.RUN_CREATED) != (seq == 0):
        raise ValueError(f"type {name} does not belong there")
    return kind


def _named_run(line: bytes) -> RunId:
    try:
        return check_run_id(str(json.loads(line.decode("utf-8"))["run"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        damaged("?", 0, "does not name its run", error)


def _torn(size: int, seq: int) -> str:
    whole = f"records 0 to {seq - 1} are whole" if seq else "nothing is whole"
    return f"the last line is torn: it ends after {size} bytes without a newline ({whole})"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"  # noqa: PLR2004 - one line of a message
