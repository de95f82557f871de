"""Serve one request in a short-lived child: shut off, work, answer, end.

Rules:
- The process shuts itself off, goes on in a fork that nobody could open, and only then makes
  the channel by which it is sent anything (`channel`).
- Only an answer leaves: a result, or an error by code and safe text. An unforeseen
  exception crosses as its type and place; its text could quote a secret.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from drengine.ceremony.channel import offer, read_to_end
from drengine.ceremony.hardening import Hardening, go_on_unseen, harden
from drengine.ceremony.messages import write_refusal
from drengine.errors import DrError, InternalError


def serve_once(
    perform: Callable[[bytes, Hardening], bytes], *, may_write_files: bool = False
) -> NoReturn:
    """Serve one request and end; the exit status is 0 when an answer was written.

    Parameters:
        may_write_files: leave the file-size limit alone, for token modules that keep
            lock or state files of their own.
    """
    try:
        harden(may_write_files=may_write_files)
        go_on_unseen()
        hardening = harden(may_write_files=may_write_files)
        channel = offer()
    except Exception as error:  # noqa: BLE001 - as in `answer_to`
        sys.stdout.buffer.write(refusal(error))
        sys.stdout.buffer.flush()
        os._exit(0)
    channel.sendall(answer_to(read_to_end(channel), perform, hardening))
    channel.close()
    # No finalizers: nothing may run, log or write after the answer.
    os._exit(0)


def answer_to(
    request: bytes, perform: Callable[[bytes, Hardening], bytes], hardening: Hardening
) -> bytes:
    """Return the answer to a request."""
    try:
        return perform(request, hardening)
    except Exception as error:  # noqa: BLE001 - its text may quote a secret and stays here
        return refusal(error)


def refusal(error: Exception) -> bytes:
    """Return an error as it may leave this process."""
    return write_refusal(error if isinstance(error, DrError) else unforeseen(error))


def unforeseen(error: Exception) -> InternalError:
    """Return what may be said of an exception that nobody expected."""
    place = "an unknown place"
    step = error.__traceback__
    while step is not None:
        place = f"{Path(step.tb_frame.f_code.co_filename).name}:{step.tb_lineno}"
        step = step.tb_next
    return InternalError(
        f"the process that opens keys failed with {type(error).__name__} at {place}; "
        "nothing was made, and its text is withheld because it could quote a secret",
        hint="Report this place. With all keys in one place the blob can also be made with "
        "'az keyvault security-domain restore-blob'.",
    )
