"""The folder of a ceremony: whose it is, who may enter it, and the names in it.

Who may write there may put a socket of their own in place of the session's, and a request
of their own in place of the ceremony's. So it is the combiner's own, and nobody else's.

Not here: what is written there (`session`, `minutes`).
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from drengine.errors import InputFileError

if TYPE_CHECKING:
    from pathlib import Path

REQUEST_NAME: Final = "request.json"
TRANSCRIPT_NAME: Final = "transcript.json"
ATTESTATIONS_NAME: Final = "attestations"
BLOB_NAME: Final = "restore-blob.json"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_OF_ITS_OWN: Final = "Each ceremony has a folder of its own: give a new --session."


def require_free(folder: Path) -> None:
    """Refuse a place at which something stands that is no empty folder.

    Raises:
        InputFileError: says what stands there.
    """
    try:
        is_free = not any(folder.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputFileError(
            f"opening a ceremony: {folder} cannot be its folder: {error.strerror}",
            hint=_OF_ITS_OWN,
        ) from None
    if not is_free:
        raise InputFileError(f"opening a ceremony: {folder} is not empty", hint=_OF_ITS_OWN)


def take_folder(folder: Path) -> None:
    """Make a ceremony's folder, or shut an empty one off that is this user's own.

    Raises:
        InputFileError: it cannot be made, is not empty, another's, or stays open to others.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_uid == os.getuid():
                os.fchmod(descriptor, 0o700)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise InputFileError(
            f"making the ceremony's folder {folder}: {error.strerror}",
            hint="Give a --session in a folder that you may write to.",
        ) from None
    require_private(folder)
    # Again, now that nobody else can enter: what came in before would be taken for ours.
    require_free(folder)


def require_private(folder: Path) -> None:
    """Refuse a ceremony's folder that is another user's, or that others may enter.

    Raises:
        InputFileError: says which of the two.
    """
    try:
        found = folder.stat()
    except OSError as error:
        raise InputFileError(f"looking at the folder {folder}: {error.strerror}") from None
    if found.st_uid == os.getuid() and not found.st_mode & _OTHERS:
        return
    whose = (
        f"others may enter it (mode {stat.S_IMODE(found.st_mode):04o})"
        if found.st_uid == os.getuid()
        else f"it belongs to another user (uid {found.st_uid})"
    )
    raise InputFileError(
        f"the folder of the ceremony, {folder}, is not yours alone: {whose}; who can write there "
        "could answer in the session's place",
        hint="Give a new --session on a local disk, in a folder of your own.",
    )
