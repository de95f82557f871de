"""Large things beside the journal, kept by the SHA-256 of their bytes.

One file each: `<folder>/<first two digits>/<sha256>`, mode 0600, whole or absent.
Nothing is ever replaced or removed here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from drengine.journal import refusals
from drengine.journal.files import sync_folder, write_whole
from drengine.model.canonical import sha256_hex

SHA256_NAME: Final = re.compile(r"[0-9a-f]{64}")


class ObjectFolder:
    """The objects of one home."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, data: bytes) -> str:
        """Keep `data` durably and return its SHA-256.

        Raises:
            JournalDamaged: an object of that name is here and is not these bytes.
            OSError: it could not be written.
        """
        sha256 = sha256_hex(data)
        path = self._path(sha256)
        if path.exists():
            self.get(sha256)
            # Whoever wrote it may have died before its name was durable.
            sync_folder(path.parent)
        else:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write_whole(path, data)
        sync_folder(self._folder)
        return sha256

    def get(self, sha256: str) -> bytes:
        """Return the bytes of that digest, checked.

        Raises:
            JournalDamaged: absent, or not the bytes that were kept.
        """
        if not SHA256_NAME.fullmatch(sha256):
            raise refusals.no_object(repr(sha256), "is not a SHA-256")
        try:
            data = self._path(sha256).read_bytes()
        except FileNotFoundError:
            raise refusals.no_object(sha256, "is not here") from None
        if (found := sha256_hex(data)) != sha256:
            raise refusals.no_object(sha256, f"its bytes have the digest {found}")
        return data

    def has(self, sha256: str) -> bool:
        """Whether there is a file of that digest."""
        return bool(SHA256_NAME.fullmatch(sha256)) and self._path(sha256).is_file()

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256
