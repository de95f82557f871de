"""Check every `${…}` of a runbook: its grammar, and that each name in it will exist.

Rules:
* `inputs.N` is declared, `plan.N` is a discovery, `run` has `id` and `class`;
* `steps.X.outputs.Y`: X is done before this step whatever happens, and Y is an output
  of what X is;
* a loop variable is seen in the `with` of its own step only;
* what is needed to make the plan (discoveries, `foreach.in`) cannot look at steps;
* `when`, `irreversible` and `foreach.in` are exactly one expression.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Final

from drengine.errors import ExpressionError
from drengine.model.canonical import Json
from drengine.model.catalogue import Catalogue
from drengine.model.runbook import Runbook, Step, StepKind
from drengine.runbook.expression_syntax import Literal, parse_template
from drengine.runbook.expressions import is_expression, references
from drengine.runbook.problems import Problems
from drengine.runbook.suggest import did_you_mean, shown
from drengine.runbook.yaml import Path

ROOTS: Final = ("inputs", "plan", "run", "steps")
RUN_NAMES: Final = ("class", "id")
KIND_OUTPUTS: Final[Mapping[StepKind, tuple[str, ...]]] = {
    StepKind.GATE: ("approvers",),
    StepKind.DELIVERY: ("sha256", "size"),
    StepKind.RUNBOOK: ("children",),
}
MAX_EXPRESSION_TEXTS: Final = 2_000


@dataclass(frozen=True, slots=True)
class _Place:
    """What may be named in one text."""

    path: Path
    step: Step | None = None
    variable: str = ""
    at_plan_time: bool = False
    is_single: bool = False


@dataclass(frozen=True, slots=True)
class _Names:
    runbook: Runbook
    catalogue: Catalogue
    above: Mapping[str, frozenset[str]]
    discoveries: frozenset[str]
    steps: Mapping[str, Step]


def check_expressions(
    runbook: Runbook,
    catalogue: Catalogue,
    above: Mapping[str, frozenset[str]],
    problems: Problems,
) -> None:
    """Add what is wrong with the expressions of `runbook`; `above` is `graph.upstream`."""
    names = _Names(
        runbook,
        catalogue,
        above,
        frozenset(item.name for item in runbook.discovery),
        {step.id: step for step in runbook.steps},
    )
    count = 0
    for place, text in _texts(runbook):
        if "${" not in text and not place.is_single:
            continue
        count += 1
        if count > MAX_EXPRESSION_TEXTS:
            problems.add(place.path, f"more than {MAX_EXPRESSION_TEXTS:,} texts hold an expression")
            return
        if problems.is_full:
            return
        _check(place, text, names, problems)
    _check_discovery_order(runbook, problems)


def walk_texts(value: Json, path: Path) -> Iterator[tuple[Path, str]]:
    """Yield every text under `value` with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from walk_texts(item, (*path, key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from walk_texts(item, (*path, index))


def outputs_of(step: Step, catalogue: Catalogue) -> tuple[str, ...]:
    """Return the names of the outputs that `step` will have."""
    if step.kind is StepKind.ACTION:
        spec = catalogue.actions.get(step.action)
        return spec.outputs if spec else ()
    return KIND_OUTPUTS[step.kind]


def _texts(runbook: Runbook) -> Iterator[tuple[_Place, str]]:
    for item in runbook.discovery:
        path: Path = ("discovery", item.name)
        for below, text in walk_texts(item.with_, (*path, "with")):
            yield _Place(below, at_plan_time=True), text
        if item.when is not None:
            yield _Place((*path, "when"), at_plan_time=True, is_single=True), item.when
    for index, step in enumerate(runbook.steps):
        yield from _texts_of(step, ("steps", index))


def _texts_of(step: Step, path: Path) -> Iterator[tuple[_Place, str]]:
    variable = step.foreach.variable if step.foreach else ""
    for below, text in walk_texts(step.with_, (*path, "with")):
        yield _Place(below, step, variable), text
    if step.when is not None:
        yield _Place((*path, "when"), step, is_single=True), step.when
    if step.irreversible is not None:
        yield _Place((*path, "irreversible"), step, is_single=True), step.irreversible
    if step.foreach:
        place = _Place((*path, "foreach", "in"), step, at_plan_time=True, is_single=True)
        yield place, step.foreach.items
    if step.delivery:
        for key, text in step.delivery.expects.items():
            yield _Place((*path, "delivery", "expects", key), step), text
        yield _Place((*path, "delivery", "ask"), step), step.delivery.ask
    if step.gate:
        yield _Place((*path, "gate", "ask"), step), step.gate.ask


def _check(place: _Place, text: str, names: _Names, problems: Problems) -> None:
    try:
        if place.is_single and not is_expression(text):
            message = (
                f'expected exactly one expression such as "${{inputs.x}}", found {shown(text)}'
            )
            problems.add(place.path, message)
            return
        for reference in sorted(references(text)):
            if message := _problem(reference, place, names):
                problems.add(place.path, f"`{'.'.join(reference)}`: {message}")
    except ExpressionError as error:
        problems.add(place.path, str(error))
        return
    if place.is_single and place.path[-1] != "in":
        _check_boolean(place, text, problems)


def _check_boolean(place: _Place, text: str, problems: Problems) -> None:
    node = parse_template(text)[0]
    if isinstance(node, Literal) and not isinstance(node.value, bool):
        problems.add(place.path, f"expected true or false, found {shown(text)}")


def _problem(reference: tuple[str, ...], place: _Place, names: _Names) -> str:
    root, rest = reference[0], reference[1:]
    if place.variable and root == place.variable:
        return ""
    if root not in ROOTS:
        known = (*ROOTS, place.variable) if place.variable else ROOTS
        return f"there is no {shown(root)} here{did_you_mean(root, known)}"
    if not rest:
        return f"names all of `{root}`; name one value in it"
    match root:
        case "inputs":
            return _unknown(rest[0], names.runbook.inputs, "input")
        case "plan":
            return _unknown(rest[0], names.discoveries, "discovery")
        case "run":
            return _problem_of_run(rest[0], place)
        case _:
            return _problem_of_step(rest, place, names)


def _unknown(name: str, known: Mapping[str, object] | frozenset[str], what: str) -> str:
    return "" if name in known else f"there is no {what} {shown(name)}{did_you_mean(name, known)}"


def _problem_of_run(name: str, place: _Place) -> str:
    if name not in RUN_NAMES:
        return f"a run has no {shown(name)}{did_you_mean(name, RUN_NAMES)}"
    if name == "id" and place.at_plan_time:
        return "the run has no id yet when the plan is made"
    return ""


def _problem_of_step(rest: tuple[str, ...], place: _Place, names: _Names) -> str:
    if place.at_plan_time or place.step is None:
        return "no step has run yet when the plan is made"
    target = names.steps.get(rest[0])
    if target is None:
        return f"there is no step {shown(rest[0])}{did_you_mean(rest[0], names.steps)}"
    if target.id not in names.above[place.step.id]:
        if target.id == place.step.id:
            return "a step cannot see its own outputs"
        return (
            f"step '{target.id}' need not be done before step '{place.step.id}'; add it to `needs`"
        )
    if len(rest) < 3 or rest[1] != "outputs":  # noqa: PLR2004 - id, `outputs`, name
        return f"an output is named `steps.{target.id}.outputs.NAME`"
    known = outputs_of(target, names.catalogue)
    if rest[2] in known or (target.kind is StepKind.ACTION and not _is_known(target, names)):
        return ""
    if not known:
        return f"step '{target.id}' has no outputs"
    return f"step '{target.id}' has no output {shown(rest[2])}{did_you_mean(rest[2], known)}"


def _is_known(step: Step, names: _Names) -> bool:
    return step.action in names.catalogue.actions


def discovery_order(runbook: Runbook) -> dict[str, set[str]]:
    """Return discovery name -> the names of the discoveries it looks at."""
    known = {item.name for item in runbook.discovery}
    order: dict[str, set[str]] = {}
    for item in runbook.discovery:
        texts = [text for _, text in walk_texts(item.with_, ())] + [item.when or ""]
        paths = [path for text in texts for path in references(text)]
        order[item.name] = {p[1] for p in paths if p[0] == "plan" and p[1:2]} & known
    return order


def _check_discovery_order(runbook: Runbook, problems: Problems) -> None:
    try:
        TopologicalSorter(discovery_order(runbook)).prepare()
    except ExpressionError:
        return  # reported where it stands
    except CycleError as error:
        cycle: list[str] = error.args[1]
        rounds = " needs ".join(f"'{name}'" for name in reversed(cycle[-12:]))
        problems.add(("discovery", cycle[0]), f"discoveries wait for each other: {rounds}")
