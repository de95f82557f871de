"""The shipped runbooks and the catalogue fit each other, and every action says its way by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from drengine.actions.registry import CATALOGUE, KIT
from drengine.model.catalogue import Repeat
from drengine.resources import runbook_folder
from drengine.runbook.loader import check, load_runbook

SHIPPED = sorted(Path(runbook_folder()).glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_runbook_has_no_problem(path):
    assert check(path.read_text(), path.name, CATALOGUE) == []


def test_every_irreversible_step_of_the_recovery_stands_behind_a_gate():
    path = next(path for path in SHIPPED if path.stem == "mhsm-full-recovery")
    runbook = load_runbook(path.read_text(), path.name, CATALOGUE)
    irreversible = [step for step in runbook.steps if step.irreversible]
    assert [step.id for step in irreversible] == ["create-hsm", "upload-domain", "restore"]
    for step in irreversible:
        assert any(runbook.step(need).gate for need in step.needs)


def test_a_restore_is_the_only_action_that_a_person_must_clear():
    never = [name for name, action in KIT.actions.items() if action.spec.repeat is Repeat.NEVER]
    assert never == ["hsm.restore"]


def test_whatever_changes_something_has_a_quiet_period():
    hasty = [
        name
        for name, action in KIT.actions.items()
        if action.spec.changes and action.spec.quiet_ms <= 0
    ]
    assert hasty == []
