"""What a run has done to the world so far, and what its steps are called.

Read from the journal and the plan beside it; nothing is asked of the cloud. What may have
had an effect is listed with what did: too much is looked at by a person, too little by nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from drengine.cli.family import Family, step_name
from drengine.errors import DrError
from drengine.journal.port import JournalStore
from drengine.model.catalogue import Catalogue
from drengine.model.ids import RunId, root_of
from drengine.model.plan import Plan
from drengine.model.run import AbsentBy, Effect, RunState, StepState, UndoStatus
from drengine.model.runbook import Runbook, Step

_WORDS: Final = {
    Effect.HAD: "it was done",
    Effect.AT_WORK: "its request was sent, and may still be at work",
    Effect.NONE: "a part of it, or an earlier attempt, may have been done",
}


_UNREADABLE: Final = (DrError, KeyError, TypeError, ValueError, AttributeError)
"""What a plan raises that is not there, is of another version, or was changed."""


@dataclass(frozen=True, slots=True)
class Left:
    """A step that had an effect, or may have had one, and was not undone."""

    run: RunId
    step: str
    title: str
    effect: Effect

    def __str__(self) -> str:
        """Return it as a line."""
        name = step_name(self.run, self.step)
        return f"{name}{f' ({self.title})' if self.title else ''}: {_WORDS[self.effect]}"

    def to_json(self) -> dict[str, str]:
        """Return it as JSON gives it."""
        effect = str(self.effect) or "may have had"
        return {"run": self.run, "step": self.step, "title": self.title, "effect": effect}


def left_by(store: JournalStore, family: Family, run: RunId) -> list[Left]:
    """Return what a run and the runs below it leave in the cloud, the first first."""
    return list(_left(store, family, run))


def _left(store: JournalStore, family: Family, top: RunId) -> Iterator[Left]:
    for run, state in family.states.items():
        if run != top and not run.startswith(f"{top}/"):
            continue
        runbook = runbook_of(store, state)
        for st in state.steps.values():
            if _may_have_had(st):
                title = _title(runbook, st.id, state)
                yield Left(run, st.id, title, st.effect)


def _may_have_had(st: StepState) -> bool:
    if not st.sends or st.undo is UndoStatus.DONE:
        return False
    if st.effect is not Effect.NONE:
        return True
    taken = st.sends - st.refused
    # Between the parts of a step, and behind a new beginning, the last request says nothing.
    if st.generation > 0 or st.outputs:
        return taken > 0
    # Nothing came of the last request; what the service did not refuse before it may have been.
    return taken > (0 if st.absent_by is AbsentBy.SERVICE else 1)


def _title(runbook: Runbook | None, step: str, state: RunState) -> str:
    known = next((each for each in runbook.steps if each.id == step), None) if runbook else None
    title = known.title if known else ""
    # Which HSM it is matters more than any title once somebody goes to look.
    target = state.genesis["inputs"].get("target_hsm")
    is_there = known is not None and known.action == "hsm.create" and isinstance(target, str)
    return f"{title} {target}".strip() if is_there else title


def runbook_of(store: JournalStore, state: RunState) -> Runbook | None:
    """Return what a run follows, None where its plan is not beside the journal."""
    try:
        plan = Plan.from_json(store.get_document(root_of(state.run), "plan"))
        return runbook_in(plan, tuple(state.genesis["path"]))
    except _UNREADABLE:
        return None


@lru_cache(maxsize=1)
def _catalogue() -> Catalogue:
    from drengine.cli.library import catalogue  # noqa: PLC0415 - loads the actions

    return catalogue()


@lru_cache(maxsize=16)
def _loaded(text: str) -> Runbook:
    from drengine.cli.library import Library  # noqa: PLC0415 - loads the loader of runbooks

    return Library(_catalogue()).from_text(text)


def runbook_in(plan: Plan, path: tuple[str, ...]) -> Runbook:
    """Return the runbook that the part of a plan at `path` carries.

    Raises:
        RunbookError: this version does not know it any more.
        KeyError: there is no such part.
    """
    from drengine.engine.genesis import part_of  # noqa: PLC0415 - as above

    return _loaded(part_of(plan, path).runbook_text)


def steps_behind(runbook: Runbook, step: str) -> tuple[list[Step], list[Step]]:
    """Return the steps that wait for `step`, and of all steps those that read its outputs."""
    waits = [each for each in runbook.steps if step in each.needs]
    word = f"steps.{step}."
    reads = [each for each in runbook.steps if word in _texts(each)]
    return waits, reads


def _texts(step: Step) -> str:
    delivery = dict(step.delivery.expects) if step.delivery else {}
    parts = (step.with_, delivery, step.when, step.irreversible, step.foreach)
    return "\n".join(str(part) for part in parts)


def limits_of(plan: Plan | None) -> Callable[[RunState, str], int | None]:
    """Return what says until when a step of a run may look in vain, None where that is not known.

    Drawing only: whatever is wrong with the plan ends no run here.
    """

    def until_ms(state: RunState, step: str) -> int | None:
        if plan is None:
            return None
        try:
            action = runbook_in(plan, tuple(state.genesis["path"])).step(step).action
            limit_ms = _catalogue().actions[action].timeout_ms
        except _UNREADABLE:
            return None
        st = state.steps[step]
        since_ms = st.entered_ms if st.in_doubt_since_ms is None else st.in_doubt_since_ms
        return max(since_ms, state.opened_ms) + limit_ms

    return until_ms


def limits_in(store: JournalStore, run: RunId) -> Callable[[RunState, str], int | None]:
    """Return the same for a run of a store."""
    try:
        return limits_of(Plan.from_json(store.get_document(root_of(run), "plan")))
    except _UNREADABLE:
        return limits_of(None)
