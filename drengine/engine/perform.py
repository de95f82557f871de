"""Performing one command: with `probing`, `sending` and `gates` all that touches the world.

Rules:
- Every function ends in records that the chain has made durable; what it returns is nothing.
- A `DrError` of a look becomes a failed step; a journal error goes up and ends the process.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import replace
from typing import Any

from drengine.actions.moment import Moment
from drengine.engine.bench import Bench, evaluate_rules, fail, with_exchanges
from drengine.engine.failing import advice_of, next_step
from drengine.engine.retry import PASSING_FAILURES, look_again_ms
from drengine.errors import AzureError, DrError
from drengine.model.canonical import JsonObject, digest
from drengine.model.cloud import Operation, OperationState, OperationStatus
from drengine.model.findings import Findings, all_hold
from drengine.model.ids import RunId
from drengine.model.records import RecordType as R
from drengine.model.run import StepState
from drengine.model.runbook import Step

_POLL_JITTER_PERCENT = 10


async def check(bench: Bench, step_id: str) -> None:
    """Evaluate the guards that must hold before a step."""
    step, _ = bench.step(step_id)
    with bench.world.collect() as exchanges:
        try:
            findings = await evaluate_rules(bench, step_id, step.guards_before)
        except DrError as error:
            fail(bench, step_id, error, exchanges)
            return
    body: dict[str, Any] = {"step": step_id, "findings": [f.to_json() for f in findings]}
    if all_hold(findings):
        bench.chain.append(R.GUARDS_HELD, with_exchanges(body, exchanges))
        return
    blocking = [finding for finding in findings if not finding.holds]
    body["error"] = {
        "kind": "GuardError",
        "code": "DR-G001",
        "message": "; ".join(f"{f.rule}: {f.message}" for f in blocking),
        "hint": advice_of(bench.chain.run, findings),
        "exit_code": 8,
    }
    bench.chain.append(R.GUARDS_REFUSED, with_exchanges(body, exchanges))


async def observe_step(bench: Bench, step_id: str) -> None:
    """Run an action that only reads."""
    step, _ = bench.step(step_id)
    action = bench.world.kit.actions[step.action]
    with bench.world.collect() as exchanges:
        try:
            outputs = await action.start(bench.context(step_id))
        except DrError as error:
            fail(bench, step_id, error, exchanges)
            return
    if isinstance(outputs, Operation):
        raise TypeError(f"{step.action} only reads, yet it started an operation")
    bench.chain.append(
        R.ANSWER_DONE, with_exchanges({"step": step_id, "outputs": outputs}, exchanges)
    )


async def poll(bench: Bench, step_id: str) -> None:
    """Ask the service where the operation stands."""
    step, st = bench.step(step_id)
    action = bench.world.kit.actions[step.action]
    if st.operation is None:
        raise TypeError(f"step {step_id} runs without an operation")
    with bench.world.collect() as exchanges:
        try:
            status = await standing(action.poll(bench.context(step_id), st.operation))
        except DrError as error:
            fail(bench, step_id, error, exchanges)
            return
    kind, body = _poll_record(bench, step, st, status)
    bench.chain.append(kind, with_exchanges({"step": step_id, **body}, exchanges))


async def standing(asked: Awaitable[OperationStatus]) -> OperationStatus:
    """Return where an operation stands; a look that failed and may pass says: it runs."""
    try:
        return await asked
    except AzureError as error:
        if not error.transient:
            raise
        wait_ms = round(1000 * (error.retry_after_seconds or 0)) or None
        return OperationStatus(OperationState.RUNNING, error.message, retry_after_ms=wait_ms)


def _poll_record(
    bench: Bench, step: Step, st: StepState, status: OperationStatus
) -> tuple[R, dict[str, Any]]:
    action = bench.world.kit.actions[step.action]
    match status.state:
        case OperationState.RUNNING:
            now = bench.world.clock.now_ms()
            age = bench.waited_ms(st.entered_ms if st.intent_at_ms is None else st.intent_at_ms)
            wait = look_again_ms(age, action.spec.poll_ms, status.retry_after_ms)
            # The run's own digits spread the polls of many children without a random source.
            spread = int(digest([bench.chain.run, step.id, st.polls])[:4], 16) % 100
            wait += wait * _POLL_JITTER_PERCENT * spread // 10_000
            return R.OPERATION_POLLED, {
                "detail": status.detail,
                "polls": st.polls + 1,
                "not_before": now + wait,
            }
        case OperationState.SUCCEEDED:
            return R.OPERATION_SUCCEEDED, {
                "detail": status.detail,
                "outputs": dict(action.outputs_of(status)),
            }
        case OperationState.LOST:
            return R.OPERATION_LOST, {"why": "the status URL is gone; reading the resource instead"}
        case OperationState.FAILED:
            code = status.error_code or "no error code"
            error = {
                "kind": "AzureError",
                "code": "DR-A030",
                "message": f"{action.spec.title}: the operation failed: {code}: {status.detail}",
                "hint": _explained(bench.chain.run, status.error_code),
                "exit_code": 4,
                "service_code": status.error_code,
                "transient": status.error_code in PASSING_FAILURES,
            }
            return R.OPERATION_FAILED, {"error": error}


def _explained(run: RunId, code: str) -> str:
    resume = next_step(run)
    return f"drengine explain {code}   {resume}" if code else resume


async def verify(bench: Bench, step_id: str) -> None:
    """Read the truth back: the only thing that makes a step succeed."""
    step, st = bench.step(step_id)
    action = bench.world.kit.actions.get(step.action)
    outputs: JsonObject = {}
    evidence: JsonObject = {}
    findings: Findings = ()
    again_ms, more, watches = 10_000, False, False
    settle_ms = action.spec.settle_ms if action else 0
    moment = Moment(bench.world.cloud)
    with bench.world.collect() as exchanges:
        try:
            if action:
                ctx = replace(bench.context(step_id), cloud=moment)
                seen = await action.verify(ctx)
                findings, outputs, evidence = seen.findings, seen.outputs, seen.evidence
                again_ms, more, watches = seen.again_ms, seen.more, seen.watches
            if not more:
                findings += await evaluate_rules(bench, step_id, step.guards_after, moment)
        except DrError as error:
            if not (isinstance(error, AzureError) and error.transient and settle_ms):
                fail(bench, step_id, error, exchanges)
                return
            evidence = {"could_not_read": error.message}
    body: dict[str, Any] = {"step": step_id, "findings": [f.to_json() for f in findings]}
    if evidence:
        body["evidence"] = dict(evidence)
    now = bench.world.clock.now_ms()
    if all_hold(findings) and "could_not_read" not in evidence:
        body["outputs"] = dict(outputs)
        kind = R.PART_DONE if more else R.STEP_SUCCEEDED
        bench.chain.append(kind, with_exchanges(body, exchanges))
    elif (age := bench.waited_ms(st.entered_ms)) < settle_ms:
        body["not_before"] = now + (again_ms if watches else look_again_ms(age, again_ms))
        bench.chain.append(R.VERIFY_MISSED, with_exchanges(body, exchanges))
    else:
        body["error"] = _verify_error(bench.chain.run, findings)
        bench.chain.append(R.STEP_FAILED, with_exchanges(body, exchanges))


def _verify_error(run: RunId, findings: Findings) -> Mapping[str, Any]:
    blocking = [finding for finding in findings if not finding.holds]
    return {
        "kind": "StepFailed",
        "code": "DR-S003",
        "message": "what was read back is not what must be: "
        + ("; ".join(f"{f.rule}: {f.message}" for f in blocking) or "it could not be read"),
        "hint": advice_of(run, findings),
        "exit_code": 4,
    }
