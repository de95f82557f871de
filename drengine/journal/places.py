"""Whether a folder is a place where a journal may live.

Rules:
- A journal needs a local file system: SQLite's WAL shares memory between processes,
  and file locks must die with the process. Network file systems are refused.
- Where the operating system has no `/proc/mounts`, the kind of file system is not known
  and the folder is accepted.
- Nobody else may write there; a folder that drengine makes is 0700.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final

from drengine.errors import JournalError

MOUNTS: Final = Path("/proc/mounts")

_NETWORK: Final = re.compile(
    r"nfs\d?|cifs|smb\w*|9p|afs|ceph|lustre|glusterfs|gpfs|beegfs|orangefs|ncpfs|davfs|coda|vboxsf"
    r"|vmhgfs|prl_fs"
    r"|fuse\.(?:sshfs|smbnetfs|cifs|nfs\w*|s3fs|rclone|davfs2?|glusterfs|ceph\w*|curlftpfs"
    r"|gcsfuse|goofys|mountpoint-s3|blobfuse2?|onedriver|google-drive-ocamlfuse|juicefs|vmhgfs-fuse"
    r"|gvfsd-fuse|hadoop-fuse-dfs|moosefs|mfs\w*)"
)
_OCTAL: Final = re.compile(r"\\([0-7]{3})")
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def is_network(fstype: str) -> bool:
    """Whether `fstype`, as `/proc/mounts` spells it, is served by another host."""
    return _NETWORK.fullmatch(fstype) is not None


def fstype_of(path: Path, mounts: str) -> str:
    """Return the file system type that `path` lies on, by the text of `/proc/mounts`.

    Parameters:
        path: absolute and without symbolic links.

    Returns:
        The type, or an empty text where no mount covers the path.
    """
    best, fstype = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:  # noqa: PLR2004 - device, mount point, type
            continue
        point = Path(_OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[1]))
        # Of two mounts on one point the later one is what a process sees.
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, fstype = len(point.parts), fields[2]
    return fstype


def prepare_home(home: Path) -> Path:
    """Make the home folder where it is absent, check it, and return its real path.

    Raises:
        JournalError: it cannot be made or written, others may write there, or it is on a
            network file system.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        real = home.resolve(strict=True)
        found = real.stat()
    except OSError as error:
        raise _unusable(home, f"cannot be made or read: {error.strerror or error}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise _unusable(home, "is not a folder")
    if found.st_mode & _OTHERS_WRITE:
        mode = f"{stat.S_IMODE(found.st_mode):04o}"
        raise _unusable(home, f"other users may write there (mode {mode})", f"chmod 700 {home}")
    if not os.access(real, os.W_OK | os.X_OK):
        raise _unusable(home, "is not writable for this user")
    _refuse_network(home, real)
    return real


def _refuse_network(home: Path, real: Path) -> None:
    try:
        mounts = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return
    if is_network(fstype := fstype_of(real, mounts)):
        raise _unusable(
            home,
            f"lies on a network file system ({fstype}), where neither locks nor commits can be "
            "relied on",
            "choose a local folder with DRENGINE_HOME",
        )


def _unusable(
    home: Path, reason: str, hint: str = "choose another folder with DRENGINE_HOME"
) -> JournalError:
    return JournalError(f"opening the journal store in {home}: the folder {reason}", hint=hint)
