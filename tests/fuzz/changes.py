"""Documents that are nearly right: valid ones, changed in their structure or in their bytes.

Random bytes alone end at the first check of a reader. What is changed here keeps most of
its shape, so that the later checks are reached.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy[Any]], Any]

_DEEP = "(nested deeply)"
_HUGE = "(a number of 5000 digits)"
STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 255, 2**31, 2**63, 2**64, -(2**63), 10**40),
    *(0.5, 1e308, float("inf"), float("nan")),
    *("", " ", "a", "-", ".", "/", "..", "\x00", "\n", "\u202e", "\ud800", "é", "\uff10", "\ufeff"),
    *(
        "x" * 300,
        "A" * 5000,
        "${",
        "${inputs.x}",
        "{{x}}",
        "null",
        "1",
        "1h",
        "0" * 64,
        "=",
        "_" * 43,
    ),
    *([], {}, [[]], [{}], {"": ""}, {"a": None}, [None] * 200, _DEEP, _HUGE),
)


def _places(doc: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    found = (
        doc.items() if isinstance(doc, dict) else enumerate(doc) if isinstance(doc, list) else ()
    )
    for key, value in found:
        yield (*path, key)
        yield from _places(value, (*path, key))


def _at(doc: Any, path: Sequence[Any]) -> Any:
    for key in path:
        doc = doc[key]
    return doc


def change(draw: Draw, doc: Any) -> Any:
    """Change one place of a JSON value, in place where it is a container."""
    places = list(_places(doc))
    if not places:
        return copy.deepcopy(draw(st.sampled_from(STRANGE)))
    path = places[draw(st.integers(0, len(places) - 1))]
    holder, key = _at(doc, path[:-1]), path[-1]
    match draw(st.integers(0, 6)):
        case 0 | 1:
            holder[key] = copy.deepcopy(draw(st.sampled_from(STRANGE)))
        case 2:
            del holder[key]
        case 3:
            other = places[draw(st.integers(0, len(places) - 1))]
            holder[key] = copy.deepcopy(_at(doc, other))
        case 4 if isinstance(holder, dict):
            holder[draw(st.sampled_from([*holder, "", "x", "type", "__class__"]))] = holder.pop(key)
        case 4 | 5 if isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        case _:
            holder[key] = _near(draw, holder[key])
    return doc


def _near(draw: Draw, value: Any) -> Any:
    """Return a value of the same type that is a little different."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int | float):
        return value + draw(st.sampled_from([1, -1, 1000, -1000, 2**32]))
    if isinstance(value, str):
        return edited(draw, value.encode("utf-8", "surrogatepass"), 1).decode("utf-8", "replace")
    return [value]


@st.composite
def changed_json(draw: Draw, whole: Any, most: int = 3) -> Any:
    """Give a JSON value with one to `most` places changed."""
    doc = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, most))):
        doc = change(draw, doc)
    return doc


def written(doc: Any, *, canonical: bool = True) -> bytes:
    """Write a changed JSON value, with what `json.dumps` itself could not write put in."""
    form: dict[str, Any] = {"separators": (",", ":"), "sort_keys": True} if canonical else {}
    try:
        text = json.dumps(doc, ensure_ascii=False, **form)
    except TypeError:  # members of different types cannot be sorted
        text = json.dumps(doc, ensure_ascii=False)
    text = text.replace(f'"{_DEEP}"', "[" * 20_000 + "]" * 20_000)
    text = text.replace(f'"{_HUGE}"', "9" * 5000)
    return text.encode("utf-8", "surrogatepass")


def edited(draw: Draw, data: bytes, most: int = 4, words: Sequence[bytes] = ()) -> bytes:
    """Return bytes with stretches flipped, cut, doubled, moved, or words put in."""
    found = bytearray(data)
    for _ in range(draw(st.integers(1, most))):
        at = draw(st.integers(0, len(found)))
        size = draw(st.sampled_from([1, 1, 2, 3, 16, 200]))
        match draw(st.integers(0, 5)):
            case 0 if at < len(found):
                found[at] ^= 1 << draw(st.integers(0, 7))
            case 1:
                del found[at : at + size]
            case 2:
                found[at:at] = found[at : at + size]
            case 3 if words:
                found[at:at] = draw(st.sampled_from(words))
            case 4:
                to = draw(st.integers(0, len(found)))
                piece = found[at : at + size]
                del found[at : at + size]
                found[to:to] = piece
            case _:
                found[at:at] = draw(st.binary(min_size=1, max_size=4))
    return bytes(found)


@st.composite
def changed_bytes(draw: Draw, whole: bytes, words: Sequence[bytes] = ()) -> bytes:
    """Give a document with a few stretches of bytes changed."""
    return edited(draw, whole, words=words)


def near(whole: bytes, words: Sequence[bytes] = ()) -> st.SearchStrategy[bytes]:
    """Give JSON documents near a valid one, and some bytes that are near nothing."""
    doc = json.loads(whole)
    return st.one_of(
        changed_json(doc).map(written),
        changed_json(doc).map(lambda found: written(found, canonical=False)),
        changed_bytes(whole, words),
        st.binary(max_size=200),
    )
