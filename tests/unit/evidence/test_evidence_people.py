from __future__ import annotations

import pytest

from drengine.model.facts import Holds
from drengine.model.records import RecordType as R


def approved_criterion(facts):
    return next(c for c in facts.criteria if c.id == "G1")


def test_every_request_is_an_entry_of_its_own_with_its_own_facts(troubled_run, facts, tell):
    gates = [g for g in facts(troubled_run).gates if g.step == "approve-restore"]
    assert [g.outcome for g in gates] == ["voided", "rejected", "approved"]
    assert gates[0].why == "changed since the approval: backup"
    assert gates[0].facts == tell.BACKUP
    assert [d.actor for d in gates[2].decisions] == list(tell.TWO)
    assert all(d.is_simulated for g in gates for d in g.decisions)


def test_a_real_person_is_not_called_simulated(tell, store, facts):
    story = (
        tell.Story(store, tell.make_plan())
        .create()
        .gate("approve-create", approvers=("approver:alice",))
    )
    (gate,) = facts(story).gates
    assert not gate.decisions[0].is_simulated


def test_points_of_no_return_are_approved_before_they_are_sent(plain_run, facts):
    points = facts(plain_run).points_of_no_return
    assert [(p.step, p.gates, p.approved) for p in points] == [
        ("create-hsm", ("approve-create",), True),
        ("restore", ("approve-restore",), True),
    ]


def test_an_approval_after_the_send_does_not_count(tell, store, facts):
    story = tell.Story(store, tell.make_plan()).create()
    story.ask("approve-create").running("create-hsm").approve("approve-create").passed(
        "approve-create"
    )
    found = facts(story)
    assert [p.approved for p in found.points_of_no_return] == [False]
    assert approved_criterion(found).holds is Holds.NO


def test_one_approver_twice_is_one_approval(tell, store, facts):
    story = tell.Story(store, tell.make_plan()).create()
    story.ask("approve-restore", 2, tell.BACKUP)
    for _ in range(2):
        story.wait(1).approve("approve-restore", "approver:alice")
    story.passed("approve-restore").running("restore")
    assert approved_criterion(facts(story)).holds is Holds.NO


def test_a_voided_approval_does_not_allow_a_send(tell, store, facts):
    story = tell.Story(store, tell.make_plan()).create().gate("approve-create")
    story.say(R.GATE_VOIDED, "approve-create", why="changed").running("create-hsm")
    assert approved_criterion(facts(story)).holds is Holds.NO


def test_a_step_that_these_inputs_make_reversible_is_no_point_of_no_return(tell, store, facts):
    plan = tell.make_plan(protects_sql=False)
    story = tell.Story(store, plan).create().gate("approve-create").does("create-hsm", 3)
    found = facts(story)
    assert found.points_of_no_return == ()
    assert approved_criterion(found).holds is Holds.NOT_ASKED


def test_the_initiator_who_approves_is_a_deviation(tell, store, facts):
    story = tell.Story(store, tell.make_plan(), initiator="operator:alice").create()
    story.gate("approve-create", approvers=("approver:alice",))
    assert [d.kind for d in facts(story).deviations] == ["own approval"]


@pytest.mark.parametrize("ceremony", ["combine", "contribute", ""])
def test_a_delivery_says_how_it_was_made(tell, store, facts, ceremony):
    more = {"ceremony": ceremony} if ceremony else {}
    story = tell.Story(store, tell.make_plan()).create().deliver("blob", **more)
    (delivery,) = facts(story).deliveries
    assert (delivery.ceremony, delivery.outcome, delivery.size_bytes) == (
        ceremony,
        "accepted",
        8123,
    )
    assert delivery.is_simulated


def test_a_delivery_of_an_ended_generation_is_voided(troubled_run, facts):
    assert [d.outcome for d in facts(troubled_run).deliveries] == ["voided", "accepted"]
