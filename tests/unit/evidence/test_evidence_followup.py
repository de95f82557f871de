"""Corrective actions and lessons: in every report, and part of what is verified."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys

import pytest

from drengine.evidence.folder import write_evidence
from drengine.evidence.followup import follow_up_of, real_deviations
from drengine.evidence.render import render_executive, render_html, render_markdown
from drengine.evidence.reports import reports_of
from drengine.evidence.sealed import verify_bundle
from drengine.evidence.verify import verify_folder
from drengine.trust.register import read_trust


def action(number, **more):
    return {
        "id": f"CA-{number}",
        "title": f"Mend {number}",
        "owner": "ada",
        "due": "",
        "run": "",
        "lesson": "",
        "status": "open",
        "history": [{"at": "2026-11-20T10:00:00.000Z", "status": "open", "note": "why"}],
        **more,
    }


def actions_of(run):
    return {
        "schema": "drengine/actions/v1",
        "run": run,
        "actions": [
            action(1, run=run, lesson="Key cards were in one room"),
            action(2, run="r-before", due="2026-11-21"),
            action(3, due="2026-12-24"),
            action(4, run="r-before", due="2026-11-01", status="closed"),
        ],
        "reviews": [],
    }


def text_of(page):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def test_the_report_says_of_every_action_how_it_stands_and_where_it_is_from(plain_run, facts):
    found = facts(plain_run)
    page = render_html(found, actions_of(found.run))
    section = text_of(page.partition('<section id="actions">')[2].partition("</section>")[0])
    assert "3 open, 1 overdue , 1 done; 1 from this run" in section
    for words in (
        "CA-1 Mend 1 2026-11-20 why ada no date ◷ open this run",
        "CA-2 Mend 2 2026-11-20 why ada 2026-11-21 ✗ overdue r-before",
        "CA-3 Mend 3 2026-11-20 why ada 2026-12-24 ◷ open not named",
        "CA-4 Mend 4 2026-11-20 why ada 2026-11-01 ✓ done r-before",
        "Lessons Key cards were in one room CA-1",
    ):
        assert words in section, section


def test_the_page_for_management_counts_them(plain_run, facts):
    found = facts(plain_run)
    page = text_of(render_executive(found, actions_of(found.run)))
    assert "3 open, 1 overdue , 1 done; 1 from this run. Lessons: 1." in page
    assert "Corrective actions: none is recorded." in text_of(render_executive(found))


def test_markdown_lists_them(plain_run, facts):
    found = facts(plain_run)
    text = render_markdown(found, actions_of(found.run)).replace("\\", "")
    assert "- CA-2 overdue: Mend 2 (ada, due 2026-11-21, run r-before)" in text
    assert "learned: Key cards were in one room" in text
    assert "None is recorded." in render_markdown(found)


def test_a_statement_that_none_is_needed_is_shown_with_who_made_it(plain_run, facts):
    found = facts(plain_run)
    said = {"reviews": [{"run": found.run, "by": "ada", "note": "read it all", "at": "today"}]}
    assert "None is needed , says ada (today): read it all" in text_of(render_html(found, said))


@pytest.mark.parametrize(
    "doc", [{}, {"actions": 5}, {"actions": [5, {}]}, {"reviews": "x", "actions": [{"due": []}]}]
)
def test_a_document_that_makes_no_sense_makes_no_crash(plain_run, facts, doc):
    found = facts(plain_run)
    assert follow_up_of(doc, found).of_run == ()
    assert 'id="actions"' in render_html(found, doc)


def test_a_step_that_its_condition_left_out_is_no_deviation_to_be_mended(plain_run, facts):
    assert real_deviations(facts(plain_run)) == 0


def test_a_bundle_with_actions_verifies_and_its_report_shows_them(
    make_bundle, cast, tell, tmp_path
):
    run = tell.make_plan().run_id
    bundle = make_bundle(tmp_path, actions=actions_of(run))
    report = verify_bundle(bundle, read_trust(cast.trust))
    assert [str(problem) for problem in report.problems] == []
    alone = [sys.executable, "-I", str(bundle / "verify.py"), str(bundle), str(cast.trust)]
    done = subprocess.run(alone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "Key cards were in one room" in (bundle / "reports/report.html").read_text()
    assert "1 overdue" in (bundle / "reports/executive.html").read_text()


def test_an_action_that_is_dropped_from_the_report_alone_is_caught(
    make_bundle, cast, tell, tmp_path
):
    run = tell.make_plan().run_id
    bundle = make_bundle(tmp_path, actions=actions_of(run))
    file = bundle / "actions.json"
    doc = json.loads(file.read_bytes())
    doc["actions"] = doc["actions"][:1]
    file.write_text(json.dumps(doc, sort_keys=True, separators=(",", ":")) + "\n")
    report = verify_bundle(bundle, read_trust(cast.trust))
    told = [str(problem) for problem in report.problems]
    assert any("is not the page that these journals give" in each for each in told), told


def test_a_folder_that_is_not_sealed_shows_them_too(store, plain_run, tmp_path):
    folder = write_evidence(
        store, plain_run.run, tmp_path / "evidence", actions=actions_of(plain_run.run)
    )
    assert verify_folder(folder).holds
    assert "Mend 2" in (folder / "report.html").read_text()


def test_every_report_is_given_the_same_actions(plain_run, facts):
    found = facts(plain_run)
    made = reports_of(found, actions_of(found.run))
    for name in ("report.html", "report.md"):
        assert b"Mend 2" in made[name].replace(b"\\", b""), name
    (result,) = json.loads(made["oscal-ar.json"])["assessment-results"]["results"]
    (row,) = [each for each in result["findings"] if each["title"].startswith("CA-5")]
    assert "overdue: CA-2 of ada" in row["description"]
