"""The minutes of an open ceremony: writes its transcript, and tells the combiner's screen.

Not here: what happens (`session`), and the chain itself (`transcript`).

Rules:
- Entries that belong together are written together: all of them, or none. What could not
  be written has not happened: it is in the memory no more than on the disk.
- What is written but could not be synced to the disk has happened, and the screen says so: it
  stands there for everybody who reads it, so it must stand in the memory, too.
- A screen that is gone stops nothing.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from drengine.ceremony.files import replace_private
from drengine.ceremony.folder import TRANSCRIPT_NAME
from drengine.ceremony.transcript import (
    TOOL,
    Draft,
    Room,
    Transcript,
    has_room,
)
from drengine.errors import CeremonyError, DrError, InputFileError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_MAX_REFUSAL: Final = 2000
_KEPT: Final = Room(entries=32, size=128 * 1024, brackets=256)
"""Kept free for what one more message may need, and for the end."""


class Minutes:
    """The transcript of one ceremony in its folder, of which this is the only writer."""

    def __init__(self, folder: Path, listener: Callable[[str, str], None]) -> None:
        self._path = folder / TRANSCRIPT_NAME
        self._listener = listener
        self._transcript = Transcript()
        self._content = b""

    @property
    def head(self) -> str:
        """The hash of the last entry."""
        return self._transcript.head

    @property
    def is_full(self) -> bool:
        """Whether there is room for the end only."""
        return not has_room(self._content, len(self._transcript.entries), spare=_KEPT)

    def note(self, *drafts: Draft, at_ms: int) -> None:
        """Write entries, durably: all or none.

        Raises:
            CeremonyError: they could not be written; none of them counts.
        """
        entries = self._transcript.entries
        before = len(entries)
        try:
            for draft in drafts:
                self._transcript.append(draft.kind, draft.actor, draft.body, at_ms)
            content = _readable(self._transcript)
            is_synced = replace_private(self._path, content)
        except BaseException as error:
            del entries[before:]
            if isinstance(error, DrError):
                raise CeremonyError(
                    f"writing the transcript: {error.message}; nothing was noted, and what was "
                    "asked for has not happened",
                    hint=f"Make room in {self._path.parent}, and ask again.",
                ) from None
            raise
        self._content = content
        for draft in drafts:
            self.tell(draft.kind, _told(draft))
        if not is_synced:
            self.tell(
                "warning",
                f"{self._path} is written, but could not be synced to its disk: after a power "
                f"failure it may be the one before. Copy it elsewhere, note its head {self.head}",
            )

    def refuse(self, what: str, error: DrError, *, at_ms: int, sha256: str = "") -> None:
        """Note a refusal; where that fails, the refusal is still the answer, and is told."""
        message = error.message.encode("utf-8", "replace").decode()[:_MAX_REFUSAL]
        body = {"what": what, "code": error.code, "message": message, "sha256": sha256}
        if self.is_full:  # the room that is left is for the end
            self.tell("refused", f"{what}: {message}")
            return
        try:
            self.note(Draft("refused", TOOL, body), at_ms=at_ms)
        except CeremonyError as unwritten:
            self.tell("refused", f"{what}: {message}")
            self.tell("warning", unwritten.message)

    def tell(self, kind: str, words: str) -> None:
        """Say something on the combiner's screen, as far as there is one."""
        with suppress(OSError, ValueError):
            self._listener(kind, words)


def _readable(transcript: Transcript) -> bytes:
    """Return a transcript's bytes, if they can be read back."""
    content = transcript.to_bytes()
    if not has_room(content, len(transcript.entries), spare=Room()):
        raise InputFileError("it would be longer than anybody reads it back")
    return content


def _told(draft: Draft) -> str:
    body = draft.body
    words = body.get("text") or body.get("message") or body.get("reason") or ""
    if draft.kind == "dropped":
        return f"{draft.actor} took out the contribution of {body['custodian']}: {words}"
    if words:
        return f"{draft.actor}: {words}"
    return draft.actor if draft.kind == "opened" else f"{draft.actor} {draft.kind}"
