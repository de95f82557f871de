"""`decide` is a function of state: each rule shown on the smallest state that shows it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drengine.engine.commands import (
    Append,
    Check,
    Observe,
    Poll,
    Probe,
    RequestGate,
    Rest,
    Send,
    Verify,
)
from drengine.engine.decide import decide
from drengine.engine.session import Session
from drengine.model.catalogue import ActionSpec, Catalogue, Repeat
from drengine.model.plan import PlanPart
from drengine.model.records import Head
from drengine.model.records import RecordType as R
from drengine.model.run import GateState, RunState, RunStatus, StepState
from drengine.model.run import StepStatus as S
from drengine.model.runbook import RunClass
from drengine.runbook.loader import load_runbook

NOW = 10_000_000
TEXT = """
apiVersion: drengine/v1
kind: Runbook
name: small
title: A small runbook
inputs: {wanted: {type: bool, default: true}}
steps:
  - id: ask
    gate: {approvals: 2, ask: really?}
  - id: change
    needs: [ask]
    action: thing.change
    guards: {after: [R1]}
    irreversible: true
    retry: {attempts: 3, first_wait: 10s, max_wait: 60s}
  - id: look
    action: thing.look
    when: "${inputs.wanted}"
"""


def spec(name: str, repeat: Repeat) -> ActionSpec:
    return ActionSpec(
        name, name, (), (), repeat, quiet_ms=60_000, timeout_ms=600_000, look_gap_ms=1_000
    )


def make(repeat=Repeat.NEVER):
    specs = {
        "thing.change": spec("thing.change", repeat),
        "thing.look": spec("thing.look", Repeat.READ),
    }
    catalogue = Catalogue(actions=specs, rules=frozenset({"R1"}))
    runbook = load_runbook(TEXT, "small.yaml", catalogue)
    part = PlanPart("small", TEXT, "0", {"wanted": True})
    return runbook, part, specs


def state(**steps: StepState) -> RunState:
    named = {name.replace("_", "-"): step for name, step in steps.items()}
    all_steps = {name: StepState(name) for name in ("ask", "change", "look")} | named
    return RunState(
        run="r-1",
        run_class=RunClass.DRILL,
        genesis={"inputs": {"wanted": True}},
        head=Head(1, "x"),
        status=RunStatus.RUNNING,
        steps=all_steps,
    )


def change(status: S, **more) -> RunState:
    more = {"entered_ms": NOW - 10, **more}
    return state(ask=StepState("ask", S.SUCCEEDED), change=StepState("change", status, **more))


def ask(now_state: RunState, *, session: Session | None = None, repeat=Repeat.NEVER, now=NOW):
    return decide(*make(repeat), now_state, session or Session(), now)


def test_a_root_begins_and_what_needs_it_waits():
    assert ask(state()).commands == (RequestGate("ask"),)


def test_a_gate_is_done_only_when_enough_different_people_approved():
    gate = GateState(3, "d", {}, approvers=("approver:a",))
    one = state(ask=StepState("ask", S.AWAITING_APPROVAL, gate=gate))
    decision = ask(one)
    assert decision.rest is Rest.WAITING
    assert decision.reasons == ("ask: 1 of 2 approvals",)
    two = replace(gate, approvers=("approver:a", "approver:b"))
    (command,) = ask(state(ask=StepState("ask", S.AWAITING_APPROVAL, gate=two))).commands
    assert isinstance(command, Append)
    assert command.type is R.STEP_SUCCEEDED


def test_a_step_is_begun_probed_checked_and_only_then_sent():
    (begun,) = ask(change(S.PENDING)).commands
    assert begun.type is R.STEP_BEGUN
    assert ask(change(S.PROBING)).commands == (Probe("change"),)
    assert ask(change(S.CHECKING)).commands == (Check("change"),)
    assert ask(change(S.CLEARED)).commands == (Send("change"),)
    assert ask(change(S.VERIFYING)).commands == (Verify("change"),)


def test_an_action_that_only_reads_is_checked_and_observed_never_sent():
    done = {"ask": StepState("ask", S.SUCCEEDED), "change": StepState("change", S.SUCCEEDED)}
    assert ask(state(**done, look=StepState("look", S.PROBING))).commands == (Check("look"),)
    assert ask(state(**done, look=StepState("look", S.CLEARED))).commands == (Observe("look"),)


def test_a_send_that_nobody_performs_any_more_lost_its_answer():
    (command,) = ask(change(S.SENDING)).commands
    assert command.type is R.ANSWER_LOST


def test_a_send_that_is_under_way_is_left_alone():
    decision = ask(change(S.SENDING), session=Session(busy=frozenset({"change"})))
    assert decision.commands == ()
    assert decision.rest is None


def test_a_doubt_is_looked_at_once_and_then_when_the_last_look_said():
    times = {"intent_at_ms": NOW - 20, "in_doubt_since_ms": NOW - 10}
    assert ask(change(S.IN_DOUBT, **times)).commands == (Probe("change"),)
    decision = ask(change(S.IN_DOUBT, not_before_ms=NOW + 1, **times))
    assert decision.commands == ()
    assert decision.wake_at_ms == NOW + 1


def test_one_absent_is_not_believed():
    doubt = change(S.IN_DOUBT, intent_at_ms=0, in_doubt_since_ms=NOW - 10, looks=1)
    assert ask(doubt).commands == (Probe("change"),)


@pytest.mark.parametrize("repeat", [Repeat.BY_NAME, Repeat.HARMLESS, Repeat.FINDABLE])
def test_two_absents_clear_the_doubt_of_what_can_be_found(repeat):
    doubt = change(S.IN_DOUBT, intent_at_ms=0, in_doubt_since_ms=NOW - 10, looks=2)
    (command,) = ask(doubt, repeat=repeat).commands
    assert command.type is R.DOUBT_CLEARED


def test_what_must_never_be_repeated_becomes_an_unknown_outcome():
    doubt = change(S.IN_DOUBT, intent_at_ms=0, in_doubt_since_ms=NOW - 10, looks=2)
    (command,) = ask(doubt, repeat=Repeat.NEVER).commands
    assert command.type is R.OUTCOME_UNKNOWN
    assert "not sent again" in command.body["error"]["message"]


def test_doubt_does_not_last_for_ever():
    doubt = change(S.IN_DOUBT, intent_at_ms=0, in_doubt_since_ms=NOW - 600_001, looks=0)
    (command,) = ask(doubt, repeat=Repeat.BY_NAME).commands
    assert command.type is R.OUTCOME_UNKNOWN


def test_an_unknown_outcome_stops_the_run_until_a_person_looked():
    decision = ask(change(S.UNKNOWN))
    assert decision.commands == ()
    assert decision.rest is Rest.UNKNOWN


def test_a_transient_failure_is_tried_again_after_a_doubling_wait():
    error = {"message": "429", "transient": True}
    failed = change(S.FAILED, error=error, failures=2, entered_ms=NOW, attempt=2)
    decision = ask(failed)
    assert decision.wake_at_ms == NOW + 20_000
    (command,) = ask(failed, now=NOW + 20_000).commands
    assert command.type is R.STEP_BEGUN
    assert command.body["attempt"] == 3


def test_the_service_may_ask_for_a_longer_wait_than_the_runbook_but_not_for_ever():
    error = {"message": "429", "transient": True, "retry_after_ms": 45_000}
    failed = change(S.FAILED, error=error, failures=1, entered_ms=NOW)
    assert ask(failed).wake_at_ms == NOW + 45_000
    absurd = change(S.FAILED, error={**error, "retry_after_ms": 10**12}, failures=1, entered_ms=NOW)
    assert ask(absurd).wake_at_ms == NOW + 600_000


@pytest.mark.parametrize(
    ("error", "failures"),
    [({"message": "403", "transient": False}, 1), ({"message": "429", "transient": True}, 3)],
)
def test_other_failures_wait_for_a_person(error, failures):
    decision = ask(change(S.FAILED, error=error, failures=failures, entered_ms=NOW))
    assert decision.rest is Rest.FAILED


def test_a_person_who_opens_the_run_again_reopens_a_failed_step():
    reopened = change(S.FAILED, error={"message": "403"}, reopened=True, attempt=1)
    (command,) = ask(reopened).commands
    assert command.type is R.STEP_BEGUN


def test_a_paused_run_begins_and_sends_nothing_but_follows_what_runs():
    for status in (S.PENDING, S.PROBING, S.CHECKING, S.CLEARED):
        paused = replace(change(status), status=RunStatus.PAUSED, paused=True)
        assert ask(paused).commands == ()
        assert ask(paused).rest is Rest.PAUSED
    running = replace(change(S.RUNNING, entered_ms=NOW), status=RunStatus.PAUSED, paused=True)
    assert ask(running).commands == (Poll("change"),)


def test_a_cancelled_run_rests_as_cancelled():
    cancelled = replace(change(S.PENDING), status=RunStatus.CANCELLED)
    assert ask(cancelled).rest is Rest.CANCELLED


def test_a_process_that_was_asked_to_stop_sends_nothing_new():
    decision = ask(change(S.CLEARED), session=Session(stopping=True))
    assert decision.commands == ()
    assert decision.rest is Rest.INTERRUPTED


def test_an_operation_is_not_polled_before_its_time():
    running = change(S.RUNNING, entered_ms=NOW, not_before_ms=NOW + 5_000)
    assert ask(running).wake_at_ms == NOW + 5_000


def test_an_operation_that_runs_too_long_stops_the_step_resumably():
    running = change(S.RUNNING, entered_ms=NOW - 600_001)
    (command,) = ask(running).commands
    assert command.type is R.STEP_FAILED
    assert "nothing is sent again" in command.body["error"]["hint"]


def test_a_probe_that_cannot_tell_stops_the_step_resumably():
    probing = change(S.PROBING, entered_ms=NOW - 600_001, detail="still busy")
    (command,) = ask(probing).commands
    assert command.type is R.STEP_FAILED
    assert "nothing was sent" in command.body["error"]["message"]


def test_a_false_condition_skips_and_what_needs_the_step_goes_on():
    runbook, part, specs = make()
    done = {"ask": StepState("ask", S.SUCCEEDED), "change": StepState("change", S.SUCCEEDED)}
    unwanted = replace(state(**done), genesis={"inputs": {"wanted": False}})
    (command,) = decide(runbook, part, specs, unwanted, Session(), NOW).commands
    assert command.type is R.STEP_SKIPPED


@pytest.mark.parametrize("asked", [S.PENDING, S.AWAITING_APPROVAL, S.SUCCEEDED])
def test_a_step_that_was_left_out_ahead_of_its_turn_opens_no_way_around_what_it_needs(asked):
    ahead = state(ask=StepState("ask", asked), change=StepState("change", S.SKIPPED))
    begun = [getattr(each, "step", "") for each in ask(ahead).commands]
    assert ("look" in begun) is (asked is S.SUCCEEDED)


def test_a_run_with_everything_done_is_done():
    done = {name: StepState(name, S.SUCCEEDED) for name in ("ask", "change")}
    decision = ask(state(**done, look=StepState("look", S.SKIPPED)))
    assert decision.rest is Rest.DONE


def test_a_process_that_comes_back_late_asks_before_it_gives_up():
    late = replace(change(S.RUNNING, entered_ms=NOW - 600_001), opened_ms=NOW - 10)
    assert ask(late).commands == (Poll("change"),)
    doubt = change(S.IN_DOUBT, intent_at_ms=0, in_doubt_since_ms=NOW - 600_001)
    assert ask(replace(doubt, opened_ms=NOW - 10)).commands == (Probe("change"),)


def test_a_step_that_waits_for_a_secret_is_a_wait_and_no_failure():
    waits = {"exit_code": 5, "message": "the SAS expired"}
    assert ask(change(S.FAILED, failures=1, error=waits)).rest is Rest.NEEDS
    fails = {"exit_code": 4, "message": "400"}
    assert ask(change(S.FAILED, failures=1, error=fails)).rest is Rest.FAILED
    session = Session(parked={"change/change": Rest.NEEDS})
    assert ask(change(S.FANNING_OUT), session=session).rest is Rest.NEEDS
