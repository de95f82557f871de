"""Reading an exported run that came from elsewhere: a tar file or a folder, none of it believed.

Nothing is ever unpacked to disk by name. This reader knows of tar only what the exporter
writes, plain files with names from a short list; it has no code for links, devices,
sparse files, extended headers or compression, so an archive with one of those is refused.

Rules:
- Every name is on the list, stands once, and is a regular file.
- Every size is capped before anything is read.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, NoReturn, Protocol

from drengine.errors import InputFileError, LimitExceeded
from drengine.journal.files import UNFINISHED

MAX_FILES: Final = 50_000
MAX_TOTAL: Final = 16 << 30

_STEM: Final = r"[A-Za-z0-9][A-Za-z0-9._~-]{0,220}"
_LISTED: Final[Mapping[re.Pattern[str], int]] = {
    re.compile(r"manifest\.json"): 32 << 20,
    re.compile(rf"journals/{_STEM}\.jsonl"): 4 << 30,
    re.compile(rf"documents/{_STEM}/[A-Za-z0-9][A-Za-z0-9._-]{{0,79}}\.json"): 64 << 20,
    re.compile(r"objects/[0-9a-f]{64}"): 256 << 20,
}
_BLOCK: Final = 512
_MAX_NAME: Final = 512
_MAGICS: Final = (b"ustar\x0000", b"ustar  \x00")


class ArchiveFiles(Protocol):
    """The files of an opened archive."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Name -> size in bytes of every file."""
        ...

    def open(self, name: str) -> io.BufferedReader:
        """Open one of them for reading."""
        ...


@contextmanager
def open_archive(path: Path) -> Iterator[ArchiveFiles]:
    """Give the files of an exported run, a `.tar` or a folder.

    Raises:
        InputFileError: it is not an export, or holds what an export does not.
        LimitExceeded: it holds more, or larger files, than is read.
    """
    if path.is_dir():
        yield FolderFiles(path)
        return
    try:
        stream = path.open("rb")
    except OSError as error:
        raise InputFileError(
            f"reading {path}: {error.strerror or error}", hint="Check the path."
        ) from error
    with stream:
        yield TarFiles(path, stream)


@dataclass(slots=True)
class _Index:
    """The names and sizes seen so far, checked one by one."""

    path: Path
    sizes: dict[str, int]
    total: int = 0

    def add(self, name: str, size: int) -> None:
        cap = next((cap for form, cap in _LISTED.items() if form.fullmatch(name)), None)
        if cap is None:
            self.refuse(f"it holds {name[:120]!r}, which does not belong in an exported run")
        if name in self.sizes:
            self.refuse(f"it holds {name!r} twice")
        self.total += size
        if size > cap or self.total > MAX_TOTAL or len(self.sizes) >= MAX_FILES:
            raise LimitExceeded(
                f"reading {self.path}: {name} ({size} bytes) goes beyond what is read: {cap} bytes "
                f"for such a file, {MAX_TOTAL} in all, {MAX_FILES} files; nothing was imported"
            )
        self.sizes[name] = size

    def refuse(self, reason: str) -> NoReturn:
        raise InputFileError(
            f"reading {self.path}: {reason}; nothing was imported",
            hint="use a file that 'drengine journal export' wrote",
        )


class FolderFiles:
    """An export that is a folder.

    A file that somebody died writing is no part of it: a copy elsewhere ends so with its host.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._index = _Index(path, {})
        for here, folders, files in os.walk(path, followlinks=False):
            for name in sorted((*folders, *files)):
                self._look_at(Path(here) / name)

    @property
    def sizes(self) -> Mapping[str, int]:
        """Name -> size in bytes of every file."""
        return self._index.sizes

    def open(self, name: str) -> io.BufferedReader:
        """Open one of them; a link that took its place meanwhile is refused."""
        descriptor = os.open(self._path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        return os.fdopen(descriptor, "rb")

    def _look_at(self, file: Path) -> None:
        found = file.lstat()
        if stat.S_ISREG(found.st_mode) and not file.name.startswith(UNFINISHED):
            self._index.add(file.relative_to(self._path).as_posix(), found.st_size)
        elif not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            self._index.refuse(f"{file.name!r} is neither a file nor a folder")


class TarFiles:
    """An export that is a tar file."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self._descriptor = stream.fileno()
        self._index = _Index(path, {})
        self._offsets: dict[str, int] = {}
        self._length = os.fstat(self._descriptor).st_size
        self._read_headers()

    @property
    def sizes(self) -> Mapping[str, int]:
        """Name -> size in bytes of every file."""
        return self._index.sizes

    def open(self, name: str) -> io.BufferedReader:
        """Open one of them."""
        part = _Part(self._descriptor, self._offsets[name], self._index.sizes[name])
        return io.BufferedReader(part, 1 << 16)

    def _read_headers(self) -> None:
        offset, long_name = 0, ""
        while True:
            block = os.pread(self._descriptor, _BLOCK, offset)
            if block == bytes(_BLOCK):
                break
            name, size, kind = self._header(block, offset)
            start = offset + _BLOCK
            offset = start + -(-size // _BLOCK) * _BLOCK
            if offset > self._length:
                self._index.refuse(f"it ends inside {name[:120]!r}")
            if kind == b"L":
                long_name = self._long_name(start, size, long_name)
                continue
            self._index.add(long_name or name, size)
            self._offsets[long_name or name] = start
            long_name = ""
        self._check_end(offset, long_name)

    def _header(self, block: bytes, offset: int) -> tuple[str, int, bytes]:
        if len(block) != _BLOCK:
            self._index.refuse(f"it ends at byte {offset} without the end mark of a tar file")
        blanked = block[:148] + b" " * 8 + block[156:]
        if block[257:265] not in _MAGICS or self._octal(block[148:156]) != sum(blanked):
            self._index.refuse(f"at byte {offset} there is no header of a tar file")
        kind = block[156:157]
        name = self._text(block[:100])
        if kind not in {b"0", b"L"} or any(block[157:257]) or any(block[345:500]):
            self._index.refuse(f"{name[:120]!r} is not a plain file")
        return name, self._octal(block[124:136]), kind

    def _long_name(self, start: int, size: int, earlier: str) -> str:
        if earlier or not 1 < size <= _MAX_NAME:
            self._index.refuse("it holds a name that is too long")
        return self._text(os.pread(self._descriptor, size, start))

    def _check_end(self, offset: int, long_name: str) -> None:
        rest = self._length - offset
        if long_name or rest > 2 * 10_240 or any(os.pread(self._descriptor, rest, offset)):
            self._index.refuse("something stands behind its end mark")

    def _text(self, field: bytes) -> str:
        text, _, rest = field.partition(b"\0")
        if any(rest) or not text.isascii():
            self._index.refuse(f"it holds a name {field[:60]!r}")
        return text.decode("ascii")

    def _octal(self, field: bytes) -> int:
        digits = field.rstrip(b" \0")
        if not re.fullmatch(rb"[0-7]{1,12}", digits):
            self._index.refuse(f"it holds a number {field!r}")
        return int(digits, 8)


class _Part(io.RawIOBase):
    """A stretch of a file, read without moving the file's own position."""

    def __init__(self, descriptor: int, start: int, size: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._at = start
        self._end = start + size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        content = os.pread(self._descriptor, min(len(buffer), self._end - self._at), self._at)
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)
