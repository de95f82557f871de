"""What exactly is installed: a digest over the package's own files.

Record 0 of every run holds it, so that evidence says by which bytes it was made.
"""

from __future__ import annotations

import hashlib
import platform
import ssl
from pathlib import Path
from typing import Final

from drengine import __version__

_SUFFIXES: Final = frozenset({".py", ".yaml", ".j2", ".css", ".svg", ".md", ".txt"})


def files_sha256(folder: Path | None = None) -> str:
    """Return the SHA-256 over name and digest of every file of the package, in order."""
    root = folder or Path(__file__).parent
    files = [path for path in root.rglob("*") if path.suffix in _SUFFIXES and path.is_file()]
    listing = hashlib.sha256()
    for path in sorted(files, key=lambda each: each.relative_to(root).as_posix()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        listing.update(f"{content}  {path.relative_to(root).as_posix()}\n".encode())
    return listing.hexdigest()


def tool_facts() -> dict[str, str]:
    """Return what record 0 says of the tool and of what it runs on."""
    return {
        "version": __version__,
        "files_sha256": files_sha256(),
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "system": platform.platform(),
    }
