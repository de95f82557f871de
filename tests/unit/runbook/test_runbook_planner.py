from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from drengine.errors import AzureError, InputError, LimitExceeded
from drengine.model.canonical import Json, JsonObject, canonical
from drengine.model.catalogue import Catalogue
from drengine.model.plan import CloudIdentity, Plan
from drengine.model.runbook import Runbook, RunClass
from drengine.runbook.loader import load_runbook
from drengine.runbook.planner import make_plan, read_plan

NOW = "2026-11-22T03:00:00.000Z"
CLOUD = CloudIdentity("AzureCloud", "t", "s", "p")
GROUPS = [{"name": "alpha", "key": "k1"}, {"name": "beta", "key": "k2"}, {"name": "gamma"}]

PARENT = """\
apiVersion: drengine/v1
kind: Runbook
name: parent
title: Parent
objectives: {rto: 1h}
inputs:
  target: {type: hsm_name}
  stage: {type: string, default: full}
discovery:
  groups: {source: sql.groups, with: {of: "${inputs.target}"}}
steps:
  - {id: look, action: hsm.look, with: {name: "${inputs.target}"}}
  - id: fan
    runbook: child
    foreach: {in: "${plan.groups}", as: group, parallel: 2}
    with:
      name: "${group.name}"
      target: "${inputs.target}"
      state: "${steps.look.outputs.state}"
"""

CHILD = """\
apiVersion: drengine/v1
kind: Runbook
name: child
title: Child
inputs:
  name: {type: string}
  target: {type: hsm_name}
  state: {type: string, optional: true}
steps:
  - {id: ok, title: Fine, gate: {facts: [target], ask: "Switch ${inputs.name}?"}, expected: {duration: 1m}}
  - id: go
    title: Go
    action: hsm.restore
    with: {folder: "${inputs.state}"}
    guards: {after: [K09]}
    irreversible: true
"""


@dataclass
class World:
    """What a plan sees of the outside, and what it asked."""

    catalogue: Catalogue
    texts: dict[str, str]
    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, JsonObject]] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    discover: Callable[[str, JsonObject], Awaitable[Json]] | None = None
    lab: bool = False

    def load(self, name: str) -> Runbook:
        self.loaded.append(name)
        if name not in self.texts:
            raise InputError(f"there is no runbook {name!r}")
        return load_runbook(self.texts[name], f"{name}.yaml", self.catalogue)

    async def answer(self, source: str, parameters: JsonObject) -> Json:
        self.asked.append((source, parameters))
        await asyncio.sleep(0)
        found: Json = self.answers[source]
        return found

    async def plan(
        self, name: str = "parent", run_class: RunClass = RunClass.DRILL, **given: Json
    ) -> Plan:
        return await make_plan(
            runbook=self.load(name),
            given=given,
            run_class=run_class,
            cloud=CLOUD,
            created_at=NOW,
            tool_version="0.1.0",
            load=self.load,
            discover=self.discover or self.answer,
            read_file=lambda path: {"path": path, "sha256": "a" * 64, "size": 1},
            allow_lab_names=self.lab,
            catalogue=self.catalogue,
        )


@pytest.fixture
def world(catalogue: Catalogue) -> World:
    return World(catalogue, {"parent": PARENT, "child": CHILD}, {"sql.groups": GROUPS})


async def test_plan_freezes_inputs_discovery_and_children(world: World) -> None:
    plan = await world.plan(target="hsm-2")
    assert plan.root.inputs == {"target": "hsm-2", "stage": "full"}
    assert plan.root.discovery == {"groups": GROUPS}
    assert world.asked == [("sql.groups", {"of": "hsm-2"})]
    child = plan.root.children["fan"]
    assert child.inputs == {"target": "hsm-2"}
    assert child.deferred == ("name", "state")
    assert child.runbook_text == CHILD


async def test_plan_survives_being_written_and_read(world: World) -> None:
    plan = await world.plan(target="hsm-2")
    again = read_plan(canonical(plan.to_json()))
    assert again == plan
    assert again.run_id == plan.run_id


async def test_same_inputs_give_the_same_plan(world: World) -> None:
    first, second = await world.plan(target="hsm-2"), await world.plan(target="hsm-2")
    assert first.digest == second.digest
    third = await world.plan(target="hsm-3")
    assert third.digest != first.digest


async def test_summary_says_what_cannot_be_undone_and_who_decides(world: World) -> None:
    summary = (await world.plan(target="hsm-2")).summary
    assert summary["points_of_no_return"] == [
        {"step": "fan/go", "title": "Go", "gate": "fan/ok", "when": None, "times": 3}
    ]
    assert summary["gates"] == [
        {
            "step": "fan/ok",
            "title": "Fine",
            "approvals": 1,
            "roles": [],
            "facts": ["target"],
            "rules": [],
            "ask": "Switch ${inputs.name}?",
            "when": None,
            "times": 3,
        }
    ]
    assert summary["foreach"] == {
        "fan": {
            "runbook": "child",
            "items": ["alpha", "beta", "gamma"],
            "parallel": 2,
            "canary": 0,
            "stop_after_failures": 1,
        }
    }
    assert summary["steps"] == 2 + 3 * 2
    assert summary["runbooks"].keys() == {"parent", "child"}


async def test_expected_time_is_that_of_the_critical_path(world: World) -> None:
    summary = (await world.plan(target="hsm-2")).summary
    # look, then two rounds (three items, two at once) of gate and restore
    assert summary["expected_ms"] == 1_000 + 2 * (60_000 + 600_000)
    assert summary["critical_path"] == [
        {"step": "look", "expected_ms": 1_000, "source": "measured", "times": 1},
        {"step": "fan/ok", "expected_ms": 60_000, "source": "", "times": 2},
        {"step": "fan/go", "expected_ms": 600_000, "source": "measured", "times": 2},
    ]


async def test_canaries_run_before_the_others(world: World) -> None:
    world.texts["parent"] = PARENT.replace("parallel: 2", "parallel: 2, canary: 1")
    summary = (await world.plan(target="hsm-2")).summary
    assert summary["expected_ms"] == 1_000 + (1 + 1) * 660_000


async def test_longer_of_two_branches_counts(world: World) -> None:
    world.texts["parent"] = PARENT[: PARENT.index("steps:")] + (
        "steps:\n"
        "  - {id: a, action: hsm.look, with: {name: x}, expected: {duration: 1m}}\n"
        "  - {id: b, action: hsm.look, needs: [], with: {name: x}, expected: {duration: 5m}}\n"
        "  - {id: c, action: hsm.look, needs: [a, b], with: {name: x}, expected: {duration: 1s}}\n"
    )
    summary = (await world.plan(target="hsm-2")).summary
    assert summary["expected_ms"] == 301_000
    assert [leg["step"] for leg in summary["critical_path"]] == ["b", "c"]


async def test_duration_beyond_the_objective_warns(world: World) -> None:
    world.texts["parent"] = PARENT.replace("rto: 1h", "rto: 10m")
    summary = (await world.plan(target="hsm-2")).summary
    assert summary["warnings"] == [
        "the expected duration 22m1s is longer than the objective 10m",
    ]


async def test_incident_against_a_lab_warns(world: World) -> None:
    plan = await make_plan(
        runbook=world.load("parent"),
        given={"target": "hsm-2"},
        run_class=RunClass.INCIDENT,
        cloud=CloudIdentity("Lab", "t", "s", "p", lab=True),
        created_at=NOW,
        tool_version="0",
        load=world.load,
        discover=world.answer,
        read_file=lambda path: {"path": path, "sha256": "a" * 64, "size": 1},
        allow_lab_names=True,
        catalogue=world.catalogue,
    )
    assert plan.summary["warnings"] == [
        "the plan is for an incident, but it was made against a lab"
    ]


async def test_single_item_is_bound_now(world: World) -> None:
    world.answers["sql.groups"] = GROUPS[:1]
    child = (await world.plan(target="hsm-2")).root.children["fan"]
    assert child.inputs == {"target": "hsm-2", "name": "alpha"}
    assert child.deferred == ("state",)


async def test_no_items_warn_and_start_nothing(world: World) -> None:
    world.answers["sql.groups"] = []
    summary = (await world.plan(target="hsm-2")).summary
    assert summary["warnings"][0] == "step 'fan' has no items; it starts no child run"
    assert summary["gates"] == []
    assert summary["points_of_no_return"] == []
    assert summary["expected_ms"] == 1_000


async def test_plain_sub_runbook_gets_what_is_known_now(world: World) -> None:
    world.texts["parent"] = PARENT.replace(
        '    foreach: {in: "${plan.groups}", as: group, parallel: 2}\n', ""
    ).replace("${group.name}", "only")
    plan = await world.plan(target="hsm-2")
    assert plan.root.children["fan"].inputs == {"target": "hsm-2", "name": "only"}
    assert plan.summary["points_of_no_return"][0]["times"] == 1


async def test_coalesce_over_a_later_step_is_not_settled_early(world: World) -> None:
    world.texts["parent"] = PARENT.replace(
        "${steps.look.outputs.state}", "${coalesce(steps.look.outputs.state, 'none')}"
    )
    assert "state" in (await world.plan(target="hsm-2")).root.children["fan"].deferred


async def test_step_that_will_not_run_is_skipped_in_the_plan(world: World) -> None:
    world.texts["parent"] = PARENT.replace(
        "    runbook: child\n", "    runbook: child\n    when: \"${inputs.stage == 'full'}\"\n"
    )
    plan = await world.plan(target="hsm-2", stage="none")
    assert plan.root.children == {}
    assert plan.summary["skipped"] == ["fan"]
    assert plan.summary["expected_ms"] == 1_000
    assert world.loaded.count("child") == 0


async def test_condition_only_the_run_knows_stands_at_the_point_of_no_return(world: World) -> None:
    world.texts["parent"] = PARENT.replace(
        "    runbook: child\n",
        "    runbook: child\n    when: \"${steps.look.outputs.state == 'up'}\"\n",
    )
    world.texts["child"] = CHILD.replace(
        "irreversible: true", "irreversible: \"${inputs.state == 'x'}\""
    )
    summary = (await world.plan(target="hsm-2")).summary
    assert summary["points_of_no_return"][0]["when"] == (
        "${steps.look.outputs.state == 'up'} and ${inputs.state == 'x'}"
    )


async def test_irreversible_that_is_false_is_no_point_of_no_return(world: World) -> None:
    world.texts["child"] = CHILD.replace(
        "irreversible: true", "irreversible: \"${inputs.target == 'other'}\""
    )
    summary = (await world.plan(target="hsm-2")).summary
    assert summary["points_of_no_return"] == []


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("text", "must be a list"),
        ([{"id": 1}], "item 0 must be an object with a `name`"),
        ([{"name": ""}], "item 0 must be an object with a `name`"),
        ([{"name": "a\x1b"}], "item 0 must be an object with a `name`"),
        ([{"name": "a" * 200}], "item 0 must be an object with a `name`"),
        (["a"], "item 0 must be an object"),
        ([{"name": "a"}, {"name": "a"}], "items 'a' and 'a' cannot be told apart"),
        ([{"name": "a b"}, {"name": "a/b"}], "items 'a b' and 'a/b' cannot be told apart"),
        ([{"name": "A"}, {"name": "a"}], "items 'A' and 'a' cannot be told apart"),
    ],
)
async def test_items_that_cannot_be_children_are_refused(
    world: World, groups: Json, message: str
) -> None:
    world.answers["sql.groups"] = groups
    with pytest.raises(InputError, match=message):
        await world.plan(target="hsm-2")


async def test_wrong_item_is_found_when_the_plan_is_made(world: World) -> None:
    world.texts["parent"] = PARENT.replace("${group.name}", "${group.key}")
    with pytest.raises(InputError, match=r"item 'gamma'.*there is no `key` under `group`"):
        await world.plan(target="hsm-2")
    world.answers["sql.groups"] = [{"name": "a", "key": 1}, {"name": "b", "key": "x"}]
    with pytest.raises(InputError, match=r"item 'a'.*input 'name' \(string\): expected text"):
        await world.plan(target="hsm-2")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("      target:", "      taget:", "unknown input 'taget'; did you mean 'target'?"),
        ('      target: "${inputs.target}"\n', "", "input 'target' .* is missing"),
        ('target: "${inputs.target}"', "target: 5", "input 'target'"),
        ("      state:", "      stat:", "unknown input 'stat'; did you mean 'state'?"),
        ("runbook: child", "runbook: chld", "there is no runbook 'chld'"),
        ("${plan.groups}", "${plan.groups.x}", "cannot be planned.*`plan.groups` is a list"),
        ("parallel: 2}", "parallel: 2}\n    when: '${inputs.stage}'", "must be true or false"),
    ],
)
async def test_sub_runbook_that_does_not_fit_is_refused(
    world: World, old: str, new: str, message: str
) -> None:
    assert old in PARENT
    world.texts["parent"] = PARENT.replace(old, new)
    with pytest.raises(InputError, match=message):
        await world.plan(target="hsm-2")


async def test_sub_runbook_that_calls_itself_something_else_is_refused(world: World) -> None:
    world.texts["child"] = CHILD.replace("name: child", "name: other")
    with pytest.raises(InputError, match="the document calls itself 'other'"):
        await world.plan(target="hsm-2")


async def test_sub_runbooks_in_a_circle_are_refused(world: World) -> None:
    world.texts["child"] = CHILD + (
        "  - {id: again, runbook: parent, with: {target: '${inputs.target}'}}\n"
    )
    with pytest.raises(InputError, match="in a circle: parent -> child -> parent"):
        await world.plan(target="hsm-2")


def chain(length: int, width: int = 1) -> dict[str, str]:
    head = "apiVersion: drengine/v1\nkind: Runbook\nname: {}\ntitle: T\nsteps:\n"
    look = "  - {id: look, action: hsm.look, with: {name: x}}\n"
    texts = {}
    for index in range(length):
        name = "parent" if index == 0 else f"r{index}"
        steps = "".join(f"  - {{id: s{i}, runbook: r{index + 1}}}\n" for i in range(width))
        texts[name] = head.format(name) + (steps if index < length - 1 else look)
    return texts


async def test_nesting_is_capped(world: World) -> None:
    world.texts = chain(6)
    await world.plan()
    world.texts = chain(7)
    with pytest.raises(LimitExceeded):
        await world.plan()


async def test_number_of_parts_is_capped_before_they_explode(world: World) -> None:
    world.texts = chain(6, width=10)
    with pytest.raises(LimitExceeded):
        await world.plan()


async def test_each_sub_runbook_is_loaded_once(world: World) -> None:
    world.texts = chain(3, width=3)
    await world.plan()
    assert world.loaded == ["parent", "r1", "r2"]


async def test_discovery_whose_condition_is_false_is_null_and_not_asked(world: World) -> None:
    world.texts["parent"] = (
        PARENT.replace('with: {of: "${inputs.target}"}', "when: \"${inputs.stage == 'full'}\"")
        .replace("${plan.groups}", "${coalesce(plan.groups, inputs.none)}")
        .replace("inputs:\n", "inputs:\n  none: {type: object_list, default: []}\n", 1)
    )
    plan = await world.plan(target="hsm-2", stage="none")
    assert plan.root.discovery == {"groups": None}
    assert world.asked == []


async def test_discoveries_that_need_each_other_run_in_order(world: World) -> None:
    more = '  first: {source: backup.latest, with: {storage: "${plan.groups[0].name}"}}\n'
    world.texts["parent"] = PARENT.replace("discovery:\n", f"discovery:\n{more}")
    world.answers["backup.latest"] = {"folder": "f"}
    plan = await world.plan(target="hsm-2")
    assert [source for source, _ in world.asked] == ["sql.groups", "backup.latest"]
    assert world.asked[1][1] == {"storage": "alpha"}
    assert plan.root.discovery["first"] == {"folder": "f"}


async def test_independent_discoveries_run_together(world: World) -> None:
    both = asyncio.Barrier(2)

    async def discover(source: str, _parameters: JsonObject) -> Json:
        async with asyncio.timeout(5):
            await both.wait()  # passes only when two are under way
        return [{"name": "alpha"}] if source == "sql.groups" else {"folder": "f"}

    world.discover = discover
    more = "  first: {source: backup.latest}\n"
    world.texts["parent"] = PARENT.replace("discovery:\n", f"discovery:\n{more}")
    plan = await world.plan(target="hsm-2")
    assert plan.root.discovery["first"] == {"folder": "f"}


async def test_failing_discovery_ends_the_others_and_is_the_error_told(world: World) -> None:
    ended: list[str] = []

    async def discover(source: str, _parameters: JsonObject) -> Json:
        if source == "sql.groups":
            raise AzureError("the service answered 503", status=503)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(source)
        return None

    world.discover = discover
    more = "  first: {source: backup.latest}\n"
    world.texts["parent"] = PARENT.replace("discovery:\n", f"discovery:\n{more}")
    with pytest.raises(AzureError, match="503"):
        await world.plan(target="hsm-2")
    assert ended == ["backup.latest"]


async def test_answer_with_a_secret_does_not_enter_a_plan(world: World) -> None:
    world.answers["sql.groups"] = [{"name": "a", "key": "https://a/?sig=abcdefghijklmnopq"}]
    with pytest.raises(InputError, match="looks like a secret") as caught:
        await world.plan(target="hsm-2")
    assert "abcdefgh" not in caught.value.message


@pytest.mark.parametrize("answer", [1.5, {"a": object()}, {1: 2}, b"x"])
async def test_answer_that_is_not_plain_json_does_not_enter_a_plan(
    world: World, answer: Any
) -> None:
    world.answers["sql.groups"] = answer
    with pytest.raises(InputError, match="cannot stand in a plan"):
        await world.plan(target="hsm-2")


async def test_answer_with_expression_text_stays_text(world: World) -> None:
    world.answers["sql.groups"] = [{"name": "${inputs.target}"}]
    child = (await world.plan(target="hsm-2")).root.children["fan"]
    assert child.inputs["name"] == "${inputs.target}"


async def test_child_discovery_that_waits_for_the_run_is_refused(world: World) -> None:
    world.texts["child"] = CHILD.replace(
        "steps:\n",
        'discovery:\n  x: {source: sql.groups, with: {of: "${inputs.state}"}}\nsteps:\n',
        1,
    )
    with pytest.raises(InputError, match=r"discovery 'x' of runbook 'child'.*inputs\.state"):
        await world.plan(target="hsm-2")


async def test_wrong_inputs_are_told_before_anything_is_asked(world: World) -> None:
    with pytest.raises(InputError, match="input 'target'"):
        await world.plan()
    assert world.asked == []


async def test_lab_names_follow_the_switch(world: World) -> None:
    with pytest.raises(InputError):
        await world.plan(target="a--b")
    world.lab = True
    assert (await world.plan(target="a--b")).root.inputs["target"] == "a--b"


async def test_deliveries_and_gates_without_a_figure_are_named(world: World) -> None:
    world.texts["child"] = CHILD.replace(", expected: {duration: 1m}", "") + (
        '  - id: bring\n    title: Bring\n    when: "${inputs.state == null}"\n'
        "    delivery: {kind: restore_blob, ask: 'For ${inputs.target} in ${run.id}'}\n"
    )
    summary = (await world.plan(target="hsm-2")).summary
    assert summary["deliveries"] == [
        {
            "step": "fan/bring",
            "title": "Bring",
            "kind": "restore_blob",
            "ask": "For ${inputs.target} in ${run.id}",
            "when": "${inputs.state == null}",
            "times": 3,
        }
    ]
    assert summary["warnings"] == [
        "how long people take is not counted for: fan/ok, fan/bring",
    ]


async def test_items_that_only_the_run_would_know_are_refused(world: World) -> None:
    world.texts["child"] = CHILD.replace(
        "{type: string, optional: true}", "{type: object_list}"
    ) + ("  - {id: deeper, runbook: parent, foreach: {in: '${inputs.state}'}}\n")
    with pytest.raises(InputError, match="must be known when the plan is made"):
        await world.plan(target="hsm-2")
