"""YAML text -> `Runbook`, after every check that needs no inputs.

Three stages, each of which ends the reading when it finds something: the text is
strict YAML; it has the shape of a runbook; its names, order and expressions hold.
Within a stage everything wrong is told at once, from top to bottom.

The loader opens no file, not even a sub-runbook's: that one is named, never a path,
and the planner reads it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from drengine.errors import RunbookError
from drengine.model.canonical import Json
from drengine.model.catalogue import Catalogue, Parameter
from drengine.model.ids import STEP_ID
from drengine.model.runbook import InputType, Runbook, Step, StepKind
from drengine.runbook.build import build_runbook, kinds_of
from drengine.runbook.document import NAME, RunbookDoc, StepDoc, read_document
from drengine.runbook.expression_syntax import RESERVED
from drengine.runbook.graph import (
    check_groups,
    check_needs,
    check_points_of_no_return,
    upstream,
)
from drengine.runbook.input_types import MistypedInput, looks_secret, typed_value
from drengine.runbook.problems import Problems
from drengine.runbook.scopes import ROOTS, check_expressions, walk_texts
from drengine.runbook.suggest import did_you_mean, shown
from drengine.runbook.yaml import Path, parse_yaml

_NAME: Final = re.compile(NAME)
_ID_RULE: Final = "lower-case letters, digits and hyphens, a letter first, at most 63"
_NAME_RULE: Final = "lower-case letters, digits and underscores, a letter first, at most 63"

_ONLY_FOR: Final[Mapping[str, tuple[StepKind, ...]]] = {
    "foreach": (StepKind.RUNBOOK,),
    "rollback": (StepKind.ACTION,),
    "irreversible": (StepKind.ACTION, StepKind.RUNBOOK),
    "retry": (StepKind.ACTION, StepKind.RUNBOOK),
}


def load_runbook(text: str | bytes, file: str, catalogue: Catalogue) -> Runbook:
    """Return the runbook that `text` describes; `file` is only named in messages.

    Raises:
        RunbookError: the first problem from the top; its hint counts the others.
    """
    runbook, found = _load(text, file, catalogue)
    if runbook is not None and not found:
        return runbook
    first, others = found[0], len(found) - 1
    if others:
        more = f"{others} more problem{'s' if others > 1 else ''}: drengine validate {file}"
        first.hint = f"{first.hint} {more}".strip()
    raise first


def check(text: str | bytes, file: str, catalogue: Catalogue) -> list[RunbookError]:
    """Return everything that is wrong with `text`, from top to bottom; empty when it loads."""
    return _load(text, file, catalogue)[1]


def _load(
    text: str | bytes, file: str, catalogue: Catalogue
) -> tuple[Runbook | None, list[RunbookError]]:
    try:
        problems = Problems(parse_yaml(text, file))
    except RunbookError as error:
        return None, [error]
    doc = read_document(problems)
    if doc is not None:
        _check_names(doc, problems)
    if doc is None or problems:
        return None, problems.in_order()
    runbook = build_runbook(doc, problems)
    _check_inputs(runbook, problems)
    _check_secrets(problems)
    _check_catalogue(runbook, catalogue, problems)
    for index, step in enumerate(runbook.steps):
        _check_keys(doc.steps[index], step, ("steps", index), problems)
    if check_needs(runbook, problems):
        above = upstream(runbook)
        check_groups(runbook, above, problems)
        check_points_of_no_return(runbook, problems)
        check_expressions(runbook, catalogue, above, problems)
    return runbook, problems.in_order()


def _check_names(doc: RunbookDoc, problems: Problems) -> None:
    if not STEP_ID.fullmatch(doc.name):
        problems.add(("name",), f"runbook name {shown(doc.name)} must be {_ID_RULE}")
    for section, known in (("inputs", doc.inputs), ("discovery", doc.discovery)):
        for name in known:
            if not _NAME.fullmatch(name):
                message = f"name {shown(name)} must be {_NAME_RULE}"
                problems.add((section, name), message, at_key=True)
    seen: dict[str, int] = {}
    for index, step in enumerate(doc.steps):
        path = ("steps", index)
        if not STEP_ID.fullmatch(step.id):
            problems.add((*path, "id"), f"step id {shown(step.id)} must be {_ID_RULE}")
        elif step.id in seen:
            line = problems.tree.place(("steps", seen[step.id], "id")).value[0]
            problems.add((*path, "id"), f"step id '{step.id}' stands twice; also at line {line}")
        seen.setdefault(step.id, index)
        _check_kind(step, path, problems)


def _check_kind(step: StepDoc, path: Path, problems: Problems) -> None:
    kinds = kinds_of(step)
    if len(kinds) != 1:
        found = " and ".join(kinds) or "none of them"
        message = (
            f"step {shown(step.id)} must have exactly one of action, gate, delivery and runbook; "
            f"it has {found}"
        )
        problems.add(path, message)


def _check_inputs(runbook: Runbook, problems: Problems) -> None:
    for name, spec in runbook.inputs.items():
        path: Path = ("inputs", name, "default")
        if not spec.has_default or spec.default is None:
            continue
        if any("${" in text for _, text in walk_texts(spec.default, ())):
            problems.add(path, f"default of input '{name}' is a literal; expressions stay text")
        elif spec.type not in (InputType.FILE, InputType.DOCUMENT):
            try:
                typed_value(spec, spec.default, now="2000-01-01T00:00:00Z", allow_lab_names=True)
            except MistypedInput as error:
                problems.add(path, f"default of input '{name}': {error}")


def _check_secrets(problems: Problems) -> None:
    for path, text in walk_texts(problems.tree.value, ()):
        if looks_secret(text):
            problems.add(
                path,
                "this text looks like a secret (a signature or a private key)",
                hint="Declare an input of type secret; plans and journals hold runbooks in full.",
            )


def _check_catalogue(runbook: Runbook, catalogue: Catalogue, problems: Problems) -> None:
    for item in runbook.discovery:
        path: Path = ("discovery", item.name)
        if item.source not in catalogue.discoveries:
            _unknown(problems, (*path, "source"), "discovery", item.source, catalogue.discoveries)
            continue
        parameters = catalogue.discoveries[item.source]
        _check_with(item.with_, parameters, item.source, path, problems)
    for index, step in enumerate(runbook.steps):
        path = ("steps", index)
        _check_listed(step, catalogue, path, problems)
        match step.kind:
            case StepKind.ACTION:
                _check_action(step, catalogue, path, problems)
            case StepKind.DELIVERY if step.delivery:
                kind = step.delivery.kind
                if kind not in catalogue.delivery_kinds:
                    known = catalogue.delivery_kinds
                    _unknown(problems, (*path, "delivery", "kind"), "delivery kind", kind, known)
            case StepKind.RUNBOOK if not STEP_ID.fullmatch(step.runbook):
                message = f"a sub-runbook is named, not a path: {shown(step.runbook)}"
                problems.add((*path, "runbook"), message)
            case _:
                pass


def _check_listed(step: Step, catalogue: Catalogue, path: Path, problems: Problems) -> None:
    lists: list[tuple[Path, str, Iterable[str], Collection[str]]] = [
        (("guards", "before"), "rule", step.guards_before, catalogue.rules),
        (("guards", "after"), "rule", step.guards_after, catalogue.rules),
    ]
    if step.gate:
        lists += [
            (("gate", "facts"), "observation", step.gate.facts, catalogue.observations),
            (("gate", "rules"), "rule", step.gate.rules, catalogue.rules),
            (("gate", "roles"), "role", step.gate.roles, catalogue.roles),
        ]
    for below, what, names, known in lists:
        for position, name in enumerate(names):
            if name not in known:
                _unknown(problems, (*path, *below, position), what, name, known)


def _check_action(step: Step, catalogue: Catalogue, path: Path, problems: Problems) -> None:
    if step.rollback is not None and step.rollback not in catalogue.actions:
        _unknown(problems, (*path, "rollback"), "action", step.rollback, catalogue.actions)
    spec = catalogue.actions.get(step.action)
    if spec is None:
        _unknown(problems, (*path, "action"), "action", step.action, catalogue.actions)
        return
    _check_with(step.with_, spec.parameters, spec.name, path, problems)
    if spec.changes and not step.guards_after:
        message = (
            f"step '{step.id}' changes something ({spec.name}) but does not say how that is "
            "verified; `guards.after` must name at least one rule"
        )
        problems.add(path, message)


def _check_with(
    given: Mapping[str, Json],
    parameters: tuple[Parameter, ...],
    what: str,
    path: Path,
    problems: Problems,
) -> None:
    known = {parameter.name for parameter in parameters}
    for name in given:
        if name not in known:
            close = did_you_mean(name, known) or f" (it takes {'none' if not known else 'others'})"
            message = f"{what} has no parameter {shown(name)}{close}"
            problems.add((*path, "with", name), message, at_key=True)
    missing = [p.name for p in parameters if p.required and p.name not in given]
    if missing:
        names = ", ".join(f"'{name}'" for name in missing)
        problems.add((*path, "with"), f"{what} needs {names} in `with`", at_key=True)


def _check_keys(doc: StepDoc, step: Step, path: Path, problems: Problems) -> None:
    for key, kinds in _ONLY_FOR.items():
        if key in doc.model_fields_set and step.kind not in kinds:
            allowed = " or ".join(str(kind) for kind in kinds)
            message = f"`{key}` is only for a step with {allowed}; '{step.id}' is a {step.kind}"
            problems.add((*path, key), message, at_key=True)
    if step.group is not None and not STEP_ID.fullmatch(step.group):
        problems.add((*path, "group"), f"group {shown(step.group)} must be {_ID_RULE}")
    if step.retry.max_wait_ms < step.retry.first_wait_ms:
        problems.add((*path, "retry"), "`max_wait` is shorter than `first_wait`")
    if step.foreach:
        name = step.foreach.variable
        if not _NAME.fullmatch(name) or name in RESERVED or name in ROOTS:
            message = f"{shown(name)} cannot be a loop variable: {_NAME_RULE}, not a reserved word"
            problems.add((*path, "foreach", "as"), message)


def _unknown(problems: Problems, path: Path, what: str, name: str, known: Iterable[str]) -> None:
    problems.add(path, f"unknown {what} {shown(name)}{did_you_mean(name, known)}")
