"""What an auditor asks of the record of a recovery stands in the report, or that it does not."""

from __future__ import annotations

import re
from html import unescape

import pytest

from drengine.evidence.render import render_html

ELEMENTS = {
    "declared class": "DRILL in a LAB: in record 0",
    "scope": "recovered as contoso-dr in northeurope",
    "out of scope": "Out of scope",
    "scenario": "Scenario",
    "injected faults": "Injected faults",
    "plan": "Plan reviewed",
    "people": "simulated:approver:alice|alice",
    "independence": "Another than who began",
    "timeline": "Timeline",
    "clock": "its offset from a time source was not measured",
    "objectives": "Recovery time (RTO)",
    "decisions": "Approvals",
    "requests": "5e7a0000-0000-4000-8000",
    "custody": "Key custody and continuity",
    "data": "Databases before and after",
    "deviations": "Deviations",
    "criteria": "Criteria",
    "lessons": "Lessons and actions",
    "clean-up": "Clean-up and cost",
    "sign-off": "Review and sign-off",
    "tool": "Tool that ran it",
    "retention": "Retention",
    "redaction": "Redaction",
    "bundle before": "Bundle before this one",
}


def text_of(page):
    page = re.sub(r"<(style|svg).*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page)))


@pytest.fixture(scope="module")
def page(tell):
    from drengine.evidence.collect import collect
    from drengine.journal.memory import MemoryStore

    store = MemoryStore()
    plan = tell.make_plan(source_hsm="contoso", location="northeurope", autoheal_window=1_800_000)
    story = tell.recover(tell.Story(store, plan))
    facts = collect(story.plan, {row.run: list(store.read(row.run)) for row in store.runs()})
    return text_of(render_html(facts))


@pytest.mark.parametrize("element", sorted(ELEMENTS))
def test_every_required_element_is_there(page, element):
    assert any(words in page for words in ELEMENTS[element].split("|")), element


def test_databases_heal_by_themselves_for_as_long_as_the_inputs_say(page):
    assert "heal by themselves within 30m" in page


@pytest.mark.parametrize("odd", ["soon", None, {"a": 1}, [1]])
def test_inputs_of_any_kind_render(tell, store, facts, odd):
    plan = tell.make_plan(source_hsm=odd, location=odd, autoheal_window=odd)
    assert "Scope, conditions" in render_html(facts(tell.recover(tell.Story(store, plan))))
