"""Checking whole runs: every chain, and every head that one chain names of another.

Reads only. Nothing is repaired, and nothing is believed of a chain beyond the first
record that does not follow.

Rules:
- J7: the head in a `child.finished` record lies on the child's chain, and ends it unless
  the parent began the child again (`child.started`) later.
- J8: the heads in a `run.imported` record lie on the chains they name.
- What no chain, manifest or anchor names cannot be missed: a run's own last records can
  be cut off unseen unless an anchor is given.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from drengine.errors import JournalDamaged
from drengine.journal import codec, manifest
from drengine.journal.lines import split_lines
from drengine.journal.port import JournalStore
from drengine.model.ids import RunId, run_file_name
from drengine.model.records import Head, Record, RecordType

Lines: TypeAlias = Callable[[], Iterator[bytes]]
Anchors: TypeAlias = Mapping[RunId, Sequence[Head]]

_SUFFIX: Final = ".jsonl"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that keeps a journal from being believed.

    Attributes:
        place: the run or file it is about.
    """

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


class Follower(Protocol):
    """Looks at chains while they are checked, so that no line is read twice.

    Chains come in order of run ids, a parent before its children.
    """

    def take(self, record: Record) -> None:
        """Take in a record that follows from those before it."""
        ...

    def broken(self, run: RunId) -> None:
        """Learn that a chain cannot be followed to its end."""
        ...


@dataclass(frozen=True, slots=True)
class _Pin:
    """A head that something outside a chain names of it."""

    head: Head
    source: str
    is_end: bool


def verify_run(store: JournalStore, run: RunId, anchors: Anchors | None = None) -> list[Problem]:
    """Check a run and its children in a store; an empty list means that all is well.

    Parameters:
        anchors: heads known from elsewhere (an approval, a report, a time stamp).
    """
    rows = [row for row in store.runs() if row.run == run or row.run.startswith(f"{run}/")]
    if not any(row.run == run for row in rows):
        return [Problem(run, "there is no such run in this store")]
    pins = {row.run: [_Pin(row.head, "the store", is_end=False)] for row in rows}
    chains: dict[RunId, Lines] = {row.run: _lines_of(store, row.run) for row in rows}
    return _verify(chains, _with_anchors(pins, anchors))


def verify_folder(
    path: Path, anchors: Anchors | None = None, follower: Follower | None = None
) -> list[Problem]:
    """Check exported journals, `<path>/journals/*.jsonl` or `<path>/*.jsonl`.

    A `manifest.json` of an export beside them is used as an anchor.
    """
    journals = path / "journals" if (path / "journals").is_dir() else path
    try:
        found = sorted(journals.iterdir())
    except OSError as error:
        return [Problem(str(path), f"cannot be read: {error.strerror or error}")]
    chains: dict[RunId, Lines] = {}
    problems: list[Problem] = []
    for file in found:
        if journals == path and file.name == manifest.FILE_NAME:
            continue
        if run := _run_of_file(file):
            chains[run] = _lines_of_file(file)
        else:
            problems.append(Problem(file.name, "is not the journal of a run"))
    if not chains:
        problems.append(Problem(str(journals), "there is no journal in this folder"))
    try:
        pins = _pins_of_manifest(path / manifest.FILE_NAME)
    except ValueError as error:
        problems.append(Problem(manifest.FILE_NAME, str(error)))
        pins = {}
    return problems + _verify(chains, _with_anchors(pins, anchors), follower)


def verify_chains(chains: Mapping[RunId, Lines], ends: Mapping[RunId, Head]) -> list[Problem]:
    """Check chains that must end exactly where `ends` says."""
    pins = {run: [_Pin(head, "the manifest", is_end=True)] for run, head in ends.items()}
    return _verify(chains, pins)


def _verify(
    chains: Mapping[RunId, Lines],
    pins: dict[RunId, list[_Pin]],
    follower: Follower | None = None,
) -> list[Problem]:
    problems: list[Problem] = []
    # In order of ids a parent comes before its children, which its records pin.
    for run in sorted(chains):
        problems += _verify_chain(run, chains[run], pins, follower)
    for run in sorted(pins.keys() - chains.keys()):
        sources = ", ".join(sorted({pin.source for pin in pins[run]}))
        problems.append(Problem(run, f"its journal is missing, but {sources} names its head"))
    return problems


def _verify_chain(
    run: RunId, lines: Lines, pins: dict[RunId, list[_Pin]], follower: Follower | None
) -> list[Problem]:
    problems: list[Problem] = []
    wanted: dict[int, list[_Pin]] = {}
    for pin in pins.get(run, []):
        wanted.setdefault(pin.head.seq, []).append(pin)
    last = -1
    try:
        for record in codec.records_of(lines(), run):
            last = record.seq
            if last in wanted:
                problems += _missed(record, wanted.pop(last))
            if record.type in _PINNING:
                problems += _collect_pins(record, pins)
            if follower is not None:
                follower.take(record)
    except JournalDamaged as error:
        if follower is not None:
            follower.broken(run)
        return [*problems, Problem(run, error.message)]
    problems += [
        Problem(run, f"ends at record {last}, but {pin.source} names record {seq}: its end is lost")
        for seq in sorted(wanted)
        for pin in wanted[seq]
    ]
    problems += [
        Problem(run, f"goes on to record {last} after its end, which {pin.source} names as {seq}")
        for pin in pins.get(run, [])
        if pin.is_end and (seq := pin.head.seq) < last
    ]
    if last >= 0:
        return problems
    if follower is not None:
        follower.broken(run)
    return [*problems, Problem(run, "there is no record at all")]


_PINNING: Final = frozenset(
    {RecordType.CHILD_STARTED, RecordType.CHILD_FINISHED, RecordType.RUN_IMPORTED}
)


def _missed(record: Record, pins: Sequence[_Pin]) -> list[Problem]:
    return [
        Problem(record.run, f"record {record.seq} is not the one that {pin.source} names")
        for pin in pins
        if pin.head.sha256 != record.sha256
    ]


def _collect_pins(record: Record, pins: dict[RunId, list[_Pin]]) -> list[Problem]:
    source = f"record {record.seq} of {record.run}"
    match record.type:
        case RecordType.CHILD_STARTED:
            child = RunId(str(record.body.get("run")))
            pins.update({child: [replace(pin, is_end=False) for pin in pins.get(child, [])]})
            if not pins[child]:
                del pins[child]
            return []
        case RecordType.CHILD_FINISHED:
            return _pin(record.body, source, f"{record.run}/", pins, is_end=True)
        case RecordType.RUN_IMPORTED:
            heads = record.body.get("chains")
            return [
                problem
                for head in (heads if isinstance(heads, list) else [])
                for problem in _pin(head, source, record.run, pins, is_end=False)
                if not (isinstance(head, dict) and head.get("run") == record.run)
            ]
        case _:
            return []


def _pin(
    body: object, source: str, beginning: str, pins: dict[RunId, list[_Pin]], *, is_end: bool
) -> list[Problem]:
    doc: Mapping[str, Any] = body if isinstance(body, Mapping) else {}
    run, seq, sha256 = doc.get("run"), doc.get("seq"), doc.get("sha256")
    if not isinstance(run, str) or type(seq) is not int or not isinstance(sha256, str):
        return [Problem(source, "does not name a run, a seq and a SHA-256")]
    if not run.startswith(beginning):
        return [Problem(source, f"names {run!r}, which is not below it")]
    pin = _Pin(Head(seq, sha256), source, is_end)
    earlier = [replace(old, is_end=old.is_end and not is_end) for old in pins.get(RunId(run), [])]
    pins[RunId(run)] = [*earlier, pin]
    return []


def _with_anchors(
    pins: dict[RunId, list[_Pin]], anchors: Anchors | None
) -> dict[RunId, list[_Pin]]:
    for run, heads in (anchors or {}).items():
        for head in heads:
            pins.setdefault(run, []).append(_Pin(head, "the anchor", is_end=False))
    return pins


def _pins_of_manifest(path: Path) -> dict[RunId, list[_Pin]]:
    found = manifest.read_if_export(path)
    if found is None:
        return {}
    return {
        journal.run: [_Pin(journal.head, "the manifest", is_end=True)] for journal in found.journals
    }


def _run_of_file(file: Path) -> RunId | None:
    if not stat.S_ISREG(file.lstat().st_mode) or not file.name.endswith(_SUFFIX):
        return None
    try:
        run = codec.check_run_id(file.name.removesuffix(_SUFFIX).replace("~", "/"))
    except ValueError:
        return None
    return run if run_file_name(run) == file.name else None


def _lines_of(store: JournalStore, run: RunId) -> Lines:
    return lambda: store.lines(run)


def _lines_of_file(file: Path) -> Lines:
    def lines() -> Iterator[bytes]:
        with file.open("rb") as stream:
            yield from split_lines(stream)

    return lines
