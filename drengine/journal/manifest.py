"""The manifest of an exported run: which files belong to it and what they must hash to.

It guards against loss and mix-up, not against forgery: nothing here is signed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from drengine.journal import codec
from drengine.journal.chain import DOCUMENT_NAME
from drengine.model.canonical import Json, canonical, parse_canonical
from drengine.model.ids import RunId, run_file_name
from drengine.model.records import Head
from drengine.model.times import utc_ms, utc_text

FILE_NAME: Final = "manifest.json"
SCHEMA: Final = "drengine/journal-export/v1"
MAX_BYTES: Final = 32 << 20

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_DIGEST: Final = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


def digests_in(content: bytes) -> set[str]:
    """Return every digest that stands in a line or a document: objects may have such names."""
    return {found.decode("ascii") for found in _DIGEST.findall(content)}


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One chain of the export."""

    run: RunId
    title: str
    run_class: str
    created_at_ms: int
    head: Head

    @property
    def file(self) -> str:
        """Name of the journal's file inside the export."""
        return f"journals/{run_file_name(self.run)}"


@dataclass(frozen=True, slots=True)
class DocumentEntry:
    """One document of a run."""

    run: RunId
    name: str
    sha256: str

    @property
    def file(self) -> str:
        """Name of the document's file inside the export."""
        return f"documents/{run_file_name(self.run).removesuffix('.jsonl')}/{self.name}.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an export holds; the first journal is the run's, the others its children's."""

    journals: tuple[JournalEntry, ...]
    documents: tuple[DocumentEntry, ...]
    objects: tuple[str, ...]

    @property
    def run(self) -> RunId:
        """The exported run."""
        return self.journals[0].run

    def files(self) -> list[str]:
        """Return the name of every file but the manifest, in the order they are written."""
        journals = [entry.file for entry in self.journals]
        documents = [entry.file for entry in self.documents]
        return journals + documents + [f"objects/{sha256}" for sha256 in self.objects]

    def to_bytes(self) -> bytes:
        """Return the manifest as it is written."""
        doc: dict[str, Json] = {
            "schema": SCHEMA,
            "run": self.run,
            "journals": [
                {
                    "run": entry.run,
                    "title": entry.title,
                    "class": entry.run_class,
                    "created_at_ms": entry.created_at_ms,
                    "file": entry.file,
                    "seq": entry.head.seq,
                    "sha256": entry.head.sha256,
                }
                for entry in self.journals
            ],
            "documents": [
                {"run": entry.run, "name": entry.name, "file": entry.file, "sha256": entry.sha256}
                for entry in self.documents
            ],
            "objects": list(self.objects),
        }
        return canonical(doc) + b"\n"


def parse(content: bytes) -> Manifest:
    """Return the manifest that `content` is.

    Raises:
        ValueError: it is not one; says why.
    """
    if not content.endswith(b"\n"):
        raise ValueError("the manifest does not end with a newline")
    doc = parse_canonical(content[:-1])
    try:
        found = Manifest(
            tuple(_journal(entry) for entry in doc["journals"]),
            tuple(_document(entry) for entry in doc["documents"]),
            tuple(_sha256(entry) for entry in doc["objects"]),
        )
        _check_family(found)
        # Writing it again covers every key and file name that was not looked at.
        if found.to_bytes() != content:
            raise ValueError("the manifest has other keys or file names than it should")
    except (KeyError, TypeError) as error:
        raise ValueError(f"the manifest is not one: {error!r}") from error
    return found


def read_if_export(path: Path) -> Manifest | None:
    """Return the manifest in a file, None where there is no file or it is another document's.

    Raises:
        ValueError: it says it is a manifest of an export and is not a good one.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"cannot be read: {error}") from error
    if len(content) > MAX_BYTES or b'"drengine/journal-export/' not in content:
        return None
    return parse(content)


def _check_family(found: Manifest) -> None:
    runs = [entry.run for entry in found.journals]
    if not runs or "/" in runs[0]:
        raise ValueError("the manifest does not begin with a run")
    if any(not run.startswith(f"{runs[0]}/") for run in runs[1:]):
        raise ValueError("the manifest names a journal of another run")
    if any(entry.run not in runs for entry in found.documents):
        raise ValueError("the manifest names a document of another run")
    files = found.files()
    if len(set(files)) != len(files):
        raise ValueError("the manifest names a file twice")


def _journal(entry: Mapping[str, Any]) -> JournalEntry:
    head = Head(_count(entry["seq"]), _sha256(entry["sha256"]))
    return JournalEntry(
        codec.check_run_id(_text(entry["run"])),
        _text(entry["title"]),
        _text(entry["class"]),
        utc_ms(utc_text(entry["created_at_ms"])),
        head,
    )


def _document(entry: Mapping[str, Any]) -> DocumentEntry:
    name = _text(entry["name"])
    if not DOCUMENT_NAME.fullmatch(name):
        raise ValueError(f"the manifest names a document {name[:40]!r}")
    return DocumentEntry(codec.check_run_id(_text(entry["run"])), name, _sha256(entry["sha256"]))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("the manifest has another value where a text should be")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("the manifest has another value where a count should be")
    return value


def _sha256(value: object) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise ValueError("the manifest has another value where a SHA-256 should be")
    return value
