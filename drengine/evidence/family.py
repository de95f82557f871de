"""Whether a run's chains are those that its plan lists: no child left out, none added.

Pure. Rules:
- A step that runs a sub-runbook succeeds only with a child that came to its end for every
  item that the plan lists, unless a person did the step by hand, which the record says.
- A child is begun for an item of the plan, under the id that follows from it.
- The journal of every child that was begun is here, and no other. One that was begun in the
  last moment of a process, in a run that was cancelled then, may have none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from drengine.engine.scope import items_of
from drengine.errors import DrError
from drengine.evidence.outline import Outline, outline_of
from drengine.evidence.reading import text, texts
from drengine.evidence.words import cut
from drengine.model.ids import RunId, child_id, root_of
from drengine.model.plan import Plan, PlanPart
from drengine.model.records import Record
from drengine.model.records import RecordType as R
from drengine.model.runbook import Step

_NEW_PROCESS: Final = frozenset(
    {R.RUN_OPENED, R.RUN_HANDED_OVER, R.RUN_IMPORTED, R.RUN_CANCELLED, R.NOTE}
)
KIN: Final = _NEW_PROCESS | {
    *(R.RUN_CREATED, R.CHILD_STARTED, R.CHILD_FINISHED, R.GENERATION_ENDED),
    *(R.STEP_BEGUN, R.STEP_MARKED, R.STEP_SUCCEEDED),
}
"""The types of records that say something about children."""

_LONG: Final = 80


def planned_items(step: Step, part: PlanPart) -> list[Mapping[str, Any]]:
    """Return what the plan lists for a step that runs a sub-runbook; frozen with the plan.

    Raises:
        ExpressionError: the plan does not say.
    """
    return [*items_of(step, {"inputs": dict(part.inputs), "plan": dict(part.discovery)})]


def planned_child(run: str, step: Step, name: str) -> RunId:
    """Return the id of the child run of one item."""
    under = child_id(RunId(run), step.id)
    return under if step.foreach is None else child_id(under, name)


@dataclass(frozen=True, slots=True)
class _Birth:
    parent: str
    seq: int
    step: str
    item: object


@dataclass(slots=True)
class _Chain:
    genesis: Mapping[str, Any]
    outline: Outline | None
    path: tuple[str, ...]
    ended: dict[str, bool] = field(default_factory=dict)  # child -> whether it came to its end
    by_hand: set[str] = field(default_factory=set)
    pauses: set[int] = field(default_factory=set)
    last: int = 0
    is_cancelled: bool = False
    _planned: dict[str, dict[str, Mapping[str, Any]]] = field(default_factory=dict)

    def planned(self, step: Step) -> dict[str, Mapping[str, Any]] | None:
        """Return name -> item as the plan lists them for a step; None where it does not say."""
        if step.id not in self._planned and self.outline is not None:
            try:
                items = planned_items(step, self.outline.part)
            except DrError:
                return None
            self._planned[step.id] = {text(item.get("name")): item for item in items}
        return self._planned.get(step.id)


class Family:
    """Follows every chain of a run; says what is amiss at a record, and at the end."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._chains: dict[str, _Chain] = {}
        self._births: dict[str, _Birth] = {}

    def take(self, record: Record) -> Iterator[str]:
        """Yield what is wrong with the next record; only those of `KIN` need be given."""
        body = record.body
        if record.seq == 0:
            path = texts(body.get("path"))
            self._chains[record.run] = _Chain(body, self._outline(path), path)
            return
        chain, step = self._chains[record.run], text(body.get("step"))
        chain.last = record.seq
        match record.type:
            case R.CHILD_STARTED:
                yield from self._begun(chain, record)
            case R.CHILD_FINISHED:
                chain.ended[text(body.get("run"))] = True
            case R.STEP_SUCCEEDED:
                yield from _succeeded(chain, record)
            case R.STEP_MARKED:
                chain.by_hand.add(step)
            case R.STEP_BEGUN:
                chain.by_hand.discard(step)
            case R.GENERATION_ENDED:
                self._forget(chain, record)
            case _:
                chain.pauses.add(record.seq)
                chain.is_cancelled |= record.type is R.RUN_CANCELLED

    def _outline(self, path: tuple[str, ...]) -> Outline | None:
        try:
            return outline_of(self._plan, path)
        except DrError:
            return None  # said where the chain is compared with its plan

    def _begun(self, chain: _Chain, record: Record) -> Iterator[str]:
        body = record.body
        name, run, step_id = (text(body.get(key)) for key in ("name", "run", "step"))
        chain.ended[run] = False
        self._births[run] = _Birth(str(record.run), record.seq, step_id, body.get("item"))
        step = _runbook_step(chain, step_id)
        if step is None:
            yield f"record {record.seq}: step {_cut(step_id)} runs no sub-runbook, yet has a child"
            return
        listed = chain.planned(step) or {}
        if name not in listed:
            yield f"record {record.seq}: child {_cut(name)} is not one that the plan lists"
        elif run != planned_child(record.run, step, name):
            yield f"record {record.seq}: child {_cut(name)} has the id {_cut(run)} of another"
        elif body.get("item") != listed[name]:
            yield f"record {record.seq}: child {_cut(name)} is given another item than the plan's"

    def _forget(self, chain: _Chain, record: Record) -> None:
        """Ask for the children of a new generation anew; the journals of the old remain."""
        steps = texts(record.body.get("steps"))
        for run, birth in self._births.items():
            if birth.parent == record.run and birth.step in steps:
                chain.ended[run] = False

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (run, what is wrong) where a journal is missing, or nobody's."""
        for run, birth in self._births.items():
            if run not in self._chains and not self._is_cut_off(birth):
                yield (
                    run,
                    f"its journal is missing, but record {birth.seq} of {birth.parent} began it",
                )
        for run, chain in self._chains.items():
            if root_of(run) == run:
                continue
            if (known := self._births.get(run)) is None:
                yield run, "is a child's journal that no record of a parent names"
            else:
                yield from ((run, why) for why in self._unlike(chain, known))

    def _is_cut_off(self, birth: _Birth) -> bool:
        """Whether the process ended between two records, and the run was cancelled then."""
        root, parent = self._chains.get(root_of(birth.parent)), self._chains[birth.parent]
        went_on = birth.seq < parent.last and birth.seq + 1 not in parent.pauses
        return root is not None and root.is_cancelled and not went_on

    def _unlike(self, chain: _Chain, birth: _Birth) -> Iterator[str]:
        parent = self._chains[birth.parent]
        expected = {
            "parent": birth.parent,
            "path": [*parent.path, birth.step],
            "item": birth.item,
            "approvers": parent.genesis.get("approvers"),
        }
        for name, value in expected.items():
            if chain.genesis.get(name) != value:
                yield f"record 0 has another `{name}` than record {birth.seq} of {birth.parent}"


def _succeeded(chain: _Chain, record: Record) -> Iterator[str]:
    step = _runbook_step(chain, text(record.body.get("step")))
    if step is None or step.id in chain.by_hand:
        return
    planned = chain.planned(step)
    if planned is None:
        yield f"record {record.seq}: what step {step.id} was to run for, the plan does not say"
    for name in planned or ():
        ended = chain.ended.get(planned_child(record.run, step, name))
        if not ended:
            how = "is not recorded as ended" if ended is False else "was never begun"
            yield (
                f"record {record.seq}: step {step.id} is said to have succeeded, but its child"
                f" {_cut(name)}, which the plan lists, {how}"
            )


def _runbook_step(chain: _Chain, step_id: str) -> Step | None:
    if chain.outline is None:
        return None
    steps = chain.outline.runbook.steps
    return next((step for step in steps if step.id == step_id and step.runbook), None)


def _cut(value: str) -> str:
    return cut(value, _LONG)
