"""Writing a file for its owner: whole or not at all, 0600."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from drengine.errors import InputFileError


def write_private(path: Path, content: bytes, what: str) -> None:
    """Write `content` to `path`, replacing what stands there.

    Raises:
        InputFileError: it cannot be written; what stood there is untouched.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(draft, flags, 0o600), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise InputFileError(
            f"writing {what} to {path}: {error.strerror}", hint="Choose another --out."
        ) from None


def read_bounded(path: Path, what: str, most: int) -> bytes:
    """Read a file of at most `most` bytes.

    Raises:
        InputFileError: it cannot be read, or is larger.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(most + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputFileError(
            f"reading {what} {path}: {reason}", hint="Check the path and its permissions."
        ) from None
    if len(content) > most:
        raise InputFileError(f"reading {what} {path}: it has more than {most:,} bytes")
    return content
