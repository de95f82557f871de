"""What becomes of an error that nobody expected: a file for its owner, a line for the screen.

Rules: the file is 0600; signatures, bearers and passwords in it are struck out.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Final

from drengine import __version__
from drengine.errors import InternalError

_SECRETS: Final = (
    re.compile(r"(?i)(\bsig=)[^&\s'\"]+"),
    re.compile(r"(?i)(bearer\s+)[A-Za-z0-9._~+/=-]+"),
    re.compile(r"\b(eyJ[A-Za-z0-9_-]{4})[A-Za-z0-9._-]{20,}"),
    re.compile(r"(?i)((?:client_secret|password|passphrase|secret)['\"]?\s*[=:]\s*)\S+"),
    re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?=-----END|\Z)", re.DOTALL),
)


def redact(text: str) -> str:
    """Return `text` without what looks like a secret."""
    for pattern in _SECRETS:
        text = pattern.sub(r"\1•••", text)
    return text


def record_crash(error: BaseException) -> InternalError:
    """Write the traceback into a file and return the error that names it."""
    text = "".join(traceback.format_exception(error))
    head = (
        f"drengine {__version__}, Python {platform.python_version()}, {platform.system()} "
        f"{platform.release()}\n"
        f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}\n"
        f"command: {redact(' '.join(sys.argv[:3]))}\n\n"
    )
    place = _write(head + redact(text))
    return InternalError(
        f"a bug in drengine: {type(error).__name__}. What was recorded before it stays valid; "
        f"the traceback is in {place}",
        hint="send that file with the bug report; 'drengine status' shows where the run stands",
    )


def _write(text: str) -> str:
    name = f"crash-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}.txt"
    for folder in _folders():
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(folder / name, flags, 0o600)
        except OSError:
            continue
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as stream:
            stream.write(text)
        return str(folder / name)
    return "no file: neither the home nor a temporary folder can be written"


def _folders() -> list[Path]:
    from drengine.cli.places import home_folder  # noqa: PLC0415 - after a crash, the least

    return [home_folder() / "crashes", Path(tempfile.gettempdir()) / f"drengine-{os.getuid()}"]
