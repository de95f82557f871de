"""The README of a sealed bundle: what it is, and six commands that check it."""

from __future__ import annotations

from drengine.model.facts import EvidenceFacts
from drengine.resources import template_folder


def bundle_readme(facts: EvidenceFacts, keyid: str) -> str:
    """Return the text; it holds no shell code made of values from a run."""
    text = (template_folder() / "bundle-readme.txt").read_text(encoding="utf-8")
    lab = "LAB: simulated Azure; no real cloud was touched." if facts.is_lab else "REAL AZURE."
    return text.format(
        kind=facts.run_class.upper(),
        run=facts.run,
        lab=lab,
        verdict=facts.verdict,
        keyid=" ".join(keyid[i : i + 8] for i in range(0, len(keyid), 8)),
    )
