"""A page of a report as PDF, through WeasyPrint (extra `[pdf]`, and Pango from the system).

Profile PDF/A-3b is asked for; that is not the same as certified: nothing here checks it.
The same page and time give the same bytes. Nothing is fetched while it is made.

Rules:
- WeasyPrint draws an SVG without the page's variables and rules, and reads no space-separated
  `rgb()`; all are put into its words before it sees the page, so that it looks as it does in
  a browser's print.
- It measures a text that may break anywhere letter by letter, which takes minutes on a full
  report; there a text breaks only where it must.
"""

from __future__ import annotations

import logging
import os
import re
from typing import Any, Final

from drengine.errors import InputError

PROFILE: Final = "pdf/a-3b"
HINT: Final = "pip install 'drengine[pdf]'; it needs Pango from the system (libpango-1.0-0)."
_PRINT: Final = re.compile(r"@media print \{\s*:root \{(.*?)\}", re.DOTALL)
_ROOT: Final = re.compile(r":root \{(.*?)\}", re.DOTALL)
_NAMED: Final = re.compile(r"--([a-z-]+):\s*([^;]+);")
_USED: Final = re.compile(r"var\(--([a-z-]+)\)")
_DRAWN: Final = re.compile(r"((?:\.tl [^{},]+,?\s*)+)\{([^{}]*)\}")
_DRAWING: Final = re.compile(r'<svg class="tl"[^>]*>')
_SPACED: Final = re.compile(r"rgb\((\d+) (\d+) (\d+) / ([0-9.]+)\)")


def why_no_pdf() -> str:
    """Say why no PDF can be made here; empty where one can."""
    try:
        _weasyprint()
    except InputError as error:
        return error.message
    return ""


def pdf_of(page: str, at_ms: int) -> bytes:
    """Return a page as PDF, dated `at_ms`.

    Raises:
        InputError: WeasyPrint or a library that it needs is not here.
    """
    weasyprint = _weasyprint()
    before = os.environ.get("SOURCE_DATE_EPOCH")
    # WeasyPrint takes the time in the file from here: the same facts, the same bytes.
    os.environ["SOURCE_DATE_EPOCH"] = str(at_ms // 1000)
    try:
        document = weasyprint.HTML(string=for_print(page), url_fetcher=_fetch_nothing)
        made: bytes = document.write_pdf(pdf_variant=PROFILE)
    finally:
        if before is None:
            del os.environ["SOURCE_DATE_EPOCH"]
        else:
            os.environ["SOURCE_DATE_EPOCH"] = before
    return made


def for_print(page: str) -> str:
    """Return a page with the colours of its print style written out where they are used."""
    style = page.partition("<style>")[2].partition("</style>")[0]
    colours: dict[str, str] = {}
    for block in (*_ROOT.findall(style)[:1], *_PRINT.findall(style)):
        colours |= dict(_NAMED.findall(block))
    page = _USED.sub(lambda used: colours.get(used[1], used[0]), page)
    page = _SPACED.sub(r"rgba(\1, \2, \3, \4)", page)
    page = page.replace("overflow-wrap: anywhere", "overflow-wrap: break-word")
    rules = _style_of_drawings(page)
    return _DRAWING.sub(lambda drawing: drawing[0] + rules, page)


def _style_of_drawings(page: str) -> str:
    style = page.partition("<style>")[2].partition("</style>")[0]
    rules = (
        f"{names.replace('.tl ', '').strip()} {{{rule}}}" for names, rule in _DRAWN.findall(style)
    )
    return f"<style>{' '.join(rules)}</style>"


def _weasyprint() -> Any:
    # It says at import, on the screen, which of its optional libraries it misses.
    logging.getLogger("weasyprint").setLevel(logging.CRITICAL)
    try:
        import weasyprint  # noqa: PLC0415 - an extra, and slow to load
    except (ImportError, OSError) as error:
        told = str(error).strip().splitlines()[0]
        raise InputError(f"a PDF cannot be made here: {told}", hint=HINT) from None
    return weasyprint


def _fetch_nothing(url: str, *_: object, **__: object) -> dict[str, object]:
    raise ValueError(f"a report fetches nothing: {url[:60]}")
