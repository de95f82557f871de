from __future__ import annotations

from collections.abc import Callable

import pytest

from drengine.errors import InputError, InputFileError
from drengine.model.canonical import Json, JsonObject
from drengine.model.plan import PlanPart
from drengine.model.runbook import Runbook
from drengine.runbook.inputs import bind_child_inputs, resolve_inputs, typed_inputs

Load = Callable[[str], Runbook]
SHA = "a" * 64
GUID = "12345678-1234-1234-1234-123456789abc"
NOW = "2026-11-22T03:00:00.000Z"


def nested(depth: int) -> Json:
    value: Json = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def read_file(path: str) -> JsonObject:
    if path == "gone":
        raise InputFileError("file 'gone' does not exist")
    return {"path": path, "sha256": SHA, "size": 3}


@pytest.fixture
def declare(load: Load, good: str) -> Callable[[str], Runbook]:
    """Return a runbook with the given inputs (YAML flow mapping body)."""
    head = good[: good.index("inputs:\n")]
    steps = "steps:\n  - {id: a, action: hsm.look, with: {name: x}}\n"
    return lambda inputs: load(f"{head}inputs: {{{inputs}}}\n{steps}")


def bind(runbook: Runbook, *, lab: bool = False, **given: Json) -> dict[str, Json]:
    return resolve_inputs(runbook, given, read_file=read_file, now=NOW, allow_lab_names=lab)


TYPED: list[tuple[str, Json, Json]] = [
    ("string", "x", "x"),
    ("string", "", ""),
    ("bool", "true", True),
    ("bool", False, False),
    ("int", "42", 42),
    ("int", -3, -3),
    ("duration", "1h30m", 5_400_000),
    ("duration", 5_000, 5_000),
    ("time", "now", NOW),
    ("time", "2026-02-28T23:59:59Z", "2026-02-28T23:59:59Z"),
    ("time", "2026-02-28T23:59:59.5Z", "2026-02-28T23:59:59.5Z"),
    ("hsm_name", "hsm-2", "hsm-2"),
    ("location", "West Europe", "westeurope"),
    ("location", "westeurope", "westeurope"),
    ("guid", GUID.upper(), GUID),
    ("resource_id", f"/subscriptions/{GUID}/resourceGroups/rg", None),
    (
        "resource_id",
        f"/subscriptions/{GUID}/resourceGroups/rg/providers/Microsoft.KeyVault/managedHSMs/h",
        None,
    ),
    ("url", "https://a.blob.core.windows.net/c", None),
    ("url", "https://a.lab.localhost:8443/c?x=1", None),
    ("file", "sd.json", {"path": "sd.json", "sha256": SHA, "size": 3}),
    ("file", {"path": "sd.json", "sha256": SHA, "size": 3}, None),
    ("backup_folder", "latest", "latest"),
    ("backup_folder", "mhsm-hsm-1-2024112206463630", None),
    ("secret", "env:SAS", "env:SAS"),
    ("secret", "prompt:", "prompt:"),
    ("secret", "mint:user-delegation", "mint:user-delegation"),
    ("string_list", "a, b,c", ["a", "b", "c"]),
    ("string_list", '["a,b"]', ["a,b"]),
    ("string_list", ["a"], ["a"]),
    ("string_list", "", []),
    ("object", '{"a": [1, true, null]}', {"a": [1, True, None]}),
    ("object", {"a": 1}, {"a": 1}),
    ("object_list", '[{"name": "a"}]', [{"name": "a"}]),
    ("object_list", [], []),
]


@pytest.mark.parametrize(("kind", "given", "expected"), TYPED)
def test_values_of_every_type_are_taken_as_text_and_as_json(
    declare: Load, kind: str, given: Json, expected: Json
) -> None:
    found = bind(declare(f"x: {{type: {kind}}}"), x=given)["x"]
    assert found == (given if expected is None else expected)
    assert type(found) is type(given if expected is None else expected)


MISTYPED: list[tuple[str, Json]] = [
    ("string", 5),
    ("string", "a\x1b[2J"),
    ("string", "x" * 70_000),
    ("string", "https://a/?sv=1&sig=abcdefghijklmnop"),
    ("bool", "yes"),
    ("bool", 1),
    ("bool", "True"),
    ("int", "0x1f"),
    ("int", "1.5"),
    ("int", True),
    ("int", "007"),
    ("duration", "4 hours"),
    ("duration", True),
    ("duration", -1),
    ("time", "2026-11-22"),
    ("time", "2026-02-30T00:00:00Z"),
    ("time", "2026-11-22T03:00:00+01:00"),
    ("time", 5),
    ("hsm_name", "a"),
    ("hsm_name", "1abc"),
    ("hsm_name", "a--b"),
    ("hsm_name", "abc-"),
    ("hsm_name", "a-b-c-d-e-f-g-h-i-j-k-l-m"),
    ("hsm_name", "hsm/../x"),
    ("location", "west europe!"),
    ("guid", "1234"),
    ("resource_id", "/subscriptions/x"),
    ("resource_id", f"/subscriptions/{GUID}/resourceGroups/../x"),
    ("resource_id", f"/subscriptions/{GUID}/resourceGroups/rg/providers/../x"),
    ("url", "http://a/"),
    ("url", "https://"),
    ("url", "https://user@a/"),
    ("url", "https://a/ b"),
    ("url", "https://a/#x"),
    ("url", "https://a:99999/"),
    ("url", "https://a/c?sp=r&sig=abc"),
    ("url", "https://[::1"),
    ("file", "gone"),
    ("file", 5),
    ("file", {"path": "sd.json", "sha256": "b" * 64, "size": 3}),
    ("file", {"path": "sd.json", "sha256": "x", "size": 3}),
    ("file", {"path": "sd.json"}),
    ("backup_folder", "../x"),
    ("backup_folder", "a/b"),
    ("backup_folder", ""),
    ("secret", "?sv=1&sig=abcdefghijklmnop"),
    ("secret", "hunter2"),
    ("secret", "env:"),
    ("secret", "vault:x"),
    ("secret", "mint:"),
    ("secret", "mint:anything"),
    ("secret", 5),
    ("string_list", [1]),
    ("string_list", "[1]"),
    ("string_list", "[unclosed"),
    ("string_list", {"a": 1}),
    ("object", "[]"),
    ("object", "{"),
    ("object", '{"a": 1.5}'),
    ("object", '{"a": NaN}'),
    ("object", '{"a": 1, "a": 2}'),
    ("object", "[" * 100_000),
    ("object", nested(45)),
    ("object", '"' + "x" * 5_000_000 + '"'),
    ("object", {"a": "-----BEGIN PRIVATE KEY-----"}),
    ("object_list", '[{"a": 1}, 2]'),
    ("object_list", {"a": 1}),
]


@pytest.mark.parametrize(("kind", "given"), MISTYPED)
def test_values_that_do_not_fit_are_refused(declare: Load, kind: str, given: Json) -> None:
    with pytest.raises(InputError, match=rf"input 'x' \({kind}\): "):
        bind(declare(f"x: {{type: {kind}}}"), x=given)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("secret", "hunter2"),
        ("secret", "?sv=1&sig=hunter2hunter2"),
        ("string", "?sv=1&sig=hunter2hunter2"),
        ("url", "https://a/c?sp=r&sig=hunter2"),
        ("int", "?sig=hunter2hunter2"),
    ],
)
def test_what_may_be_a_secret_is_not_repeated(declare: Load, kind: str, given: str) -> None:
    with pytest.raises(InputError) as caught:
        bind(declare(f"x: {{type: {kind}}}"), x=given)
    assert "hunter2" not in caught.value.message


def test_lab_names_need_the_lab(declare: Load) -> None:
    runbook = declare("x: {type: hsm_name}")
    assert bind(runbook, lab=True, x="a--b") == {"x": "a--b"}
    with pytest.raises(InputError):
        bind(runbook, x="a--b")


def test_everything_wrong_is_told_at_once(declare: Load) -> None:
    runbook = declare(
        "count: {type: int, description: How many}, name: {type: string}, on: {type: bool}"
    )
    with pytest.raises(InputError) as caught:
        bind(runbook, count="x", nmae="y", on="maybe")
    message = caught.value.message
    assert "4 inputs of runbook 'recover' do not fit" in message
    assert "unknown input 'nmae'; did you mean 'name'?" in message
    assert "input 'count' (int): expected a whole number, found 'x'" in message
    assert "input 'name' (string): is missing" in message
    assert "input 'on' (bool)" in message


def test_missing_input_is_described(declare: Load) -> None:
    with pytest.raises(InputError, match="is missing: How many"):
        bind(declare("count: {type: int, description: How many}"))


def test_null_counts_as_not_given(declare: Load) -> None:
    runbook = declare("a: {type: int, default: 5}, b: {type: int, optional: true}")
    assert bind(runbook, a=None, b=None) == {"a": 5, "b": None}
    assert bind(runbook, a=1, b=2) == {"a": 1, "b": 2}


def test_defaults_are_typed_too(declare: Load) -> None:
    runbook = declare("a: {type: duration, default: 4h}, f: {type: file, default: sd.json}")
    assert bind(runbook) == {"a": 14_400_000, "f": read_file("sd.json")}


def test_choices_hold_for_text_and_for_each_of_a_list(declare: Load) -> None:
    runbook = declare("x: {type: string_list, choices: [red, blue]}")
    assert bind(runbook, x="red,blue") == {"x": ["red", "blue"]}
    with pytest.raises(InputError, match="'rad' is not one of the choices; did you mean 'red'"):
        bind(runbook, x="blue,rad")


def part_of(runbook: Runbook, inputs: JsonObject, *deferred: str) -> PlanPart:
    return PlanPart(runbook.name, runbook.text, runbook.sha256, inputs, deferred=deferred)


def test_deferred_inputs_are_absent_from_the_plan_and_bound_later(declare: Load) -> None:
    runbook = declare("a: {type: int}, b: {type: int}")
    inputs = resolve_inputs(
        runbook, {"a": 1}, read_file=read_file, now=NOW, deferred=frozenset({"b"})
    )
    assert inputs == {"a": 1}
    assert bind_child_inputs(part_of(runbook, inputs, "b"), runbook, {"b": 2}) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "input 'b' was deferred and is not there now"),
        ({"b": 2, "a": 3}, "input 'a' is already fixed by the plan"),
        ({"b": "x"}, "expected a whole number"),
        ({"b": None}, "is missing"),
    ],
)
def test_child_inputs_that_do_not_fit_are_refused(
    declare: Load, values: dict[str, Json], message: str
) -> None:
    runbook = declare("a: {type: int}, b: {type: int}")
    with pytest.raises(InputError, match=message):
        bind_child_inputs(part_of(runbook, {"a": 1}, "b"), runbook, values)


def test_delivered_file_can_be_a_child_input(declare: Load) -> None:
    runbook = declare("f: {type: file}")
    value: Json = {"path": "objects/x", "sha256": SHA, "size": 1}
    assert bind_child_inputs(part_of(runbook, {}, "f"), runbook, {"f": value}) == {"f": value}


def test_some_inputs_can_be_typed_without_the_others(declare: Load) -> None:
    runbook = declare("a: {type: int}, b: {type: int}")
    assert typed_inputs(runbook, {"a": "1"}) == {"a": 1}
    with pytest.raises(InputError, match="unknown input 'c'"):
        typed_inputs(runbook, {"c": 1})


@pytest.mark.parametrize("given", ["mint:sas", "mint:", "Mint:user-delegation"])
def test_what_cannot_be_made_is_answered_with_what_can(declare: Load, given: str) -> None:
    with pytest.raises(InputError, match="mint:user-delegation, a SAS of the container"):
        bind(declare("x: {type: secret}"), x=given)
