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
from pathlib import Path
from typing import TYPE_CHECKING, Final

from drengine.ceremony.domain import MAX_DOMAIN_BYTES
from drengine.ceremony.files import read_input, require_new, write_new
from drengine.ceremony.messages import (
    Combined,
    CombineReport,
    CombineRequest,
    KeySource,
    read_answer,
)
from drengine.ceremony.spawn import ask_child, no_answer, start_line

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CombineReport", "KeySource", "combine"]

_MAX_CERTIFICATE_BYTES: Final = 64 * 1024
_CHILD_SECONDS: Final = 300
_START: Final = start_line("drengine.ceremony.child")


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
    answer, gone_ns = ask_child(_START, request.to_bytes(), seconds=_CHILD_SECONDS)
    try:
        return read_answer(answer), gone_ns
    except (ValueError, KeyError, TypeError):
        raise no_answer("combining", "broke off in the middle of its answer") from None


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
