"""What a runbook may say but had better not. The loader refuses; this only advises.

It looks at a loaded runbook and never at inputs or the world.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from drengine.model.catalogue import Catalogue, Repeat
from drengine.model.runbook import Position, Runbook, Step, StepKind
from drengine.runbook.expression_syntax import Call, Node, Reference, parse_template, walk
from drengine.runbook.expressions import references_in
from drengine.runbook.scopes import walk_texts


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing to do better.

    Attributes:
        code: a stable word to look for (`no-expected-duration`).
        position: where it stands, None for the whole runbook.
    """

    code: str
    message: str
    position: Position | None = None

    def __str__(self) -> str:
        place = f"{self.position}: " if self.position else ""
        return f"{place}{self.message} [{self.code}]"


def lint(runbook: Runbook, catalogue: Catalogue) -> list[Advice]:
    """Return advice on `runbook`, from top to bottom."""
    found = [*_of_runbook(runbook), *_unused(runbook)]
    for step in runbook.steps:
        found += _of_text(step)
        found += _of_duration(step, catalogue)
        found += _of_gate(runbook, step)
        found += _of_action(step, catalogue)
        found += _of_skipped(runbook, step)
    return sorted(found, key=_place)


def _place(advice: Advice) -> tuple[int, int]:
    return (advice.position.line, advice.position.column) if advice.position else (0, 0)


def _of_runbook(runbook: Runbook) -> Iterator[Advice]:
    if not runbook.description:
        yield Advice("no-description", "the runbook has no description")
    if runbook.objectives.rto_ms is None:
        yield Advice("no-objective", "`objectives.rto` is not set; no run can miss or meet it")
    groups = [step.group for step in runbook.steps if step.group is not None]
    for step in runbook.steps:
        if step.group is not None and groups.count(step.group) == 1:
            message = f"step '{step.id}' is alone in group '{step.group}'"
            yield Advice("group-of-one", message, step.position)


def _unused(runbook: Runbook) -> Iterator[Advice]:
    used = {path[:2] for value in _values(runbook) for path in references_in(value)}
    for name, spec in runbook.inputs.items():
        if ("inputs", name) not in used:
            # Actions and rules may read an input by its name, so this is only a question.
            message = f"no expression uses input '{name}'; does an action or rule read it?"
            yield Advice("unused-input", message, spec.position)
        if not spec.description:
            message = f"input '{name}' has no description; it is shown where the input is missing"
            yield Advice("no-description", message, spec.position)
    for item in runbook.discovery:
        if ("plan", item.name) not in used:
            message = f"no expression uses discovery '{item.name}'; does a rule read it?"
            yield Advice("unused-discovery", message, item.position)


def _values(runbook: Runbook) -> Iterator[str]:
    for item in runbook.discovery:
        yield from (text for _, text in walk_texts(item.with_, ()))
        yield item.when or ""
    for step in runbook.steps:
        yield from _texts(step)


def _texts(step: Step) -> Iterator[str]:
    yield from (text for _, text in walk_texts(step.with_, ()))
    yield from (step.when or "", step.irreversible or "")
    if step.foreach:
        yield step.foreach.items
    if step.delivery:
        yield from (*step.delivery.expects.values(), step.delivery.ask)
    if step.gate:
        yield step.gate.ask


def _of_text(step: Step) -> Iterator[Advice]:
    if not step.title:
        yield Advice("no-title", f"step '{step.id}' has no title", step.position)
    if "${" in step.title:
        message = f"the title of step '{step.id}' holds an expression, which stays text there"
        yield Advice("expression-in-title", message, step.position)


def _of_duration(step: Step, catalogue: Catalogue) -> Iterator[Advice]:
    spec = catalogue.actions.get(step.action)
    is_planned = spec is not None and spec.expected_source not in ("", "planning value")
    if step.expected_ms is None and not is_planned and step.kind is not StepKind.RUNBOOK:
        message = f"step '{step.id}' has no expected duration; the plan's total is a guess there"
        yield Advice("no-expected-duration", message, step.position)
    if step.expected_ms is not None and not step.expected_source:
        message = f"the expected duration of step '{step.id}' does not say where it is from"
        yield Advice("no-source", message, step.position)


def _of_gate(runbook: Runbook, step: Step) -> Iterator[Advice]:
    gate = step.gate
    if gate is None:
        return
    if not gate.facts:
        message = f"gate '{step.id}' shows no facts; an approval of nothing binds nothing"
        yield Advice("gate-without-facts", message, step.position)
    if not gate.ask:
        yield Advice("gate-without-question", f"gate '{step.id}' asks nothing", step.position)
    guards = [s for s in runbook.steps if s.irreversible is not None and step.id in s.needs]
    if guards and gate.approvals == 1:
        message = f"gate '{step.id}' lets one person decide on irreversible step '{guards[0].id}'"
        yield Advice("one-approval", message, step.position)


def _of_action(step: Step, catalogue: Catalogue) -> Iterator[Advice]:
    spec = catalogue.actions.get(step.action)
    if spec is None:
        return
    if spec.changes and not step.guards_before:
        message = f"step '{step.id}' changes something but checks nothing before"
        yield Advice("no-guard-before", message, step.position)
    if spec.repeat is Repeat.NEVER and step.irreversible is None:
        message = (
            f"step '{step.id}' ({spec.name}) must never be sent twice, but it is not declared "
            "irreversible"
        )
        yield Advice("not-irreversible", message, step.position)


def _of_skipped(runbook: Runbook, step: Step) -> Iterator[Advice]:
    """Find outputs that are not there when the step before was skipped."""
    conditional = {other.id for other in runbook.steps if other.when not in (None, step.when)}
    for text in _texts(step):
        for part in parse_template(text):
            if isinstance(part, str):
                continue
            for path in sorted(_bare_outputs(part) & conditional):
                message = (
                    f"step '{step.id}' uses an output of '{path}', which may be skipped; "
                    "use coalesce() or the same `when`"
                )
                yield Advice("output-of-skipped", message, step.position)


def _bare_outputs(node: Node) -> set[str]:
    """Return the steps whose outputs `node` looks at outside `coalesce`."""
    covered = {
        id(below)
        for item in walk(node)
        if isinstance(item, Call) and item.name == "coalesce"
        for below in walk(item)
    }
    return {
        str(item.segments[1])
        for item in walk(node)
        if isinstance(item, Reference) and item.segments[0] == "steps" and id(item) not in covered
    }
