"""The exit codes of a run that rests, one table for whoever drives it and whoever watches it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from drengine.cli.family import Family
from drengine.engine.commands import Rest
from drengine.journal.port import JournalStore
from drengine.model.records import Record
from drengine.model.run import RunStatus
from drengine.model.run import StepStatus as S

EXIT_OF: Final[Mapping[Rest, int]] = {
    Rest.DONE: 0,
    Rest.WAITING: 5,
    Rest.NEEDS: 5,
    Rest.PAUSED: 5,
    Rest.FAILED: 4,
    Rest.CANCELLED: 4,
    Rest.REFUSED: 8,
    Rest.UNKNOWN: 12,
    Rest.ROLLED_BACK: 11,
    Rest.INTERRUPTED: 130,
}
OBJECTIVE_MISSED: Final = 10
_RESTS: Final = {
    RunStatus.FINISHED: Rest.DONE,
    RunStatus.CANCELLED: Rest.CANCELLED,
    RunStatus.ROLLED_BACK: Rest.ROLLED_BACK,
    RunStatus.PAUSED: Rest.PAUSED,
    RunStatus.WAITING: Rest.WAITING,
}


def rest_of_family(family: Family) -> Rest | None:
    """Return how a run rests as its journal tells it, None while it goes on."""
    status = family.root.status
    if not status.is_over and family.owner is None and _has_unknown(family):
        return Rest.UNKNOWN
    if family.is_alone:
        return Rest.INTERRUPTED
    if status is RunStatus.STOPPED:
        known = family.stopped_why in {str(rest) for rest in Rest}
        return Rest(family.stopped_why) if known else Rest.FAILED
    return _RESTS.get(status)


def _has_unknown(family: Family) -> bool:
    """Whether an outcome is unknown, in the run or in a child run that is not over."""
    return any(
        step.status is S.UNKNOWN
        for state in family.states.values()
        if not state.status.is_over
        for step in state.steps.values()
    )


def exit_of_evidence(store: JournalStore, family: Family) -> tuple[int, str]:
    """Return the exit code of a finished run, and the verdict of its evidence."""
    from drengine.evidence.collect import collect  # noqa: PLC0415 - only at the end
    from drengine.model.facts import Verdict  # noqa: PLC0415 - only at the end

    journals: dict[str, Iterator[Record]] = {run: store.read(run) for run in family.states}
    facts = collect(store.get_document(family.root.run, "plan"), journals)
    met = facts.verdict in {Verdict.RECOVERED, Verdict.FINISHED}
    return (0 if met else OBJECTIVE_MISSED), str(facts.verdict)
