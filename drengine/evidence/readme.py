"""The README of a sealed bundle and of a disclosure: what it is, and the commands that check it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from drengine.model.facts import EvidenceFacts
from drengine.resources import template_folder

README: Final = "README.txt"


def bundle_readme(facts: EvidenceFacts, keyid: str) -> str:
    """Return the text; it holds no shell code made of values from a run."""
    text = (template_folder() / "bundle-readme.txt").read_text(encoding="utf-8")
    return text.format(
        kind=facts.run_class.upper(),
        run=facts.run,
        lab=_lab(is_lab=facts.is_lab),
        verdict=facts.verdict,
        keyid=_spaced(keyid),
        whole=keyid,
    )


def disclosure_readme(said: Mapping[str, Any], keyid: str, shown: int, size: int) -> str:
    """Return the text for `shown` of `size` records of the run that a signed statement names."""
    text = (template_folder() / "disclosure-readme.txt").read_text(encoding="utf-8")
    return text.format(
        kind=str(said["class"]).upper(),
        run=said["run"],
        lab=_lab(is_lab=said["lab"] is True),
        shown=shown,
        size=size,
        withheld=size - shown,
        keyid=_spaced(keyid),
    )


def _lab(*, is_lab: bool) -> str:
    return "LAB: simulated Azure; no real cloud was touched." if is_lab else "REAL AZURE."


def _spaced(keyid: str) -> str:
    return " ".join(keyid[i : i + 8] for i in range(0, len(keyid), 8))
