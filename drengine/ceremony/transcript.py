"""The transcript: what happened in a ceremony, each entry chained to the one before.

Pure. An entry's `prev` is the SHA-256 of the previous entry's canonical bytes and a
newline; the document has one entry a line, so that lines can be hashed with `sha256sum`.

Not here: proving a transcript (`proving`), and files.

Rules:
- Attestations stand in it whole, shares and secrets never.
- A deviation from the script is an entry like any other, and never taken out.
- The chain shows changes, not that its own end was cut off: the head is read aloud,
  written on the paper script, and kept in the run's journal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from drengine.ceremony import strict
from drengine.ceremony.fields import Fields, read_canonical
from drengine.errors import CeremonyError, VerificationError
from drengine.model.canonical import JsonObject, canonical, sha256_hex

TRANSCRIPT_TYPE: Final = "drengine/ceremony-transcript/v1"
MAX_TRANSCRIPT_BYTES: Final = 1024 * 1024
MAX_ENTRIES: Final = 2000
MAX_BRACKETS: Final = MAX_ENTRIES * 8
FIRST_PREV: Final = "0" * 64
KINDS: Final = (
    "opened",
    "contributed",
    "dropped",
    "refused",
    "deviation",
    "combined",
    "combined_on_one_machine",
    "closed",
)


TOOL: Final = "drengine"
"""Who notes what no person does."""


class Draft(NamedTuple):
    """An entry that is to be written; `actor` is who did it, by name."""

    kind: str
    actor: str
    body: Mapping[str, Any]


def remark(text: str) -> Draft:
    """Return what drengine itself has to note: a deviation from the script."""
    return Draft("deviation", TOOL, {"text": text})


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry; `actor` is who did it, by name."""

    seq: int
    at_ms: int
    kind: str
    actor: str
    body: JsonObject
    prev: str

    def to_json(self) -> dict[str, Any]:
        """Return the entry as a JSON object."""
        return {
            "seq": self.seq,
            "at_ms": self.at_ms,
            "kind": self.kind,
            "actor": self.actor,
            "body": self.body,
            "prev": self.prev,
        }

    @property
    def sha256(self) -> str:
        """What the next entry's `prev` must be."""
        return sha256_hex(canonical(self.to_json()) + b"\n")


class Room(NamedTuple):
    """How much a transcript may still grow."""

    entries: int = 0
    size: int = 0
    brackets: int = 0


@dataclass(slots=True)
class Transcript:
    """A growing transcript."""

    entries: list[Entry] = field(default_factory=list)

    @property
    def head(self) -> str:
        """The hash of the last entry."""
        return self.entries[-1].sha256 if self.entries else FIRST_PREV

    def append(self, kind: str, actor: str, body: Mapping[str, Any], at_ms: int) -> Entry:
        """Add an entry; a clock that went back is not followed."""
        last_ms = self.entries[-1].at_ms if self.entries else at_ms
        entry = Entry(len(self.entries), max(at_ms, last_ms), kind, actor, dict(body), self.head)
        self.entries.append(entry)
        return entry

    def to_bytes(self) -> bytes:
        """Return the document, one entry a line."""
        lines = ",\n".join(canonical(entry.to_json()).decode() for entry in self.entries)
        rest = canonical({"head": self.head, "type": TRANSCRIPT_TYPE}).decode().removeprefix("{")
        return f'{{"entries":[\n{lines}\n],{rest}\n'.encode()


def has_room(content: bytes, entries: int, *, spare: Room) -> bool:
    """Tell whether a transcript is within what is read back, with so much to spare."""
    return (
        entries + spare.entries <= MAX_ENTRIES
        and len(content) + spare.size <= MAX_TRANSCRIPT_BYTES
        and strict.count_brackets(content) + spare.brackets <= MAX_BRACKETS
    )


def read_transcript(data: bytes) -> Transcript:
    """Read a transcript and check its chain.

    Raises:
        VerificationError: not a transcript, or an entry does not follow.
    """
    try:
        found = _read(data)
    except CeremonyError as error:
        raise VerificationError(
            f"reading the ceremony transcript: {error.message}",
            hint="Take the transcript from the combiner's medium again, and compare its head with "
            "the paper script.",
        ) from None
    return found


def _read(data: bytes) -> Transcript:
    if len(data) > MAX_TRANSCRIPT_BYTES:
        raise CeremonyError(f"it has more than {MAX_TRANSCRIPT_BYTES} bytes")
    try:
        # The line breaks between entries are the only white space that is allowed.
        flat = canonical(json.loads(data))
    except (ValueError, RecursionError):
        raise CeremonyError("it is not JSON, or holds what no transcript holds") from None
    top = read_canonical(
        flat,
        TRANSCRIPT_TYPE,
        ("entries", "head"),
        max_bytes=MAX_TRANSCRIPT_BYTES,
        max_brackets=MAX_BRACKETS,
    )
    names = ("actor", "at_ms", "body", "kind", "prev", "seq")
    transcript = Transcript()
    for one in top.each("entries", names, least=1, most=MAX_ENTRIES):
        _follow(transcript, one)
    if transcript.head != top.digest("head"):
        raise CeremonyError("its head is not the hash of its last entry")
    if transcript.to_bytes() != data:
        raise CeremonyError("it is not written the way drengine writes it")
    return transcript


def _follow(transcript: Transcript, one: Fields) -> None:
    body = one.raw("body")
    seq = one.number("seq", least=0, most=MAX_ENTRIES)
    if not isinstance(body, dict):
        raise CeremonyError(f"the body of entry {seq} is not an object")
    entry = Entry(
        seq,
        one.time("at_ms"),
        one.choice("kind", KINDS),
        one.text("actor"),
        body,
        one.digest("prev"),
    )
    last_ms = transcript.entries[-1].at_ms if transcript.entries else 0
    if entry.seq != len(transcript.entries) or entry.prev != transcript.head:
        raise CeremonyError(f"entry {seq} does not follow from the one before it")
    if entry.at_ms < last_ms:
        raise CeremonyError(f"entry {seq} is earlier than the one before it")
    transcript.entries.append(entry)
