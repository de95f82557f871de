"""What the plan says about a run: its runbook, read again from the text in the plan.

Pure. It does not check the runbook against a catalogue: the plan is frozen, and an
auditor's version of the catalogue may be another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from drengine.errors import InputError, RunbookError
from drengine.model.plan import Plan, PlanPart
from drengine.model.runbook import Runbook
from drengine.runbook.build import build_runbook
from drengine.runbook.document import read_document
from drengine.runbook.problems import Problems
from drengine.runbook.yaml import parse_yaml


@dataclass(frozen=True, slots=True)
class Outline:
    """One chain's part of the plan and the runbook in it."""

    part: PlanPart
    runbook: Runbook


def outline_of(plan: Plan, path: Sequence[str]) -> Outline:
    """Return the outline of the chain whose record 0 names `path`.

    Raises:
        InputError: the plan has no such part, or its runbook cannot be read.
    """
    part = plan.root
    for step in path:
        if step not in part.children:
            raise InputError(f"the plan has no sub-runbook at {'/'.join(path)!r}")
        part = part.children[step]
    return outline_of_part(part)


def outline_of_part(part: PlanPart) -> Outline:
    """Return the outline of a part of a plan.

    Raises:
        InputError: its runbook cannot be read.
    """
    return Outline(part, _read(part.runbook_text, part.runbook_name))


@lru_cache(maxsize=64)
def _read(runbook_text: str, name: str) -> Runbook:
    """Read a runbook once, however many chains and checks ask for it."""
    try:
        problems = Problems(parse_yaml(runbook_text, name))
        doc = read_document(problems)
        if doc is not None and not problems:
            return build_runbook(doc, problems)
        found = problems.in_order()
    except RunbookError as error:
        found = [error]
    except (IndexError, ValueError, TypeError) as error:
        raise InputError(f"the runbook {name!r} in the plan cannot be read: {error}") from error
    raise InputError(f"the runbook {name!r} in the plan cannot be read: {found[0].message}")
