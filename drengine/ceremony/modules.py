"""Whether a PKCS#11 module may be loaded: loading one is running it.

Rules: an absolute path; the file and every folder above it belong to root and are not
writable by others; links are followed first, and what they lead to is judged.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from drengine.errors import ShareError

_WRITABLE: Final = stat.S_IWGRP | stat.S_IWOTH
_ROOT: Final = 0


def trusted_module(path: Path) -> Path:
    """Return the real path of a module that nobody but root can have put there.

    Raises:
        ShareError: says which file or folder could have been put there by somebody else.
    """
    if not path.is_absolute():
        raise ShareError(
            f"the PKCS#11 module {path} is not an absolute path, so it could be any file",
            hint="Give the full path, as in /usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so.",
        )
    try:
        real = path.resolve(strict=True)
        regular = stat.S_ISREG(os.stat(real).st_mode)  # noqa: PTH116 - one look for all
        links = _links_of(path)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "it leads in a circle"
        raise ShareError(f"the PKCS#11 module {path} cannot be looked at: {reason}") from None
    if not regular:
        raise ShareError(f"the PKCS#11 module {path} is not a regular file")
    for place in [real, *real.parents, *links]:
        _require_roots(path, place)
    return real


def _links_of(path: Path) -> list[Path]:
    """Return the folders in which a link could be changed on the way to the file."""
    found: list[Path] = []
    current = path
    for _ in range(16):
        found += current.parents
        if not current.is_symlink():
            break
        current = current.parent / current.readlink()
    return found


def _require_roots(module: Path, place: Path) -> None:
    status = place.stat()
    # A sticky folder such as /tmp lets nobody replace what root put there.
    open_folder = status.st_mode & _WRITABLE and not (
        stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    )
    if status.st_uid == _ROOT and not open_folder:
        return
    whose = "may be written by others" if open_folder else "does not belong to root"
    raise ShareError(
        f"the PKCS#11 module {module} is not loaded: {place} {whose}, so somebody else could "
        "have put it there; loading it would run it",
        hint="Install the module from the system's packages.",
    )
