"""The pure core: from the state of a run to what is to be done now.

Rules:
- A step begins when everything it needs is done; `when` is asked at that moment.
- Nothing is sent before its guards held and a probe said "absent".
- An answer that was lost puts the step in doubt. "Absent" counts only after the quiet
  period and a second look; what may not be repeated blindly then becomes an unknown outcome.
- A paused or cancelled run begins and sends nothing new; what the service already works
  on is still followed.
- A rollback begins when nothing is in the air any more: what was sent is followed to its end,
  children roll back first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from drengine.engine.commands import (
    Append,
    Check,
    Command,
    Decision,
    FanOut,
    Observe,
    Poll,
    Probe,
    RequestGate,
    Rest,
    RunChild,
    Send,
    Verify,
)
from drengine.engine.failing import error_body, look_by_hand
from drengine.engine.retry import next_attempt_ms, waited_ms
from drengine.engine.scope import items_of, scope_of, standing_gates
from drengine.engine.session import Session
from drengine.engine.undoing import decide_undo
from drengine.errors import DrError, Waiting
from drengine.model.canonical import Json
from drengine.model.catalogue import ActionSpec, Repeat
from drengine.model.ids import root_of
from drengine.model.plan import PlanPart
from drengine.model.records import RecordType as R
from drengine.model.run import Effect, RunState, RunStatus, StepState
from drengine.model.run import StepStatus as S
from drengine.model.runbook import Runbook, Step, StepKind
from drengine.runbook.expressions import evaluate, resolve

LOOKS_NEEDED: Final = 2
"""An effect may become visible late: one "absent" after a lost answer proves nothing."""


@dataclass(frozen=True, slots=True)
class _Case:
    """Everything a decision about one step may look at."""

    runbook: Runbook
    part: PlanPart
    specs: Mapping[str, ActionSpec]
    state: RunState
    session: Session
    now_ms: int
    scope: dict[str, Json]

    def spec(self, step: Step) -> ActionSpec:
        return self.specs[step.action]

    def needs_done(self, step: Step) -> bool:
        """Whether a step may begin: a need that was left out counts once its own needs are done.

        Who leaves a step out ahead of its turn opens no way around the gates before it.
        """
        return all(self._is_past(self.runbook.step(need)) for need in step.needs)

    def _is_past(self, step: Step) -> bool:
        status = self.state.steps[step.id].status
        return status.is_done and (status is not S.SKIPPED or self.needs_done(step))

    def waited_ms(self, since_ms: int) -> int:
        """Return how long this process has waited for something that began then."""
        return waited_ms(since_ms, self.state.opened_ms, self.now_ms)

    @property
    def may_begin(self) -> bool:
        state, session = self.state, self.session
        held = state.rolling_back or state.status.is_over or state.paused
        return not (held or session.stopping or session.halted)


@dataclass(frozen=True, slots=True)
class _Next:
    """The decision about one step: commands now, or a time to look again."""

    commands: tuple[Command, ...] = ()
    wake_at_ms: int | None = None


_NOTHING = _Next()


def decide(
    runbook: Runbook,
    part: PlanPart,
    specs: Mapping[str, ActionSpec],
    state: RunState,
    session: Session,
    now_ms: int,
) -> Decision:
    """Return what is to be done now, when to ask again, or why the run rests."""
    if state.status in (RunStatus.FINISHED, RunStatus.ROLLED_BACK):
        return Decision(rest=rest_of(state.status))
    case = _Case(runbook, part, specs, state, session, now_ms, scope_of(state, part))
    rolls_back = state.rolling_back and state.status is not RunStatus.CANCELLED
    table = _ENDING if rolls_back else _STATES
    commands: list[Command] = []
    wakes: list[int] = []
    for step in runbook.steps:
        if step.id in session.busy:
            continue
        following = table[state.steps[step.id].status](case, step, state.steps[step.id])
        commands.extend(following.commands)
        if following.wake_at_ms is not None:
            wakes.append(following.wake_at_ms)
    wake = min(wakes, default=None)
    if commands or session.busy or (wake is not None and not session.stopping):
        return Decision(tuple(commands), wake)
    if rolls_back and not session.parked:
        if (waits := _in_the_air(case)) is not None:
            return Decision(rest=waits, reasons=_reasons(case))
        return decide_undo(runbook, specs, state, session, now_ms)
    return Decision(rest=_rest(case), reasons=_reasons(case))


def _pending(case: _Case, step: Step, st: StepState) -> _Next:
    if not case.may_begin or not case.needs_done(step):
        return _NOTHING
    if st.status is S.PENDING and st.not_before_ms > case.now_ms:
        return _Next(wake_at_ms=st.not_before_ms)
    try:
        if step.when is not None and not evaluate(step.when, case.scope):
            why = {"step": step.id, "reason": f"`when` is false: {step.when}"}
            return _Next((Append(step.id, R.STEP_SKIPPED, why),))
        return _begin(case, step, st)
    except DrError as error:
        body = {"step": step.id, "error": error_body(error, case.state.run)}
        return _Next((Append(step.id, R.STEP_FAILED, body),))


def _begin(case: _Case, step: Step, st: StepState) -> _Next:
    if step.kind is StepKind.GATE:
        return _Next((RequestGate(step.id),))
    if step.kind is StepKind.DELIVERY and step.delivery is not None:
        body = {
            "step": step.id,
            "kind": step.delivery.kind,
            "ask": step.delivery.ask,
            "expects": resolve(dict(step.delivery.expects), case.scope),
            "generation": st.generation,
        }
        return _Next((Append(step.id, R.DELIVERY_REQUESTED, body),))
    body = {"step": step.id, "attempt": st.attempt + 1, "generation": st.generation}
    return _Next((Append(step.id, R.STEP_BEGUN, body),))


def _stuck(case: _Case, step: Step, st: StepState) -> _Next:
    at = next_attempt_ms(step.retry, st)
    if at is None or not case.may_begin or not case.needs_done(step):
        return _NOTHING
    if at > case.now_ms and not st.reopened:
        return _Next(wake_at_ms=at)
    return _pending(case, step, st)


def _checking(case: _Case, step: Step, st: StepState) -> _Next:
    if case.session.halted:
        return _put_back(case, st)
    return _Next((Check(step.id),)) if case.may_begin else _NOTHING


def _probing(case: _Case, step: Step, st: StepState) -> _Next:
    if not case.may_begin:
        return _NOTHING
    if step.kind is StepKind.RUNBOOK or case.spec(step).repeat is Repeat.READ:
        return _Next((Check(step.id),))
    if case.waited_ms(st.entered_ms) > case.spec(step).timeout_ms:
        error = {
            "kind": "StepFailed",
            "code": "DR-S004",
            "message": f"it could not be told whether it is done: {st.detail}; nothing was sent"
            " for it by this process",
            "hint": f"drengine resume {root_of(case.state.run)} looks again.",
            "exit_code": 4,
        }
        return _Next((Append(step.id, R.STEP_FAILED, {"step": step.id, "error": error}),))
    if st.not_before_ms > case.now_ms:
        return _Next(wake_at_ms=st.not_before_ms)
    return _Next((Probe(step.id),))


def _put_back(case: _Case, st: StepState) -> _Next:
    """What was looked at and checked for a send is done again when the parent lets it go on."""
    body = {"step": st.id, "why": case.session.halted}
    return _Next((Append(st.id, R.STEP_HELD, body),))


def _cleared(case: _Case, step: Step, st: StepState) -> _Next:
    if case.session.halted:
        return _put_back(case, st)
    if not case.may_begin:
        return _NOTHING
    if step.kind is StepKind.RUNBOOK:
        return _Next((FanOut(step.id),))
    reads = case.spec(step).repeat is Repeat.READ
    return _Next((Observe(step.id) if reads else Send(step.id),))


def _sending(case: _Case, step: Step, st: StepState) -> _Next:
    # Not busy, so the process that sent is gone and the answer with it.
    del case, st
    why = {"step": step.id, "why": "the process ended before an answer was recorded"}
    return _Next((Append(step.id, R.ANSWER_LOST, why),))


def _in_doubt(case: _Case, step: Step, st: StepState) -> _Next:
    spec = case.spec(step)
    if st.looks >= LOOKS_NEEDED:
        if spec.repeat is Repeat.NEVER:
            return _Next((Append(step.id, R.OUTCOME_UNKNOWN, _unknown(case, step, st)),))
        body = {"step": step.id, "looks": st.looks, "why": "absent after the quiet period, twice"}
        return _Next((Append(step.id, R.DOUBT_CLEARED, body),))
    since = st.entered_ms if st.in_doubt_since_ms is None else st.in_doubt_since_ms
    if case.waited_ms(since) > spec.timeout_ms:
        return _Next((Append(step.id, R.OUTCOME_UNKNOWN, _unknown(case, step, st)),))
    # The first look is early: what is there already decides at once. What is not there counts
    # only behind the quiet period (`probing`).
    at = st.not_before_ms
    return _Next((Probe(step.id),)) if at <= case.now_ms else _Next(wake_at_ms=at)


def _unknown(case: _Case, step: Step, st: StepState) -> dict[str, Json]:
    sent = f"was sent {st.sends} times" if st.sends > 1 else "was sent"
    happened = f"the request {sent}" if st.sends else "it was begun by somebody"
    looked = f"looking {st.looks} times did not tell" if st.looks else "no look could tell"
    message = (
        f"{case.spec(step).title}: {happened}, what came of it is not known ({st.detail}), and"
        f" {looked}. It is not sent again."
    )
    return {
        "step": step.id,
        "intent_at": st.intent_at_ms,
        "looks": st.looks,
        "error": {
            "kind": "UnknownOutcome",
            "code": "DR-O001",
            "message": message,
            "hint": look_by_hand(case.state.run, step.id),
            "exit_code": 12,
        },
    }


def _running(case: _Case, step: Step, st: StepState) -> _Next:
    limit = step.timeout_ms or case.spec(step).timeout_ms
    if case.waited_ms(st.entered_ms) > limit:
        error = {
            "kind": "StepFailed",
            "code": "DR-S002",
            "message": f"the operation still runs after {limit // 1000} s; the service keeps it",
            "hint": f"Later: drengine resume {root_of(case.state.run)} re-attaches to it; nothing"
            " is sent again.",
            "exit_code": 4,
        }
        return _Next((Append(step.id, R.STEP_FAILED, {"step": step.id, "error": error}),))
    if st.not_before_ms > case.now_ms:
        return _Next(wake_at_ms=st.not_before_ms)
    return _Next((Poll(step.id),))


def _verifying(case: _Case, step: Step, st: StepState) -> _Next:
    if st.not_before_ms > case.now_ms:
        return _Next(wake_at_ms=st.not_before_ms)
    return _Next((Verify(step.id),))


def _awaiting_approval(case: _Case, step: Step, st: StepState) -> _Next:
    del case
    if step.gate is None or st.gate is None or not st.gate.suffices(step.gate.approvals):
        return _NOTHING
    body = {"step": step.id, "outputs": {"approvers": list(st.gate.approvers)}}
    return _Next((Append(step.id, R.STEP_SUCCEEDED, body),))


def _fanning_out(case: _Case, step: Step, st: StepState) -> _Next:
    names = [str(item["name"]) for item in items_of(step, case.scope)]
    finished = [n for n in names if n in st.children and st.children[n].status.is_over]
    active = [n for n in names if f"{step.id}/{n}" in case.session.busy]
    parked = [n for n in names if f"{step.id}/{n}" in case.session.parked]
    rests = {n: case.session.parked[f"{step.id}/{n}"] for n in parked}
    failed = [n for n in parked if rests[n] not in (Rest.WAITING, Rest.PAUSED)]
    lost = unfinished(st)
    most = 1 if step.foreach is None else step.foreach.stop_after_failures
    stops = len(failed) + len(lost) >= most
    if len(finished) == len(names) or (stops and lost and len(finished) == len(st.children)):
        return _fanned_out(case, step, st, names)
    if not case.may_begin:
        return _NOTHING
    limit, wave = 1, names
    if step.foreach is not None:
        limit = step.foreach.parallel
        canaries = names[: step.foreach.canary]
        if any(n not in finished for n in canaries):
            wave = canaries
    waiting = [n for n in wave if n not in finished and n not in active and n not in parked]
    if stops:  # none begins; what has begun goes on to its end
        waiting = [n for n in waiting if n in st.children]
    if not (waiting or active):
        return _NOTHING
    if (fallen := standing_gates(step, case.runbook, case.state, case.now_ms)) is not None:
        body = {"step": fallen.gate, "why": fallen.why}
        is_given = case.state.steps[fallen.gate].status is S.SUCCEEDED
        return _Next((Append(fallen.gate, R.GATE_VOIDED, body),)) if is_given else _NOTHING
    return _Next(tuple(RunChild(step.id, n) for n in waiting[: max(limit - len(active), 0)]))


def unfinished(st: StepState) -> list[str]:
    """Return the children that are over and did not do what they were to do."""
    return [
        name
        for name, child in st.children.items()
        if child.status.is_over and child.status is not RunStatus.FINISHED
    ]


def _fanned_out(case: _Case, step: Step, st: StepState, names: list[str]) -> _Next:
    lost = [f"{name} was {st.children[name].status}" for name in unfinished(st)]
    if not lost:
        outputs = {"children": [str(st.children[n].run) for n in names]}
        return _Next((Append(step.id, R.ANSWER_DONE, {"step": step.id, "outputs": outputs}),))
    error = {
        "kind": "StepFailed",
        "code": "DR-S006",
        "message": f"not every child run finished: {', '.join(lost)}",
        "hint": f"Do by hand what is left, then: drengine skip {case.state.run} {step.id} --reason"
        " TEXT   or mark-done with evidence.",
        "exit_code": 4,
    }
    return _Next((Append(step.id, R.STEP_FAILED, {"step": step.id, "error": error}),))


def _ending_stuck(case: _Case, step: Step, st: StepState) -> _Next:
    """Look what became of a request before anything is undone; once, each time it is let."""
    del case
    if st.effect is not Effect.AT_WORK or not (st.reopened or st.status is S.PROBING):
        return _NOTHING
    why = "it was sent, and a rollback must know what came of it"
    return _Next((Append(step.id, R.DOUBT_RAISED, {"step": step.id, "why": why}),))


def _in_the_air(case: _Case) -> Rest | None:
    """Return how a rollback rests that must not undo anything yet, None where it may."""
    steps = case.state.steps.values()
    if any(st.status is S.UNKNOWN and st.effect is Effect.AT_WORK for st in steps):
        return Rest.UNKNOWN
    at_work = any(st.status in _AT_WORK or st.effect is Effect.AT_WORK for st in steps)
    children = (child for st in steps for child in st.children.values())
    if not at_work and all(child.status.is_over for child in children):
        return None
    if case.session.stopping:
        return Rest.INTERRUPTED
    return Rest.PAUSED if case.state.paused or case.session.rests else Rest.FAILED


def _ending_children(case: _Case, step: Step, st: StepState) -> _Next:
    """Drive the open children of a rollback, so that they roll back themselves."""
    if case.state.paused or case.session.stopping:
        return _NOTHING
    names = [name for name, child in st.children.items() if not child.status.is_over]
    taken = {*case.session.busy, *case.session.parked}
    return _Next(tuple(RunChild(step.id, n) for n in names if f"{step.id}/{n}" not in taken))


def _rests(case: _Case, step: Step, st: StepState) -> _Next:
    del case, step, st
    return _NOTHING


_STATES: Final = {
    S.PENDING: _pending,
    S.CHECKING: _checking,
    S.PROBING: _probing,
    S.CLEARED: _cleared,
    S.SENDING: _sending,
    S.IN_DOUBT: _in_doubt,
    S.RUNNING: _running,
    S.VERIFYING: _verifying,
    S.AWAITING_APPROVAL: _awaiting_approval,
    S.AWAITING_DELIVERY: _rests,
    S.FANNING_OUT: _fanning_out,
    S.SUCCEEDED: _rests,
    S.SKIPPED: _rests,
    S.FAILED: _stuck,
    S.REFUSED: _stuck,
    S.UNKNOWN: _rests,
}


_AT_WORK: Final = (S.SENDING, S.IN_DOUBT, S.RUNNING)

_ENDING: Final = {
    **dict.fromkeys(S, _rests),
    **{status: _STATES[status] for status in _AT_WORK},
    **dict.fromkeys((S.FAILED, S.REFUSED, S.PROBING), _ending_stuck),
    S.FANNING_OUT: _ending_children,
}
"""A rollback begins nothing, and follows what is in the air to its end."""

_ENDS: Final = {
    RunStatus.CANCELLED: Rest.CANCELLED,
    RunStatus.FINISHED: Rest.DONE,
    RunStatus.ROLLED_BACK: Rest.ROLLED_BACK,
}


def rest_of(ended: RunStatus) -> Rest:
    """Return how a run that is over rests."""
    return _ENDS[ended]


def _rest(case: _Case) -> Rest:
    steps = case.state.steps.values()
    parked = set(case.session.parked.values())
    if case.state.status is RunStatus.CANCELLED:
        return Rest.CANCELLED
    if all(step.status.is_done for step in steps) and not case.state.rolling_back:
        return Rest.DONE
    if any(step.status is S.UNKNOWN for step in steps) or Rest.UNKNOWN in parked:
        return Rest.UNKNOWN
    if case.state.paused or case.session.rests:
        return Rest.PAUSED
    if _needs_a_new_start(case, parked):
        return Rest.NEEDS
    if any(step.status is S.FANNING_OUT and unfinished(step) for step in steps):
        return Rest.FAILED
    for status, rest in ((S.FAILED, Rest.FAILED), (S.REFUSED, Rest.REFUSED)):
        if rest in parked or any(step.status is status for step in steps):
            return rest
    if case.session.stopping or Rest.INTERRUPTED in parked:
        return Rest.INTERRUPTED
    return Rest.WAITING


def _needs_a_new_start(case: _Case, parked: set[Rest]) -> bool:
    """Whether all that failed waits for what only a new process can be given: a secret."""
    failed = [step for step in case.state.steps.values() if step.status is S.FAILED]
    if Rest.FAILED in parked:
        return False
    waits = [(step.error or {}).get("exit_code") == Waiting.exit_code for step in failed]
    return all(waits) and (bool(waits) or Rest.NEEDS in parked)


def _reasons(case: _Case) -> tuple[str, ...]:
    out = []
    for step in case.runbook.steps:
        st = case.state.steps[step.id]
        if st.status.is_stuck:
            out.append(f"{step.id}: {(st.error or {}).get('message', st.status)}")
        elif st.status is S.AWAITING_APPROVAL and step.gate and st.gate:
            have = len(st.gate.approvers)
            out.append(f"{step.id}: {have} of {step.gate.approvals} approvals")
        elif st.status is S.AWAITING_DELIVERY and step.delivery:
            so_far = f"{st.progress}; " if st.progress else ""
            out.append(f"{step.id}: {so_far}{step.delivery.ask or step.delivery.kind}")
        elif st.status is S.FANNING_OUT:
            out.extend(f"{step.id}/{n}: {st.children[n].status}" for n in unfinished(st))
    if case.session.halted:
        out.append(case.session.halted)
    for name, rest in case.session.parked.items():
        out.append(f"{name}: child run is {rest}")
    return tuple(out)
