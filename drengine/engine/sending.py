"""The one send of a step, and everything that is looked at right before it.

Rules:
- A send is one `intent` record, one call, one `answer` record. Whatever leaves doubt about
  the call is an answer lost, never an answer refused.
- Looks before a send take time, and people go on deciding meanwhile: what their records say
  is judged last, with nothing awaited between that and the intent.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from drengine.actions.contract import StepContext
from drengine.engine.bench import Bench, fail, hear_all, with_exchanges
from drengine.engine.failing import error_body
from drengine.engine.fence import Held, Turn, may_send
from drengine.engine.gates import drifted_gate, void
from drengine.engine.scope import held_by, standing_gates
from drengine.errors import DrError, JournalError, UnknownOutcome
from drengine.model.cloud import Exchange, Operation
from drengine.model.records import RecordType as R
from drengine.model.run import StepStatus
from drengine.model.runbook import Step

_CLIENT_ERRORS = range(400, 500)
_REQUEST_TIMEOUT = 408


async def send(bench: Bench, step_id: str) -> None:
    """Check approved facts and whose turn it is once more, make the intent durable, send once."""
    step, st = bench.step(step_id)
    action = bench.world.kit.actions[step.action]
    with bench.world.collect() as exchanges:
        try:
            held = await _last_looks(bench, step, action.spec.quiet_ms)
            before = {} if held else await action.before(bench.context(step_id))
        except DrError as error:
            if bench.chain.state.steps[step_id].status is StepStatus.CLEARED:
                fail(bench, step_id, error, exchanges)
            elif isinstance(error, JournalError):
                raise
            return
    if bench.chain.state.steps[step_id].status is not StepStatus.CLEARED:
        return  # its group was begun anew meanwhile
    # INVARIANT J8: nothing is awaited between this and the intent, so that what people said
    # while the looks above were under way holds.
    if why := overtaken(bench, step):
        held = Held(why, 0)
    if held is not None:
        body = {"step": step_id, "why": held.why, "not_before": held.not_before_ms}
        bench.chain.append(R.STEP_HELD, with_exchanges(body, exchanges))
        return
    ctx = replace(bench.context(step_id), before=before)
    intent = {
        "step": step_id,
        "action": step.action,
        "attempt": st.attempt,
        "rest": action.spec.rest,
        "manual": action.manual(ctx),
    }
    if before:
        intent["before"] = dict(before)
    bench.chain.append(R.INTENT, with_exchanges(intent, exchanges))
    with bench.world.collect() as exchanges:
        kind, body = await _answer(bench, step_id, ctx, exchanges)
    bench.chain.append(kind, with_exchanges({"step": step_id, **body}, exchanges))


async def _last_looks(bench: Bench, step: Step, quiet_ms: int) -> Held | None:
    """Read approved facts and the holder's tag again; say why the send has to wait, if it has."""
    if (fallen := await drifted_gate(bench, step)) is not None:
        void(bench, fallen)
        return Held(fallen.why, 0)
    above = bench.world.above
    if above is not None and (why := await above.drifted()):
        return Held(why, 0)
    root = bench.chain if above is None else above.root
    turn = Turn(root, bench.context(step.id), quiet_ms, lambda: overtaken(bench, step))
    return await may_send(turn)


def overtaken(bench: Bench, step: Step) -> str:
    """Return why a step must not send now, by what this process and the chains say of it.

    What lies in the inboxes is in the chains before it is judged.
    """
    hear_all(bench)
    state, world = bench.chain.state, bench.world
    if bench.stop.is_set():
        return "this process is asked to end"
    if word := held_by(state):
        return f"the run is {word}"
    fallen = standing_gates(step, bench.runbook, state, world.clock.now_ms())
    if fallen is not None:
        return fallen.why
    return "" if world.above is None else world.above.halted()


async def _answer(
    bench: Bench, step_id: str, ctx: StepContext, exchanges: list[Exchange]
) -> tuple[R, dict[str, Any]]:
    step, _ = bench.step(step_id)
    action = bench.world.kit.actions[step.action]
    try:
        result = await action.start(ctx)
    except UnknownOutcome as error:
        return R.ANSWER_LOST, {"why": error.message}
    except JournalError:
        raise
    except DrError as error:
        if any(e.sent and not _refused(e.status) for e in exchanges):
            return R.ANSWER_LOST, {"why": error.message}
        return R.ANSWER_REFUSED, {"error": error_body(error, bench.chain.run)}
    now = bench.world.clock.now_ms()
    if isinstance(result, Operation):
        first = now + (result.retry_after_ms or 0)
        return R.ANSWER_OPERATION, {"operation": result.to_json(), "not_before": first}
    return R.ANSWER_DONE, {"outputs": dict(result)}


def _refused(status: int) -> bool:
    return status in _CLIENT_ERRORS and status != _REQUEST_TIMEOUT


async def fan_out(bench: Bench, step_id: str) -> None:
    """Begin a fan-out where the gates before it stand."""
    step, _ = bench.step(step_id)
    with bench.world.collect() as exchanges:
        try:
            fallen = await drifted_gate(bench, step)
        except DrError as error:
            fail(bench, step_id, error, exchanges)
            return
    if bench.chain.state.steps[step_id].status is not StepStatus.CLEARED:
        return  # its group was begun anew meanwhile
    why = fallen.why if fallen else overtaken(bench, step)
    kind = R.STEP_HELD if why else R.FANOUT_BEGUN
    bench.chain.append(
        kind, with_exchanges({"step": step_id} | ({"why": why} if why else {}), exchanges)
    )
    if fallen is not None:
        void(bench, fallen)
