from __future__ import annotations

import pytest

from drengine.evidence.collect import collect
from drengine.evidence.controls import supports_of
from drengine.evidence.render import render_executive, render_html
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


@pytest.fixture
def bob_is_root(forging, tmp_path):
    """Approvers of whom one has the account that begins the runs."""
    return forging.Cast(tmp_path / "trust", {"bob": ("root",)}, ("security-officer",))


def begun_by_root(tell, store, cast):
    plan = tell.make_plan()
    return tell.Story(store, plan, initiator="operator:root", cast=cast).create()


def shown(facts, control):
    return next(each for each in supports_of(facts) if each.control.id == control)


def test_whoever_has_the_account_that_began_the_run_is_the_initiator(
    tell, store, facts, bob_is_root
):
    story = begun_by_root(tell, store, bob_is_root)
    story.gate("approve-create", approvers=("simulated:approver:bob",))
    found = facts(story)
    assert found.gates[0].decisions[0].by_initiator is True
    assert [d.kind for d in found.deviations] == ["own approval"]
    assert not shown(found, "AC-5").is_supported
    assert not shown(found, "A.5.3").is_supported


def test_whoever_has_another_account_is_another_person(tell, store, facts, bob_is_root):
    story = begun_by_root(tell, store, bob_is_root)
    found = facts(story.gate("approve-create"))
    assert found.gates[0].decisions[0].by_initiator is False
    assert found.deviations == ()
    assert shown(found, "AC-5").is_supported


@pytest.mark.parametrize("kind", ["none", "of another run"])
def test_without_the_register_of_the_run_two_names_show_nothing(
    tell, store, journals, bob_is_root, kind
):
    story = begun_by_root(tell, store, bob_is_root).gate("approve-create")
    other = {"none": None, "of another run": {**story.register, "people": []}}[kind]
    found = collect(story.plan, journals(store), other)
    assert found.gates[0].decisions[0].by_initiator is None
    assert not shown(found, "AC-5").is_supported
    assert "names differ" in render_html(found)


def test_break_glass_is_a_deviation_that_says_which_rules_it_set_aside(
    tell, store, facts, bob_is_root
):
    story = begun_by_root(tell, store, bob_is_root)
    story.ask("approve-create", 2, roles=("incident-commander",), break_glass=True)
    story.break_glass("approve-create", "simulated:approver:bob").passed("approve-create")
    found = facts(story)
    assert [d.kind for d in found.deviations] == ["own approval", "break-glass"]
    told = found.deviations[1].text
    assert "2 people were asked for" in told
    assert "not incident-commander" in told
    assert "began the run" in told
    for control in ("AC-5", "A.5.3", "AC-3(2)", "CP-9(7)"):
        assert not shown(found, control).is_supported, control
    for page in (render_html(found), render_executive(found)):
        assert "BREAK-GLASS" in page
        assert "who began the run" in page


def test_break_glass_by_another_than_who_began_counts_against_separation_too(
    tell, store, facts, bob_is_root
):
    story = begun_by_root(tell, store, bob_is_root)
    story.ask("approve-create", break_glass=True)
    story.break_glass("approve-create", "simulated:approver:alice").passed("approve-create")
    support = shown(facts(story), "AC-5")
    assert not support.is_supported
    assert support.missing == (
        "break-glass asks nobody else: approve-create by simulated:approver:alice",
    )


def test_a_gate_that_two_passed_does_not_excuse_one_that_needed_two(tell, store, facts):
    story = tell.Story(store, tell.make_plan()).create()
    story.ask("approve-create", 2, break_glass=True)
    story.break_glass("approve-create", "approver:alice").passed("approve-create")
    story.gate("approve-restore", approvers=("approver:alice", "approver:carol"))
    assert not shown(facts(story), "AC-3(2)").is_supported


def test_a_delivery_by_who_began_is_told_as_work_and_not_as_a_fault(tell, store, facts):
    story = tell.Story(store, tell.make_plan(), initiator="operator:erin").create()
    page = render_html(facts(story.deliver("blob")))
    people = page.split("<h3>People</h3>")[1].split("</table>")[0]
    assert "carried out: delivered" in people
    assert "✗ no" not in people


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
