"""Facts -> the report: one page of HTML without scripts, and the timeline as SVG.

The only importer of jinja2. It takes every number from the facts and adds none.

Rules:
- Every value is escaped; characters that hide or reorder text are written out.
- A name that a template uses and that does not exist is an error, never an empty text.
- The same facts give the same bytes: no clock, no machine, no random order.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import jinja2
from markupsafe import Markup

import drengine
from drengine.evidence import words
from drengine.evidence.chart import LABELS, ROW, TOP, WIDTH, chart_of
from drengine.evidence.controls import supports_of
from drengine.evidence.curves import burn_down, database_rows, key_rows
from drengine.evidence.followup import follow_up_of
from drengine.evidence.numbers import ELEMENT, numbers_of
from drengine.model.canonical import JsonObject, plain
from drengine.model.facts import EvidenceFacts, Holds, Reached, Verdict
from drengine.resources import template_folder


def render_html(facts: EvidenceFacts, actions: JsonObject | None = None) -> str:
    """Return the report; `actions` is the document of corrective actions beside it."""
    return _render("report.html.j2", facts, actions)


def timeline_svg(facts: EvidenceFacts) -> str:
    """Return the timeline as an SVG document of its own."""
    return _render("report/timeline.svg.j2", facts, None, standalone=True)


def render_script(script: object, *, html: bool) -> str:
    """Return the paper script of a ceremony, as a page to print or as plain text."""
    name = f"ceremony-script.{'html' if html else 'txt'}.j2"
    environment = _script_environment(html=html)
    return environment.get_template(name).render(script=script)


@cache
def _script_environment(*, html: bool) -> jinja2.Environment:
    environment = _environment(is_html=html).overlay(autoescape=html)
    environment.filters.update(in_order=_in_order, fold=_fold, css=_css_text)
    return environment


def _in_order(groups: Sequence[tuple[str, list[Any]]], steps: Sequence[Any]) -> list[Any]:
    """Return groups in the order in which they first come, and not by name."""
    first = [step.part for step in steps]
    return sorted(groups, key=lambda group: first.index(group[0]))


def _fold(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, width))


def _css_text(text: str) -> str:
    """Return what may stand inside a CSS string: letters, digits, a few signs."""
    return "".join(sign for sign in text if sign.isalnum() or sign in " -_.")


def render_executive(facts: EvidenceFacts, actions: JsonObject | None = None) -> str:
    """Return the page for those who read one page."""
    return _render("executive.html.j2", facts, actions)


def render_markdown(facts: EvidenceFacts, actions: JsonObject | None = None) -> str:
    """Return the report as Markdown."""
    return _render("report.md.j2", facts, actions)


def _render(
    template: str, facts: EvidenceFacts, actions: JsonObject | None, *, standalone: bool = False
) -> str:
    follow_up = follow_up_of(actions, facts)
    return (
        _environment(is_html=not template.endswith(".md.j2"))
        .get_template(template)
        .render(
            facts=facts,
            chart=chart_of(facts),
            numbers=numbers_of(facts, drengine.__version__),
            numbers_id=ELEMENT,
            version=drengine.__version__,
            standalone=standalone,
            controls=supports_of(facts, follow_up),
            follow_up=follow_up,
            burn=burn_down(facts),
            key_rows=key_rows(facts),
            state_rows=database_rows(facts),
            glass=sum(d.break_glass for gate in facts.gates for d in gate.decisions),
        )
    )


@cache
def _environment(*, is_html: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template_folder()),
        autoescape=is_html,  # noqa: S701 - Markdown is escaped by its own filter
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.filters.update(
        utc=words.utc,
        clock=words.clock,
        duration=words.duration,
        short=words.short,
        size=words.size,
        pretty=_pretty,
        md=_markdown,
    )
    environment.globals.update(
        WIDTH=WIDTH,
        LABELS=LABELS,
        ROW=ROW,
        TOP=TOP,
        Holds=Holds,
        Reached=Reached,
        Verdict=Verdict,
    )
    return environment


_MARKUP: Final = re.compile(r"([\\`*_{}\[\]()<>#+!|~&-])")


def _markdown(value: object) -> str:
    """Return a text that Markdown shows as it is, on one line."""
    text: str = _MARKUP.sub(r"\\\1", " ".join(words.visible(str(value)).split()))
    return text


def _visible(value: Any) -> Any:
    """Write out what would hide or reorder text; markup of our own macros passes."""
    return (
        words.visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
    )


def _pretty(value: object) -> str:
    return json.dumps(plain(value), indent=2, sort_keys=True, ensure_ascii=False)
