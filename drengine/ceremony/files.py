"""The ceremony's files that are not secret: read inputs, write results.

Not here: key files (`keyfile`, and only in the child).

Rules:
- An input is a regular file of bounded size; a pipe or device is refused, not waited for.
- The output is new: it is never written over, and it appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from typing import TYPE_CHECKING

from drengine.errors import InputFileError

if TYPE_CHECKING:
    from pathlib import Path


def read_input(path: Path, what: str, *, max_bytes: int) -> bytes:
    """Read a file that the operator named.

    Raises:
        InputFileError: not there, not readable, not a regular file, or too large.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
            content = read_up_to(descriptor, max_bytes + 1) if regular else b""
        finally:
            os.close(descriptor)
    except OSError as error:
        raise InputFileError(
            f"reading {what} {path}: {error.strerror}", hint="Check the path and its permissions."
        ) from None
    if not regular:
        raise InputFileError(f"reading {what} {path}: it is not a regular file")
    if len(content) > max_bytes:
        raise InputFileError(
            f"reading {what} {path}: it has more than {max_bytes} bytes, so it is something else"
        )
    return content


def read_up_to(descriptor: int, most: int) -> bytes:
    """Read a regular file from its descriptor, but never more than `most` bytes."""
    content = b""
    while len(content) < most and (piece := os.read(descriptor, most - len(content))):
        content += piece
    return content


def require_new(path: Path, what: str = "the restore blob", *, option: str = "--out") -> None:
    """Refuse an output path at which something stands, or whose folder is not there.

    Parameters:
        option: what the path was given with, for the advice.

    Raises:
        InputFileError: says which of the two.
    """
    if os.path.lexists(path):
        raise InputFileError(
            f"writing {what}: {path} exists already and is not written over",
            hint=f"Choose another {option}, or move that file away.",
        )
    if not path.parent.is_dir():
        raise InputFileError(
            f"writing {what}: the folder {path.parent} does not exist",
            hint=f"Make the folder first, or choose another {option}.",
        )


def write_new(
    path: Path, content: bytes, what: str = "the restore blob", *, mode: int = 0o600
) -> None:
    """Write a new file, durable and whole before it has its name.

    Raises:
        InputFileError: the name is taken, or the disk refuses.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.draft")
    try:
        _write_draft(draft, content, mode)
        _give_name(draft, path)
        try:
            _sync_folder(path.parent)
        except OSError:
            path.unlink(missing_ok=True)  # ours, a moment old: what is refused is not there
            raise
    except FileExistsError:
        require_new(path, what)
        raise
    except OSError as error:
        raise InputFileError(
            f"writing {what} {path}: {error.strerror}",
            hint="Choose another --out; it was not kept.",
        ) from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def replace_private(path: Path, content: bytes) -> bool:
    """Write a file with mode 0600 in place of what has the name: whole, or not at all.

    Return whether it is on the disk for certain: where the folder cannot be synced, the new file
    has its name, and after a power failure the old one may have it again.

    Raises:
        InputFileError: the disk refuses; what stood there is untouched.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.draft")
    try:
        _write_draft(draft, content)
        draft.replace(path)
    except OSError as error:
        raise InputFileError(
            f"writing {path}: {error.strerror}", hint="Make room there, or use another folder."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)

    try:
        _sync_folder(path.parent)
    except OSError:
        return False
    return True


def _write_draft(draft: Path, content: bytes, mode: int = 0o600) -> None:
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        if mode & 0o077:
            with contextlib.suppress(OSError):  # FAT sticks have no modes
                os.fchmod(descriptor, mode)
        os.fsync(descriptor)


def _give_name(draft: Path, path: Path) -> None:
    try:
        # A link, unlike a rename, never replaces what has the name already.
        os.link(draft, path)
    except FileExistsError:
        raise
    except OSError:
        # FAT sticks have no links: reserve the name, then replace the reservation.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            draft.replace(path)
        except OSError:
            path.unlink(missing_ok=True)
            raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
