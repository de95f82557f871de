from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drengine.errors import InputError, JournalDamaged
from drengine.evidence.collect import Gathering, collect
from drengine.evidence.controls import supports_of
from drengine.evidence.followup import real_deviations
from drengine.journal.memory import MemoryStore
from drengine.journal.sqlite import SqliteStore
from drengine.model.canonical import canonical
from drengine.model.facts import Holds, Reached, Share, Verdict
from drengine.model.records import RecordType as R
from drengine.model.runbook import RunClass

MINUTE = 60_000


def step_of(facts, name, run=0):
    return next(step for step in facts.runs[run].steps if step.id == name)


def kinds(facts):
    return [(d.kind, d.step) for d in facts.deviations]


def test_a_plain_recovery_is_recovered_and_has_no_deviation_but_the_skipped_step(plain_run, facts):
    found = facts(plain_run)
    assert found.verdict is Verdict.RECOVERED
    assert found.verdict_reasons == ()
    assert kinds(found) == [("step skipped", "grant-roles")]
    assert {c.id: c.holds for c in found.criteria} == dict.fromkeys(
        ("F1", "P1", "K1", "K2", "R1", "D1", "D2", "D3", "G1"), Holds.YES
    )


def test_facts_are_canonical_and_hold_no_float(troubled_run, facts):
    told = facts(troubled_run).to_json()
    assert json.loads(canonical(told)) == told  # `canonical` refuses floats


def test_the_same_facts_come_from_memory_and_from_sqlite(tell, tmp_path, journals):
    with SqliteStore(tmp_path / "home") as disk:
        story = tell.troubled(tell.Story(disk, tell.make_plan()))
        from_disk = collect(story.plan, journals(disk))
    memory = MemoryStore()
    again = tell.troubled(tell.Story(memory, tell.make_plan()))
    assert from_disk == collect(again.plan, journals(memory))


@pytest.fixture(scope="module")
def troubled_chains(tell):
    store = MemoryStore()
    story = tell.troubled(tell.Story(store, tell.make_plan()))
    chains = {row.run: list(store.read(row.run)) for row in store.runs()}
    return story.plan, chains, collect(story.plan, chains)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 70)), max_size=12))
def test_facts_do_not_depend_on_portions_or_on_how_chains_interleave(troubled_chains, portions):
    plan, chains, whole = troubled_chains
    gathering = Gathering(plan)
    left = [list(records) for records in chains.values()]
    for chain, size in portions:
        gathering.take(left[chain][:size])
        left[chain] = left[chain][size:]
    for records in reversed(left):
        gathering.take(records)
    assert gathering.facts() == whole


def test_facts_may_be_asked_for_after_every_record(tell, store, journals):
    story = tell.troubled(tell.Story(store, tell.make_plan()))
    gathering = Gathering(story.plan)
    verdicts = []
    for record in journals(store)[story.run]:
        gathering.take([record])
        verdicts.append(gathering.facts().verdict)
    assert set(verdicts[:-1]) == {Verdict.NOT_FINISHED}
    # The children's chains were not given, so even the end is no recovery.
    assert verdicts[-1] is Verdict.NOT_RECOVERED


def test_every_deviation_of_a_troubled_run_is_there_with_what_became_of_it(troubled_run, facts):
    found = facts(troubled_run)
    assert found.verdict is Verdict.RECOVERED
    assert kinds(found) == [
        ("warning", "preflight"),
        ("attempt failed", "create-hsm"),
        ("new generation", "exchange-key, blob, upload"),
        ("note", ""),
        ("answer lost", "upload"),
        ("guard refused", "backup-target"),
        ("run stopped", ""),
        ("approval voided", "approve-restore"),
        ("gate rejected", "approve-restore"),
        ("run stopped", ""),
        ("answer lost", "restore"),
        ("unknown outcome", "restore"),
        ("run stopped", ""),
        ("process ended", ""),
        ("step skipped", "grant-roles"),
    ]
    resolution = {d.kind: d.resolution for d in found.deviations}
    assert resolution["attempt failed"].startswith("tried again: attempt 2")
    assert (
        resolution["unknown outcome"]
        == "operator:dana says it took effect: keys are listed in the new HSM"
    )
    assert resolution["approval voided"].startswith("asked again")
    assert resolution["process ended"].startswith("the run was taken up again")
    assert "made for another exchange key" in next(
        d.text for d in found.deviations if d.kind == "note"
    )


def test_the_report_says_in_words_what_a_rollback_undid_and_what_stays(tell, facts, store):
    story = tell.Story(store, tell.make_plan())
    story.create()
    story.open()
    story.does("create-hsm")
    story.does("upload")
    gone = {"rule": "undo", "severity": "ok", "message": "contoso-hsm2 is gone", "advice": ""}
    story.say(R.RUN_ROLLBACK, actor="operator:dana", reason="wrong region")
    story.say(R.UNDO_KEPT, "upload", why="a domain cannot be taken out again")
    story.say(R.UNDO_INTENT, "create-hsm", action="hsm.create")
    story.say(R.UNDO_ANSWERED, "create-hsm", operation=None)
    story.say(R.UNDO_DONE, "create-hsm", findings=[gone])
    story.say(R.RUN_ROLLED_BACK, why="rolled back")
    told = [(d.kind, d.step, d.text) for d in facts(story).deviations][-4:]
    assert told == [
        ("rollback asked", "", "wrong region"),
        ("stays after the rollback", "upload", "a domain cannot be taken out again"),
        (
            "undone",
            "create-hsm",
            "its effect was taken away, and read back: contoso-hsm2 is gone",
        ),
        (
            "run rolled back",
            "",
            "what could be undone was undone; each step of it, and each that stays, is listed",
        ),
    ]


def test_time_is_split_into_work_wait_cloud_and_stopped(troubled_run, facts):
    found = facts(troubled_run)
    create = step_of(found, "create-hsm")
    assert (create.cloud_ms, create.wait_ms) == (24 * MINUTE, 0)
    assert create.stopped_ms == int(1.5 * MINUTE)
    assert step_of(found, "blob").wait_ms == (11 + 8) * MINUTE
    # The answer was lost: the minute until looking found it is the cloud's.
    assert step_of(found, "upload").cloud_ms == 1 * MINUTE
    assert step_of(found, "restore").stopped_ms == 8 * MINUTE
    assert {s.share for s in step_of(found, "repoint").stretches} >= {Share.CHILDREN}
    for run in found.runs:
        for step in run.steps:
            assert all(s.from_ms < s.to_ms for s in step.stretches)


def test_a_step_is_queued_when_what_it_needs_is_done_and_not_moved_by_a_generation(
    troubled_run, facts
):
    found = facts(troubled_run)
    for run in found.runs:
        for step in run.steps:
            if step.began:
                assert step.queued.at_ms <= step.began.at_ms <= step.ended.at_ms


def test_wall_time_stands_beside_virtual_time_in_a_lab_only(tell, facts, store):
    story = tell.recover(tell.Story(store, tell.make_plan()))
    found = facts(story)
    assert found.is_lab
    assert found.rto.is_simulated
    assert found.rto.actual_wall_ms == found.rto.actual_ms // 60
    real = MemoryStore()
    told = tell.recover(tell.Story(real, tell.make_plan(RunClass.INCIDENT, lab=False)))
    found = collect(told.plan, {row.run: list(real.read(row.run)) for row in real.runs()})
    assert not found.rto.is_simulated
    assert found.rto.actual_wall_ms == found.rto.actual_ms


def test_rto_runs_from_the_incident_to_the_last_proof_of_databases(tell, facts, store):
    story = tell.recover(tell.Story(store, tell.make_plan(incident_at="2026-11-22T09:41:00Z")))
    found = facts(story)
    assert found.rto.from_ms == tell.START_MS - 19 * MINUTE
    assert found.rto.to_ms == step_of(found, "prove-databases").ended.at_ms
    assert found.rto.reached is Reached.MET


def test_rto_without_an_incident_runs_from_record_0(plain_run, facts):
    found = facts(plain_run)
    assert found.rto.from_ms == found.created.at_ms
    assert found.rto.from_what == "the run's record 0"


def test_rto_ends_with_the_run_where_no_step_proves_databases(tell, store, facts):
    root = tell.ROOT.split("  - id: approve-repoint")[0]
    story = tell.Story(store, tell.make_plan(root=root)).create(text=root)
    story.reads("prove-keys", evidence=tell.KEYS).reads("prove-roles", evidence=tell.ROLES)
    story.say(R.RUN_FINISHED, why="done")
    found = facts(story)
    assert found.rto.to_what == "the end of the run"
    assert found.rto.to_ms == found.finished.at_ms


def test_rpo_is_the_age_of_the_backup_at_the_incident(tell, store, facts):
    plan = tell.make_plan(incident_at="2026-11-22T09:41:00Z", taken_at="2026-11-22T02:41:00Z")
    found = facts(tell.recover(tell.Story(store, plan)))
    assert found.rpo.actual_ms == 7 * 60 * MINUTE


@pytest.mark.parametrize(
    "taken_at", ["", "yesterday", "2026-11-22T02:41:00+02:00", None, "2026-13-22T02:41:00Z"]
)
def test_a_backup_time_that_cannot_be_read_is_no_measurement_and_misses_the_objective(
    tell, store, facts, taken_at
):
    found = facts(tell.recover(tell.Story(store, tell.make_plan(taken_at=taken_at))))
    assert found.rpo.reached is Reached.NOT_MEASURED
    assert found.verdict is Verdict.OBJECTIVE_MISSED
    assert found.verdict_reasons == ("RPO not measured",)


def test_a_backup_from_after_the_incident_is_not_an_objective_met(tell, store, facts):
    found = facts(tell.recover(tell.Story(store, tell.make_plan(taken_at="2026-11-23T00:00:00Z"))))
    assert found.rpo.reached is Reached.NOT_MEASURED


def test_a_missed_objective_is_a_verdict_of_its_own(tell, store, facts):
    found = facts(tell.recover(tell.Story(store, tell.make_plan(taken_at="2026-11-20T00:00:00Z"))))
    assert found.verdict is Verdict.OBJECTIVE_MISSED
    assert found.verdict_reasons == ("RPO missed",)


REKEY = """\
apiVersion: drengine/v1
kind: Runbook
name: custodian-rekey
title: New custodians
steps:
  - {id: approve, title: Approve, gate: {approvals: 1, ask: "These custodians?"}}
  - {id: download, title: Download, action: securitydomain.download}
"""


def finished(tell, store, text):
    story = tell.Story(store, tell.make_plan(root=text)).create(text=text)
    story.say(R.RUN_FINISHED, why="done")
    return story


def test_a_run_that_recovers_nothing_is_finished_and_no_proof_is_asked_for(tell, store, facts):
    found = facts(finished(tell, store, REKEY))
    assert (found.verdict, found.verdict_reasons) == (Verdict.FINISHED, ())


def test_a_run_that_recovers_nothing_may_still_miss_an_objective(tell, store, facts):
    late = REKEY.replace("title: New", "objectives: {rto: 4h, rpo: 24h}\ntitle: New", 1)
    story = tell.Story(store, tell.make_plan(root=late, taken_at="2026-11-20T00:00:00Z"))
    story.create(text=late).say(R.RUN_FINISHED, why="done")
    assert facts(story).verdict is Verdict.FINISHED_LATE


@pytest.mark.parametrize(
    "more", ["action: hsm.restore", "action: sql.something_new", "runbook: sqlmi-repoint-group"]
)
def test_whoever_may_recover_something_must_prove_it(tell, store, facts, more):
    text = f"{REKEY}  - {{id: more, title: More, {more}}}\n"
    found = facts(finished(tell, store, text))
    assert found.verdict is Verdict.NOT_RECOVERED


def test_a_run_that_waits_is_not_finished_and_says_for_what(tell, store, facts):
    found = facts(tell.recover(tell.Story(store, tell.make_plan()), until="upload"))
    assert found.verdict is Verdict.NOT_FINISHED
    assert found.verdict_reasons == ("the run is waiting", "backup-target: later")
    assert found.finished is None
    assert (found.rto.reached, found.rpo.reached) == (Reached.NOT_YET, Reached.NOT_YET)


def test_a_cancelled_run_is_not_recovered(tell, store, facts):
    story = tell.recover(tell.Story(store, tell.make_plan()), until="upload")
    story.say(R.RUN_CANCELLED, actor="operator:dana", reason="the source came back")
    found = facts(story)
    assert found.verdict is Verdict.NOT_RECOVERED
    assert found.verdict_reasons[0] == "the run was cancelled"


def given_up(tell, store, kind=R.RUN_CANCELLED):
    story = tell.recover(tell.Story(store, tell.make_plan()), until="upload")
    if kind is R.RUN_CANCELLED:
        return story.wait(90).say(kind, actor="operator:dana", reason="the source came back")
    story.open().say(R.RUN_ROLLBACK, actor="operator:dana", reason="a drill")
    return story.wait(90).say(kind, why="rolled back")


@pytest.mark.parametrize("kind", [R.RUN_CANCELLED, R.RUN_ROLLED_BACK])
def test_a_run_that_was_given_up_shows_no_recovery_time_and_no_age_of_data(
    tell, store, facts, kind
):
    found = facts(given_up(tell, store, kind))
    assert found.verdict is Verdict.NOT_RECOVERED
    assert found.finished == found.runs[0].last
    assert (found.rto.actual_ms, found.rto.to_ms, found.rto.actual_wall_ms) == (None, None, None)
    assert (found.rpo.actual_ms, found.rpo.from_ms) == (None, None)
    assert (found.rto.reached, found.rpo.reached) == (Reached.NOT_SHOWN, Reached.NOT_SHOWN)
    assert "the run was" in found.rto.why
    assert "was restored" in found.rpo.from_what
    assert found.rpo.why == "no restore succeeded in this run"


def test_no_control_takes_a_run_that_was_given_up_for_one_that_came_back_in_time(
    tell, store, facts
):
    by_id = {each.control.id: each for each in supports_of(facts(given_up(tell, store)))}
    for name in ("CP-7", "CP-10", "CP-10(4)", "Art. 12(6)", "A.5.30"):
        assert not by_id[name].is_supported, name


def test_a_run_that_came_to_its_end_and_did_not_recover_met_no_objective(tell, store, facts):
    broken = {"keys": [{**tell.KEYS["keys"][0], "status": "missing"}], "inventory": {}}
    found = facts(tell.recover(tell.Story(store, tell.make_plan()), keys=broken))
    assert found.verdict is Verdict.NOT_RECOVERED
    assert (found.rto.reached, found.rpo.reached) == (Reached.NOT_SHOWN, Reached.NOT_SHOWN)
    assert "K1 does not hold" in found.rto.why


def test_a_restore_that_was_left_out_gives_no_age_of_data(tell, store, facts):
    story = tell.Story(store, tell.make_plan()).create()
    story.say(R.STEP_SKIPPED, "restore", reason="no time", actor="operator:dana")
    found = facts(story)
    assert found.rpo.reached is Reached.NOT_YET
    assert "the plan names" in found.rpo.from_what


def test_service_that_is_back_while_the_run_goes_on_has_not_met_its_objective_yet(
    tell, store, facts
):
    story = tell.Story(store, tell.make_plan()).create()
    story.reads("prove-databases", evidence=tell.DATABASES)
    found = facts(story)
    assert found.rto.to_ms is not None
    assert found.rto.reached is Reached.NOT_YET


@pytest.mark.parametrize(
    ("change", "criterion"),
    [
        ({"status": "missing"}, "K1"),
        ({"status": "different"}, "K1"),
        ({"public_key_equal": False}, "K1"),
        ({"canary": "failed"}, "K2"),
    ],
)
def test_a_key_that_is_not_what_it_was_fails_its_criterion(tell, store, facts, change, criterion):
    keys = {"keys": [{**tell.KEYS["keys"][0], **change}, tell.KEYS["keys"][1]]}
    found = facts(tell.recover(tell.Story(store, tell.make_plan()), keys=keys))
    assert {c.id for c in found.criteria if c.holds is Holds.NO} == {criterion}
    assert found.verdict is Verdict.NOT_RECOVERED


@pytest.mark.parametrize(
    ("change", "criterion"),
    [
        ({"status": "Inaccessible"}, "D1"),
        ({"canary": "different"}, "D2"),
        ({"thumbprint_equal": False}, "D3"),
    ],
)
def test_a_database_that_is_not_what_it_was_fails_its_criterion(
    tell, store, facts, change, criterion
):
    databases = {"databases": [tell.database("a", "x", **change), tell.database("a", "y")]}
    found = facts(tell.recover(tell.Story(store, tell.make_plan()), databases=databases))
    assert {c.id for c in found.criteria if c.holds is Holds.NO} == {criterion}
    assert found.verdict is Verdict.NOT_RECOVERED


def test_a_missing_role_fails_and_an_added_one_is_told(tell, store, facts):
    roles = {
        "expected": 2,
        "found": 2,
        "missing": [["/keys", "r", "p"]],
        "extra": [["/", "r", "q"]],
    }
    found = facts(tell.recover(tell.Story(store, tell.make_plan()), roles=roles))
    assert found.roles.missing == ("/keys · r · p",)
    criterion = next(c for c in found.criteria if c.id == "R1")
    assert criterion.holds is Holds.NO
    assert "1 more that the inventory does not have" in criterion.detail


def test_a_proof_that_names_nothing_is_not_shown(tell, store, facts):
    found = facts(
        tell.recover(
            tell.Story(store, tell.make_plan()), keys={"keys": []}, roles={}, databases=None
        )
    )
    said = {c.id: c.holds for c in found.criteria}
    assert {said[c] for c in ("K1", "K2", "R1", "D1", "D2", "D3", "P1")} == {Holds.NOT_SHOWN}
    assert found.verdict is Verdict.NOT_RECOVERED


def test_a_proof_left_out_by_a_person_is_not_shown_and_by_the_runbook_not_asked(tell, store, facts):
    story = tell.Story(store, tell.make_plan()).create()
    story.say(R.STEP_SKIPPED, "prove-keys", reason="`when` is false")
    story.say(R.STEP_SKIPPED, "prove-roles", reason="no time", actor="operator:dana")
    said = {c.id: c.holds for c in facts(story).criteria}
    assert said["K1"] is Holds.NOT_ASKED
    assert said["R1"] is Holds.NOT_SHOWN


def test_what_a_failed_proof_saw_is_shown_and_bears_nothing_out(tell, store, facts):
    story = tell.Story(store, tell.make_plan()).create()
    story.begin("prove-databases").say(R.GUARDS_HELD, "prove-databases", findings=[])
    story.say(R.ANSWER_DONE, "prove-databases", outputs={})
    story.say(
        R.STEP_FAILED,
        "prove-databases",
        error=tell.error("1 of 4"),
        evidence=tell.DATABASES,
        findings=[],
    )
    found = facts(story)
    assert len(found.databases) == 4
    assert next(c for c in found.criteria if c.id == "D1").holds is Holds.NOT_SHOWN
    assert found.rto.to_ms is None


def test_a_database_proved_twice_is_told_once_as_it_was_last_seen(tell, store, facts):
    story = tell.recover(tell.Story(store, tell.make_plan()))
    double = {
        "databases": [
            *tell.DATABASES["databases"],
            tell.database("sqlmi-weu", "orders", canary="different"),
        ]
    }
    assert len(facts(story).databases) == 4
    other = MemoryStore()
    told = tell.recover(tell.Story(other, tell.make_plan()), databases=double)
    found = collect(told.plan, {row.run: list(other.read(row.run)) for row in other.runs()})
    assert [
        d.canary for d in found.databases if (d.instance, d.name) == ("sqlmi-weu", "orders")
    ] == ["different"]


def test_a_child_that_no_journal_tells_of_is_not_at_its_end(plain_run, store, journals):
    chains = journals(store)
    lost = next(run for run in chains if run.endswith("fog-neu"))
    del chains[lost]
    found = collect(plain_run.plan, chains)
    assert found.verdict is Verdict.NOT_RECOVERED
    assert lost in found.criteria[0].detail


def test_a_child_that_its_parent_does_not_name_is_not_at_its_end(tell, store, facts):
    story = tell.recover(tell.Story(store, tell.make_plan()))
    stray = type(story.run)(f"{story.run}/repoint/stray")
    story.create(
        stray,
        text=tell.CHILD,
        path=("repoint",),
        item={"name": "stray"},
        parent=story.run,
        inputs={},
    )
    story.say(R.RUN_FINISHED, chain=stray, why="done")
    found = facts(story)
    assert found.criteria[0].holds is Holds.NO
    assert "stray" in found.criteria[0].detail


def test_requests_that_changed_or_went_wrong_are_listed_and_looks_are_counted(troubled_run, facts):
    create = step_of(facts(troubled_run), "create-hsm")
    assert [(r.method, r.status, r.sent) for r in create.requests] == [
        ("PUT", 429, True),
        ("PUT", 202, True),
    ]
    assert create.reads == 4
    assert all(r.request_id for r in create.requests)


def test_a_checkpoint_names_the_record_that_ended_the_step(plain_run, facts, store):
    found = facts(plain_run)
    records = list(store.read(plain_run.run))
    for step in found.runs[0].steps:
        if step.status == "succeeded":
            record = records[step.checkpoint_seq]
            assert (record.type, record.sha256) in {
                (R.STEP_SUCCEEDED, step.checkpoint_sha256),
                (R.DELIVERY_ACCEPTED, step.checkpoint_sha256),
            }


def test_limits_name_the_lab_the_single_machine_and_the_missing_signature(plain_run, facts):
    limits = " ".join(facts(plain_run).limits)
    for words in (
        "took place in a lab",
        "ceremony combine",
        "not signed",
        "played by the drill",
        "CHECKDB",
    ):
        assert words in limits


def test_limits_of_an_incident_in_azure_speak_of_no_lab_and_no_play(tell, facts, store):
    plan = tell.make_plan(RunClass.INCIDENT, lab=False)
    limits = " ".join(facts(tell.recover(tell.Story(store, plan))).limits)
    assert "took place in a lab" not in limits
    assert "This was a drill" not in limits


def test_what_is_said_of_time_stamps_is_true_with_and_without_them(plain_run, facts):
    limits = " ".join(facts(plain_run).limits)
    assert "no time stamp of another party" not in limits
    assert "only where a bundle holds time stamps" in limits


def test_a_delivery_that_does_not_say_how_it_was_made_is_a_limit(tell, store, facts):
    story = tell.Story(store, tell.make_plan()).create().deliver("blob")
    assert "does not say how it was made" in " ".join(facts(story).limits)


def test_a_clock_that_goes_back_is_a_deviation(tell, store, facts):
    story = tell.Story(store, tell.make_plan()).create()
    story.wait(5).open().wait(-3).reads("preflight")
    (back,) = [d for d in facts(story).deviations if d.kind == "clock went back"]
    assert back.text.startswith("3000 ms before")  # the host's; virtual time ran 60 times as far


def asked_behind_a_jump(tell, store, **by_ms):
    """Tell a story in which a clock of the lab's host was elsewhere when a gate was asked."""
    story = tell.Story(store, tell.make_plan()).create().wait(5).reads("preflight")
    ahead = story.draft

    def jumped(kind, body, actor):
        made = ahead(kind, body, actor)
        changes = {name: getattr(made, name) + ms for name, ms in by_ms.items()}
        return replace(made, **changes) if kind is R.GATE_REQUESTED else made

    story.draft = jumped
    return story.ask("approve-create")


def test_virtual_time_of_a_lab_that_jumps_back_is_not_a_clock_that_was_set(tell, store, facts):
    found = facts(asked_behind_a_jump(tell, store, at_ms=-542))
    (back,) = [d for d in found.deviations if "went back" in d.kind]
    assert back.kind == "virtual time went back"
    assert "542 ms of the lab's virtual time" in back.text
    assert real_deviations(found) == 0
    by_id = {each.control.id: each for each in supports_of(found)}
    assert by_id["A.8.17"].is_supported


def test_a_host_clock_that_was_set_back_in_a_lab_is_found_though_virtual_time_went_on(
    tell, store, facts
):
    found = facts(asked_behind_a_jump(tell, store, wall_ms=-70))
    (back,) = [d for d in found.deviations if "went back" in d.kind]
    assert (back.kind, back.text[:5]) == ("clock went back", "70 ms")


def test_a_record_that_the_lifecycle_does_not_allow_is_refused(tell, store, journals):
    story = tell.Story(store, tell.make_plan()).create()
    story.reads("preflight")
    records = journals(store)[story.run]
    with pytest.raises(JournalDamaged, match="no row of the lifecycle"):
        collect(story.plan, {story.run: [*records[:3], *records[4:]]})


def test_a_record_without_what_it_must_say_is_refused_by_number(tell, store, journals):
    story = tell.Story(store, tell.make_plan()).create()
    # The store keeps it: only the fold knows what a record must say.
    story.store.append(
        story.leases[story.run],
        story.states[story.run].head,
        [story.draft(R.STEP_BEGUN, {}, "engine")],
    )
    with pytest.raises(JournalDamaged, match="record 2"):
        collect(story.plan, journals(store))


def test_children_without_their_root_are_refused(plain_run, store, journals):
    chains = journals(store)
    children = {run: records for run, records in chains.items() if "/" in run}
    with pytest.raises(InputError, match="0 root runs"):
        collect(plain_run.plan, children)


def test_a_plan_that_was_changed_is_refused(plain_run, store, journals):
    doc = {**plain_run.plan.to_json(), "class": "incident"}
    with pytest.raises(InputError, match="digest"):
        collect(doc, journals(store))


@pytest.mark.usefixtures("plain_run")
def test_a_journal_of_another_plan_is_refused(tell, store, journals):
    other = tell.make_plan(root=tell.ROOT.split("  - id: approve-repoint")[0])
    with pytest.raises(JournalDamaged, match="differ in steps"):
        collect(other, journals(store))
