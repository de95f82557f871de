"""Every rendering that goes into a sealed bundle."""

from __future__ import annotations

import os
from typing import Final

from drengine.errors import InputError
from drengine.evidence.exports import junit_of, oscal_of
from drengine.evidence.render import (
    render_executive,
    render_html,
    render_markdown,
    timeline_svg,
)
from drengine.model.facts import EvidenceFacts

_PDF_PROFILE: Final = "pdf/a-3b"


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
        reports["executive.pdf"] = _pdf(executive, facts)
    return reports


def _pdf(page: str, facts: EvidenceFacts) -> bytes:
    """Return a page as PDF; profile PDF/A-3b is asked for, which is not the same as certified.

    Raises:
        InputError: WeasyPrint or a library that it needs is not here.
    """
    # WeasyPrint takes the time in the file from here: the same facts, the same bytes.
    os.environ["SOURCE_DATE_EPOCH"] = str(facts.last.at_ms // 1000)
    try:
        import weasyprint  # noqa: PLC0415 - an extra, and slow to load
    except (ImportError, OSError) as error:
        raise InputError(
            f"making a PDF: {error}", hint="pip install 'drengine[pdf]'; it needs Pango."
        ) from None
    made: bytes = weasyprint.HTML(string=page, url_fetcher=_fetch_nothing).write_pdf(
        pdf_variant=_PDF_PROFILE
    )
    return made


def _fetch_nothing(url: str, *_: object, **__: object) -> dict[str, object]:
    raise ValueError(f"a report fetches nothing: {url[:60]}")
