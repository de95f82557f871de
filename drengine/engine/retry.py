"""How long the engine waits before it asks or tries again; nothing below it sends twice.

- Only a failure that is known to have had no effect and that may pass (`transient`) is
  tried again without a person; waits double from `first_wait_ms` up to `max_wait_ms`.
- What a service asks for (`Retry-After`) is obeyed. Where it asks for nothing, an operation
  is asked about at most every two seconds in its first minute and every ten later.
"""

from __future__ import annotations

from typing import Final

from drengine.model.run import StepState
from drengine.model.runbook import RetryPolicy

FIRST_MINUTE_MS: Final = 60_000
EARLY_WAIT_MS: Final = 2_000
LATE_WAIT_MS: Final = 10_000
LONGEST_ASKED_MS: Final = 600_000
"""However long a service asks for: after that it is asked again."""


def look_again_ms(age_ms: int, later_ms: int, asked_ms: int | None = None) -> int:
    """Return how long to wait before the same thing is asked once more.

    Parameters:
        age_ms: how long ago it began.
        later_ms: what is enough after the first minute; at least ten seconds are kept.
        asked_ms: what the service asked for.
    """
    if asked_ms:
        return asked_ms
    return EARLY_WAIT_MS if age_ms < FIRST_MINUTE_MS else max(LATE_WAIT_MS, later_ms)


def waited_ms(since_ms: int, opened_ms: int, now_ms: int) -> int:
    """Return how long this process has waited for something that began then.

    What began in another process counts from this one's opening: a time of the future is of a
    process whose clock was set back since.
    """
    return now_ms - (since_ms if opened_ms < since_ms <= now_ms else opened_ms)


def quiet_until_ms(step: StepState, quiet_ms: int) -> int:
    """Return until when an effect of the step's last request may stay invisible.

    Parameters:
        quiet_ms: what is known of the operation.
    """
    return step.quiet_from_ms + quiet_ms


def next_attempt_ms(policy: RetryPolicy, step: StepState) -> int | None:
    """Return when a failed step is tried again, None where only a person reopens it."""
    if step.reopened:
        return step.entered_ms
    error = step.error or {}
    if not error.get("transient") or step.failures >= policy.attempts:
        return None
    asked = error.get("retry_after_ms")
    wait = policy.first_wait_ms * (1 << max(step.failures - 1, 0))
    wait = min(wait, policy.max_wait_ms)
    if isinstance(asked, int):
        wait = max(wait, min(asked, LONGEST_ASKED_MS))
    return step.entered_ms + wait


PASSING_FAILURES: Final = frozenset(
    {
        # sqlmi-protocol §1.6: role grants and DNS need minutes to reach the instance
        "AzureKeyVaultMissingPermissions",
        "UmiMissingAkvPermissions",
        "AkvKeyAccessDenied",
        "AkvKeyOperationNotAllowedByRBAC",
        "AkvHostNotResolvingFromNode",
        "AkvEndpointNotReachableFromNode",
        # §1.8: while databases are inaccessible; the next attempt has them looked at again first
        "CMKOperationNotAllowed",
        "AzureKeyVaultConnectionFailed",
        "OperationTimedOut",
        "TooManyRequests",
    }
)
"""Codes of an operation that failed, and may succeed when it is begun again."""
