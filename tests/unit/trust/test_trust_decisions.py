"""What the engine does with signed decisions: every condition of a valid approval."""

from __future__ import annotations

import pytest

from drengine.model.records import RecordType as R
from drengine.model.runbook import RunClass

HOUR = 3_600_000


def assert_refused(record, *words):
    assert record.type is R.NOTE, record.body
    for word in words:
        assert word in record.body["why"], record.body["why"]


def test_a_signed_approval_is_recorded_with_its_envelope(place):
    ada, bruno = place.people
    record = place.decide(ada)
    assert record.type is R.GATE_APPROVED
    assert record.actor == "approver:ada"
    assert record.body["signer"] == ada.key.keyid
    assert record.body["envelope"]["payloadType"] == "application/vnd.in-toto+json"
    assert place.gate.expires_ms == place.clock.now + HOUR
    assert not place.gate.suffices(2)
    place.decide(bruno)
    assert place.gate.suffices(2)


def test_an_unsigned_decision_does_not_count(place):
    said, _ = place.say(place.people[0])
    assert_refused(place.send(place.people[0], said, None), "DSSE envelope")


def test_a_key_that_nobody_enrolled_does_not_count(place, make_person):
    assert_refused(place.decide(make_person("mallory", "security-officer")), "not in the register")


def test_another_ones_signature_under_a_known_key_id_does_not_verify(place, make_person):
    ada = place.people[0]
    said, envelope = place.say(ada, signer=make_person("mallory").signer)
    envelope["signatures"][0]["keyid"] = ada.key.keyid
    assert_refused(place.send(ada, said, envelope), "does not verify")


def test_one_person_counts_once(place):
    ada = place.people[0]
    place.decide(ada)
    place.decide(ada)
    assert place.gate.approvers == ("approver:ada",)


def test_a_person_cannot_sign_under_another_name(place):
    ada = place.people[0]
    said, envelope = place.say(ada, by="bruno")
    assert_refused(
        place.send(ada, said, envelope, actor="approver:bruno"), "names 'bruno'", "ada's"
    )
    said, envelope = place.say(ada, nonce="e" * 32)
    assert_refused(place.send(ada, said, envelope, actor="approver:bruno"), "approver:ada")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"run": "r-000000000000"}, "for run r-000000000000"),
        ({"plan": "0" * 64}, "another plan"),
        ({"run_class": "drill"}, "for a drill"),
        ({"sha256": "0" * 64}, "the chain before it changed"),
        ({"facts": {"hsm": "alive"}}, "facts"),
    ],
)
def test_an_approval_counts_for_the_request_it_was_given_for_only(place, change, word):
    assert_refused(place.decide(place.people[0], asked=place.asked(**change)), word)


def test_an_approval_of_another_record_is_refused(place):
    assert_refused(place.decide(place.people[0], asked=place.asked(seq=0)), "another request")


def test_who_started_the_run_cannot_approve_it(make_place, make_person):
    place = make_place(
        make_person("ines", "security-officer"),
        make_person("ada", "security-officer", accounts=("ines",)),
    )
    for person in place.people:
        assert_refused(place.decide(person), "started the run")
    assert place.decide(place.people[0], "reject").type is R.GATE_REJECTED


def test_a_role_that_the_person_does_not_hold_is_refused(make_place, make_person):
    place = make_place(make_person("carl", "janitor"))
    assert_refused(place.decide(place.people[0]), "does not hold the role")
    assert_refused(place.decide(place.people[0], role="janitor"), "asks for security-officer")


def test_an_expired_approval_is_refused(place):
    said, envelope = place.say(place.people[0])
    place.clock.now += HOUR + 1
    assert_refused(place.send(place.people[0], said, envelope), "expired at")


def test_an_approval_from_the_future_is_refused(place):
    issued = place.clock.now + HOUR
    assert_refused(place.decide(place.people[0], issued_ms=issued, expires_ms=issued + 1), "dated")


def test_a_nonce_counts_once_whatever_carries_it(place):
    ada = place.people[0]
    said, envelope = place.say(ada)
    assert place.send(ada, said, envelope).type is R.GATE_APPROVED
    seq = place.chain.state.head.seq
    assert place.send(ada, said, envelope).seq == seq
    assert_refused(place.send(ada, said, envelope, id_="another"), "nonce")


def test_a_played_person_counts_in_a_drill_in_a_lab_only(make_place, make_person):
    played = make_person("ada", "security-officer", simulated=True)
    assert_refused(make_place(played).decide(played), "played by drills")
    drill = make_place(played, run_class=RunClass.DRILL)
    assert drill.decide(played).actor == "simulated:approver:ada"


def test_a_rejection_stops_the_gate_and_keeps_its_signature(place):
    record = place.decide(place.people[0], "reject", reason="not on my watch")
    assert record.type is R.GATE_REJECTED
    assert record.body["signer"] == place.people[0].key.keyid
    assert "not on my watch" in record.body["error"]["message"]


def test_an_approval_can_be_withdrawn_before_it_is_used(place):
    ada = place.people[0]
    place.decide(ada)
    record = place.decide(ada, "withdraw", role="", reason="second thoughts")
    assert record.type is R.GATE_VOIDED
    assert "second thoughts" in record.body["why"]
    assert place.gate is None


def test_nobody_withdraws_for_another(place):
    ada, bruno = place.people
    place.decide(ada)
    assert_refused(place.decide(bruno, "withdraw", role=""), "did not approve")


def test_an_approval_in_use_cannot_be_withdrawn(place):
    for person in place.people:
        place.decide(person)
    place.chain.append(R.STEP_SUCCEEDED, {"step": "agree", "outputs": {}})
    place.chain.append(R.STEP_BEGUN, {"step": "look", "attempt": 1, "generation": 0})
    place.chain.append(R.GUARDS_HELD, {"step": "look", "findings": []})
    place.chain.append(R.INTENT, {"step": "look"})
    assert_refused(place.decide(place.people[0], "withdraw", role=""), "too late: look")


def test_break_glass_counts_where_the_runbook_allows_it(make_place, make_person):
    place = make_place(make_person("carl", "janitor"), break_glass=True)
    record = place.decide(place.people[0], break_glass=True, role="", reason="nobody else is alive")
    assert record.type is R.GATE_APPROVED
    assert record.body["break_glass"] is True
    assert place.gate.suffices(2)


def test_break_glass_without_leave_or_reason_is_refused(place, make_place, make_person):
    assert_refused(place.decide(place.people[0], break_glass=True), "does not allow it")
    loose = make_place(make_person("carl", "janitor"), break_glass=True)
    assert_refused(loose.decide(loose.people[0], break_glass=True, reason=" "), "needs a reason")
