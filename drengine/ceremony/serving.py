"""Serve one request in a short-lived child: shut off, work, answer, end.

Rules:
- The process shuts itself off before it says that it is ready, and nobody sends it anything
  before that; it reads the request in a fork that nobody could open.
- Only an answer leaves: a result, or an error by code and safe text. An unforeseen
  exception crosses as its type and place; its text could quote a secret.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from drengine.ceremony.hardening import Hardening, go_on_unseen, harden
from drengine.ceremony.messages import write_refusal
from drengine.ceremony.spawn import READY
from drengine.errors import DrError, InternalError


def serve_once(
    perform: Callable[[bytes, Hardening], bytes], *, may_write_files: bool = False
) -> NoReturn:
    """Serve one request and end; the exit status is 0 when an answer was written.

    Parameters:
        may_write_files: leave the file-size limit alone, for token modules that keep
            lock or state files of their own.
    """
    answer = answer_of(perform, may_write_files=may_write_files)
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()
    # No finalizers: nothing may run, log or write after the answer.
    os._exit(0)


def answer_of(
    perform: Callable[[bytes, Hardening], bytes], *, may_write_files: bool = False
) -> bytes:
    """Return the answer to the request on standard input."""
    try:
        harden(may_write_files=may_write_files)
        go_on_unseen()
        hardening = harden(may_write_files=may_write_files)
        say_ready()
        return perform(sys.stdin.buffer.read(), hardening)
    except DrError as error:
        return write_refusal(error)
    except Exception as error:  # noqa: BLE001 - its text may quote a secret and stays here
        return write_refusal(unforeseen(error))


def say_ready() -> None:
    """Tell the parent that this process is shut off: what is sent from now on only it reads."""
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()


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
