"""What runs amount to, taken together: controls, coverage, differences, trends; on the command line."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from drengine.cli.main import run
from drengine.evidence.collect import collect
from drengine.evidence.compare import coverage_of, difference, trend_of
from drengine.evidence.controls import all_controls, supports_of
from drengine.evidence.followup import follow_up_of
from drengine.evidence.predicates import FOLLOWING, PREDICATES
from drengine.journal.memory import MemoryStore
from drengine.journal.sqlite import SqliteStore
from drengine.model.records import RecordType as R
from drengine.model.runbook import RunClass

DAY = 86_400_000
FRAMEWORKS = {
    "dora", "hipaa", "iso-22301-2019", "iso-27001-2022", "mas-trm-2021",
    "nist-800-34-r1", "nist-800-53-r5", "pci-dss-4.0.1", "soc-2",
}  # fmt: skip


@pytest.fixture(scope="module")
def told(tell):
    def make(run_class=RunClass.DRILL, tale=tell.recover, *, lab=True, later_ms=0, **inputs):
        store = MemoryStore()
        story = tell.Story(store, tell.make_plan(run_class, lab=lab, **inputs))
        story.now += later_ms
        tale(story)
        return collect(story.plan, {row.run: list(store.read(row.run)) for row in store.runs()})

    return make


def row(rows, name):
    return next(each for each in rows if each.id == name)


def test_the_nine_frameworks_are_there_each_control_with_words_and_needs_of_its_own():
    controls = all_controls()
    assert {each.framework for each in controls} == FRAMEWORKS
    assert len({(each.framework, each.id) for each in controls}) == len(controls)
    assert all(each.title and each.paraphrase and each.needs for each in controls)
    known = PREDICATES.keys() | FOLLOWING.keys()
    assert {need for each in controls for need in each.needs} == known


def test_a_control_is_supported_or_says_what_is_missing_and_is_never_more(told):
    for facts in (told(), told(RunClass.TABLETOP, lambda story: story.create(), lab=False)):
        for each in supports_of(facts):
            assert each.because or each.missing
            assert re.fullmatch(r"(not |partly )?supported by this run(, in a lab)?", each.level)
            assert each.is_supported is not bool(each.missing)


def test_a_tabletop_supports_no_control_that_needs_a_recovery(told):
    facts = told(RunClass.TABLETOP, lambda story: story.create(), lab=False)
    for each in supports_of(facts):
        if {"run-finished", "backup-restored"} & set(each.control.needs):
            assert not each.is_supported, each.control.id


def test_what_is_never_tested_is_overdue_and_what_was_is_until_its_time(told):
    assert all(each.is_overdue(0, DAY) for each in coverage_of([]))
    assert len(coverage_of([])) == len(all_controls())
    facts = told(lab=False)
    found = row(coverage_of([facts]), "CP-4(3)")
    assert not found.is_overdue(facts.last.at_ms + DAY, DAY)
    assert found.is_overdue(facts.last.at_ms + DAY + 1, DAY)


def test_a_run_in_a_lab_clears_nothing_that_is_overdue_unless_it_is_counted(told):
    facts = told()
    found = row(coverage_of([facts]), "CP-4(3)")
    assert (found.run, found.level) == (facts.run, "supported by this run, in a lab")
    assert found.is_overdue(facts.last.at_ms, DAY)
    assert not found.is_overdue(facts.last.at_ms, DAY, lab_counts=True)


TRACKED = ("CP-4", "CA-5", "A.5.27", "10.1", "Art. 13")


def supported(facts, doc=None):
    found = supports_of(facts, follow_up_of(doc, facts))
    return {each.control.id for each in found if each.is_supported}


def test_controls_of_learning_need_tracked_actions_and_not_only_a_list(told, tell):
    facts = told(tale=tell.troubled)
    action = {"id": "CA-1", "title": "Mend", "owner": "ada", "status": "open", "due": ""}
    of_run, of_other = ({"actions": [{**action, "run": run}]} for run in (facts.run, "r-other"))
    late = {"actions": [{**action, "run": facts.run, "due": "2020-01-31"}]}
    statement = {"reviews": [{"run": facts.run, "by": "ada", "note": "looked", "at": ""}]}
    for doc in (None, of_other, late, statement):
        assert not supported(facts, doc) & {*TRACKED}, doc
    assert supported(facts, of_run) >= {*TRACKED}


def test_a_run_without_deviations_needs_somebody_who_says_so(told):
    facts = told()
    statement = {"reviews": [{"run": facts.run, "by": "ada", "note": "looked", "at": ""}]}
    assert not supported(facts) & {*TRACKED}
    assert supported(facts, statement) >= {*TRACKED}
    other = {"reviews": [{"run": "r-other", "by": "ada", "note": "looked", "at": ""}]}
    assert not supported(facts, other) & {*TRACKED}


@pytest.mark.parametrize(
    ("was", "holds", "words"),
    [
        ("westeurope", True, "of westeurope"),
        ("North Europe", False, "both lie in northeurope"),
        ("", False, "does not say in which region"),
    ],
)
def test_another_place_is_another_region_and_not_another_name(told, was, holds, words):
    facts = told(location="northeurope", source_hsm="contoso-one")
    facts = replace(facts, source_location=was)
    by_id = {each.control.id: each for each in supports_of(facts)}
    for name in ("CP-4(2)", "CP-7"):
        assert by_id[name].is_supported is holds, name
        assert words in " ".join(by_id[name].because + by_id[name].missing)
    # Nothing that the engine reads says where the storage account is.
    assert not by_id["CP-6"].is_supported


def test_a_newer_run_in_a_lab_does_not_stand_for_one_that_was_real(told):
    real = told(RunClass.INCIDENT, lab=False)
    lab = told(later_ms=9 * DAY)
    found = row(coverage_of([lab, real]), "CP-4")
    assert (found.run, found.is_lab) == (real.run, False)
    assert row(coverage_of([lab]), "CP-4").is_lab


def test_a_run_that_was_cut_off_does_not_hide_the_one_before(told, tell):
    good = told(lab=False)
    cut = told(
        tale=lambda story: tell.recover(story, until="upload"),
        lab=False,
        later_ms=DAY,
        target_hsm="other",
    )
    assert row(coverage_of([good, cut]), "CP-4(3)").run == good.run


def test_a_difference_names_what_changed_and_nothing_else(told, tell):
    one, other = told(), told(tale=tell.troubled)
    assert difference(one, one)["criteria"] == {}
    assert all(each["was_ms"] == each["is_ms"] for each in difference(one, one)["steps"])
    found = difference(one, other)
    assert found["deviations"][0] < found["deviations"][1]
    assert any(each["was_ms"] != each["is_ms"] for each in found["steps"])
    assert found["same_runbook"]


def test_a_trend_compares_runs_of_one_kind_only(told, tell):
    runs = [told(), told(RunClass.INCIDENT, lab=False), told(tale=tell.troubled, later_ms=DAY)]
    first, _, last = trend_of([runs[0], replace(runs[1], created=runs[0].last), runs[2]])
    assert first["rto_before_ms"] is None
    assert last["rto_before_ms"] == first["rto_ms"]
    assert set(last["slowest"]) < set(last["steps"])


def cancelled(tell, minutes):
    def tale(story):
        tell.recover(story, until="upload")
        return story.wait(minutes).say(R.RUN_CANCELLED, actor="operator:dana", reason="enough")

    return tale


def test_a_trend_does_not_compare_a_run_that_recovered_nothing(told, tell):
    runs = [
        told(),
        told(tale=cancelled(tell, 90), later_ms=DAY, target_hsm="two"),
        told(tale=cancelled(tell, 5), later_ms=2 * DAY, target_hsm="three"),
        told(tale=tell.troubled, later_ms=3 * DAY),
    ]
    first, second, third, last = trend_of(runs)
    assert [each["rto_ms"] for each in (second, third)] == [None, None]
    assert [each["rto_before_ms"] for each in (second, third)] == [None, None]
    assert [each["rto"] for each in (second, third)] == ["not shown", "not shown"]
    assert last["rto_before_ms"] == first["rto_ms"]


@pytest.fixture
def drengine(tell, tmp_path, monkeypatch, capsys):
    """A home with two drills, and the command line in it."""
    monkeypatch.setenv("DRENGINE_HOME", str(tmp_path))
    with SqliteStore(tmp_path) as store:
        runs = [
            tale(tell.Story(store, tell.make_plan(target_hsm=name))).run
            for name, tale in (("one", tell.recover), ("two", tell.troubled))
        ]

    def call(*arguments):
        capsys.readouterr()
        assert run([str(each) for each in arguments]) == 0
        return capsys.readouterr().out

    call.runs = runs
    return call


def test_coverage_is_told_by_framework_and_says_what_a_lab_is_not(drengine):
    text = drengine("coverage")
    assert text.count("NIST SP 800-53") == 1
    assert "DRILL" in text
    assert "LAB" in text
    assert "says nothing of the systems that are really there" in text
    assert "✓" not in text
    assert "✓" in drengine("coverage", "--count-lab")
    rows = json.loads(drengine("coverage", "-o", "json"))["controls"]
    assert len(rows) == len(all_controls())
    assert all(each["lab"] for each in rows)
    overdue = json.loads(drengine("coverage", "--overdue", "--every", "1s", "-o", "json"))
    assert len(overdue["controls"]) == len([each for each in rows if each["at_ms"] is None]) or (
        len(overdue["controls"]) == len(rows)
    )


def test_two_runs_are_compared_under_their_class(drengine):
    one, other = drengine.runs
    text = drengine("diff", one, other)
    assert text.count("DRILL") == text.count("LAB") == 2
    assert "No step differs" not in text
    assert "No step differs" in drengine("diff", one, one)
    assert json.loads(drengine("diff", one, other, "-o", "json"))["lab"] == [True, True]


def test_trends_show_each_run_with_the_change_since_the_last_of_its_kind(drengine):
    text = drengine("trends")
    assert all(name in text for name in drengine.runs)
    assert re.search(r"RTO \w+ \([+-]\w+\)", text)
    rows = json.loads(drengine("trends", "-o", "json"))["runs"]
    assert [each["rto_before_ms"] is None for each in rows] == [True, False]
