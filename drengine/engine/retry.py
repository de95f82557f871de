"""The one retry policy: nothing below the engine sends anything twice.

Only a failure that is known to have had no effect and that may pass (`transient`) is
tried again without a person; waits double from `first_wait_ms` up to `max_wait_ms`.
"""

from __future__ import annotations

from drengine.model.run import StepState
from drengine.model.runbook import RetryPolicy


def next_attempt_ms(policy: RetryPolicy, step: StepState) -> int | None:
    """Return when a failed step is tried again, None where only a person reopens it."""
    if step.reopened:
        return step.entered_ms
    error = step.error or {}
    if not error.get("transient") or step.failures >= policy.attempts:
        return None
    asked = error.get("retry_after_ms")
    wait = policy.first_wait_ms * (1 << max(step.failures - 1, 0))
    if isinstance(asked, int):
        wait = max(wait, asked)
    return step.entered_ms + min(wait, policy.max_wait_ms)
