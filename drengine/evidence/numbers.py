"""The numbers that a report carries for machines, so that a verifier can compare them.

Pure. They stand as data attributes of one hidden element; a report has no script.
"""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Final

from drengine.model.canonical import digest
from drengine.model.facts import EvidenceFacts, ObjectiveFacts

ELEMENT: Final = "drengine-numbers"
"""The id of the hidden element."""


def numbers_of(facts: EvidenceFacts, version: str) -> dict[str, str]:
    """Return attribute name (without `data-`) -> text; `version` is the renderer's."""
    top = facts.runs[0]
    return {
        "version": version,
        "facts-sha256": digest(facts.to_json()),
        "run": facts.run,
        "class": facts.run_class,
        "lab": "true" if facts.is_lab else "false",
        "plan": facts.plan_digest,
        "verdict": str(facts.verdict),
        "head-seq": str(top.head_seq),
        "head-sha256": top.head_sha256,
        **_objective("rto", facts.rto),
        **_objective("rpo", facts.rpo),
        "keys": str(len(facts.keys)),
        "databases": str(len(facts.databases)),
        "databases-online": str(sum(d.status == "Online" for d in facts.databases)),
        "deviations": str(len(facts.deviations)),
        "criteria": "; ".join(f"{c.id} {c.holds}" for c in facts.criteria),
    }


def _objective(name: str, objective: ObjectiveFacts) -> dict[str, str]:
    return {
        f"{name}-target-ms": str(objective.target_ms),
        f"{name}-actual-ms": str(objective.actual_ms),
        f"{name}-reached": str(objective.reached),
    }


def read_numbers(page: str) -> dict[str, str] | None:
    """Return the numbers in a report, None where it does not hold them exactly once."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    return reader.found[0] if len(reader.found) == 1 else None


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del tag
        if ("id", ELEMENT) in attrs:
            data = {name: value or "" for name, value in attrs if name.startswith("data-")}
            self.found.append({name.removeprefix("data-"): value for name, value in data.items()})
