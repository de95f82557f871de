"""Every rendering that goes into a sealed bundle."""

from __future__ import annotations

from drengine.evidence.render import render_html, timeline_svg
from drengine.model.facts import EvidenceFacts


def reports_of(facts: EvidenceFacts, *, pdf: bool = False) -> dict[str, bytes]:
    """Return file name -> content of the reports.

    Raises:
        InputError: a PDF was asked for and cannot be made here.
    """
    del pdf
    return {
        "report.html": render_html(facts).encode(),
        "timeline.svg": timeline_svg(facts).encode(),
    }
