from __future__ import annotations

from collections.abc import Callable

import pytest

from drengine.errors import RunbookError
from drengine.model.catalogue import ActionSpec, Catalogue, Parameter, Repeat
from drengine.model.runbook import Runbook
from drengine.runbook.loader import check, load_runbook

RUNBOOK = """\
apiVersion: drengine/v1
kind: Runbook
name: recover
title: Recover
description: A small one
objectives: {rto: 4h, rpo: 24h}
inputs:
  target: {type: hsm_name, description: The new HSM}
  protects: {type: bool, default: true, description: Whether databases rest on it}
  storage: {type: string, default: backups, description: Account}
discovery:
  backup: {source: backup.latest, with: {storage: "${inputs.storage}"}}
steps:
  - id: look
    title: Look
    action: hsm.look
    with: {name: "${inputs.target}"}
  - id: approve
    title: Approve
    gate: {approvals: 2, roles: [owner], facts: [target], ask: "Create ${inputs.target}?"}
    expected: {duration: 10m, source: drill}
  - id: create
    title: Create
    action: hsm.create
    with: {name: "${inputs.target}", state: "${steps.look.outputs.state}"}
    guards: {before: [name-available], after: [K09]}
    irreversible: "${inputs.protects}"
    expected: {duration: 15m, source: measured}
  - id: bring
    title: Bring
    delivery: {kind: restore_blob, expects: {exchange: "${steps.create.outputs.uri}"}, ask: Bring}
    expected: {duration: 5m, source: drill}
"""


def small_catalogue() -> Catalogue:
    return Catalogue(
        actions={
            "hsm.look": ActionSpec(
                "hsm.look",
                "Look",
                (Parameter("name", "of the HSM"),),
                ("state",),
                Repeat.READ,
                expected_ms=1_000,
                expected_source="measured",
            ),
            "hsm.create": ActionSpec(
                "hsm.create",
                "Create",
                (
                    Parameter("name", "of the HSM"),
                    Parameter("state", "seen before", required=False),
                ),
                ("uri",),
                Repeat.BY_NAME,
            ),
            "hsm.restore": ActionSpec(
                "hsm.restore",
                "Restore",
                (Parameter("folder", "of the backup"),),
                (),
                Repeat.NEVER,
                expected_ms=600_000,
                expected_source="measured",
            ),
            "hsm.delete": ActionSpec("hsm.delete", "Delete", (), (), Repeat.BY_NAME),
        },
        rules=frozenset({"K09", "name-available"}),
        observations=frozenset({"target"}),
        discoveries={
            "backup.latest": (Parameter("storage", "account", required=False),),
            "sql.groups": (Parameter("of", "key", required=False),),
        },
        delivery_kinds=frozenset({"restore_blob"}),
        roles=frozenset({"owner", "custodian"}),
    )


@pytest.fixture
def catalogue() -> Catalogue:
    return small_catalogue()


@pytest.fixture
def good() -> str:
    return RUNBOOK


@pytest.fixture
def load(catalogue: Catalogue) -> Callable[[str], Runbook]:
    return lambda text: load_runbook(text, "r.yaml", catalogue)


@pytest.fixture
def problems(catalogue: Catalogue) -> Callable[[str], list[RunbookError]]:
    return lambda text: check(text, "r.yaml", catalogue)


@pytest.fixture
def with_steps() -> Callable[[str], str]:
    """Return a runbook text whose steps are the given YAML list."""
    head = RUNBOOK[: RUNBOOK.index("steps:\n")]
    return lambda steps: f"{head}steps:\n{steps}"
