"""Evaluate `${…}` over a scope of plain JSON.

Rules:
* A text that is exactly one `${…}` keeps the value's type; otherwise the parts are
  joined, and only text, integers and booleans may be joined.
* Values are never looked at for expressions again: a `${` that comes from a service
  or a person stays text.
* A path walks objects and lists of the scope, never attributes of Python.
* Types are not mixed: `==` compares like with like (or with null), order is for two
  integers or two texts, `and`/`or`/`not` take booleans only.
* A missing name is an error that lists the names that exist; inside `coalesce` it
  counts as null, unless the whole root (`steps`, say) is not there yet.
* Messages name keys and types, never values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from drengine.errors import ExpressionError
from drengine.model.canonical import Json
from drengine.runbook.expression_functions import call, compare, kind_of
from drengine.runbook.expression_syntax import (
    Call,
    Compare,
    Literal,
    Logic,
    Node,
    Not,
    Reference,
    Template,
    parse_template,
    walk,
)
from drengine.runbook.suggest import did_you_mean

MAX_TEXT: Final = 256 * 1024
MAX_DEPTH: Final = 30


def evaluate(text: str, scope: Mapping[str, Json]) -> Json:
    """Return the value of `text`, which may hold any number of `${…}`.

    Raises:
        ExpressionError: for bad syntax, a missing name (`missing` is then True) or mixed types.
    """
    template = parse_template(text)
    if len(template) == 1 and not isinstance(template[0], str):
        return _placed(template[0], text, scope)
    joined = "".join(
        part if isinstance(part, str) else _as_text(part, text, scope) for part in template
    )
    if len(joined) > MAX_TEXT:
        raise ExpressionError(f"the text grows beyond {MAX_TEXT:,} characters", expression=text)
    return joined


def resolve(value: Json, scope: Mapping[str, Json]) -> Json:
    """Return `value` with every text in its lists and objects evaluated; keys stay as they are.

    Raises:
        ExpressionError: see `evaluate`.
    """
    return _resolve(value, scope, 0)


def references(text: str) -> set[tuple[str, ...]]:
    """Return the paths that `text` refers to; an index is written `[0]`.

    Raises:
        ExpressionError: for bad syntax.
    """
    return set(_paths(parse_template(text)))


def references_in(value: Json) -> set[tuple[str, ...]]:
    """Return the paths that any text in `value` refers to.

    Raises:
        ExpressionError: for bad syntax.
    """
    return {path for text in texts(value) for path in references(text)}


def is_resolvable(value: Json, scope: Mapping[str, Json]) -> bool:
    """Return whether every name that `value` needs is in `scope`.

    Raises:
        ExpressionError: where names are there but the expression is wrong.
    """
    if any(path[0] not in scope for path in references_in(value)):
        return False
    try:
        resolve(value, scope)
    except ExpressionError as error:
        if error.missing:
            return False
        raise
    return True


def is_expression(text: str) -> bool:
    """Return whether `text` is exactly one `${…}`.

    Raises:
        ExpressionError: for bad syntax.
    """
    template = parse_template(text)
    return len(template) == 1 and not isinstance(template[0], str)


def texts(value: Json, depth: int = 0) -> Iterable[str]:
    """Yield every text in `value`, keys excluded.

    Raises:
        ExpressionError: where `value` is nested too deep.
    """
    if depth > MAX_DEPTH:
        raise ExpressionError(f"the value is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts(item, depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts(item, depth + 1)


def _resolve(value: Json, scope: Mapping[str, Json], depth: int) -> Json:
    if depth > MAX_DEPTH:
        raise ExpressionError(f"the value is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, str):
        return evaluate(value, scope)
    if isinstance(value, Mapping):
        return {key: _resolve(item, scope, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_resolve(item, scope, depth + 1) for item in value]
    return value


def _paths(template: Template) -> Iterable[tuple[str, ...]]:
    for part in template:
        if isinstance(part, str):
            continue
        for node in walk(part):
            if isinstance(node, Reference):
                yield tuple(s if isinstance(s, str) else f"[{s}]" for s in node.segments)


def _placed(node: Node, text: str, scope: Mapping[str, Json]) -> Json:
    try:
        return _value(node, scope)
    except ExpressionError as error:
        if error.expression:
            raise
        raise ExpressionError(
            error.problem, expression=text, column=error.column, missing=error.missing
        ) from None


def _as_text(node: Node, text: str, scope: Mapping[str, Json]) -> str:
    value = _placed(node, text, scope)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int)):
        return str(value)
    raise ExpressionError(
        f"{kind_of(value)} cannot be part of a text", expression=text, column=node.at + 1
    )


def _value(node: Node, scope: Mapping[str, Json]) -> Json:
    match node:
        case Literal(value=value):
            return value
        case Reference():
            return _look_up(node, scope)
        case Not(operand=operand):
            return not _boolean(operand, scope, "not")
        case Logic(operator="and"):
            return all(_boolean(item, scope, "and") for item in node.operands)
        case Logic():
            return any(_boolean(item, scope, "or") for item in node.operands)
        case Compare():
            left, right = _value(node.left, scope), _value(node.right, scope)
            return compare(node.operator, left, right, node.at)
        case Call(name="coalesce"):
            return _coalesce(node, scope)
        case Call():
            return call(node.name, [_value(item, scope) for item in node.arguments], node.at)


def _boolean(node: Node, scope: Mapping[str, Json], operator: str) -> bool:
    value = _value(node, scope)
    if not isinstance(value, bool):
        raise ExpressionError(
            f"`{operator}` needs true or false, not {kind_of(value)}", column=node.at + 1
        )
    return value


def _coalesce(node: Call, scope: Mapping[str, Json]) -> Json:
    for argument in node.arguments:
        try:
            value = _value(argument, scope)
        except ExpressionError as error:
            if not error.missing or any(
                item.segments[0] not in scope
                for item in walk(argument)
                if isinstance(item, Reference)
            ):
                raise
            continue
        if value is not None:
            return value
    return None


def _look_up(node: Reference, scope: Mapping[str, Json]) -> Json:
    value: Json = scope
    for position, segment in enumerate(node.segments):
        if isinstance(segment, int):
            value = _item(node, position, segment, value)
        elif isinstance(value, Mapping) and segment in value:
            value = value[segment]
        else:
            raise _missing(node, position, value)
    return value


def _item(node: Reference, position: int, index: int, value: Json) -> Json:
    if not isinstance(value, (list, tuple)):
        raise _missing(node, position, value)
    if index >= len(value):
        raise ExpressionError(
            f"`{_dotted(node, position)}` has {len(value)} items, there is no [{index}]",
            column=node.at + 1,
            missing=True,
        )
    return value[index]


def _missing(node: Reference, position: int, value: Json) -> ExpressionError:
    segment = node.segments[position]
    before = _dotted(node, position)
    if not isinstance(value, Mapping):
        # null is an absence that a runbook may foresee; a scalar is a mistake in the path.
        message = f"`{before}` is {kind_of(value)}, it has nothing called `{segment}`"
        return ExpressionError(message, column=node.at + 1, missing=value is None)
    where = f"under `{before}`" if before else "here"
    close = did_you_mean(str(segment), value)
    return ExpressionError(
        f"there is no `{segment}` {where}{close}", column=node.at + 1, missing=True
    )


def _dotted(node: Reference, count: int) -> str:
    out = ""
    for segment in node.segments[:count]:
        out += f"[{segment}]" if isinstance(segment, int) else f".{segment}"
    return out.removeprefix(".")
