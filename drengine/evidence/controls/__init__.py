"""Controls as data, and what a run's evidence says about each.

The YAML files hold ids, our own paraphrases, and the predicates that a control needs; no
standard's text. The words are "supported by this run" or what is missing, never
"compliant": whether a control is met is an auditor's to say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from drengine.errors import InternalError
from drengine.evidence.followup import FollowUp
from drengine.evidence.predicates import FOLLOWING, PREDICATES
from drengine.model.facts import EvidenceFacts
from drengine.runbook.yaml import parse_yaml

SUPPORTED: Final = "supported by this run"
SIMULATED: Final = "supported by this run, in a lab"
PARTLY: Final = "partly supported by this run"
MISSING: Final = "not supported by this run"
_FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Control:
    """One control of one framework."""

    framework: str
    framework_title: str
    id: str
    title: str
    paraphrase: str
    needs: tuple[str, ...]

    @property
    def oscal(self) -> str:
        """The id as OSCAL catalogues write it: `cp-4.2` for CP-4(2)."""
        return _oscal(self.id)


def _oscal(text: str) -> str:
    return re.sub(r"\((\w+)\)", r".\1", text.lower()).replace(" ", "-")


@dataclass(frozen=True, slots=True)
class Support:
    """What a run says about a control."""

    control: Control
    level: str
    because: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def is_supported(self) -> bool:
        """Whether everything that the control needs is borne out."""
        return not self.missing


@cache
def all_controls() -> tuple[Control, ...]:
    """Return every control, in order of frameworks and ids as they stand in the files.

    Raises:
        InternalError: a file names a predicate that does not exist.
    """
    return tuple(control for file in sorted(_FOLDER.glob("*.yaml")) for control in _read(file))


def _read(file: Path) -> list[Control]:
    doc: Any = parse_yaml(file.read_bytes(), file.name).value
    found = [
        Control(
            framework=str(doc["framework"]),
            framework_title=f"{doc['title']}, {doc['version']}",
            id=str(row["id"]),
            title=str(row["title"]),
            paraphrase=str(row["paraphrase"]),
            needs=tuple(str(need) for need in row["needs"]),
        )
        for row in doc["controls"]
    ]
    for control in found:
        if unknown := set(control.needs) - PREDICATES.keys() - FOLLOWING.keys():
            raise InternalError(f"{file.name}: {control.id} needs {', '.join(sorted(unknown))}")
    return found


def supports_of(facts: EvidenceFacts, follow_up: FollowUp | None = None) -> tuple[Support, ...]:
    """Return what a run says about every control, with what followed from it."""
    after = FollowUp() if follow_up is None else follow_up
    shown = {name: predicate(facts) for name, predicate in PREDICATES.items()}
    shown |= {name: predicate(facts, after) for name, predicate in FOLLOWING.items()}
    out = []
    for control in all_controls():
        because = tuple(shown[need].told for need in control.needs if shown[need].holds)
        missing = tuple(shown[need].told for need in control.needs if not shown[need].holds)
        whole = SIMULATED if facts.is_lab else SUPPORTED
        level = whole if not missing else (PARTLY if because else MISSING)
        out.append(Support(control, level, because, missing))
    return tuple(out)
