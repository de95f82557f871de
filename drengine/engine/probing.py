"""Looking whether a step's effect is there already, and what a look is worth.

Rules:
- A look that fails decides nothing while an answer is in doubt.
- Before the quiet period of a request is over, only what was found decides.
- A person's "absent" counts behind the quiet period, too: nobody sees an effect that is late.
- What the service refused each time was not done by this run, and is never taken for its effect.
- "Absent" of what was sent, answered or vouched for is a doubt, not a licence to send.
"""

from __future__ import annotations

from typing import Any

from drengine.actions.contract import (
    Absent,
    Busy,
    InProgress,
    Present,
    ProbeResult,
    Stale,
    Undecidable,
)
from drengine.engine.bench import Bench, fail, with_exchanges
from drengine.engine.failing import look_by_hand, next_step
from drengine.engine.retry import look_again_ms, quiet_until_ms
from drengine.errors import AzureError, DrError, JournalError
from drengine.model.catalogue import Repeat
from drengine.model.cloud import Exchange
from drengine.model.ids import RunId
from drengine.model.records import RecordType as R
from drengine.model.run import AbsentBy, Effect, StepState, StepStatus
from drengine.model.runbook import Step

_NOT_FOUND = (Absent, Undecidable)
_UNNAMED = (Repeat.NEVER, Repeat.FINDABLE)
"""Effects that look the same whoever made them: a restore, the security domain of an HSM."""

_DOUBTFUL_LOOK_MS = 15_000


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
    st = bench.chain.state.steps[step_id]
    kind, body = _probe_record(bench, step, st, _weighed(bench, step, st, result))
    bench.chain.append(kind, with_exchanges({"step": step_id, **body}, exchanges))


def _weighed(bench: Bench, step: Step, st: StepState, result: ProbeResult) -> ProbeResult:
    """Return what a look is worth now: early in a doubt only what was found decides."""
    spec, now = bench.world.kit.actions[step.action].spec, bench.world.clock.now_ms()
    left = quiet_until_ms(st, spec.quiet_ms) - now
    if st.status is not StepStatus.IN_DOUBT:
        if st.absent_by is AbsentBy.PERSON and left > 0 and isinstance(result, _NOT_FOUND):
            return Busy(f"{st.absent_by}, and it is too early to tell: {result.why}", left)
        return _with_word(bench.chain.run, st, spec.repeat, result)
    if left <= 0 or isinstance(result, (Present, InProgress, Busy)):
        return result
    return Busy(f"too early to tell: {result.why}", left)


def _with_word(run: RunId, st: StepState, repeat: Repeat, result: ProbeResult) -> ProbeResult:
    """Return what a look is worth where somebody said that nothing came of the last request."""
    if _is_foreign(st, repeat, result):
        return Undecidable(
            f"{result.why}; of this run's request {AbsentBy.SERVICE}, so somebody else did it",
            f"Where it is right: drengine mark-done {run} {st.id} --evidence FILE",
        )
    if st.absent_by is not AbsentBy.NOBODY and isinstance(result, Undecidable):
        return Absent(f"{st.absent_by}; looking cannot tell: {result.why}")
    return result


def _is_foreign(st: StepState, repeat: Repeat, result: ProbeResult) -> bool:
    """Whether what a look found is somebody else's, because the service took nothing from us.

    Where one answer was lost, that request may have done it, late, and the next have been
    refused for that. What carries a name or a tag of ours tells by itself whose it is.
    """
    if repeat not in _UNNAMED or not st.sends or st.refused < st.sends:
        return False
    if isinstance(result, InProgress):
        return result.operation != st.operation
    return isinstance(result, Present)


def _probe_failed(bench: Bench, step_id: str, error: DrError, exchanges: list[Exchange]) -> None:
    step, st = bench.step(step_id)
    if st.status is not StepStatus.IN_DOUBT or isinstance(error, JournalError):
        fail(bench, step_id, error, exchanges)
        return
    now = bench.world.clock.now_ms()
    early = quiet_until_ms(st, bench.world.kit.actions[step.action].spec.quiet_ms) - now
    if isinstance(error, AzureError) or early > 0:
        # A look that fails decides nothing: the doubt stays, and the next look comes later. Nor
        # is a person asked before there is something to be seen.
        asked = error.retry_after_seconds if isinstance(error, AzureError) else early / 1000
        again = now + max(_DOUBTFUL_LOOK_MS, round(1000 * (asked or 0)))
        body = {"step": step_id, "why": error.message, "not_before": again}
        bench.chain.append(R.PROBE_BUSY, with_exchanges(body, exchanges))
        return
    # Nobody may look any more (another run's tag, say): that is no failure of the send.
    why = f"whether it was done could not be looked up: {error.message}"
    kind, body = _undecidable(bench, step, st, why, error.hint)
    bench.chain.append(kind, with_exchanges({"step": step_id, **body}, exchanges))


def _probe_record(
    bench: Bench, step: Step, st: StepState, result: ProbeResult
) -> tuple[R, dict[str, Any]]:
    now = bench.world.clock.now_ms()
    doubt = st.status is StepStatus.IN_DOUBT
    match result:
        case Absent(why) | Stale(why) if not doubt and st.effect is not Effect.NONE:
            # Sent, answered or vouched for, and not seen: an effect that is late looks the same.
            return R.DOUBT_RAISED, {"why": f"it may have been done before ({st.effect}): {why}"}
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
            vouched = st.absent_by is AbsentBy.PERSON
            age = bench.waited_ms(st.entered_ms)
            wait = again_ms if doubt or vouched else look_again_ms(age, again_ms)
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
