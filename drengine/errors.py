"""Every error drengine raises on purpose, with its stable code and exit code.

```
DrError                      code, message, hint, exit_code
├─ UsageError                DR-U001   2   the command line does not fit
├─ InputError                DR-I001   3   a file or argument of the user is bad
│  ├─ RunbookError           DR-I010   3   carries file:line:column
│  ├─ ExpressionError        DR-I011   3   a `${…}` cannot be read or evaluated
│  ├─ InputFileError         DR-I020   3
│  └─ LimitExceeded          DR-I030   3
├─ StepFailed                DR-S001   4   a step failed; the run can be resumed
├─ Waiting                   DR-W001   5   a person, a delivery or a secret is needed
├─ PlanStale                 DR-P001   6   an input or the target changed since the plan
├─ Locked                    DR-L001   7   another process or run holds the run or target
├─ GuardError                DR-G001   8   refused on purpose; nothing was sent
│  └─ LabMismatch            DR-G010   8   lab and real cloud would have been mixed up
├─ VerificationError         DR-V001   9   evidence does not verify
├─ UnknownOutcome            DR-O001  12   a call may have happened; look first
├─ AzureError                DR-A001   4   the service answered with an error
│  ├─ NotAuthorized          DR-A010  13
│  └─ Throttled              DR-A020   4
├─ JournalError              DR-J001  14
│  ├─ JournalDamaged         DR-J002  14   names the record
│  ├─ StoreFailed            DR-J003  14   a write or sync failed; in doubt
│  ├─ Fenced                 DR-J004   7   a newer lease holds the run
│  ├─ HandedOver             DR-J005   7   another host has the run
│  └─ Unwritable             DR-J006  14   what a record should hold fits into none
├─ CeremonyError             DR-C001  15
│  ├─ QuorumError            DR-C002  15
│  ├─ ShareError             DR-C003  15
│  └─ DomainError            DR-C004  15   the security-domain file itself is bad
└─ InternalError             DR-X001   1   a bug in drengine
```

A message says what was being done, what was found against what was expected, and
what is certain; the hint says what to do next. Secrets never enter either.
"""

from __future__ import annotations

from typing import ClassVar


class DrError(Exception):
    """Base of all errors that drengine raises on purpose.

    Parameters:
        message: what was being done, what was found, what is certain.
        hint: what to do next, often a command; may be empty.
        code: overrides the class's stable code (`DR-…`).
        exit_code: overrides the class's exit code.
    """

    code: str = "DR-X000"
    exit_code: int = 1
    kinds: ClassVar[dict[str, type[DrError]]] = {}

    def __init_subclass__(cls) -> None:
        """Index every error class by name, so that a journal can name its kind."""
        DrError.kinds[cls.__name__] = cls

    def __init__(
        self, message: str, *, hint: str = "", code: str = "", exit_code: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or type(self).code
        self.exit_code = type(self).exit_code if exit_code is None else exit_code

    def to_json(self) -> dict[str, str | int]:
        """Return the error as the JSON object that `-o json` prints and the journal keeps."""
        return {
            "kind": type(self).__name__,
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "exit_code": self.exit_code,
        }


class UsageError(DrError):
    """The command line does not fit."""

    code = "DR-U001"
    exit_code = 2


class InputError(DrError):
    """A file or argument that the user gave is bad; nothing was changed."""

    code = "DR-I001"
    exit_code = 3


class RunbookError(InputError):
    """A runbook does not say what a runbook must say.

    Parameters:
        message: the problem, without the place.
        file, line, column: where it stands (1-based); line 0 means the whole file.
    """

    code = "DR-I010"

    def __init__(
        self, message: str, *, file: str = "", line: int = 0, column: int = 0, hint: str = ""
    ) -> None:
        place = f"{file}:{line}:{column}: " if line else (f"{file}: " if file else "")
        super().__init__(f"{place}{message}", hint=hint)
        self.file = file
        self.line = line
        self.column = column


class ExpressionError(InputError):
    """A `${…}` cannot be read or evaluated.

    Parameters:
        message: the problem, without the place; names and types only, never values.
        expression: the text it stands in, as the author wrote it.
        column: where in that text (1-based); 0 means the whole of it.
        missing: whether only a name was not there; it may be there later.
    """

    code = "DR-I011"

    def __init__(
        self,
        message: str,
        *,
        expression: str = "",
        column: int = 0,
        missing: bool = False,
        hint: str = "",
    ) -> None:
        limit = 80
        shown = expression if len(expression) <= limit else f"{expression[: limit - 1]}…"
        place = f", character {column}" if column else ""
        super().__init__(f"{shown!r}{place}: {message}" if expression else message, hint=hint)
        self.problem = message
        self.expression = expression
        self.column = column
        self.missing = missing


class InputFileError(InputError):
    """A file given as input cannot be read or is not what it must be."""

    code = "DR-I020"


class LimitExceeded(InputError):
    """An input is larger or deeper than drengine reads."""

    code = "DR-I030"


class StepFailed(DrError):
    """A step failed; everything up to it is recorded and the run can be resumed."""

    code = "DR-S001"
    exit_code = 4


class Waiting(DrError):
    """The run waits for a person, a delivery or a secret; a clean stop."""

    code = "DR-W001"
    exit_code = 5


class PlanStale(DrError):
    """Something the plan was made from is no longer what it was."""

    code = "DR-P001"
    exit_code = 6


class Locked(DrError):
    """Another process holds the run, or another run holds the target."""

    code = "DR-L001"
    exit_code = 7


class GuardError(DrError):
    """Refused on purpose by a guard or rule; nothing was sent."""

    code = "DR-G001"
    exit_code = 8


class LabMismatch(GuardError):
    """An answer came from a lab where the cloud was meant, or the reverse."""

    code = "DR-G010"


class VerificationError(DrError):
    """Evidence does not verify."""

    code = "DR-V001"
    exit_code = 9


class UnknownOutcome(DrError):
    """A request may or may not have had its effect; nothing more is sent until a person looked."""

    code = "DR-O001"
    exit_code = 12


class AzureError(DrError):
    """The service answered with an error.

    Parameters:
        status: HTTP status, 0 where there was no answer.
        service_code: the `error.code` of the service's body, empty where there was none.
        transient: whether the same request may succeed later.
        retry_after_seconds: what the service asked for, None where it did not.
    """

    code = "DR-A001"
    exit_code = 4

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        status: int = 0,
        service_code: str = "",
        transient: bool = False,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.service_code = service_code
        self.transient = transient
        self.retry_after_seconds = retry_after_seconds


class NotAuthorized(AzureError):
    """Not signed in, or the principal lacks a right."""

    code = "DR-A010"
    exit_code = 13


class Throttled(AzureError):
    """The service asked to slow down; the request had no effect."""

    code = "DR-A020"


class JournalError(DrError):
    """The journal or its store cannot be used."""

    code = "DR-J001"
    exit_code = 14


class JournalDamaged(JournalError):
    """A record does not follow from the one before it, or is not what was hashed."""

    code = "DR-J002"


class StoreFailed(JournalError):
    """A write or sync failed; whether it is durable must be read back by a new process."""

    code = "DR-J003"


class Fenced(JournalError):
    """A newer lease holds this run; this process may not append any more."""

    code = "DR-J004"
    exit_code = 7


class HandedOver(JournalError):
    """Another host has the run by now; this one sends nothing for it any more."""

    code = "DR-J005"
    exit_code = 7


class Unwritable(JournalError):
    """What a record should hold has no canonical form or is too long; nothing was written."""

    code = "DR-J006"


class CeremonyError(DrError):
    """The quorum ceremony refuses to go on."""

    code = "DR-C001"
    exit_code = 15


class QuorumError(CeremonyError):
    """Too few, repeated or unfitting keys for the quorum."""

    code = "DR-C002"


class ShareError(CeremonyError):
    """One custodian's key or share does not open or does not fit."""

    code = "DR-C003"


class DomainError(CeremonyError):
    """The security-domain file is damaged, tampered with, or not one."""

    code = "DR-C004"


class InternalError(DrError):
    """A bug in drengine; the traceback is in the file that the message names."""

    code = "DR-X001"
    exit_code = 1
