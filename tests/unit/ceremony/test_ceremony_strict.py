from __future__ import annotations

import pytest

from drengine.ceremony import strict
from drengine.errors import CeremonyError


@pytest.mark.parametrize("data", [b"", b"f", b"fo", b"foo", b"\xff\xfe\xfd\xfc", bytes(range(256))])
def test_base64url_comes_back_as_it_was_written(data):
    assert strict.decode_base64url(strict.encode_base64url(data), "it") == data


@pytest.mark.parametrize(
    "text", ["Zg==", "Z g", "Zg\n", "Z+8", "Z/8", "A", "AAAAA", "Zh", "Zm9v\n", "Zä"]
)
def test_padding_foreign_signs_and_stray_bits_are_refused(text):
    with pytest.raises(CeremonyError, match="the tag is"):
        strict.decode_base64url(text, "the tag")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a":1,"a":1}', "'a' stands twice"),
        (b'{"a":{"b":1,"b":2}}', "'b' stands twice"),
        (b'{"a":1.5}', "'1.5' is not an integer"),
        (b'{"a":NaN}', "'NaN' is not an integer"),
        (b'{"a":-Infinity}', "not an integer"),
        (b"{", "not JSON: .* line 1 column 2"),
        (b"", "not JSON"),
        (b'{"a":"\xff"}', "not UTF-8"),
        (b"[" * 1000, "nested"),
        (b"1" * 5000, "unreasonable size"),
        (b" " * 10_001, "10001 bytes"),
    ],
)
def test_bad_json_is_refused_with_its_reason(data, message):
    with pytest.raises(CeremonyError, match=message):
        strict.load_json(data, max_bytes=10_000)


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b'{"a":[1,{}]}', 3),
        (b'{"a":"[[[{{"}', 1),
        (b'{"a[\\"[":"\\\\"},[', 2),
        (b'["an open string [[', 1),
        (b'["an open string with [ at its end\\', 1),
        (b'"[\n["[', 1),
    ],
)
def test_brackets_in_strings_are_not_counted(data, count):
    assert strict.count_brackets(data) == count


@pytest.mark.parametrize("data", [b'"' * 500_001, b'\\"' * 300_000, b'"' + b'\\"' * 300_000])
def test_brackets_are_counted_in_time(data):
    assert strict.count_brackets(data) == 0


def test_a_byte_order_mark_of_a_windows_tool_is_passed_over():
    assert strict.load_json(b'\xef\xbb\xbf{"a":1}', max_bytes=100) == {"a": 1}


def test_members_must_be_exactly_the_named_ones():
    assert strict.members({"a": 1, "b": 2}, ("b", "a"), "it") == {"a": 1, "b": 2}
    with pytest.raises(CeremonyError, match="it has no member 'b'"):
        strict.members({"a": 1}, ("a", "b"), "it")
    with pytest.raises(CeremonyError, match="it has the unknown member 'c'"):
        strict.members({"a": 1, "b": 2, "c": 3}, ("a", "b"), "it")
    with pytest.raises(CeremonyError, match="it is not an object"):
        strict.members([], ("a",), "it")


@pytest.mark.parametrize("value", [True, "2", None, [2]])
def test_only_integers_are_integers(value):
    with pytest.raises(CeremonyError, match="not an integer"):
        strict.integer(value, "it")


@pytest.mark.parametrize("value", [[], [1] * 4, {}, "abc"])
def test_lists_have_a_range(value):
    with pytest.raises(CeremonyError):
        strict.elements(value, "it", least=1, most=3)


@pytest.mark.parametrize("value", ["", "A" * 42, "A" * 44, 7, "A" * 42 + "B"])
def test_a_thumbprint_is_the_base64url_of_32_bytes(value):
    with pytest.raises(CeremonyError):
        strict.thumbprint(value, "it")
    assert strict.thumbprint("A" * 43, "it") == "A" * 43
