"""What changed from one run to another, and what is covered by the runs of a home. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from drengine.evidence.controls import all_controls, supports_of
from drengine.evidence.followup import follow_up_of
from drengine.model.canonical import JsonObject
from drengine.model.facts import EvidenceFacts, Verdict

NEVER: Final = "never tested"


@dataclass(frozen=True, slots=True)
class Covered:
    """When a control was last supported, None where it never was.

    Attributes:
        level: what the run that supports it most says; ms: when that run ended.
        is_lab: whether that run was in a lab. A lab says nothing of the systems that are
            really there, so a run outside one is named first, even where it is older.
    """

    framework: str
    id: str
    title: str
    run: str
    level: str
    ms: int | None
    is_lab: bool
    missing: tuple[str, ...]

    def is_overdue(self, now_ms: int, every_ms: int, *, lab_counts: bool = False) -> bool:
        """Whether it is longer ago than it may be; a run in a lab is no test unless it counts."""
        if self.ms is None or (self.is_lab and not lab_counts):
            return True
        return now_ms - self.ms > every_ms


def coverage_of(runs: Iterable[EvidenceFacts], actions: JsonObject | None = None) -> list[Covered]:
    """Return every control with the newest run that supports it; without runs, as never tested.

    Parameters:
        actions: the corrective actions that are kept.
    """
    best = {
        (each.framework, each.id): Covered(
            each.framework_title, each.id, each.title, "", NEVER, None, False, ()
        )
        for each in all_controls()
    }
    # What is real comes last, and the newest of it: the last that supports a control stays.
    for facts in sorted(runs, key=lambda each: (not each.is_lab, each.last.at_ms)):
        for support in supports_of(facts, follow_up_of(actions, facts)):
            control = support.control
            key = (control.framework, control.id)
            row = Covered(
                framework=control.framework_title,
                id=control.id,
                title=control.title,
                run=facts.run,
                level=support.level,
                ms=facts.last.at_ms if support.is_supported else None,
                is_lab=facts.is_lab,
                missing=support.missing,
            )
            if support.is_supported or best[key].ms is None:
                best[key] = row
    return list(best.values())


def scenarios_of(runs: Iterable[EvidenceFacts]) -> list[dict[str, Any]]:
    """Return each runbook and class with its newest run."""
    newest: dict[tuple[str, str, bool], EvidenceFacts] = {}
    for facts in sorted(runs, key=lambda each: each.last.at_ms):
        newest[facts.runs[0].runbook, facts.run_class, facts.is_lab] = facts
    return [
        {
            "runbook": name,
            "class": run_class,
            "lab": lab,
            "run": facts.run,
            "verdict": str(facts.verdict),
            "ended_ms": facts.last.at_ms,
        }
        for (name, run_class, lab), facts in sorted(newest.items())
    ]


def _steps(facts: EvidenceFacts) -> dict[str, Any]:
    out = {}
    for run in facts.runs:
        place = run.run.partition("/")[2]
        for step in run.steps:
            out[f"{place}/{step.id}" if place else step.id] = step
    return out


def difference(one: EvidenceFacts, other: EvidenceFacts) -> dict[str, Any]:
    """Return what differs from one run to another: verdict, objectives, criteria, steps."""
    left, right = _steps(one), _steps(other)
    steps = [
        {
            "step": name,
            "was": left[name].status if name in left else None,
            "is": right[name].status if name in right else None,
            "was_ms": left[name].spent_ms if name in left else None,
            "is_ms": right[name].spent_ms if name in right else None,
        }
        for name in dict.fromkeys([*left, *right])
    ]
    before = {each.id: str(each.holds) for each in one.criteria}
    after = {each.id: str(each.holds) for each in other.criteria}
    return {
        "runs": [one.run, other.run],
        "classes": [one.run_class, other.run_class],
        "lab": [one.is_lab, other.is_lab],
        "verdict": [str(one.verdict), str(other.verdict)],
        "same_plan": one.plan_digest == other.plan_digest,
        "same_runbook": one.runs[0].runbook_sha256 == other.runs[0].runbook_sha256,
        "rto": [str(one.rto.reached), str(other.rto.reached)],
        "rpo": [str(one.rpo.reached), str(other.rpo.reached)],
        "rto_ms": [one.rto.actual_ms, other.rto.actual_ms],
        "rpo_ms": [one.rpo.actual_ms, other.rpo.actual_ms],
        "deviations": [len(one.deviations), len(other.deviations)],
        "criteria": {
            name: [before.get(name), after.get(name)]
            for name in sorted(before | after)
            if before.get(name) != after.get(name)
        },
        "steps": steps,
    }


_CAME_BACK: Final = (Verdict.RECOVERED, Verdict.OBJECTIVE_MISSED)


def trend_of(runs: Sequence[EvidenceFacts]) -> list[dict[str, Any]]:
    """Return one row per run, oldest first: objectives, deviations, the time of every step.

    A recovery time is compared with that of the last run of its kind that recovered; a run
    that did not recover has none, and stands between two that did without parting them.
    """
    rows: list[dict[str, Any]] = []
    before: dict[tuple[str, str, bool], int | None] = {}
    for facts in sorted(runs, key=lambda each: each.created.at_ms):
        slow = sorted(_steps(facts).items(), key=lambda pair: -pair[1].spent_ms)[:3]
        like = (facts.runs[0].runbook, facts.run_class, facts.is_lab)
        has_time = facts.verdict in _CAME_BACK and facts.rto.actual_ms is not None
        was = before.get(like) if has_time else None
        if has_time:
            before[like] = facts.rto.actual_ms
        rows.append(
            {
                "run": facts.run,
                "class": facts.run_class,
                "lab": facts.is_lab,
                "runbook": facts.runs[0].runbook,
                "began_ms": facts.created.at_ms,
                "verdict": str(facts.verdict),
                "rto_ms": facts.rto.actual_ms,
                "rto": str(facts.rto.reached),
                "rto_before_ms": was,
                "rpo_ms": facts.rpo.actual_ms,
                "rpo": str(facts.rpo.reached),
                "deviations": len(facts.deviations),
                "slowest": {name: step.spent_ms for name, step in slow},
                "steps": {name: step.spent_ms for name, step in _steps(facts).items()},
            }
        )
    return rows
