"""Every rendering that goes into a sealed bundle."""

from __future__ import annotations

from drengine.evidence.exports import junit_of, oscal_of
from drengine.evidence.pdf import pdf_of
from drengine.evidence.render import (
    render_executive,
    render_html,
    render_markdown,
    timeline_svg,
)
from drengine.model.facts import EvidenceFacts


def reports_of(facts: EvidenceFacts, *, pdf: bool = False) -> dict[str, bytes]:
    """Return file name -> content of the reports.

    Raises:
        InputError: a PDF was asked for and cannot be made here.
    """
    executive = render_executive(facts)
    reports = {
        "report.html": render_html(facts).encode(),
        "executive.html": executive.encode(),
        "report.md": render_markdown(facts).encode(),
        "timeline.svg": timeline_svg(facts).encode(),
        "oscal-ar.json": oscal_of(facts),
        "junit.xml": junit_of(facts),
    }
    if pdf:
        # The full report takes WeasyPrint minutes; a browser prints it well.
        reports["executive.pdf"] = pdf_of(executive, facts.last.at_ms)
    return reports
