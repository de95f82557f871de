"""Performing a rollback's commands: the same rules as for a send, the other way round."""

from __future__ import annotations

from typing import Any

from drengine.actions.contract import Kept
from drengine.engine.bench import Bench, hear_all, with_exchanges
from drengine.engine.failing import error_body, next_step
from drengine.engine.perform import standing
from drengine.engine.retry import look_again_ms
from drengine.errors import DrError, JournalError, UnknownOutcome
from drengine.model.cloud import Operation, OperationState
from drengine.model.findings import all_hold
from drengine.model.records import RecordType as R

_LOOK_AGAIN_MS = 30_000
_MOST_LOOKS = 60


async def undo(bench: Bench, step_id: str) -> None:
    """Ask whether the effect can be taken away; then intent, one call, answer."""
    step, _ = bench.step(step_id)
    action = bench.world.kit.actions[step.action]
    ctx = bench.context(step_id)
    with bench.world.collect() as exchanges:
        try:
            kept = await action.may_undo(ctx)
        except DrError as error:
            _refuse(bench, step_id, error, exchanges)
            return
    if isinstance(kept, Kept):
        body = {"step": step_id, "why": kept.why}
        bench.chain.append(R.UNDO_KEPT, with_exchanges(body, exchanges))
        return
    hear_all(bench)
    state, above = bench.chain.state, bench.world.above
    at_rest = state.paused or state.status.is_over or (above is not None and above.rests())
    if bench.stop.is_set() or at_rest:
        return  # paused or cancelled meanwhile, or this process is to end: nothing is sent
    bench.chain.append(R.UNDO_INTENT, {"step": step_id, "action": step.action})
    with bench.world.collect() as exchanges:
        try:
            answer = await action.undo(ctx)
        except UnknownOutcome as error:
            answered: dict[str, Any] = {"step": step_id, "why": error.message}
        except DrError as error:
            _refuse(bench, step_id, error, exchanges)
            return
        else:
            operation = answer.to_json() if isinstance(answer, Operation) else None
            answered = {"step": step_id, "operation": operation}
    bench.chain.append(R.UNDO_ANSWERED, with_exchanges(answered, exchanges))


async def poll_undo(bench: Bench, step_id: str) -> None:
    """Ask where the undoing stands; a lost operation is read back instead."""
    step, st = bench.step(step_id)
    action = bench.world.kit.actions[step.action]
    if st.undo_operation is None:
        raise TypeError(f"step {step_id} is undone without an operation")
    with bench.world.collect() as exchanges:
        try:
            status = await standing(bench.world.cloud.operations.poll(st.undo_operation))
        except DrError as error:
            _refuse(bench, step_id, error, exchanges)
            return
    body: dict[str, Any] = {"step": step_id, "why": status.detail}
    if status.state is OperationState.RUNNING:
        now = bench.world.clock.now_ms()
        age = bench.waited_ms(st.entered_ms)
        body["running"] = True
        body["not_before"] = now + look_again_ms(age, action.spec.poll_ms, status.retry_after_ms)
    bench.chain.append(R.UNDO_POLLED, with_exchanges(body, exchanges))


async def check_undo(bench: Bench, step_id: str) -> None:
    """Read back whether the effect is gone."""
    step, st = bench.step(step_id)
    action = bench.world.kit.actions[step.action]
    with bench.world.collect() as exchanges:
        try:
            findings = await action.verify_undone(bench.context(step_id))
        except DrError as error:
            _refuse(bench, step_id, error, exchanges)
            return
    now = bench.world.clock.now_ms()
    body: dict[str, Any] = {"step": step_id, "findings": [f.to_json() for f in findings]}
    if all_hold(findings):
        bench.chain.append(R.UNDO_DONE, with_exchanges(body, exchanges))
    elif st.undo_looks < _MOST_LOOKS:
        body["not_before"] = now + max(_LOOK_AGAIN_MS, action.spec.look_gap_ms)
        body["why"] = "; ".join(f.message for f in findings if not f.holds)
        bench.chain.append(R.UNDO_POLLED, with_exchanges(body, exchanges))
    else:
        body["error"] = {
            "kind": "StepFailed",
            "code": "DR-S005",
            "message": "it was asked to go and is still there: "
            + "; ".join(f.message for f in findings if not f.holds),
            "hint": next_step(bench.chain.run),
            "exit_code": 4,
        }
        bench.chain.append(R.UNDO_REFUSED, with_exchanges(body, exchanges))


def _refuse(bench: Bench, step_id: str, error: DrError, exchanges: Any) -> None:
    if isinstance(error, JournalError):
        raise error
    body: dict[str, Any] = {"step": step_id, "error": error_body(error, bench.chain.run)}
    bench.chain.append(R.UNDO_REFUSED, with_exchanges(body, exchanges))
