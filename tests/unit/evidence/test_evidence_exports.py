"""The reports in other programs' forms: OSCAL, JUnit, Markdown, PDF. Read by those programs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from drengine.errors import InputError
from drengine.evidence.collect import collect
from drengine.evidence.exports import junit_of, oscal_of
from drengine.evidence.pdf import for_print, pdf_of, why_no_pdf
from drengine.evidence.render import render_executive, render_html, render_markdown
from drengine.evidence.reports import reports_of
from drengine.journal.memory import MemoryStore
from drengine.model.facts import Reached
from drengine.model.runbook import RunClass

quiet = pytest.mark.filterwarnings(  # WeasyPrint leaves a file for the collector to close
    "ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
HERE = Path(__file__).parent
READER = HERE.parents[2] / "build" / "oscal" / "bin" / "python"
CONTROL = {chr(code) for code in (*range(9), *range(11, 32), 0x7F, *range(0x80, 0xA0), 0x202E)}


def broken(tell, story):
    """A gate for two people that one person opened, in an emergency."""
    tell.recover(story, until="upload")
    story.ask("approve-restore", 2)
    gate = story.states[story.run].steps["approve-restore"].gate
    return story.say(
        tell.R.GATE_APPROVED,
        "approve-restore",
        actor="simulated:approver:alice",
        request_seq=gate.seq,
        digest=gate.digest,
        reason="nobody else could be reached",
        role="",
        sent_at=story.now,
        signal="s-glass",
        break_glass=True,
    )


@pytest.fixture(scope="module")
def tales(tell):
    """Facts of every kind of run there is: whole, troubled, cut off, played on paper, hostile."""

    def told(run_class=RunClass.DRILL, tale=tell.recover, *, lab=True):
        own = MemoryStore()
        story = tale(tell.Story(own, tell.make_plan(run_class, lab=lab)))
        return collect(story.plan, {row.run: list(own.read(row.run)) for row in own.runs()})

    return {
        "recovered": told(),
        "incident": told(RunClass.INCIDENT, tell.troubled, lab=False),
        "cut off": told(tale=lambda story: tell.recover(story, until="upload")),
        "only created": told(tale=lambda story: story.create()),
        "tabletop": told(RunClass.TABLETOP, lambda story: story.create(), lab=False),
        "glass": told(tale=lambda story: broken(tell, story)),
        "hostile": tell.poisoned(told(tale=tell.troubled)),
    }


def test_oscal_is_read_by_trestle_and_valid_by_nists_schema(tales, tmp_path):
    if not READER.exists():
        pytest.skip("OSCAL's readers are not installed: sh .ci/conformance makes build/oscal")
    for name, facts in tales.items():
        (tmp_path / f"{name}.json").write_bytes(oscal_of(facts))
    broken = json.loads(oscal_of(tales["recovered"]))
    broken["assessment-results"]["results"][0]["findings"][0]["target"]["status"]["state"] = "maybe"
    del broken["assessment-results"]["metadata"]["oscal-version"]
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    paths = sorted(map(str, tmp_path.iterdir()))
    done = subprocess.run(
        [READER, HERE / "oscal_reader.py", *paths], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = {Path(path).stem: found for path, found in json.loads(done.stdout).items()}
    wrong = told.pop("broken")
    assert {name: found for name, found in told.items() if any(found.values())} == {}
    assert set(told) == set(tales)
    assert len(wrong["nist"]) == 2
    assert wrong["trestle"]


def test_oscal_says_what_is_supported_and_what_is_missing(tales):
    for name, facts in tales.items():
        text = oscal_of(facts).decode()
        assert "compliant" not in text.lower(), name
        doc = json.loads(text)["assessment-results"]
        (result,) = doc["results"]
        props = {each["name"]: each["value"] for each in result["props"]}
        assert props["lab"] == ("true" if facts.is_lab else "false")
        states = {row["target"]["status"]["state"] for row in result["findings"]}
        if name == "tabletop":
            cp4 = next(row for row in result["findings"] if row["title"].startswith("CP-4 "))
            assert cp4["target"]["status"]["state"] == "not-satisfied"
            assert "tabletop recovers nothing" in cp4["description"]
        assert states <= {"satisfied", "not-satisfied"}
    title = json.loads(oscal_of(tales["recovered"]))["assessment-results"]["metadata"]["title"]
    assert title.startswith("DRILL LAB r-")


def test_junit_counts_what_failed_and_what_was_not_asked(tales):
    for name, facts in tales.items():
        root = ET.fromstring(junit_of(facts))  # noqa: S314 - our own text
        for suite in root:
            assert int(suite.get("tests")) == len(suite.findall("testcase"))
            assert int(suite.get("failures")) == len(suite.findall("testcase/failure"))
        criteria = root[0]
        failed = {
            case.get("name")
            for case in criteria.iterfind("testcase[@classname='criteria']")
            if case.find("failure") is not None
        }
        assert failed == {each.id for each in facts.criteria if each.holds.counts_against}, name
        assert [suite.get("name").split(" ")[0] for suite in root][1:] or name == "hostile"


def objectives(facts):
    root = ET.fromstring(junit_of(facts))  # noqa: S314 - our own text
    cases = root[0].iterfind("testcase[@classname='objectives']")
    return {case.get("name"): case[0].get("message") if len(case) else "" for case in cases}


@pytest.mark.parametrize(
    ("reached", "words"),
    [
        (Reached.MET, ""),
        (Reached.MISSED, "missed: 4d03h of 4h, simulated"),
        (Reached.NOT_SHOWN, "not shown: the run was cancelled, simulated"),
    ],
)
def test_a_missed_objective_fails_in_junit_and_stands_in_oscal(tales, reached, words):
    why = "the run was cancelled" if reached is Reached.NOT_SHOWN else ""
    ms = 3_600_000 if reached is Reached.MET else 99 * 3_600_000
    found = tales["recovered"]
    facts = replace(found, rto=replace(found.rto, reached=reached, actual_ms=ms, why=why))
    assert objectives(facts) == {"RTO": words, "RPO": ""}
    (result,) = json.loads(oscal_of(facts))["assessment-results"]["results"]
    (row,) = [each for each in result["observations"] if each["title"].startswith("RTO")]
    assert row["description"] == (words or "met: 1h of 4h, simulated")
    assert {each["name"]: each["value"] for each in row["props"]}["reached"] == str(reached)


def test_an_objective_without_a_target_is_skipped(tales):
    found = tales["recovered"]
    rpo = replace(found.rpo, target_ms=None, reached=Reached.NO_TARGET)
    assert objectives(replace(found, rpo=rpo))["RPO"].startswith("no target set")
    assert root_counts(replace(found, rpo=rpo))["skipped"] == "1"


def root_counts(facts):
    return ET.fromstring(junit_of(facts))[0].attrib  # noqa: S314 - our own text


def test_hostile_text_stays_text_in_every_report(tales):
    hostile = tales["hostile"]
    for name, data in reports_of(hostile).items():
        text = data.decode()
        assert not set(text) & CONTROL, name
        plain = text.replace("\\", "") if name == "report.md" else text
        assert "⟦U+001B⟧[2J" in plain, name
        assert "49" not in plain.split("7*7")[1][:6], name
        assert name in ("oscal-ar.json", "report.md") or "<svg onload" not in text, name
    root = ET.fromstring(junit_of(hostile))  # noqa: S314 - our own text
    assert {each.tag for each in root.iter()} <= {
        "testsuites", "testsuite", "testcase", "failure", "skipped",
    }  # fmt: skip


def test_hostile_text_makes_no_markdown(tales):
    honest = render_markdown(tales["recovered"])
    text = render_markdown(tales["hostile"])
    assert "\n# INCIDENT" not in text
    for sign in ("](", "<", "`"):
        assert all(text[at - 1] == "\\" for at in range(len(text)) if text.startswith(sign, at))
    heads = [line.split(" ")[0] for line in text.splitlines() if line.startswith("#")]
    assert heads == [line.split(" ")[0] for line in honest.splitlines() if line.startswith("#")]


@pytest.mark.parametrize("render", [render_html, render_executive, render_markdown])
def test_class_and_lab_stand_first_in_every_reading(tales, render):
    def head(name):
        return render(tales[name]).partition("<body>")[2][:900] or render(tales[name])[:200]

    assert "DRILL" in head("recovered")
    assert "LAB" in head("recovered")
    assert "INCIDENT" in head("incident")
    assert "REAL AZURE" in head("incident").upper()
    assert "LAB" not in head("incident")
    assert "TABLETOP" in head("tabletop")


def test_broken_glass_shouts_from_the_top_of_every_reading(tales):
    for render in (render_html, render_executive):
        page = render(tales["glass"]).partition("<body>")[2]
        assert page.index("<b>BREAK-GLASS</b> used 1 time:") < page.index('class="tiles"')
        assert "nobody else could be reached" in page
        assert "BREAK-GLASS" not in render(tales["recovered"]).partition("<body>")[2]
    assert "**BREAK-GLASS used 1 time:" in render_markdown(tales["glass"]).partition("| target")[0]
    (result,) = json.loads(oscal_of(tales["glass"]))["assessment-results"]["results"]
    assert {"break-glass-decisions": "1"}.items() <= {
        each["name"]: each["value"] for each in result["props"]
    }.items()


def test_no_report_says_compliant(tales):
    for facts in tales.values():
        for name, data in reports_of(facts).items():
            assert b"compliant" not in data.lower(), name


def test_without_weasyprint_a_pdf_is_refused_with_what_to_install(monkeypatch, tales):
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    assert "a PDF cannot be made here" in why_no_pdf()
    with pytest.raises(InputError) as refused:
        reports_of(tales["recovered"], pdf=("executive",))
    assert "Pango" in refused.value.hint


@pytest.fixture
def printed(tmp_path):
    """Make a PDF and return what poppler says of it: its facts, its text."""
    if why := why_no_pdf():
        pytest.skip(why)
    if not shutil.which("pdftotext"):
        pytest.skip("poppler-utils is not installed: a PDF is not read back")

    def read(facts, render=render_executive):
        file = tmp_path / "page.pdf"
        file.write_bytes(pdf_of(render(facts), facts.last.at_ms))
        return [
            subprocess.run([*tool, file, *end], capture_output=True, text=True, check=True).stdout
            for tool, end in (
                (["pdfinfo"], []),
                (["pdftotext", "-layout"], ["-"]),
                (["pdfinfo", "-meta"], []),
            )
        ]

    return read


@quiet
def test_the_pdf_is_one_page_that_says_what_the_run_was_in_the_same_bytes(printed, tales, tmp_path):
    said, text, meta = printed(tales["recovered"])
    assert "Pages:           1\n" in said
    assert "JavaScript:      no" in said
    assert "DRILL · LAB · SIMULATED AZURE" in text
    assert "Recovered (in a lab)" in text
    facts = tales["recovered"]
    again = pdf_of(render_executive(facts), facts.last.at_ms)
    assert (tmp_path / "page.pdf").read_bytes() == again
    assert 'pdfaid:part="3"' in meta or "<pdfaid:part>3<" in meta


def test_every_drawing_takes_its_rules_and_colours_along_to_be_printed(tales):
    page = for_print(render_html(tales["recovered"]))
    drawings = page.count('<svg class="tl"')
    assert drawings == page.count("<style>") - 1 > 4
    assert page.count(" .work { fill: #2b6cb0; }") == drawings + 1
    assert "var(--" not in page
    assert "anywhere" not in page


@quiet
def test_the_full_report_is_printed_with_its_drawings(printed, tales):
    said, text, meta = printed(tales["cut off"], render_html)
    assert int(said.partition("Pages:")[2].split()[0]) > 3
    for words in ("DRILL · LAB · SIMULATED AZURE", "Timeline", "Points of no return", "Controls"):
        assert words in text
    assert 'pdfaid:part="3"' in meta or "<pdfaid:part>3<" in meta


@quiet
def test_hostile_text_is_printed_as_text(printed, tales):
    said, text, _ = printed(tales["hostile"])
    assert "JavaScript:      no" in said
    assert "<script>" in text
