"""Canonical bytes are those of the standard library's writer, whatever writes them."""

from __future__ import annotations

import json
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drengine.model.canonical import canonical

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


def test_a_named_constant_is_its_text():
    class Colour(StrEnum):
        RED = "red"

    assert canonical({Colour.RED: Colour.RED}) == b'{"red":"red"}'


@pytest.mark.parametrize("value", ["\ud800", {"\udfff": 1}, 1.0, {"a": float("nan")}, {1: 2}, b"x"])
def test_what_has_no_form_is_refused(value):
    with pytest.raises(ValueError, match=r"surrogates|canonical form|not a string"):
        canonical(value)
