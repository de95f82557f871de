"""Whatever is read, only a `DrError` comes out; what is written comes back; every byte counts."""

from __future__ import annotations

import asyncio
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from drengine.errors import DrError, ExpressionError, RunbookError
from drengine.model.canonical import Json, canonical, plain
from drengine.model.catalogue import ActionSpec, Catalogue, Parameter, Repeat
from drengine.model.plan import CloudIdentity, Plan
from drengine.model.runbook import InputSpec, InputType, RunClass
from drengine.runbook.durations import format_duration, parse_duration
from drengine.runbook.expression_syntax import FUNCTIONS
from drengine.runbook.expressions import evaluate, references, resolve
from drengine.runbook.input_types import MistypedInput, typed_value
from drengine.runbook.loader import check, load_runbook
from drengine.runbook.plan_file import read_plan
from drengine.runbook.planner import make_plan
from drengine.runbook.yaml import parse_yaml

# Two cores are shared: an example may take long without being slow.
SLOW_MACHINE = settings(deadline=None)
NOW = "2026-11-22T03:00:00.000Z"
CATALOGUE = Catalogue(
    actions={"hsm.look": ActionSpec("hsm.look", "", (Parameter("name", ""),), ("x",), Repeat.READ)},
    rules=frozenset({"K09"}),
    discoveries={"backup.latest": ()},
)
GOOD = """\
apiVersion: drengine/v1
kind: Runbook
name: small
title: Small
inputs:
  name: {type: string}
  more: {type: object, default: {}}
discovery:
  backup: {source: backup.latest}
steps:
  - {id: a, action: hsm.look, with: {name: "${inputs.name}"}}
  - {id: b, action: hsm.look, with: {name: "${steps.a.outputs.x}-${plan.backup.folder}"}}
"""

# Text made of what the grammars are made of reaches deeper than random characters do.
yaml_words = st.sampled_from(
    [
        "steps:", "- ", "id: ", "a", ":", "{", "}", "[", "]", ",", "\n", "  ", "\t", "'", '"', "#",
        "&x ", "*x", "!!map ", "<<: ", "---\n", "...\n", "|\n", ">\n", "? ", "%YAML 1.1\n", "true",
        "0755", "1.5", "null", "\\", "${", "${inputs.x}", "\x00", "é", "\u202e", "needs: ", "gate: ",
        "apiVersion: drengine/v1\n", "kind: Runbook\n", "with: ", "when: ", "foreach: ",
    ]
)  # fmt: skip
yaml_texts = st.lists(yaml_words, max_size=60).map("".join)
expression_words = st.sampled_from(
    [
        "inputs", ".", "name", "[0]", "(", ")", "'t'", "'", "1", "-1", "==", "<", " in ", " and ",
        " or ", "not ", "true", "null", ",", " ", "}", "${", "$${", "{", "steps.a-b.outputs.c",
        *FUNCTIONS,
    ]
)  # fmt: skip
expressions = st.lists(expression_words, max_size=30).map(lambda words: "${" + "".join(words) + "}")
scalars: st.SearchStrategy[Json] = (
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.text(max_size=20)
)
values: st.SearchStrategy[Json] = st.recursive(
    scalars,
    lambda below: (
        st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=8), below, max_size=4)
    ),
    max_leaves=12,
)
names = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True).filter(
    lambda name: name not in {"and", "or", "not", "in", "true", "false", "null"}
)


@settings(SLOW_MACHINE)
@given(yaml_texts | st.text(max_size=200) | st.binary(max_size=200))
def test_any_text_gives_problems_or_a_runbook_and_nothing_else(text: str | bytes) -> None:
    found = check(text, "r.yaml", CATALOGUE)
    for error in found:
        assert isinstance(error, RunbookError)
        assert error.line > 0
        assert error.column > 0


@settings(SLOW_MACHINE)
@given(st.data())
def test_any_damage_to_a_good_runbook_is_answered_quickly(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(GOOD)))
    end = data.draw(st.integers(start, min(len(GOOD), start + 20)))
    text = GOOD[:start] + data.draw(yaml_texts | st.text(max_size=30)) + GOOD[end:]
    begun = time.process_time()
    check(text, "r.yaml", CATALOGUE)
    assert time.process_time() - begun < 0.5  # measured: a few milliseconds


@settings(SLOW_MACHINE)
@given(values)
def test_json_text_without_fractions_reads_as_itself_in_yaml(value: Json) -> None:
    text = canonical(value).decode()
    try:
        tree = parse_yaml(text, "r.yaml")
    except RunbookError:
        return  # control characters, empty keys: refused on purpose
    assert tree.value == value


@settings(SLOW_MACHINE)
@given(expressions | st.text(max_size=80), values)
def test_any_expression_has_a_value_or_an_expression_error(text: str, value: Json) -> None:
    scope: dict[str, Json] = {"inputs": {"name": value}, "steps": {"a-b": {"outputs": {"c": 1}}}}
    try:
        plain(evaluate(text, scope))
        references(text)
    except ExpressionError as error:
        assert error.exit_code == 3  # noqa: PT017 - most texts are no expressions


@settings(SLOW_MACHINE)
@given(st.text(max_size=60))
def test_any_text_can_be_quoted_as_a_literal(text: str) -> None:
    quoted = text.replace("'", "''")
    assert evaluate("${'" + quoted + "'}", {}) == text
    assert evaluate(text.replace("${", "$${"), {}) == text


@settings(SLOW_MACHINE)
@given(st.dictionaries(names, values, min_size=1), st.data())
def test_paths_find_what_stands_in_the_scope(inputs: dict[str, Json], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(inputs)))
    text = f"${{inputs.{name}}}"
    assert evaluate(text, {"inputs": inputs}) == inputs[name]
    assert references(text) == {("inputs", name)}


@settings(SLOW_MACHINE)
@given(values)
def test_resolving_never_evaluates_what_it_found(value: Json) -> None:
    text = "${inputs.value}"
    assert resolve([text], {"inputs": {"value": value}}) == [value]


@settings(SLOW_MACHINE)
@given(st.integers(0, 9_999 * 86_400 + 86_399))
def test_durations_come_back(seconds: int) -> None:
    assert parse_duration(format_duration(seconds * 1_000)) == seconds * 1_000


@settings(SLOW_MACHINE)
@given(st.sampled_from(InputType), values | st.text())
def test_any_value_is_typed_or_refused(kind: InputType, value: Json) -> None:
    spec = InputSpec("x", kind)
    try:
        found = typed_value(spec, value, now=NOW, allow_lab_names=False)
    except MistypedInput:
        return
    canonical(found)
    # What stands in a plan is taken again as it is: a child gets it from its parent.
    if kind is not InputType.STRING_LIST or value != found:
        assert typed_value(spec, found, now=NOW, allow_lab_names=False) == found


def plan_with(name: str, folder: str = "f", created_at: str = NOW) -> Plan:
    async def discover(_source: str, _parameters: object) -> Json:
        return {"folder": folder}

    return asyncio.run(
        make_plan(
            runbook=load_runbook(GOOD, "r.yaml", CATALOGUE),
            given={"name": name},
            run_class=RunClass.DRILL,
            cloud=CloudIdentity("AzureCloud", "t", "s", "p"),
            created_at=created_at,
            tool_version="0",
            load=lambda name: load_runbook(name, name, CATALOGUE),
            discover=discover,
            read_file=lambda path: {"path": path, "sha256": "a" * 64, "size": 1},
            allow_lab_names=False,
            catalogue=CATALOGUE,
        )
    )


printable = st.text(
    st.characters(categories=["L", "N", "P"], exclude_characters="$"), min_size=1, max_size=20
)


@settings(SLOW_MACHINE, max_examples=50)
@given(printable, printable, st.data())
def test_digest_changes_with_every_changed_input(
    name: str, folder: str, data: st.DataObject
) -> None:
    plan = plan_with(name, folder)
    position = data.draw(st.integers(0, len(name) - 1))
    other = data.draw(printable.filter(lambda text: text[0] != name[position]))
    changed = name[:position] + other[0] + name[position + 1 :]
    assert plan_with(changed, folder).digest != plan.digest
    assert plan_with(name, folder + "x").digest != plan.digest
    assert plan_with(name, folder).digest == plan.digest
    assert read_plan(canonical(plan.to_json())) == plan


@settings(SLOW_MACHINE, max_examples=200)
@given(st.data())
def test_no_changed_byte_of_a_plan_goes_unseen(data: st.DataObject) -> None:
    plan = plan_with("x")
    text = bytearray(canonical(plan.to_json()))
    position = data.draw(st.integers(0, len(text) - 1))
    text[position] = data.draw(st.integers(0, 255).filter(lambda byte: byte != text[position]))
    try:
        read = read_plan(bytes(text))
    except DrError:
        return
    # A changed byte may only be white space outside the values.
    assert read == plan
