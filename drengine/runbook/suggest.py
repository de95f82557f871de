"""Say "did you mean" about a name that is not known. Nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

MAX_NAME: Final = 64
MAX_KNOWN: Final = 500
MAX_LISTED: Final = 12


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?`, or a short list of what is known, or nothing."""
    names = sorted(item for item in known if item.isprintable())[:MAX_KNOWN]
    close = get_close_matches(name, names, n=1, cutoff=0.6) if len(name) <= MAX_NAME else []
    if close:
        return f"; did you mean {close[0]!r}?"
    if 0 < len(names) <= MAX_LISTED:
        return f" (known: {', '.join(names)})"
    return ""


def shown(text: str) -> str:
    """Return `text` quoted for a message, shortened, with nothing a terminal could obey."""
    short = text if len(text) <= MAX_NAME else f"{text[: MAX_NAME - 1]}…"
    return ascii(short) if not short.isprintable() else f"'{short}'"
