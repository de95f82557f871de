"""Performing one command: the only code of the engine that touches the world.

Rules:
- Every function ends in records that the chain has made durable; what it returns is nothing.
- A `DrError` of a look becomes a failed step; a journal error goes up and ends the process.
- A send is one `intent` record, one call, one `answer` record. Whatever leaves doubt about
  the call is an answer lost, never an answer refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from drengine.actions.contract import (
    Absent,
    Busy,
    InProgress,
    Present,
    ProbeResult,
    Stale,
    StepContext,
    Undecidable,
)
from drengine.actions.moment import Moment
from drengine.engine.chain import Chain
from drengine.engine.failing import advice_of, error_body, look_by_hand, next_step
from drengine.engine.fence import may_send
from drengine.engine.judging import judged, observed
from drengine.engine.retry import PASSING_FAILURES, look_again_ms
from drengine.engine.scope import gates_of, scope_of
from drengine.engine.world import World
from drengine.errors import AzureError, DrError, JournalError, UnknownOutcome
from drengine.model.canonical import JsonObject, digest
from drengine.model.cloud import Exchange, Operation, OperationState, OperationStatus
from drengine.model.findings import Findings, all_hold
from drengine.model.ids import RunId, root_of
from drengine.model.plan import PlanPart
from drengine.model.records import RecordType as R
from drengine.model.run import StepState, StepStatus
from drengine.model.runbook import Runbook, Step
from drengine.runbook.expressions import resolve

_POLL_JITTER_PERCENT = 10
_DOUBTFUL_LOOK_MS = 15_000


@dataclass(frozen=True, slots=True)
class Bench:
    """What every performer works with: the world, one chain, its runbook and plan part."""

    world: World
    chain: Chain
    runbook: Runbook
    part: PlanPart

    def step(self, step_id: str) -> tuple[Step, StepState]:
        """Return a step of the runbook and its state now."""
        return self.runbook.step(step_id), self.chain.state.steps[step_id]

    def context(self, step_id: str) -> StepContext:
        """Return what an action, observer or rule of this step may know."""
        step, st = self.step(step_id)
        state, world = self.chain.state, self.world
        values = resolve(dict(step.with_), scope_of(state, self.part))
        return StepContext(
            run=state.run,
            root=root_of(state.run),
            step=step_id,
            run_class=state.run_class,
            cloud=world.cloud,
            where=world.plan.cloud,
            objects=world.store,
            secret=world.secret,
            now_ms=world.clock.now_ms(),
            values=values if isinstance(values, dict) else {},
            inputs=state.genesis["inputs"],
            plan=self.part.discovery,
            outputs=state.outputs(),
            intent_at_ms=st.intent_at_ms,
            sends=st.sends,
            operation=st.operation,
            last_code=st.last_code,
            holder=world.holder,
        )


def with_exchanges(body: dict[str, Any], exchanges: list[Exchange]) -> dict[str, Any]:
    """Return a record's body with the exchanges that led to it."""
    if exchanges:
        body["exchanges"] = [exchange.to_json() for exchange in exchanges]
    return body


async def observe(
    bench: Bench, step_id: str, names: Iterable[str], moment: Moment | None = None
) -> tuple[dict[str, Any], StepContext]:
    """Read the named facts, all at once and for one moment."""
    ctx = _looking(bench, step_id, moment)
    return await observed(bench.world.kit, ctx, names), ctx


async def evaluate_rules(
    bench: Bench, step_id: str, rules: tuple[str, ...], moment: Moment | None = None
) -> Findings:
    """Read what the rules need and return what they find."""
    if not rules:
        return ()
    return await judged(bench.world.kit, _looking(bench, step_id, moment), rules)


def _looking(bench: Bench, step_id: str, moment: Moment | None) -> StepContext:
    return replace(bench.context(step_id), cloud=moment or Moment(bench.world.cloud))


def _fail(bench: Bench, step_id: str, error: DrError, exchanges: list[Exchange]) -> None:
    if isinstance(error, JournalError):
        raise error
    body = {"step": step_id, "error": error_body(error, bench.chain.run)}
    bench.chain.append(R.STEP_FAILED, with_exchanges(body, exchanges))


async def check(bench: Bench, step_id: str) -> None:
    """Evaluate the guards that must hold before a step."""
    step, _ = bench.step(step_id)
    with bench.world.collect() as exchanges:
        try:
            findings = await evaluate_rules(bench, step_id, step.guards_before)
        except DrError as error:
            _fail(bench, step_id, error, exchanges)
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


async def probe(bench: Bench, step_id: str) -> None:
    """Ask whether the step's effect is there already."""
    step, st = bench.step(step_id)
    action = bench.world.kit.actions[step.action]
    with bench.world.collect() as exchanges:
        try:
            result = await action.probe(bench.context(step_id))
        except DrError as error:
            _probe_failed(bench, step_id, error, exchanges)
            return
    kind, body = _probe_record(bench, step, st, result)
    bench.chain.append(kind, with_exchanges({"step": step_id, **body}, exchanges))


def _probe_failed(bench: Bench, step_id: str, error: DrError, exchanges: list[Exchange]) -> None:
    step, st = bench.step(step_id)
    doubt = st.status is StepStatus.IN_DOUBT
    if doubt and isinstance(error, AzureError):
        # A look that fails decides nothing: the doubt stays, and the next look comes later.
        wait = max(_DOUBTFUL_LOOK_MS, round(1000 * (error.retry_after_seconds or 0)))
        again = bench.world.clock.now_ms() + wait
        body = {"step": step_id, "why": error.message, "not_before": again}
        bench.chain.append(R.PROBE_BUSY, with_exchanges(body, exchanges))
        return
    if doubt and not isinstance(error, JournalError):
        # Nobody may look any more (another run's tag, say): that is no failure of the send.
        why = f"whether it was done could not be looked up: {error.message}"
        kind, body = _undecidable(bench, step, st, why, error.hint)
        bench.chain.append(kind, with_exchanges({"step": step_id, **body}, exchanges))
        return
    _fail(bench, step_id, error, exchanges)


def _probe_record(
    bench: Bench, step: Step, st: StepState, result: ProbeResult
) -> tuple[R, dict[str, Any]]:
    now = bench.world.clock.now_ms()
    doubt = st.status is StepStatus.IN_DOUBT
    match result:
        case Absent(why):
            gap = bench.world.kit.actions[step.action].spec.look_gap_ms
            return R.PROBE_ABSENT, {"why": why, "not_before": now + gap if doubt else 0}
        case Present(outputs, why):
            return R.PROBE_PRESENT, {"why": why, "outputs": outputs}
        case InProgress(operation, why):
            # The probe has just asked where it stands.
            again = now + look_again_ms(0, 0, operation.retry_after_ms)
            body = {"why": why, "operation": operation.to_json(), "not_before": again}
            return R.PROBE_IN_PROGRESS, body
        case Busy(why, again_ms):
            wait = again_ms if doubt else look_again_ms(now - st.entered_ms, again_ms)
            return R.PROBE_BUSY, {"why": why, "not_before": now + wait}
        case Stale(why):
            members = [s.id for s in bench.runbook.steps if step.group and s.group == step.group]
            return R.GENERATION_ENDED, {
                "steps": members or [step.id],
                "group": step.group,
                "why": why,
            }
        case Undecidable(why, advice):
            return _undecidable(bench, step, st, why, advice)


def _undecidable(
    bench: Bench, step: Step, st: StepState, why: str, advice: str
) -> tuple[R, dict[str, Any]]:
    doubt, run = st.status is StepStatus.IN_DOUBT, bench.chain.run
    error = {
        "kind": "UnknownOutcome" if doubt else "GuardError",
        "code": "DR-O001" if doubt else "DR-G002",
        "message": why,
        "hint": advice or (look_by_hand(run, step.id) if doubt else next_step(run)),
        "exit_code": 12 if doubt else 8,
        "manual": bench.world.kit.actions[step.action].manual(bench.context(step.id)),
    }
    return (R.OUTCOME_UNKNOWN if doubt else R.PROBE_UNDECIDABLE), {"error": error}


async def send(bench: Bench, step_id: str) -> None:
    """Check approved facts and whose turn it is once more, make the intent durable, send once."""
    step, st = bench.step(step_id)
    action = bench.world.kit.actions[step.action]
    with bench.world.collect() as exchanges:
        try:
            drift = await _drifted_gate(bench, step)
            ctx = bench.context(step_id)
            held = None if drift else await may_send(bench.chain, ctx, action.spec.quiet_ms)
        except DrError as error:
            _fail(bench, step_id, error, exchanges)
            return
    if held is not None:
        body = {"step": step_id, "why": held.why, "not_before": held.not_before_ms}
        bench.chain.append(R.STEP_HELD, with_exchanges(body, exchanges))
        return
    if drift is not None:
        bench.chain.append(
            R.STEP_HELD, with_exchanges({"step": step_id, "why": drift[1]}, exchanges)
        )
        if bench.chain.state.steps[drift[0]].status is StepStatus.SUCCEEDED:
            bench.chain.append(R.GATE_VOIDED, {"step": drift[0], "why": drift[1]})
        return
    intent = {
        "step": step_id,
        "action": step.action,
        "attempt": st.attempt,
        "rest": action.spec.rest,
        "manual": action.manual(ctx),
    }
    bench.chain.append(R.INTENT, intent)
    with bench.world.collect() as exchanges:
        kind, body = await _answer(bench, step_id, ctx, exchanges)
    bench.chain.append(kind, with_exchanges({"step": step_id, **body}, exchanges))


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


_CLIENT_ERRORS = range(400, 500)
_REQUEST_TIMEOUT = 408


def _refused(status: int) -> bool:
    return status in _CLIENT_ERRORS and status != _REQUEST_TIMEOUT


async def _drifted_gate(bench: Bench, step: Step) -> tuple[str, str] | None:
    """Return the gate whose facts are no longer those approved, with what changed."""
    for gate_step in gates_of(step, bench.runbook):
        st = bench.chain.state.steps[gate_step.id]
        if gate_step.gate is None:
            continue
        if st.gate is None or st.status is not StepStatus.SUCCEEDED:
            return gate_step.id, "not approved any more"
        if st.gate.expires_ms is not None and bench.world.clock.now_ms() > st.gate.expires_ms:
            return gate_step.id, f"the approval of {gate_step.id} has expired"
        facts, _ = await observe(bench, gate_step.id, gate_step.gate.facts)
        changed = [name for name, fact in facts.items() if fact != st.gate.facts.get(name)]
        if changed:
            return gate_step.id, f"changed since the approval: {', '.join(changed)}"
    return None


async def observe_step(bench: Bench, step_id: str) -> None:
    """Run an action that only reads."""
    step, _ = bench.step(step_id)
    action = bench.world.kit.actions[step.action]
    with bench.world.collect() as exchanges:
        try:
            outputs = await action.start(bench.context(step_id))
        except DrError as error:
            _fail(bench, step_id, error, exchanges)
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
            _fail(bench, step_id, error, exchanges)
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
            age = now - (st.entered_ms if st.intent_at_ms is None else st.intent_at_ms)
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
                _fail(bench, step_id, error, exchanges)
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
    elif now - max(st.entered_ms, bench.chain.state.opened_ms) < settle_ms:
        age = now - st.entered_ms
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


async def request_gate(bench: Bench, step_id: str) -> None:
    """Read the facts of a gate and record what is to be approved."""
    step, st = bench.step(step_id)
    gate = step.gate
    if gate is None:
        raise TypeError(f"step {step_id} is no gate")
    with bench.world.collect() as exchanges:
        try:
            facts, _ = await observe(bench, step_id, gate.facts)
            findings = await evaluate_rules(bench, step_id, gate.rules)
        except DrError as error:
            _fail(bench, step_id, error, exchanges)
            return
    shown: dict[str, Any] = {
        "step": step_id,
        "ask": gate.ask,
        "facts": facts,
        "findings": [finding.to_json() for finding in findings],
        "generation": st.generation,
        "approvals": gate.approvals,
        "roles": list(gate.roles),
    }
    if gate.break_glass:
        shown["break_glass"] = True
    shown["digest"] = digest(shown)
    bench.chain.append(R.GATE_REQUESTED, with_exchanges(shown, exchanges))
