"""The SQL of the store: functions over an open connection, each inside its caller's transaction.

No transaction, lock or error handling here; see `database` and `sqlite`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

from drengine.journal import codec, refusals
from drengine.journal.port import RunRow
from drengine.journal.schema import PLACE_BITS
from drengine.model.canonical import JsonObject, canonical, parse_canonical, sha256_hex
from drengine.model.ids import RunId, root_of
from drengine.model.records import Head, Record, Signal

_RUN_ROW: Final = (
    "SELECT run, title, run_class, created_at_ms, status, wake_at_ms, head_seq, head_sha256"
    " FROM runs"
)
_END: Final = (
    "SELECT number, token, head_seq, head_sha256, place, line FROM runs LEFT JOIN records"
    " ON place = (SELECT max(place) FROM records"
    " WHERE place >= number << 32 AND place < (number + 1) << 32) WHERE run = ?"
)

_MOVE: Final = (
    "UPDATE runs SET head_seq = ?, head_sha256 = ? WHERE number = ? AND token = ?"
    " AND head_seq = ? AND head_sha256 = ? AND (?, ?) = ("
    "SELECT place, line FROM records WHERE place < ? ORDER BY place DESC LIMIT 1)"
)

_INSERT: Final = "INSERT INTO records VALUES (?, ?)"


def add_run(
    db: sqlite3.Connection, run: RunId, title: str, run_class: str, at_ms: int, status: str
) -> None:
    """Add a run that has no record yet."""
    db.execute(
        "INSERT INTO runs VALUES (NULL, ?, ?, ?, ?, ?, ?, NULL, 0, '', -1, '')",
        (run, root_of(run), title, run_class, at_ms, status),
    )


def has_run(db: sqlite3.Connection, run: RunId) -> bool:
    """Whether the run is there."""
    return bool(_all(db, "SELECT 1 FROM runs WHERE run = ?", run))


def run_rows(db: sqlite3.Connection) -> list[RunRow]:
    """Return every run, newest last."""
    return [
        RunRow(RunId(run), title, run_class, at_ms, status, wake, Head(seq, sha256))
        for run, title, run_class, at_ms, status, wake, seq, sha256 in _all(
            db, f"{_RUN_ROW} ORDER BY created_at_ms, rowid"
        )
    ]


def run_row(db: sqlite3.Connection, run: RunId) -> RunRow:
    """Return one run.

    Raises:
        JournalError: there is none of that id.
    """
    for _, title, run_class, at_ms, status, wake, seq, sha256 in _all(
        db, f"{_RUN_ROW} WHERE run = ?", run
    ):
        return RunRow(run, title, run_class, at_ms, status, wake, Head(seq, sha256))
    raise refusals.no_run(run)


def checked_head(db: sqlite3.Connection, run: RunId) -> Head:
    """Return the end of the chain, after comparing the last line with what was left of it.

    Raises:
        JournalError: there is no such run.
        JournalDamaged: the last line is not the one that was appended last.
    """
    return checked_end(db, run)[1]


def checked_end(db: sqlite3.Connection, run: RunId) -> tuple[int, Head]:
    """Return the token of the newest lease and the checked end of the chain, in one look.

    Raises:
        JournalError, JournalDamaged: as for `checked_head`.
    """
    row = db.execute(_END, (run,)).fetchone()
    if row is None:
        raise refusals.no_run(run)
    number, token, seq, sha256, place, line = row
    last = -1 if place is None else place - (number << PLACE_BITS)
    found = "" if line is None else sha256_hex(line)
    if (last, found) != (seq, sha256):
        ends = f"record {last} ({found[:12]}…)" if found else "nothing"
        reason = f"the chain should end with it ({sha256[:12]}…), but ends with {ends}"
        codec.damaged(run, seq, reason)
    return int(token), Head(seq, sha256)


def add_lines(
    db: sqlite3.Connection, run: RunId, records: Iterable[tuple[Record, bytes]]
) -> Head | None:
    """Add lines behind the chain's end and move its head; return the new head if there is one."""
    head: Head | None = None
    begin = _number(db, run) << PLACE_BITS
    for record, line in records:
        db.execute(_INSERT, (begin + record.seq, line))
        head = Head(record.seq, record.sha256)
    if head is not None:
        db.execute(
            "UPDATE runs SET head_seq = ?, head_sha256 = ? WHERE run = ?",
            (head.seq, head.sha256, run),
        )
    return head


def grow(
    db: sqlite3.Connection,
    number: int,
    token: int,
    expect: Head,
    last: bytes | None,
    lines: Sequence[bytes],
    end: Head,
) -> bool:
    """Add lines where the lease is the newest and the chain ends at `expect`, in the line `last`.

    Returns False where one of these does not hold; then nothing was changed, and `checked_end`
    tells which. One statement looks and moves the head: an append is what a run does most.

    Parameters:
        number: the run's, as `next_token` returned it.
        end: where the chain ends behind the lines.
    """
    place = (number << PLACE_BITS) + expect.seq
    was = number, token, expect.seq, expect.sha256, place, last, (number + 1) << PLACE_BITS
    if db.execute(_MOVE, (end.seq, end.sha256, *was)).rowcount != 1:
        return False
    for line in lines:
        place += 1
        db.execute(_INSERT, (place, line))
    return True


def lines_after(
    db: sqlite3.Connection, run: RunId, after: int, limit: int
) -> list[tuple[int, bytes]]:
    """Return the next lines with their seq."""
    number = _number(db, run)
    begin = number << PLACE_BITS
    sql = "SELECT place - ?, line FROM records WHERE place > ? AND place < ? ORDER BY place LIMIT ?"
    return _all(db, sql, begin, begin + after, (number + 1) << PLACE_BITS, limit)


def line_at(db: sqlite3.Connection, run: RunId, seq: int) -> bytes | None:
    """Return one line, None where it is not there."""
    place = (_number(db, run) << PLACE_BITS) + seq
    rows = _all(db, "SELECT line FROM records WHERE place = ?", place)
    return bytes(rows[0][0]) if rows else None


def next_token(db: sqlite3.Connection, run: RunId, owner: str) -> tuple[int, int]:
    """Raise the run's token; return the run's number and the token.

    Raises:
        JournalError: there is no such run.
    """
    sql = "UPDATE runs SET token = token + 1, owner = ? WHERE run = ? RETURNING number, token"
    rows = _all(db, sql, owner, run)
    if not rows:
        raise refusals.no_run(run)
    number, token = rows[0]
    return int(number), int(token)


def newest_token(db: sqlite3.Connection, run: RunId) -> int:
    """Return the token of the newest lease, 0 where there was none.

    Raises:
        JournalError: there is no such run.
    """
    rows = _all(db, "SELECT token FROM runs WHERE run = ?", run)
    if not rows:
        raise refusals.no_run(run)
    return int(rows[0][0])


def set_status(db: sqlite3.Connection, run: RunId, status: str, wake_at_ms: int | None) -> None:
    """Leave the hint that listings show."""
    db.execute(
        "UPDATE runs SET status = ?, wake_at_ms = ? WHERE run = ?", (status, wake_at_ms, run)
    )


def put_signal(db: sqlite3.Connection, signal: Signal) -> None:
    """Add a signal unless its id is there."""
    db.execute(
        "INSERT INTO signals (run, id, kind, actor, body, at_ms) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (run, id) DO NOTHING",
        (
            signal.run,
            signal.id,
            signal.kind,
            signal.actor,
            canonical(signal.body),
            signal.at_ms,
        ),
    )


def signals_of(db: sqlite3.Connection, run: RunId) -> list[Signal]:
    """Return the inbox of a run in order of arrival."""
    sql = "SELECT id, kind, actor, body, at_ms FROM signals WHERE run = ? ORDER BY arrival"
    return [
        Signal(id_, run, kind, actor, _signal_body(run, id_, body), at_ms)
        for id_, kind, actor, body, at_ms in _all(db, sql, run)
    ]


def _signal_body(run: RunId, id_: str, body: bytes) -> dict[str, Any]:
    try:
        return parse_canonical(body)
    except ValueError as error:
        raise refusals.bad_signal(run, id_, str(error)) from error


def delete_signals(db: sqlite3.Connection, run: RunId, ids: Sequence[str]) -> None:
    """Take signals out of the inbox of a run."""
    db.executemany("DELETE FROM signals WHERE run = ? AND id = ?", [(run, id_) for id_ in ids])


def other_claims(db: sqlite3.Connection, target: str, root: str) -> list[RunId]:
    """Return the runs of other families that have claimed a target."""
    sql = "SELECT run FROM claims WHERE target = ? AND root <> ? ORDER BY run"
    return [RunId(run) for (run,) in _all(db, sql, target, root)]


def add_claim(db: sqlite3.Connection, target: str, run: RunId) -> None:
    """Add a claim; one that is there stays."""
    db.execute(
        "INSERT INTO claims VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (target, run, root_of(run)),
    )


def delete_claims(db: sqlite3.Connection, run: RunId) -> None:
    """Remove the claims of a run and of everything below it."""
    # "0" is the character behind "/": this range is every id that begins with `<run>/`.
    db.execute(
        "DELETE FROM claims WHERE run = ? OR (run > ? AND run < ?)", (run, f"{run}/", f"{run}0")
    )


def put_document(db: sqlite3.Connection, run: RunId, name: str, doc: JsonObject) -> None:
    """Add a document, once.

    Raises:
        JournalError: another document has that name.
    """
    content = canonical(doc)
    rows = _all(db, "SELECT doc FROM documents WHERE run = ? AND name = ?", run, name)
    if rows and rows[0][0] != content:
        raise refusals.other_document(run, name)
    if not rows:
        db.execute(
            "INSERT INTO documents VALUES (?, ?, ?, ?)", (run, name, content, sha256_hex(content))
        )


def document(db: sqlite3.Connection, run: RunId, name: str) -> dict[str, Any]:
    """Return a document.

    Raises:
        JournalDamaged: absent, or not what was written.
    """
    sql = "SELECT doc, sha256 FROM documents WHERE run = ? AND name = ?"
    rows = _all(db, sql, run, name)
    if not rows:
        raise refusals.no_document(run, name, "is not here")
    content, sha256 = rows[0]
    if sha256_hex(content) != sha256:
        raise refusals.no_document(run, name, "is not what was written")
    return parse_canonical(content)


def document_names(db: sqlite3.Connection, run: RunId) -> list[str]:
    """Return the names of a run's documents in order."""
    sql = "SELECT name FROM documents WHERE run = ? ORDER BY name"
    return [name for (name,) in _all(db, sql, run)]


def _number(db: sqlite3.Connection, run: RunId) -> int:
    rows = _all(db, "SELECT number FROM runs WHERE run = ?", run)
    if not rows:
        raise refusals.no_run(run)
    return int(rows[0][0])


def _all(db: sqlite3.Connection, sql: str, *values: object) -> list[Any]:
    return db.execute(sql, values).fetchall()
