"""Files of keys and signatures: bounded reads, new files that only their owner may read."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from drengine.errors import InputFileError, LimitExceeded

MAX_BYTES: Final = 1 << 20


def read_bounded(path: Path, what: str, most: int = MAX_BYTES) -> bytes:
    """Read a plain file of at most `most` bytes.

    Raises:
        InputFileError: it cannot be read; LimitExceeded: it is larger.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise InputFileError(
            f"reading {what} {path}: {error.strerror}", hint="Check the path and its permissions."
        ) from None
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InputFileError(f"reading {what} {path}: it is not a plain file")
        data = stream.read(most + 1)
    if len(data) > most:
        raise LimitExceeded(f"reading {what} {path}: it has more than {most} bytes")
    return data


def write_new(path: Path, data: bytes, what: str, mode: int = 0o600) -> None:
    """Write a file that must not exist yet, whole or not at all.

    Raises:
        InputFileError: it exists, or cannot be written; nothing was left there.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(prefix=".writing-", dir=path.parent)
    except OSError as error:
        raise InputFileError(f"writing {what} {path}: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        # A link, unlike a rename, never replaces what is there.
        os.link(draft, path)
    except FileExistsError:
        raise InputFileError(
            f"writing {what} {path}: it exists already; nothing was written",
            hint="Name another file, or move that one away.",
        ) from None
    except OSError as error:
        raise InputFileError(
            f"writing {what} {path}: {error.strerror}; nothing was left there"
        ) from None
    finally:
        with suppress(OSError):
            Path(draft).unlink()
