"""Moving a run to another host: export of its journals and import with take-over.

An export holds the chains of the run and its children byte for byte, their documents
(the plan carries the runbooks' texts), and every object whose digest stands in one of
them. It does not hold signals nobody has recorded yet, claims or leases: on the new host
an approval that was still in the inbox must be given again.

Rules:
- Exporting appends nothing, and the same chains give the same bytes.
- An import wants a chain that ends with its hand-over (`engine.handover`), or the reason
  of a take-over: then whoever imports answers for the host that could still go on.
- A damaged chain is not exported.
- An import checks everything before the first write, and all chains come in with one
  commit, together with the record of the take-over.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TypeAlias

from drengine.errors import HandedOver, InputFileError, JournalDamaged, JournalError
from drengine.journal import codec, manifest, verify
from drengine.journal.archive import ArchiveFiles, open_archive
from drengine.journal.chain import BEFORE_GENESIS, records_until
from drengine.journal.files import sync_folder, whole_file
from drengine.journal.lines import split_lines
from drengine.journal.liveness import this_process
from drengine.journal.manifest import DocumentEntry, JournalEntry, Manifest, digests_in
from drengine.journal.port import ArrivingChain, JournalStore, RunRow
from drengine.model.canonical import Json, JsonObject, canonical, parse_canonical, sha256_hex
from drengine.model.ids import RunId, root_of
from drengine.model.records import Draft, Head, RecordType

_Sink: TypeAlias = Callable[[str, IO[bytes], int], None]
"""Takes a file of the export: name, content, size."""

_Each: TypeAlias = Callable[[_Sink], None]
"""Gives every file of the export to a sink, in order."""


def export_run(store: JournalStore, run: RunId, out: Path) -> Manifest:
    """Write a run and its children to `out`: a tar file if it ends with `.tar`, else a folder.

    Raises:
        InputFileError: `out` exists, or cannot be written.
        JournalError: there is no such run, or it is a child.
        JournalDamaged: a chain does not follow; nothing was written.
    """
    check_export(run, out)
    try:
        with tempfile.TemporaryDirectory(prefix=".export-", dir=out.parent) as spool:
            found = _collect(store, run, Path(spool))
            write = _write_tar if out.suffix == ".tar" else _write_folder
            write(_files_of(store, found, Path(spool)), out)
    except OSError as error:
        raise InputFileError(
            f"exporting run {run} to {out}: {error}", hint="Make room, or choose another --out."
        ) from error
    return found


def check_export(run: RunId, out: Path) -> None:
    """Make sure that a run can be exported to `out`.

    Raises:
        InputFileError: `out` exists, or there is no folder for it.
        JournalError: the run is a child.
    """
    if "/" in run:
        root = root_of(run)
        raise JournalError(
            f"exporting {run}: it is a child and is moved only with its parent",
            hint=f"drengine journal export {root}",
        )
    if out.exists() or out.is_symlink():
        raise InputFileError(
            f"exporting run {run}: {out} exists; nothing was written", hint="Choose another --out."
        )
    if not os.access(out.parent, os.W_OK):
        why = os.strerror(errno.EACCES if out.parent.is_dir() else errno.ENOENT)
        raise InputFileError(f"exporting run {run} to {out}: {why}", hint="Choose another --out.")


def import_run(
    store: JournalStore,
    path: Path,
    *,
    actor: str,
    at_ms: int,
    mono_ms: int,
    wall_ms: int | None = None,
    owner: str = "",
    take_over: str = "",
) -> RunId:
    """Take a run in from an export and record the take-over; return its id.

    Where a beginning of the run is here already, what it lacks is added.

    Parameters:
        owner: who takes the run over, for the record; empty means this process on this host.
        take_over: why a run is taken that its host has not handed over; that host is dead or
            stopped, and somebody answers for it.

    Raises:
        HandedOver: it was not handed over, and no reason was given.
        InputFileError, LimitExceeded: the file or folder is not a good export.
        JournalDamaged: a chain in it does not follow.
        Locked: a living process holds the run here.
        JournalError: another or longer chain is here, or nothing in it is new.
    """
    owner = owner or str(this_process("drengine journal import"))
    with _reading(path), open_archive(path) as files:
        found = _read_manifest(path, files)
        chains = [_arriving(files, entry) for entry in found.journals]
        _check_chains(path, chains)
        if not take_over:
            _check_given(chains[0])
        documents = [(entry, _document(path, files, entry)) for entry in found.documents]
        for sha256 in found.objects:
            _check_object(path, files, sha256)
        for sha256 in found.objects:
            store.put_object(_content(files, f"objects/{sha256}"))
        for entry, doc in documents:
            store.put_document(entry.run, entry.name, doc)
        body = {"owner": owner, "chains": [_head_of(entry) for entry in found.journals]}
        if take_over:
            body["reason"] = take_over

        def taken(token: int) -> Draft:
            told = {**body, "token": token}
            return Draft(RecordType.RUN_IMPORTED, actor, told, at_ms, mono_ms, wall_ms)

        store.adopt(chains, owner, taken)
    return found.run


# export


def _collect(store: JournalStore, run: RunId, spool: Path) -> Manifest:
    digests: set[str] = set()
    journals = [_spool_journal(store, row, spool, digests) for row in _family(store, run)]
    documents = []
    for entry in journals:
        for name in store.documents(entry.run):
            content = canonical(store.get_document(entry.run, name))
            digests |= digests_in(content)
            documents.append(DocumentEntry(entry.run, name, sha256_hex(content)))
    objects = sorted(sha256 for sha256 in digests if store.has_object(sha256))
    return Manifest(tuple(journals), tuple(documents), tuple(objects))


def _family(store: JournalStore, run: RunId) -> Iterator[RunRow]:
    # The parent's chain is taken before its children are looked up: a head that it
    # records of a child is then always on the child's chain in the export.
    yield from [row for row in store.runs() if row.run == run] or _none_of(store, run)
    yield from (row for row in store.runs() if row.run.startswith(f"{run}/"))


def _none_of(store: JournalStore, run: RunId) -> list[RunRow]:
    store.head(run)  # raises: there is no such run
    return []


def _spool_journal(
    store: JournalStore, row: RunRow, spool: Path, digests: set[str]
) -> JournalEntry:
    entry = JournalEntry(row.run, row.title, row.run_class, row.created_at_ms, row.head)
    with _spooled(spool, entry).open("wb") as stream:

        def copied() -> Iterator[bytes]:
            for line in store.lines(row.run):
                stream.write(line)
                digests.update(digests_in(line))
                yield line

        for _ in records_until(copied(), row.run, BEFORE_GENESIS, row.head):
            pass
    return entry


def _spooled(spool: Path, entry: JournalEntry) -> Path:
    return spool / sha256_hex(entry.run.encode())


def _files_of(store: JournalStore, found: Manifest, spool: Path) -> _Each:

    def each(sink: _Sink) -> None:
        _give(sink, manifest.FILE_NAME, found.to_bytes())
        for entry in found.journals:
            path = _spooled(spool, entry)
            with path.open("rb") as stream:
                sink(entry.file, stream, path.stat().st_size)
        for document in found.documents:
            content = canonical(store.get_document(document.run, document.name))
            _give(sink, document.file, content)
        for sha256 in found.objects:
            _give(sink, f"objects/{sha256}", store.get_object(sha256))

    return each


def _give(sink: _Sink, name: str, content: bytes) -> None:
    sink(name, io.BytesIO(content), len(content))


def _write_tar(each: _Each, out: Path) -> None:
    with (
        whole_file(out) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):

        def add(name: str, content: IO[bytes], size: int) -> None:
            member = tarfile.TarInfo(name)  # without times, owners and names of owners
            member.size, member.mode = size, 0o600
            tar.addfile(member, content)

        each(add)


def _write_folder(each: _Each, out: Path) -> None:
    building = Path(tempfile.mkdtemp(prefix=".export-", dir=out.parent))
    try:

        def add(name: str, content: IO[bytes], _: int) -> None:
            path = building / name
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with whole_file(path) as stream:
                shutil.copyfileobj(content, stream)

        each(add)
        building.rename(out)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    sync_folder(out.parent)


# import


def _read_manifest(path: Path, files: ArchiveFiles) -> Manifest:
    if manifest.FILE_NAME not in files.sizes and path.is_dir() and _journals(files):
        return _manifest_of_copy(path, files)
    if manifest.FILE_NAME not in files.sizes:
        raise _not_an_export(path, f"there is no {manifest.FILE_NAME}")
    try:
        found = manifest.parse(_content(files, manifest.FILE_NAME))
    except ValueError as error:
        raise _not_an_export(path, str(error)) from error
    expected, present = {*found.files(), manifest.FILE_NAME}, set(files.sizes)
    if lost := sorted(expected - present):
        raise _not_an_export(path, f"{lost[0]} is missing")
    if more := sorted(present - expected):
        raise _not_an_export(path, f"{more[0]} is not in its manifest")
    return found


def _is_journal(name: str) -> bool:
    return name.startswith("journals/")


def _manifest_of_copy(path: Path, files: ArchiveFiles) -> Manifest:
    """Return what a copy beside a living run (`copying`) holds; it grew file by file."""
    named = {entry.file: entry for entry in map(partial(_entry_of_copy, files), _journals(files))}
    roots = [entry for entry in named.values() if "/" not in entry.run]
    if len(roots) != 1 or named.keys() != set(_journals(files)):
        raise _not_an_export(path, "its journals are not those of one run and its children")
    children = sorted((e for e in named.values() if "/" in e.run), key=lambda e: e.run)
    documents = []
    for entry in (roots[0], *children):
        folder = DocumentEntry(entry.run, "", "").file.rpartition("/")[0]
        for name in sorted(files.sizes):
            if name.startswith(f"{folder}/"):
                stem = name.removeprefix(f"{folder}/").removesuffix(".json")
                sha256 = sha256_hex(_content(files, name))
                documents.append(DocumentEntry(entry.run, stem, sha256))
    objects = tuple(sorted(n.removeprefix("objects/") for n in files.sizes if n[:8] == "objects/"))
    return Manifest((roots[0], *children), tuple(documents), objects)


def _journals(files: ArchiveFiles) -> list[str]:
    return sorted(filter(_is_journal, files.sizes))


def _entry_of_copy(files: ArchiveFiles, name: str) -> JournalEntry:
    with files.open(name) as stream:
        records = codec.records_of(split_lines(stream))
        first = next(records)
        last = deque(records, maxlen=1)
    end = last[0] if last else first
    title, run_class = (str(first.body.get(name, "")) for name in ("title", "class"))
    head = Head(end.seq, end.sha256)
    return JournalEntry(first.run, title, run_class, first.at_ms, head)


def _check_chains(path: Path, chains: Sequence[ArrivingChain]) -> None:
    problems = verify.verify_chains(
        {chain.run: chain.lines for chain in chains}, {chain.run: chain.head for chain in chains}
    )
    if problems:
        listed = "; ".join(str(problem) for problem in problems[:5])
        raise JournalDamaged(
            f"importing {path}: {listed}; nothing was imported",
            hint="Export it again where it comes from, and carry it by another way.",
        )


def _check_given(chain: ArrivingChain) -> None:
    """Make sure that no other host can go on with a run that comes in."""
    last = None
    for record in codec.records_of(chain.lines(), chain.run):
        if record.type in codec.ENDINGS:
            return
        last = record.type
    if last is not RecordType.RUN_HANDED_OVER:
        raise HandedOver(
            f"importing run {chain.run}: the host it comes from did not hand it over and could go "
            "on with it; nothing was imported",
            hint="There: 'drengine journal export RUN --hand-over --out FILE'. Is that host dead? "
            "Then here: 'drengine journal import FILE --take-over REASON'.",
        )


def _head_of(entry: JournalEntry) -> dict[str, Json]:
    return {"run": entry.run, "seq": entry.head.seq, "sha256": entry.head.sha256}


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _not_an_export(path, f"it cannot be read: {error}") from error


def _arriving(files: ArchiveFiles, entry: JournalEntry) -> ArrivingChain:
    def lines() -> Iterator[bytes]:
        with files.open(entry.file) as stream:
            yield from split_lines(stream)

    return ArrivingChain(
        entry.run, entry.title, entry.run_class, entry.created_at_ms, entry.head, lines
    )


def _document(path: Path, files: ArchiveFiles, entry: DocumentEntry) -> JsonObject:
    content = _content(files, entry.file)
    if sha256_hex(content) != entry.sha256:
        raise _not_an_export(path, f"{entry.file} is not what its manifest says")
    try:
        return parse_canonical(content)
    except ValueError as error:
        raise _not_an_export(path, f"{entry.file} {error}") from error


def _check_object(path: Path, files: ArchiveFiles, sha256: str) -> None:
    name = f"objects/{sha256}"
    with files.open(name) as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != sha256:
            raise _not_an_export(path, f"{name} has another digest")


def _content(files: ArchiveFiles, name: str) -> bytes:
    with files.open(name) as stream:
        return stream.read(files.sizes[name])


def _not_an_export(path: Path, reason: str) -> InputFileError:
    return InputFileError(
        f"importing {path}: {reason}; nothing was imported",
        hint="use a file that 'drengine journal export' wrote",
    )
