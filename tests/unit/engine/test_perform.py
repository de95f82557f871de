"""What a send, a gate and a person's word do to a run, by the real driver."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
from small import FAN, ONE, RUN, SPEC, TEXT, Change, Small, told

from drengine.actions.contract import StepContext, Undecidable
from drengine.engine.chain import Chain
from drengine.engine.commands import Rest
from drengine.engine.ending import cancel
from drengine.engine.genesis import create_run
from drengine.engine.handover import give
from drengine.engine.inbox import absorb
from drengine.errors import (
    AzureError,
    HandedOver,
    JournalError,
    Locked,
    StoreFailed,
    UnknownOutcome,
)
from drengine.journal import memory
from drengine.journal.memory import MemoryStore
from drengine.model.findings import block
from drengine.model.ids import RunId
from drengine.model.plan import PlanPart
from drengine.model.records import RecordType as R
from drengine.model.records import Signal
from drengine.model.run import RunStatus
from drengine.model.run import StepStatus as S


@pytest.fixture
def small() -> Small:
    return Small()


def test_an_approved_step_is_sent_once_and_the_run_ends(small):
    small.approve()
    assert small.drive().rest is Rest.DONE
    assert len(small.change.sent) == 1


def test_a_request_leaves_only_when_its_intent_is_in_the_store(small):
    small.approve()
    last: list[R] = []
    small.change.at_start.append(lambda: last.append(small.kinds()[-1]))
    assert small.drive().rest is Rest.DONE
    assert last == [R.INTENT]


def test_a_process_that_ended_while_sending_leaves_a_doubt(small):
    small.approve()
    small.change.answers.append(StoreFailed("the process dies here, as far as the run can see"))
    with pytest.raises(StoreFailed):
        small.drive()
    assert small.kinds()[-1] is R.INTENT
    outcome = small.drive()
    assert outcome.rest is Rest.UNKNOWN
    assert len(small.change.sent) == 1
    intent, looks = small.clock.at_ms - SPEC.quiet_ms, small.kinds().count(R.PROBE_ABSENT)
    assert small.change.sent[0] <= intent, "no look before the quiet period"
    assert looks == 3, "one before the send, two after it"


def test_a_guard_that_does_not_hold_sends_nothing(small):
    small.approve()
    small.guard_holds = False
    outcome = small.drive()
    assert outcome.rest is Rest.REFUSED
    assert outcome.state.steps["change"].status is S.REFUSED
    assert small.change.sent == []
    assert R.GUARDS_HELD not in small.kinds()


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (UnknownOutcome("the connection broke"), S.UNKNOWN),
        (AzureError("400: no", status=400), S.FAILED),
    ],
)
def test_a_lost_answer_is_a_doubt_and_a_refusal_is_none(small, answer, status):
    small.approve()
    small.change.answers.append(answer)
    outcome = small.drive()
    assert outcome.state.steps["change"].status is status
    assert len(small.change.sent) == 1


def test_what_was_approved_is_read_again_and_asked_again_where_it_changed(small):
    small.approve()
    small.backup = "the one of Tuesday"
    outcome = small.drive()
    assert outcome.rest is Rest.WAITING
    assert outcome.state.steps["ask"].status is S.AWAITING_APPROVAL
    assert small.change.sent == []
    assert R.GATE_VOIDED in small.kinds()


def broken(small: Small, method: str) -> Callable[[], None]:
    """Let a method of the store fail once."""
    real = getattr(small.store, method)

    def fail(*_: Any) -> None:
        setattr(small.store, method, real)
        raise StoreFailed(f"{method} failed")

    return lambda: setattr(small.store, method, fail)


@pytest.mark.parametrize("method", ["append", "delete_signals"])
def test_a_signal_survives_a_failure_between_peek_append_and_delete(small, method):
    small.approve()
    world = small.world()
    chain = Chain.open(world, RUN)
    broken(small, method)()
    with pytest.raises(StoreFailed):
        absorb(world, chain, small.load(TEXT))
    chain.release()
    kept = [signal.id for signal in small.store.peek_signals(RUN)]
    assert kept == ["s-1"], "what is not in the chain is still in the inbox, or may be"
    assert small.drive().rest is Rest.DONE
    assert small.kinds().count(R.GATE_APPROVED) == 1
    assert small.store.peek_signals(RUN) == []


def test_a_run_that_was_handed_over_is_not_driven_here(small):
    small.approve()
    give(small.store, RUN, "beta", "alpha", "operator:x", small.clock)
    with pytest.raises(HandedOver, match="handed over to beta"):
        small.drive()
    assert small.change.sent == []
    assert small.kinds()[-1] is R.RUN_HANDED_OVER
    assert small.store.living_owner(RUN) is None, "the lease was given back"


def test_a_home_put_back_from_its_backup_sends_nothing_again(small, tmp_path):
    small.copies_to = tmp_path / "share"
    small.approve()
    backup = deepcopy(small.store.disk)
    assert small.drive().rest is Rest.DONE
    journal = small.copies_to / RUN / "journals" / f"{RUN}.jsonl"
    first_life = journal.read_bytes()
    small.store, small.clock.at_ms = MemoryStore(backup), small.clock.at_ms + 3_600_000
    for _ in range(2):
        with pytest.raises(JournalError, match="its copy in"):
            small.drive()
    assert (len(small.change.sent), journal.read_bytes()) == (1, first_life)
    assert small.store.living_owner(RUN) is None, "the lease was given back"


def test_a_cancel_where_nobody_drives_takes_effect_at_once(small):
    small.approve()
    small.store.claim(RUN, ["hsm:target"])
    cancel(small.store, RUN, "host a", "operator:x", "no longer wanted", small.clock)
    assert small.kinds()[-1] is R.RUN_CANCELLED
    small.store.claim(RunId("r-ba9876543210"), ["hsm:target"])
    outcome = small.drive()
    assert outcome.rest is Rest.CANCELLED
    assert small.change.sent == []


def test_a_cancel_loses_nothing_that_waits_in_the_inbox(small, monkeypatch):
    small.approve()
    monkeypatch.setattr(memory, "check_signal", lambda _: None)  # the door of an older version
    size = len(small.store.peek_signals(RUN))
    for name, text in (("said", "wrong region"), ("long", "x" * 2_000_000)):
        body = {"reason": text}
        small.store.put_signal(
            Signal(name, RUN, "rollback", "operator:y", body, small.clock.now_ms())
        )
    dropped = cancel(small.store, RUN, "host a", "operator:x", "over", small.clock)
    assert [signal.id for signal in dropped][size:] == ["said", "long"]
    assert small.store.peek_signals(RUN) == []
    *_, said, short, last = small.store.read(RUN)
    assert (said.type, said.actor, last.type) == (R.NOTE, "operator:y", R.RUN_CANCELLED)
    assert (said.body["ignored"], said.body["said"]) == ("rollback", {"reason": "wrong region"})
    assert (said.body["signal"], short.body["signal"]) == ("said", "long")
    assert "it fits into no record" in short.body["why"]
    assert cancel(small.store, RUN, "host a", "operator:x", "again", small.clock) == []
    assert last == list(small.store.read(RUN))[-1]


def test_a_run_has_its_targets_with_its_record_0_or_does_not_begin(small):
    other = RunId("r-ba9876543210")
    world, part = small.world(), small.part
    runbook = small.load(part.runbook_text)
    facts = {"part": part, "inputs": {}, "initiator": "operator:x", "tool": {}}
    create_run(world, other, runbook, **facts, targets=["hsm:target"])
    with pytest.raises(Locked, match=f"run {other} holds it"):
        create_run(world, RUN, runbook, **facts, targets=["hsm:target"])
    assert not small.store.exists(RUN)


def test_what_was_done_by_hand_is_read_back_and_never_sent(small):
    small.approve()
    shown = small.store.put_object(b"a transcript")
    outcome = told(small, "mark", evidence=shown, reason="done in the portal")
    assert outcome.rest is Rest.DONE
    assert small.change.sent == []
    step = outcome.state.steps["change"]
    assert (step.marked_by, step.marked_evidence) == ("operator:x", shown)


def test_what_cannot_be_read_back_takes_a_second_person_with_the_same_evidence(small):
    small.approve()
    small.change.seen.append(block("G2", "it cannot be seen"))
    shown, other = small.store.put_object(b"a transcript"), small.store.put_object(b"another")
    assert told(small, "mark", evidence=shown).rest is Rest.FAILED
    assert told(small, "mark", evidence=shown).rest is Rest.FAILED, "the same person again"
    assert told(small, "mark", "operator:y", evidence=other).rest is Rest.FAILED
    outcome = told(small, "mark", "operator:z", evidence=other)
    assert outcome.rest is Rest.DONE
    assert R.STEP_ATTESTED in small.kinds()
    assert small.change.sent == []


def test_a_failed_step_is_left_out_with_a_reason_and_the_run_ends(small):
    small.approve()
    small.change.answers.append(AzureError("400: no", status=400))
    assert small.drive().rest is Rest.FAILED
    outcome = told(small, "skip", reason="not needed this time")
    assert outcome.rest is Rest.DONE
    assert outcome.state.steps["change"].status is S.SKIPPED
    assert len(small.change.sent) == 1


def test_what_may_be_taking_effect_is_never_left_out(small):
    small.approve()
    small.change.answers.append(UnknownOutcome("the connection broke"))
    assert small.drive().rest is Rest.UNKNOWN
    assert told(small, "skip", reason="in a hurry").rest is Rest.UNKNOWN
    outcome = told(small, "resolve", found=False, reason="looked in the portal")
    assert outcome.rest is Rest.DONE
    assert len(small.change.sent) == 2


def test_a_resume_of_a_fan_out_touches_only_what_is_not_done():
    child = PlanPart("one", ONE, "0", {}, deferred=("name",))
    things = [{"name": name, "id": f"/{name}"} for name in ("a", "b", "c")]
    fan = Small(part=PlanPart("fan", FAN, "0", {}, {"things": things}, children={"each": child}))
    fan.change.answers.extend([None, AzureError("400: no", status=400)])
    assert fan.drive().rest is Rest.FAILED
    first = list(fan.change.runs)
    assert first == ["/each/a", "/each/b"], "after one failure no other child begins"
    assert fan.drive().rest is Rest.DONE
    assert fan.change.runs[len(first) :] == ["/each/b", "/each/c"]
    parent = fan.drive().state.steps["each"]
    assert all(run.status is RunStatus.FINISHED for run in parent.children.values())


RESUME = f"drengine resume {RUN}"


@dataclass(frozen=True)
class Undecided(Change):
    """Cannot tell whether its effect is there."""

    async def probe(self, ctx: StepContext) -> Undecidable:
        del ctx
        return Undecidable("it cannot be told")


def guard_refuses(small: Small) -> None:
    small.guard_holds = False


def service_refuses(small: Small) -> None:
    small.change.answers.append(AzureError("400: no", status=400))


def reading_back_differs(small: Small) -> None:
    small.change.seen.append(block("G2", "it is another"))


def looking_cannot_tell(small: Small) -> None:
    small.change = Undecided(SPEC)


def answer_is_lost(small: Small) -> None:
    small.change.answers.append(UnknownOutcome("the connection broke"))


@pytest.mark.parametrize(
    ("goes_wrong", "hint"),
    [
        (guard_refuses, RESUME),
        (service_refuses, RESUME),
        (reading_back_differs, RESUME),
        (looking_cannot_tell, RESUME),
        (answer_is_lost, f"drengine resolve {RUN} change --found | --absent --reason TEXT"),
    ],
)
def test_what_stops_a_run_says_a_next_step(small, goes_wrong, hint):
    """Also where nobody who refused advised anything."""
    small.approve()
    goes_wrong(small)
    error = small.drive().state.steps["change"].error
    assert error is not None
    assert error["hint"].endswith(hint)


def test_a_gate_whose_facts_cannot_be_read_is_asked_once_a_process(small):
    small.unreadable = AzureError("400: no", status=400)
    for processes in (1, 2, 3):
        assert small.drive().rest is Rest.FAILED
        assert small.kinds().count(R.STEP_FAILED) == processes
    small.unreadable = None
    assert small.drive().rest is Rest.WAITING
