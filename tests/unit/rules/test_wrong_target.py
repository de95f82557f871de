"""The name guard over all combinations: a restore begins only where every condition holds."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from drengine.actions.registry import CATALOGUE
from drengine.cli.signin import check_identity
from drengine.errors import GuardError, LabMismatch
from drengine.model.findings import all_hold
from drengine.model.plan import CloudIdentity
from drengine.model.runbook import RunClass
from drengine.rules.catalogue import RULES
from drengine.rules.contract import RuleContext
from drengine.runbook.loader import load_runbook

WHERE = CloudIdentity(
    "AzureCloud", "t", "s", "me", "managedhsm.azure.net", "core.windows.net", lab=True
)
GUARDS = ("target-is-ours", "target-not-protected", "H02", "H03")


def _context(**inputs) -> RuleContext:
    given = {"source_hsm": "lost", "target_hsm": "new", "protected_names": [], "overwrite": ""}
    return RuleContext(
        run_class=RunClass.DRILL,
        root="r-0123456789ab",
        step="restore",
        now_ms=0,
        where=WHERE,
        inputs={**given, **inputs},
        plan={"backup": {"digest": "d", "blobs": 1}},
        outputs={},
        values={},
    )


def _facts(*, ours: bool, keys: bool, backed_up: bool) -> dict:
    return {
        "target-hsm": {
            "exists": True,
            "name": "new",
            "run_tag": "r-0123456789ab" if ours else "r-ffffffffffff",
        },
        "inventory": {"hsm": {"name": "lost"}, "roles": []},
        "target-keys": {"names": ["payroll"] if keys else []},
        "target-backup": {"blobs": 3 if backed_up else 0, "folder": "mhsm-new-1"},
    }


COMBINATIONS = list(itertools.product([True, False], repeat=6))


@pytest.mark.parametrize(("ours", "protected", "keys", "typed", "backed_up", "case"), COMBINATIONS)
def test_a_restore_may_begin_only_where_all_conditions_hold(
    ours, protected, keys, typed, backed_up, case
):
    name = "NEW" if case else "new"
    ctx = _context(
        protected_names=[name] if protected else [], overwrite=name if typed else "other"
    )
    facts = _facts(ours=ours, keys=keys, backed_up=backed_up)
    findings = [finding for rule in GUARDS for finding in RULES[rule].check(facts, ctx)]
    allowed = ours and not protected and backed_up and (not keys or typed)
    assert all_hold(tuple(findings)) is allowed


@pytest.mark.parametrize("name", ["lost", "LOST", "Lost"])
def test_the_source_is_never_the_target(name):
    ctx = _context(target_hsm=name, overwrite=name)
    facts = _facts(ours=True, keys=False, backed_up=True)
    facts["target-hsm"]["name"] = name
    for rule in ("target-is-ours", "target-not-protected"):
        assert not all_hold(RULES[rule].check(facts, ctx)), rule


def test_the_shipped_runbook_asks_all_these_guards_before_the_restore():
    text = Path(__file__).parents[3] / "runbooks" / "mhsm-full-recovery.yaml"
    runbook = load_runbook(text.read_text(), "mhsm-full-recovery", CATALOGUE)
    assert set(GUARDS) <= set(runbook.step("restore").guards_before)
    assert "target-is-ours" in runbook.step("upload-domain").guards_before


@pytest.mark.parametrize(
    "changed",
    [
        {"subscription": "other"},
        {"tenant": "other"},
        {"name": "AzureChinaCloud"},
        {"principal": "somebody"},
        {"hsm_suffix": "managedhsm.azure.cn"},
        {"subscription": ""},
    ],
    ids=str,
)
def test_another_subscription_tenant_cloud_or_person_is_refused(changed):
    with pytest.raises(GuardError, match="nothing was sent"):
        check_identity(WHERE, replace(WHERE, **changed))


def test_a_lab_is_never_taken_for_the_cloud():
    with pytest.raises(LabMismatch, match="nothing was sent"):
        check_identity(replace(WHERE, lab=False), WHERE)
    with pytest.raises(LabMismatch, match="nothing was sent"):
        check_identity(WHERE, replace(WHERE, lab=False))


def test_the_plans_own_place_is_accepted():
    check_identity(WHERE, WHERE)
