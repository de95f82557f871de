"""What a failure says, as a record keeps it: the cause, what the retry needs, a next step.

Rule: no error that may end a run goes without a next step. Where nobody knew a better one,
it is to mend the cause and to resume.
"""

from __future__ import annotations

from typing import Any

from drengine.engine.retry import PASSING_FAILURES
from drengine.errors import AzureError, DrError
from drengine.model.findings import Findings
from drengine.model.ids import RunId, root_of


def next_step(run: RunId, advice: str = "") -> str:
    """Return the advice, or what can be done about any failure."""
    return advice or f"Remove the cause, then: drengine resume {root_of(run)}"


def advice_of(run: RunId, findings: Findings) -> str:
    """Return what blocking findings advise, or what can be done about any failure."""
    said = (finding.advice for finding in findings if not finding.holds)
    return next_step(run, " ".join(filter(None, said)))


def look_by_hand(run: RunId, step: str) -> str:
    """Return what a person does about a request whose effect nobody knows."""
    told = "--found | --absent --reason TEXT"
    return f"Look by hand, then: drengine resolve {run} {step} {told}"


def error_body(error: DrError, run: RunId) -> dict[str, Any]:
    """Return an error as the journal keeps it, with what the retry policy needs."""
    body: dict[str, Any] = {**error.to_json(), "hint": next_step(run, error.hint)}
    if isinstance(error, AzureError):
        body["transient"] = error.transient or error.service_code in PASSING_FAILURES
        body["status"] = error.status
        body["service_code"] = error.service_code
        if error.retry_after_seconds is not None:
            body["retry_after_ms"] = int(error.retry_after_seconds * 1000)
    return body
