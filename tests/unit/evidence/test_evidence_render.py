from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest

from drengine.evidence.chart import _apart, _ending, chart_of, text_width
from drengine.evidence.collect import collect
from drengine.evidence.numbers import numbers_of, read_numbers
from drengine.evidence.render import render_html, timeline_svg
from drengine.journal.memory import MemoryStore
from drengine.model.runbook import RunClass


class Page(HTMLParser):
    """Counts elements, attributes and visible text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.texts = set(), set(), []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def test_hostile_text_in_every_field_stays_text(troubled_run, facts, tell):
    honest, page = render_html(facts(troubled_run)), render_html(tell.poisoned(facts(troubled_run)))
    good, bad = Page(honest), Page(page)
    assert bad.tags <= good.tags
    assert bad.attributes <= good.attributes
    assert "script" not in bad.tags
    assert "<script" not in page
    assert "onerror=alert(1)>" not in page
    assert "49" not in page.split("{{7*7}}")[1][:10]
    assert "\u202e" not in page
    assert "\u0000" not in page
    assert "⟦U+202E⟧" in page


def test_hostile_text_cannot_leave_the_style_element(troubled_run, facts, tell):
    page = render_html(tell.poisoned(facts(troubled_run)))
    assert page.count("</style>") == 1
    assert page.count("<style>") == 1


def test_the_page_is_self_contained_and_has_no_script(troubled_run, facts):
    page = render_html(facts(troubled_run))
    parsed = Page(page)
    assert parsed.tags.isdisjoint({"script", "iframe", "object", "embed", "link", "form", "img"})
    assert not any(name.startswith("on") for name in parsed.attributes)
    assert "src" not in parsed.attributes
    assert "default-src 'none'" in page
    assert "url(http" not in page
    assert page.lstrip().startswith("<!DOCTYPE html>")


def test_the_same_facts_give_the_same_bytes(troubled_run, facts):
    assert render_html(facts(troubled_run)) == render_html(facts(troubled_run))


def test_the_timeline_is_well_formed_alone(troubled_run, facts):
    root = ET.fromstring(timeline_svg(facts(troubled_run)))  # noqa: S314 - our own text
    assert root.tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize(
    ("run_class", "lab", "word", "other"),
    [
        (RunClass.DRILL, True, "DRILL", "INCIDENT"),
        (RunClass.INCIDENT, False, "INCIDENT", "DRILL"),
        (RunClass.TABLETOP, False, "TABLETOP", "INCIDENT"),
    ],
)
def test_class_and_lab_stand_on_the_page_in_words(tell, run_class, lab, word, other):
    store = MemoryStore()
    story = tell.recover(tell.Story(store, tell.make_plan(run_class, lab=lab)))
    page = render_html(
        collect(story.plan, {row.run: list(store.read(row.run)) for row in store.runs()})
    )
    text = Page(page).text.split("Evidence of run")[0]
    assert word in text
    assert other not in text.split("}")[-1]
    assert ("REAL AZURE" in Page(page).text.split("Criteria")[0].split("}")[-1]) is not lab
    assert (f'class="banner {run_class}"') in page


def test_an_incident_in_a_lab_is_not_called_a_real_loss(tell):
    store = MemoryStore()
    story = tell.recover(tell.Story(store, tell.make_plan(RunClass.INCIDENT, lab=True)))
    page = render_html(
        collect(story.plan, {row.run: list(store.read(row.run)) for row in store.runs()})
    )
    assert "real loss" not in page
    assert "The loss was a lab's." in Page(page).text


@pytest.mark.parametrize("back", [600.0, 780.0, 806.0, 815.0])
def test_the_words_of_close_lines_stand_apart(back):
    words = (
        _ending(back, "back", "proved back 21:43"),
        _ending(806.0, "target", "RTO target 21:49"),
    )
    placed = _apart(list(words))
    assert [line.x for line in placed] == [back, 806.0]
    first, second = ((line.text_x - len(line.text) * 7.0, line.text_x) for line in placed)
    assert first[1] <= second[0] or second[1] <= first[0]


def test_no_deviation_is_said_plainly(tell, store, facts):
    story = tell.Story(store, tell.make_plan()).create().reads("preflight")
    assert "No guard refused, no step was tried twice" in render_html(facts(story))


def test_an_empty_run_renders(tell, store, facts):
    page = render_html(facts(tell.Story(store, tell.make_plan()).create()))
    assert "Not finished" in page


def test_many_children_are_one_row_each(tell, store, facts):
    groups = [{"name": f"g{n:02}", "id": f"/g{n}"} for n in range(12)]
    story = tell.Story(store, tell.make_plan(groups=groups)).create()
    story.begin("repoint").say(tell.R.GUARDS_HELD, "repoint", findings=[]).say(
        tell.R.FANOUT_BEGUN, "repoint"
    )
    for item in groups:
        story.child("repoint", item)
    drawing = timeline_svg(facts(story))
    assert drawing.count("(child run)") >= 12
    assert "Set the TDE protector" not in drawing


def test_numbers_are_read_back_from_the_page(troubled_run, facts):
    found = facts(troubled_run)
    page = render_html(found)
    said = read_numbers(page)
    assert said == numbers_of(found, said["version"])


def test_numbers_that_stand_twice_are_not_believed(troubled_run, facts):
    page = render_html(facts(troubled_run))
    assert read_numbers(page + '<div id="drengine-numbers" data-run="x">') is None
    assert read_numbers("<p>nothing</p>") is None


def test_a_long_title_is_shown_whole_where_there_is_room(plain_run, facts):
    found = facts(plain_run)
    title = "Point the SQL Managed Instances at the new HSM, each"
    chart = chart_of(with_title(found, title))
    assert title in {row.label for row in chart.rows}
    assert all(bar.x >= chart.left for row in chart.rows for bar in row.bars)
    longer = chart_of(with_title(found, title * 3))
    (cut_off,) = [row for row in longer.rows if row.label.startswith("Point the SQL")]
    assert cut_off.label.endswith("…")
    assert text_width(cut_off.label) <= longer.left


def with_title(found, title):
    top = found.runs[0]
    steps = (replace(top.steps[0], title=title), *top.steps[1:])
    return replace(found, runs=(replace(top, steps=steps), *found.runs[1:]))


@pytest.mark.parametrize("minutes", [90, 120, 140, 160])
def test_no_note_runs_through_an_upright_line_where_another_place_is_free(
    plain_run, facts, minutes
):
    found = facts(plain_run)
    rto = replace(found.rto, target_ms=minutes * 60_000)
    chart = chart_of(replace(found, rto=rto))
    lines = [line.x for line in chart.lines]
    assert len(lines) == 2
    through = [row.label for row in chart.rows if any(runs_through(row, x) for x in lines)]
    assert through == []


def runs_through(row, line):
    width = len(row.note) * 6.3
    start = row.note_x if row.note_anchor == "start" else row.note_x - width
    return start < line < start + width
