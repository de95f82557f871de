"""Every rendering that goes into a sealed bundle."""

from __future__ import annotations

from collections.abc import Collection

from drengine.evidence.exports import junit_of, oscal_of
from drengine.evidence.pdf import pdf_of
from drengine.evidence.render import (
    render_executive,
    render_html,
    render_markdown,
    timeline_svg,
)
from drengine.model.canonical import JsonObject
from drengine.model.facts import EvidenceFacts


def reports_of(
    facts: EvidenceFacts, actions: JsonObject | None = None, *, pdf: Collection[str] = ()
) -> dict[str, bytes]:
    """Return file name -> content of the reports.

    Parameters:
        actions: the corrective actions as the bundle's `actions.json` holds them.
        pdf: which pages are printed too: `executive` takes a second, `report` some more.

    Raises:
        InputError: a PDF was asked for and cannot be made here.
    """
    page = render_html(facts, actions)
    reports = {"report.html": page.encode(), **reports_beside(facts, actions)}
    pages = {"report": page, "executive": reports["executive.html"].decode()}
    return reports | {f"{name}.pdf": pdf_of(pages[name], facts.last.at_ms) for name in pdf}


def reports_beside(facts: EvidenceFacts, actions: JsonObject | None) -> dict[str, bytes]:
    """Return file name -> content of every report but the full page and what is printed."""
    return {
        "executive.html": render_executive(facts, actions).encode(),
        "report.md": render_markdown(facts, actions).encode(),
        "timeline.svg": timeline_svg(facts).encode(),
        "oscal-ar.json": oscal_of(facts, actions),
        "junit.xml": junit_of(facts),
    }
