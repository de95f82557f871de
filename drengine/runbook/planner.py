"""Runbook + inputs + discovery -> a frozen `Plan`.

Rules:
* every look at the world goes through `discover`, once for each discovery, and its
  answer is frozen; where `when` is false the answer is null;
* a sub-runbook's inputs are fixed now as far as they can be; the others are deferred
  and bound by the parent when it runs;
* the items of a `foreach` are fixed now, and what each would give its child is tried
  now, so that a wrong item is found before the disaster and not in it;
* sub-runbooks come by name from `load`, each once, never in a circle.

It does not read files or clocks, and it starts nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Final

from drengine.errors import DrError, InputError, LimitExceeded
from drengine.model.canonical import Json, JsonObject, plain
from drengine.model.catalogue import Catalogue
from drengine.model.ids import RunId, child_id
from drengine.model.plan import CloudIdentity, Plan
from drengine.model.runbook import Discovery, Foreach, Runbook, RunClass, Step, StepKind
from drengine.runbook.branches import Branch
from drengine.runbook.expressions import references_in, texts
from drengine.runbook.input_types import looks_secret
from drengine.runbook.inputs import ReadFile, bind_child_inputs, resolve_inputs, typed_inputs
from drengine.runbook.plan_file import read_plan
from drengine.runbook.scopes import discovery_order
from drengine.runbook.suggest import shown
from drengine.runbook.summary import summarize

__all__ = ["bind_child_inputs", "make_plan", "read_plan"]

Discover = Callable[[str, JsonObject], Awaitable[Json]]
Load = Callable[[str], Runbook]

MAX_NESTING: Final = 5
MAX_PARTS: Final = 200
MAX_ITEMS: Final = 5_000
MAX_ITEM_NAME: Final = 128
_ANSWER_DEPTH: Final = 20  # an answer starts this deep, so that the plan stays canonical


async def make_plan(
    *,
    runbook: Runbook,
    given: Mapping[str, Json],
    run_class: RunClass,
    cloud: CloudIdentity,
    created_at: str,
    tool_version: str,
    load: Load,
    discover: Discover,
    read_file: ReadFile,
    allow_lab_names: bool,
    catalogue: Catalogue,
) -> Plan:
    """Return the plan of `runbook` under `given` inputs.

    Parameters:
        created_at: UTC text with milliseconds; also what `now` means.
        load: sub-runbook by name.
        discover: source and parameters -> what was found.
        read_file: path -> {path, sha256, size}.

    Raises:
        InputError: for inputs, items or conditions that do not fit.
        LimitExceeded: for too many or too deeply nested sub-runbooks.
        DrError: whatever `load`, `discover` and `read_file` raise.
    """
    planner = _Planner(run_class, created_at, load, discover, read_file, allow_lab_names)
    root = await planner.branch(runbook, given, frozenset(), ())
    return Plan(
        run_class=run_class,
        created_at=created_at,
        tool_version=tool_version,
        cloud=cloud,
        root=root.to_part(),
        summary=summarize(root, catalogue, run_class=run_class, is_lab=cloud.lab),
    )


@dataclass(slots=True)
class _Planner:
    run_class: RunClass
    created_at: str
    load: Load
    discover: Discover
    read_file: ReadFile
    allow_lab_names: bool
    loaded: dict[str, Runbook] = field(default_factory=dict)
    parts: int = 0

    async def branch(
        self,
        runbook: Runbook,
        given: Mapping[str, Json],
        deferred: frozenset[str],
        above: tuple[str, ...],
    ) -> Branch:
        """Plan one runbook and everything under it; `above` names the runbooks it is in."""
        self._count(runbook, above)
        inputs = resolve_inputs(
            runbook,
            given,
            read_file=self.read_file,
            now=self.created_at,
            allow_lab_names=self.allow_lab_names,
            deferred=deferred,
        )
        scope: dict[str, Json] = {"inputs": inputs, "run": {"class": str(self.run_class)}}
        branch = Branch(runbook, inputs, deferred, scope)
        await self._discover(branch)
        for step in runbook.steps:
            if branch.is_skipped(step):
                branch.skipped.add(step.id)
            elif step.kind is StepKind.RUNBOOK:
                await self._child(branch, step, (*above, runbook.name))
        return branch

    def _count(self, runbook: Runbook, above: tuple[str, ...]) -> None:
        if runbook.name in above:
            circle = " -> ".join((*above, runbook.name))
            raise InputError(f"sub-runbooks call each other in a circle: {circle}")
        self.parts += 1
        if len(above) > MAX_NESTING or self.parts > MAX_PARTS:
            raise LimitExceeded(
                f"a plan holds at most {MAX_PARTS} sub-runbooks, nested {MAX_NESTING} deep"
            )

    async def _discover(self, branch: Branch) -> None:
        """Run the discoveries, those that do not look at each other together."""
        branch.scope["plan"] = branch.discovery
        by_name = {item.name: item for item in branch.runbook.discovery}
        sorter = TopologicalSorter(discovery_order(branch.runbook))
        sorter.prepare()
        while sorter.is_active():
            names = sorted(sorter.get_ready(), key=list(by_name).index)
            answers = await _together([self._look(branch, by_name[name]) for name in names])
            branch.discovery.update(zip(names, answers, strict=True))
            sorter.done(*names)

    async def _look(self, branch: Branch, item: Discovery) -> Json:
        where = f"discovery '{item.name}'"
        for value in (item.when, dict(item.with_)):
            if branch.is_late(value):
                names = ", ".join(sorted(".".join(p) for p in references_in(value)))
                raise InputError(
                    f"{where} of runbook '{branch.runbook.name}' cannot be planned: it needs "
                    f"{names}, and not all of it is known before the run",
                    hint="Discover in the parent runbook and pass the answer to the child.",
                )
        if item.when is not None and not branch.truth(item.when, f"`when` of {where}"):
            return None
        parameters = branch.value(dict(item.with_), f"`with` of {where}")
        answer = await self.discover(item.source, _object(parameters))
        try:
            found = plain(answer, _ANSWER_DEPTH)
        except ValueError as error:
            raise InputError(f"{where}: the answer cannot stand in a plan: {error}") from error
        if any(looks_secret(text) for text in texts(found)):
            raise InputError(
                f"{where}: the answer holds what looks like a secret; a plan holds none"
            )
        return found

    async def _child(self, branch: Branch, step: Step, above: tuple[str, ...]) -> None:
        runbook = self._load(step.runbook)
        extra: dict[str, Json] = {}
        variable = ""
        if step.foreach:
            items = self._items(branch, step, step.foreach)
            branch.items[step.id] = items
            if len(items) == 1:
                extra[step.foreach.variable] = items[0]
            else:
                variable = step.foreach.variable
        late = {name for name, value in step.with_.items() if branch.is_late(value, variable)}
        where = f"`with` of step '{step.id}'"
        given = {
            name: branch.value(value, where, extra)
            for name, value in step.with_.items()
            if name not in late
        }
        if variable:
            self._try_items(branch, step, runbook, variable)
        branch.children[step.id] = await self.branch(runbook, given, frozenset(late), above)

    def _load(self, name: str) -> Runbook:
        if name not in self.loaded:
            runbook = self.load(name)
            if runbook.name != name:
                raise InputError(
                    f"sub-runbook '{name}' was asked for, but the document calls itself "
                    f"{shown(runbook.name)}"
                )
            self.loaded[name] = runbook
        return self.loaded[name]

    def _items(self, branch: Branch, step: Step, foreach: Foreach) -> tuple[JsonObject, ...]:
        where = f"`foreach.in` of step '{step.id}'"
        if branch.is_late(foreach.items):
            raise InputError(
                f"{where} of runbook '{branch.runbook.name}' must be known when the plan is made: "
                f"{foreach.items}"
            )
        found = branch.value(foreach.items, where)
        if not isinstance(found, (list, tuple)) or len(found) > MAX_ITEMS:
            raise InputError(f"{where} must be a list of at most {MAX_ITEMS:,} objects")
        items = tuple(_item(item, index, where) for index, item in enumerate(found))
        _check_unique(items, where)
        return items

    def _try_items(self, branch: Branch, step: Step, runbook: Runbook, variable: str) -> None:
        """Type what each item would give its child; the answer is not kept."""
        waiting = {
            name: value
            for name, value in step.with_.items()
            if branch.is_late(value, variable) and not branch.is_late(value)
        }
        for item in branch.items[step.id]:
            where = f"`with` of step '{step.id}', item {shown(str(item['name']))},"
            values = {
                name: branch.value(value, where, {variable: item})
                for name, value in waiting.items()
            }
            try:
                typed_inputs(
                    runbook, values, now=self.created_at, allow_lab_names=self.allow_lab_names
                )
            except InputError as error:
                raise InputError(f"{where} {error.message}", hint=error.hint) from error


async def _together(looks: list[Awaitable[Json]]) -> list[Json]:
    """Await all of `looks` at once; the first error in order ends the others."""
    tasks = [asyncio.ensure_future(look) for look in looks]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    for kind in (DrError, Exception, BaseException):
        for failure in failures:
            if isinstance(failure, kind):
                raise failure
    return [task.result() for task in tasks]


def _object(value: Json) -> JsonObject:
    assert isinstance(value, Mapping)  # noqa: S101 - an object resolves to an object
    return value


def _item(item: Json, index: int, where: str) -> JsonObject:
    name = item.get("name") if isinstance(item, Mapping) else None
    if (
        not isinstance(item, Mapping)
        or not isinstance(name, str)
        or not name.isprintable()
        or not 0 < len(name) <= MAX_ITEM_NAME
    ):
        raise InputError(
            f"{where}: item {index} must be an object with a `name` of 1 to {MAX_ITEM_NAME} "
            "printable characters"
        )
    return item


def _check_unique(items: tuple[JsonObject, ...], where: str) -> None:
    """Refuse names that would give two children one run id, or one file on any file system."""
    seen: dict[str, str] = {}
    for item in items:
        name = str(item["name"])
        key = child_id(RunId(""), name).casefold()
        if key in seen:
            raise InputError(
                f"{where}: items {shown(seen[key])} and {shown(name)} cannot be told apart in a "
                "run id"
            )
        seen[key] = name
