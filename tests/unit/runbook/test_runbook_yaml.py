from __future__ import annotations

import time

import pytest

from drengine.errors import RunbookError
from drengine.runbook.yaml import MAX_BYTES, MAX_NODES, parse_yaml


def refusal(text: str | bytes) -> RunbookError:
    with pytest.raises(RunbookError) as caught:
        parse_yaml(text, "r.yaml")
    return caught.value


def value_of(scalar: str) -> object:
    tree = parse_yaml(f"a: {scalar}\n", "r.yaml")
    assert isinstance(tree.value, dict)
    return tree.value["a"]


def test_plain_document_becomes_json_with_the_place_of_each_key_and_value() -> None:
    tree = parse_yaml("a:\n  - b: 1\n  - text\n", "r.yaml")
    assert tree.value == {"a": [{"b": 1}, "text"]}
    assert tree.place(("a",)).key == (1, 1)
    assert tree.place(("a", 0, "b")).key == (2, 5)
    assert tree.place(("a", 0, "b")).value == (2, 8)
    assert tree.place(("a", 1)).value == (3, 5)


def test_place_of_an_absent_path_is_that_of_what_is_around_it() -> None:
    tree = parse_yaml("a: {b: 1}\n", "r.yaml")
    assert tree.place(("a", "c", "d")) == tree.place(("a",))


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("true", True),
        ("false", False),
        ("True", "True"),
        ("no", "no"),
        ("off", "off"),
        ("y", "y"),
        ("null", None),
        ("~", None),
        ("", None),
        ("0", 0),
        ("-7", -7),
        ("42", 42),
        ("0755", "0755"),
        ("0x1f", "0x1f"),
        ("0o17", "0o17"),
        ("1_000", "1_000"),
        ("+1", "+1"),
        ("1e3", "1e3"),
        ("12:30:00", "12:30:00"),
        ("2026-11-22", "2026-11-22"),
        ("1.2.3", "1.2.3"),
        ("'true'", "true"),
        ('"5"', "5"),
        ("'1.5'", "1.5"),
        ("=", "="),
        ("!important", None),
    ],
)
def test_scalars_mean_what_they_look_like(scalar: str, value: object) -> None:
    if scalar.startswith("!"):
        assert "tag" in refusal(f"a: {scalar}").message
    else:
        found = value_of(scalar)
        assert found == value
        assert type(found) is type(value)


@pytest.mark.parametrize("scalar", ["1.5", "-0.5", ".5", "1.", "1.5e3", ".inf", "-.INF", ".nan"])
def test_decimal_fractions_are_refused_with_their_place(scalar: str) -> None:
    error = refusal(f"a: {scalar}\n")
    assert "decimal fraction" in error.message
    assert (error.line, error.column) == (1, 4)


def test_number_too_large_for_an_id_is_refused_not_rounded() -> None:
    assert "too large" in refusal(f"a: {'9' * 19}\n").message


@pytest.mark.parametrize(
    ("text", "what", "place"),
    [
        ("a: !!python/object/apply:os.system ['id']\n", "tag", (1, 4)),
        ("a: !!str 5\n", "tag", (1, 4)),
        ("a: ! b\n", "tag", (1, 4)),
        ("!!map {a: 1}\n", "tag", (1, 1)),
        ("a: &x 1\n", "anchor", (1, 4)),
        ("a: *x\n", "alias", (1, 4)),
        ("a: 1\n<<: {b: 2}\n", "merge key", (2, 1)),
        ("a: 1\nb: 2\na: 3\n", "stands twice; it is already at line 1:1", (3, 1)),
        ("a: {b: 1, b: 2}\n", "stands twice", (1, 11)),
        ("a: 1\n---\nb: 2\n", "second document", (2, 1)),
        ("%YAML 1.1\n---\na: 1\n", "directive", (1, 1)),
        ("%TAG ! tag:x,2026:\n---\na: 1\n", "directive", (1, 1)),
        ("? [a]\n: b\n", "key must be plain text", (1, 3)),
        ("? {a: b}\n: b\n", "key must be plain text", (1, 3)),
        ("'': 1\n", "empty key", (1, 1)),
        ("a: 1\n b: 2\n", "not valid YAML", (2, 3)),
        ("a: 'x\n", "not valid YAML", (2, 1)),
        ("", "empty", (1, 1)),
        ("# nothing\n", "empty", (1, 1)),
        ("a: \x00\n", "U+0000", (1, 4)),
        ("a: b\n\x1b[31m", "U+001B", (2, 1)),
        ("\ufeffa: 1\n", "U+FEFF", (1, 1)),
        ("a: x\u202ey\n", "U+202E", (1, 5)),
        ('a: "\\0"\n', "U+0000", (1, 4)),
        ('a: "\\u202e"\n', "U+202E", (1, 4)),
        ('a: "\\x1b[2J"\n', "U+001B", (1, 4)),
        ("a: \ud800\n", "U+D800", (1, 4)),
    ],
)
def test_what_makes_yaml_surprising_is_refused_with_its_place(
    text: str, what: str, place: tuple[int, int]
) -> None:
    error = refusal(text)
    assert what in error.message
    assert error.message.startswith(f"r.yaml:{error.line}:{error.column}: ")
    assert (error.line, error.column) == place


def test_bytes_that_are_not_utf8_are_refused_at_the_byte() -> None:
    error = refusal(b"a: 1\nb: \xff\n")
    assert (error.line, error.column) == (2, 4)
    assert "UTF-8" in error.message


@pytest.mark.parametrize(
    ("encoding", "told"),
    [("utf-16", "UTF-8"), ("utf-16-le", "U+0000"), ("utf-32", "UTF-8"), ("utf-8-sig", "U+FEFF")],
)
def test_other_encodings_and_byte_order_marks_are_refused(encoding: str, told: str) -> None:
    error = refusal("a: 1\n".encode(encoding))
    assert (error.line, told in error.message) == (1, True)


def test_unquoted_expression_in_braces_gets_a_hint_to_quote_it() -> None:
    error = refusal("a: {when: ${inputs.x}}\n")
    assert "quotes" in error.hint


def test_tab_gets_a_hint_to_indent_with_spaces() -> None:
    assert "spaces" in refusal("a:\n\tb: 1\n").hint


def test_size_cap_counts_bytes_and_not_characters() -> None:
    assert "bytes" in refusal("a: " + "é" * (MAX_BYTES // 2)).message


def test_depth_is_counted_while_reading() -> None:
    assert "nested deeper" in refusal("a: " + "[" * 21).message
    assert parse_yaml("[" * 20 + "]" * 20, "r.yaml").value is not None


def test_node_cap_is_counted_while_reading() -> None:
    assert "nodes" in refusal("[" + "1," * MAX_NODES + "]").message


def test_alias_bomb_ends_at_its_first_anchor() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
    )
    error = refusal(bomb)
    assert error.line == 1


HOSTILE = {
    "open lists": "[" * 200_000,
    "open mappings": "{" * 200_000,
    "nested flow": "[a, " * 60_000,
    "question marks": "? " * 100_000,
    "colons": ": " * 100_000,
    "dashes": "- " * 100_000,
    "one scalar": "a: " + "x" * 250_000,
    "quotes": "'" * 250_000,
    "escapes": 'a: "' + "\\x41" * 60_000 + '"',
    "long keys": "\n".join(f"{'k' * 900}{i}: 1" for i in range(280)),
    "empty lines": "\n" * 250_000,
    "comment": "#" * 250_000,
    "anchors": "\n".join(f"a{i}: &a{i} x" for i in range(10_000)),
    "block scalar": "a: |\n" + " x\n" * 80_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_answered_quickly(name: str) -> None:
    begun = time.process_time()
    try:
        parse_yaml(HOSTILE[name], "r.yaml")
    except RunbookError as error:
        assert error.line > 0  # noqa: PT017 - some of the samples are odd but valid
    # Ten times what is measured, so that a busy machine does not fail the test.
    assert time.process_time() - begun < 1.0
