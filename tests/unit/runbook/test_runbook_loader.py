from __future__ import annotations

from collections.abc import Callable

import pytest

from drengine.errors import RunbookError
from drengine.model.canonical import sha256_hex
from drengine.model.catalogue import Catalogue
from drengine.model.runbook import InputType, RetryPolicy, Runbook, StepKind
from drengine.runbook.document import json_schema
from drengine.runbook.loader import check, load_runbook

Load = Callable[[str], Runbook]
Find = Callable[[str], list[RunbookError]]
Steps = Callable[[str], str]


def test_good_runbook_becomes_values(load: Load, good: str) -> None:
    runbook = load(good)
    assert (runbook.name, runbook.title) == ("recover", "Recover")
    assert runbook.objectives.rto_ms == 4 * 3_600_000
    assert runbook.inputs["protects"].type is InputType.BOOL
    assert runbook.inputs["protects"].default is True
    assert not runbook.inputs["target"].has_default
    create = runbook.step("create")
    assert create.kind is StepKind.ACTION
    assert create.guards_after == ("K09",)
    assert create.irreversible == "${inputs.protects}"
    assert create.expected_ms == 900_000
    assert create.retry == RetryPolicy()
    assert str(create.position) == "r.yaml:22:5"


def test_text_and_digest_are_those_of_the_file_byte_for_byte(
    catalogue: Catalogue, good: str
) -> None:
    windows = good.replace("\n", "\r\n").encode()
    runbook = load_runbook(windows, "r.yaml", catalogue)
    assert runbook.text.encode() == windows
    assert runbook.sha256 == sha256_hex(windows)


def test_step_without_needs_follows_the_one_before(load: Load, good: str) -> None:
    runbook = load(good)
    assert [step.needs for step in runbook.steps] == [(), ("look",), ("approve",), ("create",)]


def test_empty_needs_make_a_root(load: Load, with_steps: Steps) -> None:
    runbook = load(
        with_steps(
            "  - {id: a, action: hsm.look, with: {name: x}}\n"
            "  - {id: b, action: hsm.look, with: {name: x}, needs: []}\n"
        )
    )
    assert runbook.step("b").needs == ()


def test_all_keys_of_a_step_are_read(load: Load, with_steps: Steps) -> None:
    runbook = load(
        with_steps(
            "  - id: a\n"
            "    action: hsm.create\n"
            "    with: {name: x}\n"
            "    when: '${inputs.protects}'\n"
            "    group: g\n"
            "    guards: {before: [name-available], after: [K09]}\n"
            "    rollback: hsm.delete\n"
            "    retry: {attempts: 2, first_wait: 1s, max_wait: 1m30s}\n"
            "    timeout: 2h\n"
            "  - id: fan\n"
            "    runbook: child\n"
            "    foreach: {in: '${plan.backup.groups}', as: group, parallel: 8, canary: 1}\n"
            "    with: {name: '${group.name}', seen: '${steps.a.outputs.uri}'}\n"
        )
    )
    step, fan = runbook.steps
    assert (step.when, step.group, step.rollback) == ("${inputs.protects}", "g", "hsm.delete")
    assert step.retry == RetryPolicy(2, 1_000, 90_000)
    assert step.timeout_ms == 7_200_000
    assert fan.foreach is not None
    assert (fan.foreach.variable, fan.foreach.parallel, fan.foreach.canary) == ("group", 8, 1)
    assert fan.foreach.stop_after_failures == 1


@pytest.mark.parametrize(("text", "expected"), [("true", "${true}"), ("false", None)])
def test_irreversible_may_be_a_plain_boolean(
    load: Load, good: str, text: str, expected: str | None
) -> None:
    runbook = load(good.replace('irreversible: "${inputs.protects}"', f"irreversible: {text}"))
    assert runbook.step("create").irreversible == expected


SHAPE = [
    ("objectives:", "objectivs:", "6", "unknown key 'objectivs'; did you mean 'objectives'?"),
    ("rto: 4h", "rtoo: 4h", "", "unknown key 'rtoo' in objectives; did you mean 'rto'?"),
    ("type: bool", "type: boole", "", "'boole' is not an input type; did you mean 'bool'?"),
    ("type: bool, ", "", "", "key 'type' is missing in protects"),
    ("approvals: 2", "approvals: 0", "", "gate.approvals: expected at least 1, found the number 0"),
    ("approvals: 2", "approvals: 99", "", "expected at most 20"),
    ("approvals: 2", "approvals: two", "", "expected a whole number, found the text 'two'"),
    ("approvals: 2", "approvals: true", "", "expected a whole number, found true"),
    ("roles: [owner]", "roles: owner", "", "gate.roles: expected a list, found the text 'owner'"),
    ("action: hsm.look", "action: 5", "", "action: expected text, found the number 5"),
    ("rto: 4h", "rto: 4 hours", "", "expected a duration such as 4h"),
    ("rto: 4h", "rto: 240", "", "expected a duration such as 4h"),
    ("kind: Runbook", "kind: Playbook", "2", "expected 'Runbook', found the text 'Playbook'"),
    ("drengine/v1", "drengine/v2", "1", "expected 'drengine/v1', found the text 'drengine/v2'"),
    (
        "default: true",
        "default: true, optional: yes",
        "",
        "expected true or false, found the text 'yes'",
    ),
    ("objectives: {rto: 4h, rpo: 24h}", "objectives: 4h", "6", "expected a mapping"),
    ('irreversible: "${inputs.protects}"', "irreversible: [a]", "", "true, false or an expression"),
    ('with: {name: "${inputs.target}"}', "with: x", "", "with: expected a mapping"),
    ("id: look", "id: Look", "", "step id 'Look' must be lower-case"),
    ("id: look", "id: ../look", "", "step id '../look' must be lower-case"),
    ("id: look", "id: lоok", "", "must be lower-case"),  # noqa: RUF001 - a Cyrillic letter
    ("id: create", "id: look", "", "step id 'look' stands twice; also at line 14"),
    ("name: recover", "name: ../recover", "3", "runbook name '../recover' must be"),
    ("storage: {type", "Storage: {type", "", "name 'Storage' must be lower-case"),
    ("  backup: {source", "  back-up: {source", "", "name 'back-up' must be lower-case"),
    ("action: hsm.look", "action: hsm.look\n    runbook: x", "", "it has action and runbook"),
    ("    action: hsm.look\n", "", "", "it has none of them"),
]


@pytest.mark.parametrize(("old", "new", "line", "message"), SHAPE)
def test_shape_that_is_wrong_is_named_with_its_place(
    problems: Find, good: str, old: str, new: str, line: str, message: str
) -> None:
    assert old in good
    found = problems(good.replace(old, new, 1))
    assert any(message in error.message for error in found), [e.message for e in found]
    assert all(error.line and error.column for error in found)
    assert not line or found[0].line == int(line)


NAMES = [
    ("action: hsm.look", "action: hsm.lok", "unknown action 'hsm.lok'; did you mean 'hsm.look'?"),
    (
        "[name-available]",
        "[name-avail]",
        "unknown rule 'name-avail'; did you mean 'name-available'?",
    ),
    ("after: [K09]", "after: [K90]", "unknown rule 'K90'"),
    ("facts: [target]", "facts: [targt]", "unknown observation 'targt'; did you mean 'target'?"),
    ("roles: [owner]", "roles: [ownr]", "unknown role 'ownr'; did you mean 'owner'?"),
    ("facts: [target]", "rules: [K10]", "unknown rule 'K10'; did you mean 'K09'?"),
    ("kind: restore_blob", "kind: restore_blop", "unknown delivery kind 'restore_blop'"),
    (
        "source: backup.latest",
        "source: backup.last",
        "unknown discovery 'backup.last'; did you mean",
    ),
    ("with: {storage:", "with: {storge:", "backup.latest has no parameter 'storge'; did you mean"),
    (
        'state: "${steps',
        'stat: "${steps',
        "hsm.create has no parameter 'stat'; did you mean 'state'?",
    ),
    ('    with: {name: "${inputs.target}"}\n', "", "hsm.look needs 'name' in `with`"),
    (", after: [K09]", "", "does not say how that is verified"),
    (
        "steps.look.outputs.state",
        "steps.lok.outputs.state",
        "there is no step 'lok'; did you mean 'look'?",
    ),
    (
        "steps.look.outputs.state",
        "steps.look.outputs.stat",
        "no output 'stat'; did you mean 'state'?",
    ),
    (
        "steps.look.outputs.state",
        "steps.look.state",
        "an output is named `steps.look.outputs.NAME`",
    ),
    (
        "steps.look.outputs.state",
        "steps.look.outputs",
        "an output is named `steps.look.outputs.NAME`",
    ),
    (
        "steps.look.outputs.state",
        "steps.bring.outputs.size",
        "need not be done before step 'create'",
    ),
    ("steps.look.outputs.state", "steps.create.outputs.uri", "cannot see its own outputs"),
    (
        "steps.look.outputs.state",
        "steps.approve.outputs.state",
        "has no output 'state' (known: approvers)",
    ),
    (
        "steps.look.outputs.state",
        "inputs.tarjet",
        "there is no input 'tarjet'; did you mean 'target'?",
    ),
    ("steps.look.outputs.state", "inputs", "names all of `inputs`"),
    ("steps.look.outputs.state", "plan.backups.x", "there is no discovery 'backups'; did you mean"),
    ('ask: "Create ${inputs.target}?"', "ask: '${'", "is not closed"),
    ('"${inputs.protects}"', '"${inputs.protects"', "is not closed"),
    ("${inputs.storage}", "${", "is not closed"),
    ("${steps.create.outputs.uri}", "${steps.erase.outputs.x}", "there is no step 'erase'"),
    ("steps.look.outputs.state", "run.name", "a run has no 'name'"),
    ("steps.look.outputs.state", "step.look", "there is no 'step' here; did you mean 'steps'?"),
    ("steps.look.outputs.state", "inputs.storage ==", "a value was expected"),
    ("${inputs.storage}", "${steps.look.outputs.state}", "no step has run yet"),
    ("${inputs.storage}", "${run.id}", "the run has no id yet"),
    ('"${inputs.protects}"', "not inputs.protects", "expected exactly one expression"),
    ('"${inputs.protects}"', '"${1}"', "expected true or false"),
    ('ask: "Create ${inputs.target}?"', 'ask: "Create ${inputs.x}?"', "there is no input 'x'"),
    ('uri}"}', 'url}"}', "no output 'url'; did you mean 'uri'?"),
    ("default: true", "default: maybe", "default of input 'protects': expected true or false"),
    ("default: backups", "default: '${inputs.target}'", "is a literal; expressions stay text"),
    ("default: backups", "choices: [a, b], default: c", "is not one of the choices"),
    (
        "    title: Look\n",
        "    foreach: {in: '${plan.backup.g}'}\n",
        "`foreach` is only for a step with runbook",
    ),
    (
        "    title: Approve\n",
        "    irreversible: true\n",
        "`irreversible` is only for a step with action",
    ),
    (
        "    title: Approve\n",
        "    rollback: hsm.delete\n",
        "`rollback` is only for a step with action",
    ),
    ("    title: Bring\n", "    retry: {attempts: 3}\n", "`retry` is only for a step with action"),
    ("    title: Create\n", "    rollback: hsm.delet\n", "unknown action 'hsm.delet'"),
    ("    title: Create\n", "    retry: {first_wait: 1m, max_wait: 1s}\n", "`max_wait` is shorter"),
    ("    title: Create\n", "    group: A B\n", "group 'A B' must be"),
    (
        "    title: Create\n",
        "    needs: [look, aprove]\n",
        "unknown step 'aprove'; did you mean 'approve'?",
    ),
    ("    title: Create\n", "    needs: [approve, approve]\n", "needs 'approve' twice"),
    ("    title: Create\n", "    needs: [look]\n", "is irreversible but needs no gate"),
    ("    title: Look\n", "    needs: [bring]\n", "steps wait for each other"),
    ("    title: Look\n", "    needs: [look]\n", "steps wait for each other: 'look' needs 'look'"),
    ("ask: Bring}", "ask: 'https://a.b/?sig=abcdefghijklmnop'}", "looks like a secret"),
    ("ask: Bring}", "ask: '-----BEGIN RSA PRIVATE KEY-----'}", "looks like a secret"),
]


@pytest.mark.parametrize(("old", "new", "message"), NAMES)
def test_names_orders_and_expressions_that_do_not_hold_are_refused(
    problems: Find, good: str, old: str, new: str, message: str
) -> None:
    assert old in good
    found = problems(good.replace(old, new, 1))
    assert any(message in error.message for error in found), [e.message for e in found]
    assert all(error.line and error.column for error in found)


def test_secret_in_a_runbook_is_refused_without_repeating_it(problems: Find, good: str) -> None:
    found = problems(good.replace("ask: Bring", "ask: 'https://a/?sv=1&sig=SECRETSECRET'"))
    assert found
    assert all("SECRETSECRET" not in error.message + error.hint for error in found)


def test_all_problems_are_told_from_top_to_bottom(problems: Find, good: str) -> None:
    bad = good.replace("hsm.look", "hsm.lok").replace("K09", "K90").replace("restore_blob", "blob")
    lines = [error.line for error in problems(bad)]
    assert len(lines) >= 3
    assert lines == sorted(lines)


def test_load_raises_the_first_and_counts_the_others(catalogue: Catalogue, good: str) -> None:
    bad = good.replace("hsm.look", "hsm.lok").replace("K09", "K90")
    count = len(check(bad, "r.yaml", catalogue))
    with pytest.raises(RunbookError, match=r"r\.yaml:16:13: unknown action") as caught:
        load_runbook(bad, "r.yaml", catalogue)
    assert f"{count - 1} more problem" in caught.value.hint
    assert "drengine validate r.yaml" in caught.value.hint


@pytest.mark.parametrize("path", ["../child", "/etc/child", "child.yaml", "C:child", "a/b", ""])
def test_sub_runbook_is_named_and_never_a_path(
    problems: Find, with_steps: Steps, path: str
) -> None:
    found = problems(with_steps(f"  - {{id: a, runbook: '{path}'}}\n"))
    assert any("named, not a path" in error.message for error in found)


@pytest.mark.parametrize("name", ["steps", "inputs", "and", "in", "A", "a-b"])
def test_loop_variable_cannot_hide_another_name(
    problems: Find, with_steps: Steps, name: str
) -> None:
    text = f"  - {{id: a, runbook: c, foreach: {{in: '${{plan.backup}}', as: '{name}'}}}}\n"
    found = problems(with_steps(text))
    assert any("cannot be a loop variable" in error.message for error in found)


def test_loop_variable_is_seen_only_in_with_of_its_step(problems: Find, with_steps: Steps) -> None:
    found = problems(
        with_steps(
            "  - id: a\n    runbook: c\n    foreach: {in: '${plan.backup}', as: group}\n"
            "    when: '${group.yes}'\n    with: {x: '${group.name}'}\n"
            "  - {id: b, action: hsm.look, with: {name: '${group.name}'}}\n"
        )
    )
    assert [(error.line, "`group." in error.message) for error in found] == [(17, True), (19, True)]


def test_foreach_cannot_wait_for_a_step(problems: Find, with_steps: Steps) -> None:
    found = problems(
        with_steps(
            "  - {id: a, action: hsm.look, with: {name: x}}\n"
            "  - {id: b, runbook: c, foreach: {in: '${steps.a.outputs.state}'}}\n"
        )
    )
    assert "no step has run yet" in found[0].message


def test_upstream_is_followed_through_other_steps(load: Load, with_steps: Steps) -> None:
    runbook = load(
        with_steps(
            "  - {id: a, action: hsm.look, with: {name: x}}\n"
            "  - {id: b, action: hsm.look, with: {name: x}}\n"
            "  - {id: c, action: hsm.look, with: {name: '${steps.a.outputs.state}'}}\n"
        )
    )
    assert runbook.step("c").needs == ("b",)
    assert runbook.step("b").needs == ("a",)


def test_step_beside_is_not_upstream(problems: Find, with_steps: Steps) -> None:
    found = problems(
        with_steps(
            "  - {id: a, action: hsm.look, with: {name: x}}\n"
            "  - {id: b, action: hsm.look, needs: [], with: {name: '${steps.a.outputs.state}'}}\n"
        )
    )
    assert "add it to `needs`" in found[0].message


GATED = """\
  - {{id: ok, gate: {{facts: [target]}}{gate}}}
  - id: go
    action: hsm.create
    with: {{name: x}}
    guards: {{after: [K09]}}
    irreversible: {irreversible}{step}
"""


@pytest.mark.parametrize(
    ("gate", "irreversible", "step", "is_good"),
    [
        ("", "true", "", True),
        (", when: '${inputs.protects}'", "true", "", False),
        (", when: '${inputs.protects}'", "'${inputs.protects}'", "", True),
        (", when: '${ inputs.protects }'", "'${inputs.protects}'", "", True),
        (", when: '${inputs.protects}'", "true", "\n    when: '${inputs.protects}'", True),
        (", when: '${not inputs.protects}'", "'${inputs.protects}'", "", False),
        (", when: '${inputs.protects == true}'", "'${inputs.protects == 1}'", "", False),
    ],
)
def test_gate_of_an_irreversible_step_may_not_be_skipped_alone(
    problems: Find, with_steps: Steps, gate: str, irreversible: str, step: str, is_good: bool
) -> None:
    found = problems(with_steps(GATED.format(gate=gate, irreversible=irreversible, step=step)))
    assert [error for error in found if "is skipped where" in error.message] == found
    assert bool(found) is not is_good


def test_gate_must_be_needed_directly(problems: Find, with_steps: Steps) -> None:
    found = problems(
        with_steps(
            "  - {id: ok, gate: {facts: [target]}}\n"
            "  - {id: between, action: hsm.look, with: {name: x}}\n"
            "  - {id: go, action: hsm.restore, with: {folder: x}, guards: {after: [K09]}, irreversible: true}\n"
        )
    )
    assert "needs no gate" in found[0].message


def look(step_id: str, needs: str = "", group: str = "") -> str:
    needs = f", needs: [{needs}]" if needs else ""
    group = f", group: {group}" if group else ""
    return f"  - {{id: {step_id}, action: hsm.look, with: {{name: x}}{needs}{group}}}\n"


def test_group_that_hangs_together_is_good(load: Load, with_steps: Steps) -> None:
    runbook = load(
        with_steps(
            look("a", group="g")
            + look("b", "a", group="g")
            + look("c", "a", group="g")
            + look("d", "b, c", group="g")
            + look("e", "d")
        )
    )
    assert [step.id for step in runbook.steps if step.group == "g"] == ["a", "b", "c", "d"]


def test_group_in_two_parts_is_refused(problems: Find, with_steps: Steps) -> None:
    found = problems(with_steps(look("a") + look("b", "a", "g") + look("c", "a", "g")))
    assert "step 'c' is in group 'g', but no chain" in found[0].message


def test_step_between_two_of_a_group_must_be_in_it(problems: Find, with_steps: Steps) -> None:
    found = problems(
        with_steps(look("a", group="g") + look("b", "a") + look("c", "a, b", group="g"))
    )
    assert "step 'b' runs between 'a' and 'c' of group 'g'" in found[0].message
    assert found[0].line == 15


def test_discoveries_may_look_at_each_other_but_not_in_a_circle(
    load: Load, problems: Find, good: str
) -> None:
    more = '  a: {source: sql.groups, with: {of: "${plan.backup.x}"}}\n'
    load(good.replace("steps:\n", f"{more}steps:\n", 1))
    circle = more + '  b: {source: sql.groups, with: {of: "${plan.c}"}, when: "${plan.c == 1}"}\n'
    circle += '  c: {source: sql.groups, with: {of: "${plan.b}"}}\n'
    found = problems(good.replace("steps:\n", f"{circle}steps:\n", 1))
    assert "discoveries wait for each other" in found[0].message


def test_more_steps_than_a_runbook_may_have_are_refused(problems: Find, with_steps: Steps) -> None:
    found = problems(with_steps("".join(look(f"s{i}") for i in range(501))))
    assert "more than 500" in found[0].message


def test_more_expressions_than_are_checked_are_refused(problems: Find, with_steps: Steps) -> None:
    texts = ", ".join(["'${inputs.protects}'"] * 2_100)
    found = problems(with_steps(f"  - {{id: a, runbook: c, with: {{x: [{texts}]}}}}\n"))
    assert "more than 2,000 texts" in found[0].message


def test_problems_are_capped(problems: Find, with_steps: Steps) -> None:
    steps = "".join(f"  - {{id: s{i}, action: nothing-{i}}}\n" for i in range(300))
    assert len(problems(with_steps(steps))) == 100


@pytest.mark.parametrize("text", ["[]", "5", "text", "a: 1", "steps: {}", "- a"])
def test_other_documents_are_refused(problems: Find, text: str) -> None:
    assert problems(text)


def test_schema_for_editors_names_every_key_as_it_is_written() -> None:
    schema = json_schema()
    assert schema["properties"]["apiVersion"] == {
        "const": "drengine/v1",
        "title": "Apiversion",
        "type": "string",
    }
    step = schema["$defs"]["StepDoc"]
    assert {"with", "needs", "guards", "irreversible"} <= step["properties"].keys()
    assert step["additionalProperties"] is False
    assert {"in", "as"} <= schema["$defs"]["ForeachDoc"]["properties"].keys()


def test_run_names_are_seen_by_steps(load: Load, with_steps: Steps) -> None:
    named = "${run.id}-${run.class}"
    runbook = load(with_steps(f"  - {{id: a, action: hsm.look, with: {{name: '{named}'}}}}\n"))
    assert runbook.step("a").with_ == {"name": named}


def test_step_without_outputs_says_so(problems: Find, with_steps: Steps) -> None:
    found = problems(
        with_steps(
            "  - {id: a, action: hsm.delete, guards: {after: [K09]}}\n"
            "  - {id: b, action: hsm.look, with: {name: '${steps.a.outputs.x}'}}\n"
        )
    )
    assert "step 'a' has no outputs" in found[0].message


def test_bad_condition_of_a_gate_is_told_where_it_stands(problems: Find, with_steps: Steps) -> None:
    gate = ", when: '${ ( }'"
    found = problems(with_steps(GATED.format(gate=gate, irreversible="true", step="")))
    assert any("found '}' where a value was expected" in error.message for error in found)


def test_shape_problems_are_capped(problems: Find, with_steps: Steps) -> None:
    steps = "".join(f"  - {{id: s{i}, action: {i}, titel: x}}\n" for i in range(200))
    assert len(problems(with_steps(steps))) == 100
