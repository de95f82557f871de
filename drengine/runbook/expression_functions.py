"""The comparisons and functions of `${…}`, over plain JSON values.

Each takes values that have been evaluated and says by type what it does not take.
`coalesce` is not here: it must see a missing name before it becomes an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from drengine.errors import ExpressionError
from drengine.model.canonical import Json

_UTC: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?Z")


def kind_of(value: Json) -> str:
    """Return what `value` is, in words for a message."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "a number"
        case str():
            return "a text"
        case Mapping():
            return "an object"
        case _:
            return "a list"


def compare(operator: str, left: Json, right: Json, at: int) -> bool:
    """Return the outcome of one comparison.

    Raises:
        ExpressionError: for types that do not go together.
    """
    match operator:
        case "==":
            return _equal_alike(left, right, at)
        case "!=":
            return not _equal_alike(left, right, at)
        case "in":
            return _member(left, right, at)
        case _:
            return _in_order(operator, left, right, at)


def call(name: str, arguments: Sequence[Json], at: int) -> Json:
    """Return the value of a function; the parser has checked its name and arity.

    Raises:
        ExpressionError: for an argument of the wrong type.
    """
    return _CALLS[name](arguments, at)


def _error(message: str, at: int) -> ExpressionError:
    return ExpressionError(message, column=at + 1)


def _equal_alike(left: Json, right: Json, at: int) -> bool:
    if left is None or right is None:
        return left is right
    if kind_of(left) != kind_of(right):
        raise _error(f"{kind_of(left)} is compared with {kind_of(right)}", at)
    return _equal(left, right)


def _equal(left: Json, right: Json) -> bool:
    """Compare deeply without Python's `True == 1`."""
    if kind_of(left) != kind_of(right):
        return False
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(_equal(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(_equal, left, right))
    return left == right


def _member(left: Json, right: Json, at: int) -> bool:
    if not isinstance(right, (list, tuple)):
        hint = "; for a part of a text use contains(text, part)" if isinstance(right, str) else ""
        raise _error(f"`in` needs a list on its right, not {kind_of(right)}{hint}", at)
    return any(_equal(left, item) for item in right)


def _in_order(operator: str, left: Json, right: Json, at: int) -> bool:
    low: str | int
    high: str | int
    if isinstance(left, str) and isinstance(right, str):
        low, high = _sortable(left), _sortable(right)
        less, equal = low < high, low == high
    elif _is_number(left) and _is_number(right):
        less, equal = left < right, left == right  # type: ignore[operator] # both are int, see above
    else:
        raise _error(
            f"`{operator}` needs two numbers or two texts, not {kind_of(left)} and "
            f"{kind_of(right)}",
            at,
        )
    match operator:
        case "<":
            return less
        case "<=":
            return less or equal
        case ">":
            return not less and not equal
        case _:
            return not less


def _is_number(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _sortable(text: str) -> str:
    """Bring UTC times to one width, since `…:00Z` would sort after `…:00.5Z` as text."""
    found = _UTC.fullmatch(text)
    return f"{found[1]}{(found[2] or '.').ljust(10, '0')}Z" if found else text


def _len(arguments: Sequence[Json], at: int) -> Json:
    value = arguments[0]
    if isinstance(value, (str, list, tuple, Mapping)):
        return len(value)
    raise _error(f"len() takes a text, a list or an object, not {kind_of(value)}", at)


def _text(value: Json, function: str, at: int) -> str:
    if isinstance(value, str):
        return value
    raise _error(f"{function}() takes a text, not {kind_of(value)}", at)


def _scalar_text(value: Json, function: str, at: int) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int)):
        return str(value)
    raise _error(f"{function}() takes texts, numbers and booleans, not {kind_of(value)}", at)


def _lower(arguments: Sequence[Json], at: int) -> Json:
    return _text(arguments[0], "lower", at).lower()


def _concat(arguments: Sequence[Json], at: int) -> Json:
    return "".join(_scalar_text(item, "concat", at) for item in arguments)


def _contains(arguments: Sequence[Json], at: int) -> Json:
    whole, part = arguments
    if isinstance(whole, str):
        return _text(part, "contains", at) in whole
    if isinstance(whole, (list, tuple)):
        return any(_equal(part, item) for item in whole)
    raise _error(f"contains() looks in a text or a list, not in {kind_of(whole)}", at)


def _join(arguments: Sequence[Json], at: int) -> Json:
    items, between = arguments
    if not isinstance(items, (list, tuple)):
        raise _error(f"join() takes a list, not {kind_of(items)}", at)
    return _text(between, "join", at).join(_scalar_text(item, "join", at) for item in items)


def _host(arguments: Sequence[Json], at: int) -> Json:
    text = _text(arguments[0], "host", at)
    name = _host_name(text)
    if not name:
        raise _error("host() takes a URL such as https://name.example/path", at)
    return name


def _host_name(text: str) -> str | None:
    if not text.isascii() or re.search(r"[\s\\@]", text):
        return None
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    return parts.hostname if parts.scheme in ("http", "https") else None


_CALLS: Final[Mapping[str, Callable[[Sequence[Json], int], Json]]] = {
    "len": _len,
    "lower": _lower,
    "concat": _concat,
    "contains": _contains,
    "join": _join,
    "host": _host,
}
