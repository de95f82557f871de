from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from drengine.errors import InputFileError, LimitExceeded, PlanStale
from drengine.model.canonical import canonical, digest, sha256_hex
from drengine.model.plan import CloudIdentity, Plan, PlanPart
from drengine.model.runbook import RunClass
from drengine.runbook.plan_file import MAX_BYTES, read_plan

TEXT = "a runbook\n"


def part(name: str, **children: PlanPart) -> PlanPart:
    return PlanPart(name, TEXT, sha256_hex(TEXT.encode()), {"x": 1}, {}, ("y",), children)


@pytest.fixture
def plan() -> Plan:
    return Plan(
        run_class=RunClass.DRILL,
        created_at="2026-11-22T03:00:00.000Z",
        tool_version="0.1.0",
        cloud=CloudIdentity("AzureCloud", "t", "s", "p"),
        root=part("a", step=part("b")),
        summary={"steps": 1},
    )


def signed(doc: dict[str, Any]) -> bytes:
    doc.pop("digest", None)
    return json.dumps({**doc, "digest": digest(doc)}).encode()


def test_written_plan_is_read_back(plan: Plan) -> None:
    assert read_plan(canonical(plan.to_json())) == plan
    assert read_plan(json.dumps(plan.to_json(), indent=2).encode()) == plan


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"5",
        b"null",
        b"\xff",
        b"\xff\xfe{\x00}\x00",
        b'{"schema": "other"}',
        b'{"schema": "drengine/plan/v1"}',
        b'{"schema": "drengine/plan/v1", "digest": 5}',
        b'{"schema": "drengine/plan/v1", "a": 1.5}',
        b'{"schema": "drengine/plan/v1", "schema": "drengine/plan/v1"}',
        b'{"a": ' + b"[" * 100_000,
        b'{"a": ' + b"[" * 60 + b"]" * 60 + b"}",
        b'{"a": ' + b"9" * 5_000 + b"}",
        b'{"schema": "drengine/plan/v1", "digest": "", "a": "\\ud800"}',
    ],
)
def test_what_is_not_a_plan_is_refused(text: bytes) -> None:
    with pytest.raises(InputFileError, match="not a plan"):
        read_plan(text)


def test_too_large_file_is_not_parsed() -> None:
    with pytest.raises(LimitExceeded):
        read_plan(b" " * (MAX_BYTES + 1))


def test_changed_plan_is_stale_and_says_both_digests(plan: Plan) -> None:
    doc = plan.to_json()
    text = canonical({**doc, "class": "incident"})
    with pytest.raises(PlanStale, match=plan.digest):
        read_plan(text)


def test_runbook_text_that_is_not_its_digest_is_stale(plan: Plan) -> None:
    doc = json.loads(canonical(plan.to_json()))
    doc["root"]["children"]["step"]["runbook"]["text"] = "another"
    with pytest.raises(PlanStale, match="runbook 'b'"):
        read_plan(signed(doc))


BREAKAGES: list[Callable[[dict[str, Any]], object]] = [
    lambda doc: doc.pop("root"),
    lambda doc: doc.update({"class": "party"}),
    lambda doc: doc.update({"extra": 1}),
    lambda doc: doc.update({"root": 5}),
    lambda doc: doc["root"].update({"children": []}),
    lambda doc: doc["root"].update({"children": {"a": 5}}),
    lambda doc: doc["root"].update({"inputs": [1]}),
    lambda doc: doc["root"].update({"deferred": 5}),
    lambda doc: doc["root"].update({"extra": 5}),
    lambda doc: doc["root"]["runbook"].pop("sha256"),
    lambda doc: doc["root"]["runbook"].update({"text": 5}),
    lambda doc: doc["cloud"].update({"extra": 1}),
    lambda doc: doc["cloud"].update({"lab": "no"}),
    lambda doc: doc["root"].update({"deferred": [5]}),
    lambda doc: doc.update({"cloud": None}),
    lambda doc: doc.update({"summary": 5}),
]


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_plan_of_the_wrong_shape_is_refused_even_with_a_good_digest(
    plan: Plan, breakage: Callable[[dict[str, Any]], object]
) -> None:
    doc = json.loads(canonical(plan.to_json()))
    breakage(doc)
    with pytest.raises(InputFileError, match="not a plan"):
        read_plan(signed(doc))
