"""What people say while a step looks once more before it sends, and what is known of a request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from looked import target
from small import FAN, ONE, RUN, SPEC, Change, Small, told

from drengine.actions.base import HOLDER_TAG, RUN_TAG
from drengine.actions.contract import Absent, InProgress, Present, Undecidable
from drengine.engine.commands import Rest
from drengine.engine.driver import Outcome
from drengine.errors import AzureError, Fenced, StoreFailed, UnknownOutcome
from drengine.model.catalogue import Repeat
from drengine.model.cloud import HsmResource, Operation, OperationKind, OperationStatus
from drengine.model.findings import block
from drengine.model.ids import RunId
from drengine.model.plan import PlanPart
from drengine.model.records import RecordType as R
from drengine.model.records import Signal
from drengine.model.run import RunStatus
from drengine.model.run import StepStatus as S

ASKED, AGAIN = 1, 2  # readings of the gate's facts: when it is asked, and before the send
LOST = UnknownOutcome("the connection broke")


@pytest.fixture
def small() -> Small:
    return Small()


def says(small: Small, kind: str, actor: str = "operator:x", **body: Any) -> Callable[[], None]:
    def now() -> None:
        small.store.put_signal(Signal(f"{kind}-s", RUN, kind, actor, body, 0))

    return now


@pytest.mark.parametrize(
    ("kind", "recorded"),
    [
        ("pause", R.RUN_PAUSED),
        ("cancel", R.RUN_CANCELLED),
        ("rollback", R.RUN_ROLLBACK),
        ("withdraw", R.GATE_VOIDED),
    ],
)
def test_what_is_said_during_the_last_look_stops_the_send(small, kind, recorded):
    small.approve()
    person = {"actor": "approver:a", "step": "ask"} if kind == "withdraw" else {}
    small.meanwhile[AGAIN] = [says(small, kind, **person)]
    outcome = small.drive()
    assert small.change.sent == []
    assert recorded in small.kinds()
    assert R.INTENT not in small.kinds()
    assert outcome.rest is not Rest.DONE


@pytest.mark.parametrize("kind", ["pause", "cancel", "rollback"])
def test_what_lies_in_the_inbox_at_the_last_moment_is_heard(small, kind):
    small.approve()
    small.change.just_before.append(says(small, kind))  # nothing is awaited behind it
    small.drive()
    assert small.change.sent == []
    assert R.INTENT not in small.kinds()


def test_what_is_said_to_the_parent_at_the_last_moment_is_heard_by_a_child():
    family = fan()
    family.change.just_before.append(says(family, "pause"))
    assert family.drive().rest is Rest.PAUSED
    assert family.change.sent == []


def test_a_child_whose_parent_another_process_took_sends_nothing():
    family = fan()

    def take() -> None:
        family.store.disk.locks.pop(RUN, None)
        family.store.disk.runs[RUN].token += 1

    family.change.just_before.append(take)
    with pytest.raises(Fenced):
        family.drive()
    assert family.change.sent == []


def test_a_stop_asked_for_during_the_last_look_stops_the_send(small):
    small.approve()
    small.meanwhile[AGAIN] = [small.stop.set]
    assert small.drive().rest is Rest.INTERRUPTED
    assert small.change.sent == []
    small.stop.clear()
    assert small.drive().rest is Rest.DONE
    assert len(small.change.sent) == 1


def test_continue_goes_on_with_the_rollback_that_was_paused(small):
    small.approve()
    assert told(small, "rollback", reason="wrong backup").rest is Rest.ROLLED_BACK
    small = Small()
    small.approve()
    small.change.answers.append(AzureError("400: no", status=400))
    assert small.drive().rest is Rest.FAILED
    for kind in ("rollback", "pause", "continue"):
        says(small, kind)()
    assert small.drive().rest is Rest.ROLLED_BACK
    assert len(small.change.sent) == 1
    assert small.change.undone == [""]


def test_a_pause_outlasts_a_step_that_fails_meanwhile(small):
    small.approve()
    small.change.seen.append(block("G2", "not seen yet"))
    small.change.at_start.append(says(small, "pause"))
    first = small.drive()
    assert (first.rest, first.state.steps["change"].status) == (Rest.PAUSED, S.FAILED)
    small.change.seen.clear()
    small.change.found.append(Present({}, "there it is"))
    assert small.drive().state.paused
    assert small.change.looks == small.change.looks[:1], "nothing begins in a pause"
    says(small, "continue")()
    assert small.drive().rest is Rest.DONE


def test_continue_of_a_run_that_is_not_paused_changes_nothing(small):
    small.drive()
    says(small, "continue")()
    assert small.drive().rest is Rest.WAITING
    assert R.RUN_CONTINUED not in small.kinds()
    assert small.kinds().count(R.NOTE) == 1


@pytest.mark.parametrize("kind", ["rollback", "cancel"])
def test_a_run_that_is_over_is_not_driven_again(small, kind):
    small.drive()
    says(small, kind)()
    ended = small.drive()
    assert ended.state.status.is_over
    before = small.kinds()
    says(small, "approve")()
    again = small.drive()
    assert (again.rest, small.kinds()) == (ended.rest, before)
    assert small.change.sent == []


# what is known of a request


def unknown(small: Small) -> Outcome:
    small.approve()
    small.change.answers.append(LOST)
    outcome = small.drive()
    assert outcome.rest is Rest.UNKNOWN
    return outcome


def test_what_a_person_found_and_cannot_be_read_back_is_never_sent_again(small):
    unknown(small)
    small.change.seen.append(block("G2", "not seen yet"))
    assert told(small, "resolve", found=True).rest is Rest.FAILED
    assert small.drive().rest is Rest.UNKNOWN, "absent is a doubt, not a licence"
    assert R.DOUBT_RAISED in small.kinds()
    assert len(small.change.sent) == 1


def test_what_was_marked_as_done_and_cannot_be_read_back_is_never_sent(small):
    small.approve()
    small.change.seen.append(block("G2", "not seen yet"))
    shown = small.store.put_object(b"a transcript")
    assert told(small, "mark", evidence=shown).rest is Rest.FAILED
    assert small.drive().rest is Rest.UNKNOWN
    assert small.change.sent == []
    outcome = told(small, "mark", "operator:y", evidence=shown)
    assert outcome.rest is Rest.DONE, "the second person's word counts there too"


def test_after_a_person_said_absent_it_is_looked_at_before_it_is_sent(small):
    unknown(small)
    small.change.found.append(Present({}, "there it is, late"))
    assert told(small, "resolve", found=False, reason="looked at ten").rest is Rest.DONE
    assert len(small.change.sent) == 1


def test_a_person_who_looked_too_early_is_not_believed_before_the_quiet_period(small):
    unknown(small)
    opened = small.clock.at_ms
    small.change.found.extend([Absent("not there"), Present({}, "there it is, late")])
    assert told(small, "resolve", found=False, reason="looked at once").rest is Rest.DONE
    assert len(small.change.sent) == 1
    assert small.change.looks[-1] - opened >= SPEC.quiet_ms


def test_a_look_that_cannot_tell_does_not_overrule_a_person_who_looked(small):
    unknown(small)
    small.change.found.extend([Undecidable("it cannot be told")] * 2)
    assert told(small, "resolve", found=False, reason="looked at ten").rest is Rest.DONE
    assert len(small.change.sent) == 2


def refused_once(small: Small, *, times: int = 1) -> None:
    small.approve()
    small.change.answers.extend([AzureError("400: no", status=400)] * times)
    for _ in range(times):
        assert small.drive().rest is Rest.FAILED


UNNAMED = pytest.mark.parametrize("repeat", [Repeat.NEVER, Repeat.FINDABLE])
UPLOADING = Operation(OperationKind.SD_UPLOAD, "https://x/pending")


@UNNAMED
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("found", [Present({}, "it is"), InProgress(UPLOADING, "it is")])
def test_what_the_service_refused_and_somebody_else_did_is_for_a_person(repeat, times, found):
    small = Small(Change(replace(SPEC, repeat=repeat)))
    refused_once(small, times=times)
    small.change.found.append(found)
    outcome = small.drive()
    assert outcome.rest is Rest.REFUSED
    error = outcome.state.steps["change"].error
    assert "the service refused it, so somebody else did it" in error["message"]
    assert "mark-done" in error["hint"]
    assert len(small.change.sent) == times


@UNNAMED
def test_what_was_refused_after_an_answer_was_lost_may_be_the_lost_ones_effect(repeat):
    small = Small(Change(replace(SPEC, repeat=repeat)))
    small.approve()
    small.change.answers.extend([LOST, AzureError("409: it is active", status=409)])
    first = small.drive()
    if first.rest is Rest.UNKNOWN:
        seq = first.state.steps["change"].unknown_seq
        first = told(small, "resolve", found=False, unknown_seq=seq)
    assert first.rest is Rest.FAILED
    assert len(small.change.sent) == 2
    small.change.found.append(Present({}, "there it is, late"))
    assert small.drive().rest is Rest.DONE
    assert len(small.change.sent) == 2


@pytest.mark.parametrize("repeat", [Repeat.BY_NAME, Repeat.HARMLESS])
def test_what_has_a_name_of_ours_is_found_in_spite_of_a_refusal(repeat):
    small = Small(Change(replace(SPEC, repeat=repeat)))
    refused_once(small)
    small.change.found.append(Present({}, "there it is"))
    assert small.drive().rest is Rest.DONE


def test_a_word_about_an_earlier_request_says_nothing_of_the_last_one(small):
    first = unknown(small).state.steps["change"].unknown_seq
    small.change.answers.append(LOST)
    assert told(small, "resolve", found=False, unknown_seq=first).rest is Rest.UNKNOWN
    assert len(small.change.sent) == 2
    assert told(small, "resolve", found=False, unknown_seq=first).rest is Rest.UNKNOWN
    assert len(small.change.sent) == 2, "the second person looked before the second request"
    now = small.drive().state.steps["change"].unknown_seq
    assert told(small, "resolve", found=False, unknown_seq=now).rest is Rest.DONE


def test_what_is_found_at_the_first_look_needs_no_quiet_period(small):
    small.approve()
    small.change.answers.append(LOST)
    small.change.found.extend([Absent("not there"), Present({}, "there it is")])
    assert small.drive().rest is Rest.DONE
    looked, sent = small.change.looks[-1], small.change.sent[0]
    assert looked - sent < SPEC.quiet_ms


@pytest.mark.parametrize("early", [Absent("not there"), Undecidable("it cannot be told")])
def test_what_is_not_found_early_decides_nothing_yet(small, early):
    small.approve()
    small.change.answers.append(LOST)
    late = Present({}, "there it is, late")
    small.change.found.extend([Absent("not there"), early, late])
    assert small.drive().rest is Rest.DONE
    assert small.change.looks[-1] - small.change.sent[0] >= SPEC.quiet_ms
    assert len(small.change.sent) == 1


def test_the_quiet_period_begins_anew_with_each_process(small):
    small.approve()
    small.change.answers.append(LOST)
    small.change.found.extend([Absent("not there"), Absent("not there")])
    small.meanwhile.clear()
    outcome = small.drive()
    assert outcome.rest is Rest.UNKNOWN
    counted = [at for at in small.change.looks if at >= small.change.sent[0] + SPEC.quiet_ms]
    assert len(counted) == 2
    assert counted[1] - counted[0] >= SPEC.look_gap_ms


class Silent:
    """A service that cannot be asked about an operation."""

    async def poll(self, operation: Operation) -> OperationStatus:
        raise AzureError(f"500: {operation.resource}", status=500)


OPERATION = Operation(OperationKind.ARM, "https://management.azure.com/x", "/x")


def test_what_may_still_be_at_work_is_not_left_out(small):
    small.approve()
    small.change.answers.append(LOST)
    small.change.found.extend([Absent("not there"), InProgress(OPERATION)])
    small.operations = Silent()
    outcome = small.drive()
    assert outcome.state.steps["change"].status is S.FAILED
    told(small, "skip", reason="in a hurry")
    assert R.STEP_SKIPPED not in small.kinds()


# children


def fan(runbook: str = FAN, child: str = ONE) -> Small:
    part = PlanPart("one", child, "0", {}, deferred=("name",))
    things = [{"name": name, "id": f"/{name}"} for name in ("a", "b", "c")]
    plan = PlanPart("fan", runbook, "0", {}, {"things": things}, children={"each": part})
    return Small(part=plan)


GATED = FAN.replace(
    "steps:\n",
    "steps:\n  - id: ask\n    gate: {approvals: 1, ask: really?, facts: [backup]}\n",
).replace("    runbook: one\n", "    needs: [ask]\n    runbook: one\n")


def test_a_fan_out_begins_by_what_is_still_as_it_was_approved():
    gated = fan(GATED)
    gated.approve()
    gated.backup = "the one of Tuesday"
    assert gated.drive().rest is Rest.WAITING
    assert gated.change.sent == []
    assert R.GATE_VOIDED in gated.kinds()
    assert R.FANOUT_BEGUN not in gated.kinds()


def test_a_child_sends_by_what_is_still_as_it_was_approved():
    gated = fan(GATED.replace("parallel: 2", "parallel: 1"))
    gated.approve()
    gated.change.at_start.append(lambda: setattr(gated, "backup", "the one of Tuesday"))
    outcome = gated.drive()
    assert outcome.rest is Rest.WAITING
    assert len(gated.change.sent) == 1, "what was in the air when it changed"
    assert outcome.state.steps["ask"].status is S.AWAITING_APPROVAL
    gate = outcome.state.steps["ask"].gate
    body = {"step": "ask", "request_seq": gate.seq, "digest": gate.digest}
    gated.store.put_signal(Signal("s-2", RUN, "approve", "approver:a", body, 0))
    assert gated.drive().rest is Rest.DONE
    assert sorted(gated.change.runs) == ["/each/a", "/each/b", "/each/c"]


def test_a_withdrawal_in_the_middle_of_a_fan_out_stops_what_was_not_sent():
    gated = fan(GATED.replace("parallel: 2", "parallel: 1"))
    gated.approve()
    gated.change.at_start.append(says(gated, "withdraw", actor="approver:a", step="ask"))
    outcome = gated.drive()
    assert outcome.rest is Rest.WAITING
    assert gated.change.runs == ["/each/a"]
    assert outcome.state.steps["ask"].status is S.AWAITING_APPROVAL


def test_a_gate_that_the_run_leaves_out_is_asked_of_nobody():
    gated = fan(GATED.replace("    gate:", '    when: "${1 == 2}"\n    gate:'))
    assert gated.drive().rest is Rest.DONE
    assert len(gated.change.sent) == 3


def test_a_child_that_was_cancelled_is_not_done():
    gone = fan()
    gone.change.answers.extend([AzureError("400: no", status=400), None])
    assert gone.drive().rest is Rest.FAILED
    child = RunId(f"{RUN}/each/a")  # it would begin again, but for this
    gone.store.put_signal(Signal("c", child, "cancel", "operator:x", {}, 0))
    outcome = gone.drive()
    assert outcome.rest is Rest.FAILED
    assert outcome.state.steps["each"].error["code"] == "DR-S006"
    assert outcome.state.status is not RunStatus.FINISHED
    outcome = told(gone, "skip", step="each", reason="done by hand")
    assert outcome.rest is Rest.DONE


def test_a_rollback_takes_the_open_children_with_it_and_sends_nothing_new():
    family = fan()
    family.change.answers.append(AzureError("400: no", status=400))
    assert family.drive().rest is Rest.FAILED
    sent = list(family.change.runs)
    assert told(family, "rollback", reason="wrong place").rest is Rest.ROLLED_BACK
    assert family.change.runs == sent
    assert family.change.undone == ["/each/a"], "what finished is not undone"


def test_a_rollback_waits_until_what_was_answered_can_be_seen(small):
    """An answer that says "done" comes before its effect can be read."""
    small.approve()
    small.change.at_start.append(says(small, "rollback"))
    assert small.drive().rest is Rest.ROLLED_BACK
    assert small.change.undone == [""]
    assert small.change.undone_at[0] - small.change.sent[0] >= SPEC.quiet_ms


def test_a_rollback_waits_for_what_is_in_the_air(small):
    small.approve()
    small.change.answers.append(LOST)
    small.change.found.extend([Absent(""), Absent(""), Present({}, "there it is, late")])
    small.change.at_start.append(says(small, "rollback"))
    assert small.drive().rest is Rest.ROLLED_BACK
    looked = small.change.looks[-1]
    assert looked - small.change.sent[0] >= SPEC.quiet_ms
    assert small.change.undone == [""]
    assert len(small.change.sent) == 1


PLACED = ONE.replace(
    "inputs: {name: {type: string}}",
    "inputs: {name: {type: string}, target_hsm: {type: string}, resource_group: {type: string}}",
)
TO_PLACED = FAN.replace(
    'with: {name: "${thing.name}"}',
    'with: {name: "${thing.name}", target_hsm: target, resource_group: rg}',
)


@dataclass
class Marked:
    """The target as a resource: created by this run, marked by the host that has it now."""

    tags: dict[str, str]
    marks: list[str] = field(default_factory=list)

    async def get(self, group: str, name: str) -> HsmResource:
        return target(name=name, resource_group=group, tags=dict(self.tags))

    async def start_update(self, group: str, name: str, patch: dict[str, Any]) -> None:
        del group, name
        self.tags = dict(patch["tags"])
        self.marks.append(self.tags[HOLDER_TAG])


def test_the_quiet_period_after_a_mark_holds_for_every_child():
    taken = fan(TO_PLACED.replace("parallel: 2", "parallel: 1"), PLACED)
    deferred = ("name", "target_hsm", "resource_group")
    child = replace(taken.part.children["each"], deferred=deferred)
    taken.part = replace(taken.part, children={"each": child})
    taken.hsms = Marked({RUN_TAG: str(RUN)})
    assert taken.drive().rest is Rest.DONE
    assert len(taken.hsms.marks) == 1
    notes = [record for record in taken.store.read(RUN) if record.type is R.NOTE]
    assert [note.body["holder"] for note in notes] == taken.hsms.marks, "in the root's chain"
    assert min(taken.change.sent) - notes[0].at_ms >= SPEC.quiet_ms


# a rollback that is paused, stopped or stuck


def failed_family() -> Small:
    family = fan()
    family.change.answers.append(AzureError("400: no", status=400))
    assert family.drive().rest is Rest.FAILED
    return family


@pytest.mark.parametrize("also", ["pause", "stop"])
def test_a_rollback_is_not_over_while_a_child_is_open(also):
    family = failed_family()
    says(family, "rollback")()
    if also == "pause":
        says(family, "pause")()
    else:
        family.stop.set()
    resting = family.drive()
    assert resting.rest is (Rest.PAUSED if also == "pause" else Rest.INTERRUPTED)
    assert family.change.undone == []
    family.stop.clear()
    if also == "pause":
        says(family, "continue")()
    assert family.drive().rest is Rest.ROLLED_BACK
    assert family.change.undone == ["/each/a"]


def test_a_rollback_takes_a_child_that_came_to_rest_in_the_same_process():
    family = fan(FAN.replace("parallel: 2", "parallel: 1"))
    family.change.answers.append(AzureError("400: no", status=400))
    family.change.at_start.append(says(family, "rollback"))
    assert family.drive().rest is Rest.ROLLED_BACK
    assert family.change.undone == ["/each/a"]


def test_a_rollback_does_not_begin_while_what_was_sent_may_be_at_work(small):
    small.approve()
    small.operations = Silent()
    small.change.answers.append(LOST)
    small.change.found.extend([Absent("not there"), InProgress(OPERATION)])
    assert small.drive().state.steps["change"].status is S.FAILED
    outcome = told(small, "rollback", reason="wrong backup")
    assert outcome.rest is Rest.UNKNOWN, "it is looked for, and a person must say"
    assert small.change.undone == []
    small.change.found.extend([Absent("")] * 2)
    assert told(small, "resolve", found=False).rest is Rest.ROLLED_BACK
    assert small.change.undone == [""]


def test_nothing_is_undone_in_a_child_when_the_root_was_paused_meanwhile():
    family = failed_family()
    says(family, "rollback")()
    family.change.before_undo.append(says(family, "pause"))
    assert family.drive().rest is Rest.PAUSED
    assert family.change.undone == []


def test_a_look_of_an_earlier_process_is_no_look(small):
    small.change = Change(replace(SPEC, repeat=Repeat.BY_NAME))
    small.approve()
    small.change.answers.append(LOST)
    small.dies_at = R.PROBE_ABSENT, 1 + 2  # behind the second look in the doubt
    with pytest.raises(StoreFailed):
        small.drive()
    small.dies_at = None
    small.change.found.append(Present({}, "there it is, late"))
    assert small.drive().rest is Rest.DONE
    assert len(small.change.sent) == 1


def test_a_child_that_is_open_goes_on_beside_one_that_was_cancelled():
    gone = fan()
    gone.change.answers.extend([AzureError("400: no", status=400)] * 2)
    assert gone.drive().rest is Rest.FAILED
    child = RunId(f"{RUN}/each/a")
    gone.store.put_signal(Signal("c", child, "cancel", "operator:x", {}, 0))
    gone.drive()
    gone.drive()
    done = {name: c.status for name, c in gone.drive().state.steps["each"].children.items()}
    assert done == {"a": RunStatus.CANCELLED, "b": RunStatus.FINISHED}


def test_a_cancel_ends_the_children_that_nobody_drives():
    family = failed_family()
    says(family, "cancel")()
    assert family.drive().rest is Rest.CANCELLED
    last = [record.type for record in family.store.read(RunId(f"{RUN}/each/a"))][-1]
    assert last is R.RUN_CANCELLED


def test_what_was_marked_as_done_may_still_be_at_work(small):
    small.approve()
    small.operations = Silent()
    small.change.answers.append(LOST)
    small.change.found.extend([Absent("not there"), InProgress(OPERATION)])
    small.drive()
    small.change.seen.append(block("G2", "not seen yet"))
    told(small, "mark", evidence=small.store.put_object(b"a transcript"))
    told(small, "skip", reason="in a hurry")
    assert R.STEP_SKIPPED not in small.kinds()
