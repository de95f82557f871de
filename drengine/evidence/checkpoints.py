"""Time stamps taken while a run goes on, and over the sealed bundle.

A checkpoint is a small document with the heads of all chains; its stamp shows that they
were so at a time. Both are kept as documents beside the journal until the run is sealed.
Nothing is appended to a chain.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from drengine.errors import InputError, InputFileError
from drengine.evidence.bundle import ATTESTATION, STAMPS
from drengine.evidence.stamps import ANSWER_SECONDS, request_stamp
from drengine.journal.files import write_whole
from drengine.journal.port import JournalStore
from drengine.model.canonical import Json, canonical
from drengine.model.ids import RunId, root_of
from drengine.trust.dsse import parse_json
from drengine.trust.files import write_new

SCHEMA: Final = "drengine/checkpoint/v1"
_PREFIX: Final = "checkpoint-"
_MOST: Final = 999
_MOST_STAMPS: Final = 99


@dataclass(frozen=True, slots=True)
class Stamped:
    """How an attempt to stamp ended.

    Attributes:
        token: the file or document with the stamp; empty where there is none.
    """

    token: str
    told: str

    def to_json(self) -> dict[str, Json]:
        """Return the outcome."""
        return {"token": self.token or None, "told": self.told}


def stamp_run(
    store: JournalStore, run: RunId, url: str, *, seconds: float = ANSWER_SECONDS
) -> Stamped:
    """Stamp the heads of a run's chains as they are now.

    Raises:
        InputError: the address is none.
    """
    root = root_of(run)
    doc, name = _heads_of(store, root), _next_name(store, root)
    try:
        reply = request_stamp(url, canonical(doc) + b"\n", seconds=seconds)
    except InputFileError as error:
        store.put_document(root, name, {"checkpoint": {**doc, "unstamped": error.message}})
        return Stamped("", f"{error.message}; recorded as unstamped")
    token = base64.b64encode(reply).decode()
    store.put_document(root, name, {"checkpoint": doc, "token": token})
    return Stamped(name, f"heads of {len(doc['heads'])} chains stamped")


def record_unstamped(store: JournalStore, run: RunId, why: str) -> None:
    """Record that the heads of a run's chains could not be stamped now."""
    doc = {**_heads_of(store, run), "unstamped": why}
    store.put_document(run, _next_name(store, run), {"checkpoint": doc})


def _heads_of(store: JournalStore, root: RunId) -> dict[str, Any]:
    rows = [row for row in store.runs() if row.run == root or row.run.startswith(f"{root}/")]
    heads = [
        {"run": str(row.run), "seq": head.seq, "sha256": head.sha256}
        for row in sorted(rows, key=lambda row: row.run)
        for head in (store.head(row.run),)
    ]
    return {"schema": SCHEMA, "heads": heads}


def _next_name(store: JournalStore, root: RunId) -> str:
    number = sum(name.startswith(_PREFIX) for name in store.documents(root)) + 1
    if number > _MOST:
        raise InputError(f"run {root} has {_MOST} checkpoints already; nothing was stamped")
    return f"{_PREFIX}{number:02}"


def kept_checkpoints(store: JournalStore, run: str) -> dict[str, bytes]:
    """Return file name -> content of every checkpoint beside a run's journal."""
    out: dict[str, bytes] = {}
    for name in sorted(store.documents(RunId(run))):
        if not name.startswith(_PREFIX):
            continue
        doc = store.get_document(RunId(run), name)
        stem = name.removeprefix(_PREFIX)
        out[f"{stem}.json"] = canonical(doc["checkpoint"]) + b"\n"
        if "token" in doc:
            out[f"{stem}.tsr"] = base64.b64decode(doc["token"])
    return out


def stamp_bundle(folder: Path, url: str) -> Stamped:
    """Stamp a sealed bundle's attestation; a further stamp leaves the earlier ones.

    Raises:
        InputError: the address is none; InputFileError: the folder is no sealed bundle.
    """
    try:
        data = (folder / ATTESTATION).read_bytes()
    except OSError as error:
        raise InputFileError(
            f"stamping {folder}: it is not a sealed bundle ({error.strerror})",
            hint="drengine evidence seal RUN",
        ) from None
    # What cannot be recorded afterwards is not asked for: the list is read before.
    attempts = _attempts(folder / STAMPS)
    name = _free_name(folder, attempts)
    try:
        reply = request_stamp(url, data)
    except InputFileError as error:
        _record(folder, attempts, {"tsa": url, "token": None, "why": error.message})
        return Stamped("", f"{error.message}; recorded in {STAMPS}")
    write_new(folder / name, reply, "the time stamp")
    try:
        _record(folder, attempts, {"tsa": url, "token": name, "why": ""})
    except InputFileError as error:
        raise InputFileError(f"{error.message}; the stamp itself is in {name}") from None
    return Stamped(name, f"stamped by {url}, {name}")


def _attempts(file: Path) -> list[Any]:
    if not file.exists():
        return []
    try:
        return list(parse_json(file.read_bytes())["attempts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputFileError(
            f"reading {file}: {error}; nothing was asked for and nothing written",
            hint=f"Move {file.name} away, and give the same command again.",
        ) from None


def _free_name(folder: Path, attempts: Sequence[Any]) -> str:
    """Return a name that no stamp has or, by the list, ever had."""
    known = [row.get("token") for row in attempts if isinstance(row, Mapping)]
    used = {path.name for path in folder.glob("attestation*.tsr")} | set(map(str, known))
    for number in range(1, _MOST_STAMPS + 1):
        name = "attestation.tsr" if number == 1 else f"attestation.{number}.tsr"
        later = (f"attestation.{n}.tsr" for n in range(number + 1, _MOST_STAMPS + 1))
        if name not in used and used.isdisjoint(later):
            return name
    raise InputError(f"{folder} has {_MOST_STAMPS} time stamps already; nothing was asked for")


def _record(folder: Path, attempts: Sequence[Any], attempt: Mapping[str, Json]) -> None:
    """Add an attempt to the list that stands beside what is signed."""
    doc = {"schema": "drengine/stamps/v1", "attempts": [*attempts, dict(attempt)]}
    _write(folder / STAMPS, canonical(doc) + b"\n")


def _write(file: Path, data: bytes) -> None:
    try:
        write_whole(file, data)
    except OSError as error:
        raise InputFileError(f"writing {file}: {error.strerror}; nothing was left there") from None
