from __future__ import annotations

import pytest

from drengine.errors import ExpressionError, InputError
from drengine.model.canonical import Json
from drengine.runbook.expressions import evaluate, is_resolvable, references, resolve

SCOPE: dict[str, Json] = {
    "inputs": {
        "name": "hsm-2",
        "count": 3,
        "yes": True,
        "none": None,
        "list": [{"id": 1}, {"id": 2}],
        "object": {"a-b": {"c": "deep"}},
        "evil": "${inputs.name}",
        "early": "2026-11-22T03:00:00Z",
        "late": "2026-11-22T03:00:00.500Z",
    },
    "plan": {"backup": {"folder": "mhsm-x"}},
    "steps": {"create-hsm": {"outputs": {"uri": "https://Hsm-2.managedhsm.azure.net:443/keys"}}},
    "run": {"id": "r-1", "class": "drill"},
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", ""),
        ("plain", "plain"),
        ("$5 {x} }", "$5 {x} }"),
        ("${inputs.name}", "hsm-2"),
        ("${ inputs.count }", 3),
        ("${inputs.yes}", True),
        ("${inputs.none}", None),
        ("${inputs.list}", [{"id": 1}, {"id": 2}]),
        ("${inputs.list[1].id}", 2),
        ("${inputs.object.a-b.c}", "deep"),
        ("${steps.create-hsm.outputs.uri}", "https://Hsm-2.managedhsm.azure.net:443/keys"),
        ("a-${inputs.name}-${inputs.count}-${inputs.yes}", "a-hsm-2-3-true"),
        ("$${inputs.name}", "${inputs.name}"),
        ("a$${b}${inputs.count}", "a${b}3"),
        ("${'it''s'}", "it's"),
        ("${'}'}", "}"),
        ("${-5}", -5),
        ("${true}", True),
        ("${null}", None),
        ("${inputs.count == 3}", True),
        ("${inputs.count != 3}", False),
        ("${inputs.none == null}", True),
        ("${inputs.name != null}", True),
        ("${inputs.count < 4 and inputs.count >= 3}", True),
        ("${'a' <= 'a' and 'b' > 'a'}", True),
        ("${inputs.early < inputs.late}", True),
        ("${not inputs.yes or inputs.count > 2}", True),
        ("${not (inputs.yes or false)}", False),
        ("${not not true}", True),
        ("${true or false and false}", True),
        ("${inputs.name in ['a']}", None),
        ("${len(inputs.list)}", 2),
        ("${len('abc')}", 3),
        ("${lower('ABC')}", "abc"),
        ("${concat(inputs.name, '-', 1, true)}", "hsm-2-1true"),
        ("${coalesce(inputs.none, 'x')}", "x"),
        ("${coalesce(inputs.none, inputs.none)}", None),
        ("${coalesce(inputs.gone, inputs.none.deeper, steps.skipped.outputs.uri, 'x')}", "x"),
        ("${contains('abc', 'b')}", True),
        ("${contains(inputs.list, inputs.list[0])}", True),
        ("${inputs.list[0] in inputs.list}", True),
        ("${1 in inputs.list}", False),
        ("${inputs.list == inputs.list}", True),
        ("${inputs.object == inputs.object and inputs.list[0] != inputs.list[1]}", True),
        ("${host(steps.create-hsm.outputs.uri)}", "hsm-2.managedhsm.azure.net"),
    ],
)
def test_expressions_have_the_value_they_look_like(text: str, value: Json) -> None:
    if "[" in text and "'a'" in text:
        with pytest.raises(ExpressionError):  # there are no list literals
            evaluate(text, SCOPE)
        return
    found = evaluate(text, SCOPE)
    assert found == value
    assert type(found) is type(value)


def test_join_joins_scalars() -> None:
    assert evaluate("${join(inputs.l, '-')}", {"inputs": {"l": ["a", 1, True]}}) == "a-1-true"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${inputs.nam}", "there is no `nam` under `inputs`; did you mean 'name'?"),
        ("${input.name}", "there is no `input` here; did you mean 'inputs'?"),
        ("${inputs.list[2]}", "`inputs.list` has 2 items, there is no [2]"),
        ("${inputs.name.x}", "`inputs.name` is a text, it has nothing called `x`"),
        ("${inputs.name[0]}", "`inputs.name` is a text"),
        ("${inputs.none.x}", "`inputs.none` is null"),
        ("${inputs.count == '3'}", "a number is compared with a text"),
        ("${inputs.yes == 1}", "a boolean is compared with a number"),
        ("${inputs.count < 'a'}", "needs two numbers or two texts"),
        ("${true < false}", "needs two numbers or two texts"),
        ("${inputs.name and true}", "`and` needs true or false, not a text"),
        ("${true or 1}", None),
        ("${false or 1}", "`or` needs true or false, not a number"),
        ("${not 1}", "`not` needs true or false"),
        ("${'a' in 'abc'}", "use contains(text, part)"),
        ("a${inputs.list}", "a list cannot be part of a text"),
        ("a${inputs.none}", "null cannot be part of a text"),
        ("${len(1)}", "len() takes"),
        ("${lower(1)}", "lower() takes a text"),
        ("${concat(inputs.list)}", "concat() takes"),
        ("${join('a', ',')}", "join() takes a list"),
        ("${contains(1, 1)}", "contains() looks in"),
        ("${host('no url')}", "host() takes a URL"),
        ("${host('https://user@h/')}", "host() takes a URL"),
        ("${host('https://[::1')}", "host() takes a URL"),
        ("${host('file:///etc/passwd')}", "host() takes a URL"),
        ("${lenn('x')}", "unknown function 'lenn'; did you mean 'len'?"),
        ("${len()}", "len() takes 1, not 0"),
        ("${coalesce()}", "coalesce() takes 1 to 20"),
        ("${1 < 2 < 3}", "do not chain"),
        ("${inputs.x", "`}` is missing"),
        ("${'abc}", "`'` is missing"),
        ('${"a"}', "single quotes"),
        ("${}", "where a value was expected"),
        ("${and}", "where a value was expected"),
        ("${inputs.}", "a name was expected"),
        ("${inputs[x]}", "a position such as 0"),
        ("${inputs[-1]}", "a position such as 0"),
        ("${inputs.list[0}", "`]` was expected"),
        ("${(true}", "`)` was expected"),
        ("${true false}", "the end of the expression"),
        ("${1 + 1}", "character '+' is not allowed here"),
        ("${inputs.nаme}", "is not allowed here"),  # noqa: RUF001 - a Cyrillic letter
        ("${" + "(" * 30 + "1" + ")" * 30 + "}", "nested deeper"),
        ("${" + "a" * 1_001 + "}", "longer than 1,000"),
        ("${'" + "a" * 1_001 + "'}", "longer than 1,000"),
        ("${1}" * 51, "more than 50 expressions"),
        ("${" + "9" * 19 + "}", "too large"),
    ],
)
def test_what_does_not_fit_is_named_in_the_message(text: str, message: str | None) -> None:
    if message is None:
        assert evaluate(text, SCOPE) is True  # the second operand is not looked at
        return
    with pytest.raises(InputError) as caught:
        evaluate(text, SCOPE)
    assert message in caught.value.message


def test_message_names_the_place_in_the_expression() -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate("at ${inputs.name} and ${inputs.nme}", SCOPE)
    assert caught.value.column == 25
    assert "'at ${inputs.name} and ${inputs.nme}', character 25:" in caught.value.message


@pytest.mark.parametrize(
    "text", ["${inputs.name == 3}", "${inputs.name.x}", "${host(inputs.name)}"]
)
def test_messages_name_types_and_never_values(text: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate(text, SCOPE)
    assert "hsm-2" not in caught.value.message


def test_missing_is_told_apart_from_wrong() -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate("${plan.other}", SCOPE)
    assert caught.value.missing
    with pytest.raises(ExpressionError) as caught:
        evaluate("${not 1}", SCOPE)
    assert not caught.value.missing


def test_coalesce_does_not_settle_while_a_whole_root_is_not_there_yet() -> None:
    scope = {"inputs": SCOPE["inputs"]}
    with pytest.raises(ExpressionError) as caught:
        evaluate("${coalesce(steps.a.outputs.b, 'x')}", scope)
    assert caught.value.missing


def test_coalesce_does_not_swallow_a_mistake() -> None:
    with pytest.raises(ExpressionError, match="nothing called"):
        evaluate("${coalesce(inputs.name.x, 'y')}", SCOPE)


def test_values_are_never_evaluated_again() -> None:
    assert evaluate("${inputs.evil}", SCOPE) == "${inputs.name}"
    assert evaluate("x ${inputs.evil}", SCOPE) == "x ${inputs.name}"
    assert resolve({"a": ["${inputs.evil}"]}, SCOPE) == {"a": ["${inputs.name}"]}


@pytest.mark.parametrize(
    "text",
    [
        "${inputs.__class__}",
        "${inputs.name.__class__.__mro__}",
        "${inputs.list.append}",
        "${run.__init__.__globals__}",
        "${inputs.items}",
        "{{7*7}}",
        "{% for x in y %}",
        "${7*7}",
        "#{7*7}",
        "${inputs.name.format(1)}",
        "${__import__('os')}",
        "${eval('1')}",
        "${''.join}",
        "${lower.__globals__}",
        "<%= 7*7 %>",
    ],
)
def test_template_injection_does_nothing(text: str) -> None:
    if "${" not in text:
        assert evaluate(text, SCOPE) == text
        return
    with pytest.raises(ExpressionError):
        evaluate(text, SCOPE)


def test_resolve_walks_lists_and_objects_and_leaves_keys() -> None:
    value: Json = {"${inputs.name}": ["${inputs.count}", {"a": "${inputs.yes}"}, 5, None]}
    assert resolve(value, SCOPE) == {"${inputs.name}": [3, {"a": True}, 5, None]}


def test_resolve_refuses_endless_nesting() -> None:
    value: Json = "x"
    for _ in range(40):
        value = [value]
    with pytest.raises(ExpressionError, match="nested deeper"):
        resolve(value, SCOPE)


def test_references_are_paths_with_indexes_in_brackets() -> None:
    text = "${inputs.a == 1 and not plan.b.c[0]} ${len(steps.x-y.outputs.z)} ${'inputs.no'} $${no}"
    assert references(text) == {
        ("inputs", "a"),
        ("plan", "b", "c", "[0]"),
        ("steps", "x-y", "outputs", "z"),
    }


def test_resolvable_means_every_name_is_there() -> None:
    assert is_resolvable({"a": ["${inputs.name}"]}, SCOPE)
    assert not is_resolvable("${inputs.gone}", SCOPE)
    assert not is_resolvable("${coalesce(other.x, 'a')}", SCOPE)
    with pytest.raises(ExpressionError):
        is_resolvable("${not inputs.name}", SCOPE)


def test_text_may_not_grow_without_end() -> None:
    scope: dict[str, Json] = {"inputs": {"x": "a" * 60_000}}
    with pytest.raises(ExpressionError, match="grows beyond"):
        evaluate("${inputs.x}" * 5, scope)


def test_texts_refuse_endless_nesting_before_looking_at_names() -> None:
    value: Json = "${inputs.name}"
    for _ in range(40):
        value = {"a": value}
    with pytest.raises(ExpressionError, match="nested deeper"):
        is_resolvable(value, SCOPE)
