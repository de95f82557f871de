"""No error of the engine or of an action goes without a next step."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import drengine
from drengine.engine.failing import advice_of, error_body, look_by_hand
from drengine.errors import DrError, GuardError
from drengine.model.findings import block, ok
from drengine.model.ids import RunId

ROOMS = [Path(drengine.__file__).parent / room for room in ("actions", "engine")]
FILES = [path for room in ROOMS for path in sorted(room.glob("*.py"))]
CHILD = RunId("r-0123456789ab/one")


def silent(tree: ast.AST) -> Iterator[int]:
    """The lines on which one of our errors is made without a hint."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in DrError.kinds:
            words = {word.arg for word in node.keywords}
            if "hint" not in words:
                yield node.lineno


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_error_is_made_with_a_hint(path):
    assert list(silent(ast.parse(path.read_text()))) == []


def test_an_error_made_without_a_hint_is_seen():
    assert list(silent(ast.parse("raise GuardError('no')"))) == [1]


def test_what_nobody_advised_on_is_mended_and_the_root_run_resumed():
    expected = "Remove the cause, then: drengine resume r-0123456789ab"
    assert error_body(GuardError("no"), CHILD)["hint"] == expected
    assert advice_of(CHILD, (block("G1", "no"), ok("G2", "yes"))) == expected


def test_advice_of_whoever_refused_stays_as_it_was_given():
    assert error_body(GuardError("no", hint="Wait."), CHILD)["hint"] == "Wait."
    assert advice_of(CHILD, (block("G1", "no", "Wait."), block("G2", "no"))) == "Wait."


def test_an_unknown_outcome_is_resolved_in_the_run_that_has_the_step():
    command = f"drengine resolve {CHILD} change --found | --absent --reason TEXT"
    assert look_by_hand(CHILD, "change").endswith(command)
