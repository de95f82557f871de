"""Canonical bytes are those of the standard library's writer, whatever writes them."""

from __future__ import annotations

import json
from enum import Enum, IntEnum, StrEnum

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drengine.model.canonical import _parse_quickly, canonical, parse_canonical

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


def by_the_standard_library(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@given(VALUES)
def test_they_are_what_the_standard_library_writes(value):
    assert canonical(value) == by_the_standard_library(value)


@pytest.mark.parametrize("number", [2**63 - 1, 2**63, 2**64, -(2**63), -(2**63) - 1, 10**40])
def test_a_number_of_any_size_keeps_its_digits(number):
    assert canonical({"n": [number]}) == b'{"n":[%d]}' % number


def test_keys_are_sorted_by_code_point_beyond_the_first_plane_too():
    keys = ["\U0001f511", "\uffee", "é", "z", "a", "\x7f", ""]
    assert canonical(dict.fromkeys(keys)) == by_the_standard_library(dict.fromkeys(keys))


def test_every_character_there_is_has_one_form():
    every = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x110000))))
    assert canonical({"a": every}) == by_the_standard_library({"a": every})
    assert canonical(dict.fromkeys(every[::97])) == by_the_standard_library(
        dict.fromkeys(every[::97])
    )


def test_a_type_of_ones_own_over_text_or_number_is_that_text_or_number():
    class Name(str):
        __slots__ = ()

    class Mixed(str, Enum):  # noqa: UP042 - its str() is not its text
        A = "x"

    value = {Name("k"): [Name("n"), Mixed.A, IntEnum("Level", "LOW")(1)], Mixed.A: None}
    assert canonical(value) == b'{"k":["n","x",1],"x":null}'


def test_a_named_constant_is_its_text():
    class Colour(StrEnum):
        RED = "red"

    assert canonical({Colour.RED: Colour.RED}) == b'{"red":"red"}'


@pytest.mark.parametrize("value", ["\ud800", {"\udfff": 1}, 1.0, {"a": float("nan")}, {1: 2}, b"x"])
def test_what_has_no_form_is_refused(value):
    with pytest.raises(ValueError, match=r"surrogates|canonical form|not a string"):
        canonical(value)


@given(VALUES)
@example({"a": [[[[[[]]]]]] * 9})
def test_what_is_written_is_read_again(value):
    data = canonical({"value": value})
    assert parse_canonical(data) == {"value": value}


LOOKING_LIKE_NUMBERS = st.sampled_from(
    ["1.5", "1e5", "-0", "-0.0", "1E400", "NaN", "18446744073709551616", "0", "-1", "01", "1.0"]
)


@given(
    st.one_of(
        VALUES.map(lambda value: canonical({"value": value})),
        LOOKING_LIKE_NUMBERS.map(lambda text: f'{{"value":[{text}]}}'.encode()),
        LOOKING_LIKE_NUMBERS.map(lambda text: f'{{"a":"x","value":{text}}}'.encode()),
        st.sampled_from(
            [
                b'{"a":1,"a":1}',
                b'{"b":1,"a":1}',
                b'{"a":"\\u00e9"}',
                b'{"a":"\\/"}',
                b'{"a":"\\ud800"}',
                b'{"a":"\\b\\f\\n\\r\\t\\u0001\x7f"}',
                b'{"a": 1}',
                b"[1]",
                b'{"\xf0\x9f\x98\x80":1,"\xef\xbf\xbd":2}',
                b'{"\xef\xbf\xbd":2,"\xf0\x9f\x98\x80":1}',
            ]
        ),
    ),
    st.binary(max_size=2),
    st.integers(0, 40),
)
def test_the_quick_way_takes_nothing_that_the_slow_way_would_refuse(data, noise, place):
    for text in (data, data[:place] + noise + data[place:]):
        quick = _parse_quickly(text)
        if quick is not None:
            assert canonical(quick) == text


@given(st.integers(0, 60))
def test_depth_is_refused_where_the_canonical_form_refuses_it(depth):
    data = b'{"a":' * depth + b"{}" + b"}" * depth
    if depth <= 40:
        assert canonical(parse_canonical(data)) == data
    else:
        with pytest.raises(ValueError, match="deeper"):
            parse_canonical(data)


def test_what_is_nested_to_where_any_reader_gives_up_is_refused():
    for depth in (*range(38, 44), *range(60, 1100, 2), 20_000):
        data = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
        if depth < 41:
            assert list(parse_canonical(data)) == ["a"]
        else:
            with pytest.raises(ValueError, match="deep"):
                parse_canonical(data)
