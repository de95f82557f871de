"""Combine a quorum's keys into a restore blob: all keys on one machine, one process.

This is the ceremony's first form, for those who hold all key files in one place.
The report says so: the keys met, in one child process that is gone afterwards.

Not here: the secret part (`child`). This process reads the security domain and the
exchange certificate; it never opens a key file.

Rules:
- The child is a fresh interpreter, not a fork: nothing of this process is in it but
  the request, and nothing comes back but the answer.
- Passphrases travel by the pipe only, never by arguments or environment.
- The blob is written new, with mode 0600, and only when all of it is there.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import drengine
from drengine.ceremony.domain import MAX_DOMAIN_BYTES
from drengine.ceremony.files import read_input, require_new, write_new
from drengine.ceremony.messages import (
    Combined,
    CombineReport,
    CombineRequest,
    KeySource,
    read_answer,
)
from drengine.errors import CeremonyError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CombineReport", "KeySource", "combine"]

_MAX_CERTIFICATE_BYTES: Final = 64 * 1024
_CHILD_SECONDS: Final = 300
# `-I` leaves out the current folder and PYTHON* variables. The package's own folder is
# put last, so that it is found in a source checkout and shadows nothing elsewhere.
_START: Final = (
    "import sys; sys.path.append(sys.argv[1]); from drengine.ceremony.child import main; main()"
)
_ENVIRONMENT: Final = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH")


def combine(
    sd_file: Path,
    exchange_certificate: Path,
    keys: Sequence[KeySource],
    out: Path,
    *,
    accept_open_permissions: bool = False,
) -> CombineReport:
    """Make the restore blob for one exchange certificate from a quorum of key files.

    Parameters:
        out: the blob's path; must not exist.
        accept_open_permissions: read key files of other owners or open modes, for
            media that know neither.

    Raises:
        InputFileError: an input cannot be read, or `out` exists.
        DomainError, QuorumError, ShareError: what is wrong with the domain or a key.
        CeremonyError: the child ended without an answer.
    """
    require_new(out)
    request = CombineRequest(
        domain=read_input(sd_file, "the security-domain file", max_bytes=MAX_DOMAIN_BYTES),
        exchange_certificate=read_input(
            exchange_certificate, "the exchange certificate", max_bytes=_MAX_CERTIFICATE_BYTES
        ),
        keys=tuple(map(_absolute, keys)),
        accept_open_permissions=accept_open_permissions,
    )
    combined, gone_ns = _ask_child(request)
    write_new(out, combined.blob)
    return _report(combined, out, gone_ns)


def _absolute(key: KeySource) -> KeySource:
    # Not resolved: that would follow the links which the child must refuse.
    certificate = None if key.certificate is None else key.certificate.absolute()
    return KeySource(key.path.absolute(), certificate, key.passphrase)


def _ask_child(request: CombineRequest) -> tuple[Combined, int]:
    package_root = str(Path(drengine.__file__).parent.parent.absolute())
    try:
        finished = subprocess.run(  # noqa: S603 - own interpreter, fixed words, no shell
            [sys.executable, "-I", "-c", _START, package_root],
            input=request.to_bytes(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            timeout=_CHILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _no_answer(f"did not answer within {_CHILD_SECONDS} seconds and was ended") from None
    gone_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    if finished.returncode != 0:
        raise _no_answer(_how_it_ended(finished.returncode))
    try:
        return read_answer(finished.stdout), gone_ns
    except (ValueError, KeyError, TypeError):
        raise _no_answer("broke off in the middle of its answer") from None


def _how_it_ended(returncode: int) -> str:
    if returncode < 0:
        return f"was ended by {signal.Signals(-returncode).name}"
    return f"ended with status {returncode} before it answered"


def _no_answer(what: str) -> CeremonyError:
    return CeremonyError(
        f"combining: the process that opens keys {what}; no blob was written",
        hint="Try again. To see whether it can start at all: "
        f"{sys.executable} -c 'import drengine.ceremony.child'",
    )


def _report(combined: Combined, out: Path, gone_ns: int) -> CombineReport:
    child = combined.report
    return CombineReport(
        out=out,
        blob_sha256=hashlib.sha256(combined.blob).hexdigest(),
        blob_size_bytes=len(combined.blob),
        domain_sha256=child.domain_sha256,
        required=child.required,
        custodians=child.custodians,
        exchange_x5t_256=child.exchange_x5t_256,
        exchange_subject=child.exchange_subject,
        plain_milliseconds=max(1, (gone_ns - child.plain_since_ns) // 1_000_000),
        core_dumps_off=child.core_dumps_off,
        not_dumpable=child.not_dumpable,
        memory_locked=child.memory_locked,
        swap_active=child.swap_active,
    )
