"""What the order of the shipped steps must hold, whatever else changes in them."""

from __future__ import annotations

from pathlib import Path

from drengine.cli.library import catalogue
from drengine.model.runbook import Runbook
from drengine.runbook.loader import load_runbook

RUNBOOKS = Path(__file__).resolve().parents[3] / "runbooks"


def shipped(name: str) -> Runbook:
    return load_runbook((RUNBOOKS / f"{name}.yaml").read_text(), f"{name}.yaml", catalogue())


def before(runbook: Runbook, step_id: str) -> set[str]:
    """Return every step that has ended when this one begins."""
    needs = runbook.step(step_id).needs
    return {*needs, *(each for need in needs for each in before(runbook, need))}


def test_network_rules_come_last_because_they_may_shut_out_whoever_works_on_the_hsm():
    runbook = shipped("mhsm-full-recovery")
    others = {step.id for step in runbook.steps} - {"network"}
    assert before(runbook, "network") == others
