"""Many looks at one operation: passed over quickly, with the same facts as one by one."""

from __future__ import annotations

import msgspec
import pytest

from drengine.errors import JournalDamaged
from drengine.evidence.collect import Gathering, collect
from drengine.evidence.reading import requests
from drengine.model.records import Record
from drengine.model.records import RecordType as R


def looking(tell, store, *, odd=None):
    """A run that looked at an operation seven times; one look was refused."""
    story = tell.Story(store, tell.make_plan())
    say = story.create().reads("preflight").gate("approve-create").running("create-hsm")
    for number in range(1, 8):
        call = story.call("GET", "/op/1", 503 if number == 3 else 202)
        body = {"polls": number, "detail": f"{number} of 7", "exchanges": [call]}
        body["not_before"] = story.now + number
        if number == odd:
            body["findings"] = [tell.finding("K99", "odd", "warn")]
        say.wait(1).say(R.OPERATION_POLLED, "create-hsm", **body)
    return story


def records_of(store):
    return [record for row in store.runs() for record in store.read(row.run)]


@pytest.mark.parametrize("odd", [None, 1, 4, 7])
def test_looks_passed_over_leave_the_same_facts_as_looks_taken_one_by_one(tell, store, odd):
    story = looking(tell, store, odd=odd)
    slowly = Gathering(story.plan)
    for record in records_of(store):
        slowly.take([record])
        slowly.facts()
    quickly = collect(story.plan, {story.run: records_of(store)})
    assert quickly.to_json() == slowly.facts().to_json()
    (step,) = [step for step in quickly.runs[0].steps if step.id == "create-hsm"]
    assert step.detail == "7 of 7"
    assert [request.status for request in step.requests] == [202, 503]
    assert sum(deviation.kind == "warning" for deviation in quickly.deviations) == bool(odd)
    assert quickly.runs[0].head_seq == records_of(store)[-1].seq


def test_a_clock_that_goes_back_between_looks_is_a_deviation(tell, store):
    story = looking(tell, store)
    story.now -= 90_000
    call = story.call("GET", "/op/1", 202)
    body = {"polls": 8, "detail": "", "exchanges": [call], "not_before": 0}
    story.say(R.OPERATION_POLLED, "create-hsm", **body)
    facts = collect(story.plan, {story.run: records_of(store)})
    assert [d.kind for d in facts.deviations if d.kind == "clock went back"] == ["clock went back"]


@pytest.mark.parametrize("step", ["restore", "nowhere"])
def test_a_look_that_was_refused_is_refused_again(tell, store, step):
    story = looking(tell, store)
    records = records_of(store)
    wrong = msgspec.structs.replace(records[-1], body={**records[-1].body, "step": step})
    gathering = Gathering(story.plan)
    gathering.take(records[:-1])
    for _ in range(2):
        with pytest.raises(JournalDamaged):
            gathering.take_one(wrong)


@pytest.mark.parametrize(
    ("status", "is_named"),
    [(200, False), (404, False), (0, True), (503, True), (-1, False), (True, True), (None, True)],
)
def test_a_request_that_went_wrong_is_named_whatever_its_status_is(status, is_named):
    body = {"exchanges": [{"status": status, "sent": False}]}
    record = Record(5, "r-1", R.OPERATION_POLLED, "engine", body, 1, 1, None, "", "")
    named, others = requests(record)
    assert (len(named), others) == ((1, 0) if is_named else (0, 1))


def test_a_look_at_another_step_is_refused_still(tell, store):
    story = looking(tell, store)
    records = records_of(store)
    records[-1] = msgspec.structs.replace(records[-1], body={**records[-1].body, "step": "restore"})
    with pytest.raises(JournalDamaged, match="no row"):
        collect(story.plan, {story.run: records})
