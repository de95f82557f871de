"""What a look at the cloud returns, and what an action is given to look with.

Used by the tests of `drengine.actions` and of `drengine.engine`. Activated, tagged and
configured is what a test says; left alone the target is new, and nobody's.
"""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from drengine.actions.base import RUN_TAG
from drengine.actions.contract import StepContext
from drengine.model.cloud import HsmResource
from drengine.model.ids import RunId
from drengine.model.plan import CloudIdentity
from drengine.model.runbook import RunClass
from drengine.model.secret import Secret

RUN = RunId("r-0123456789ab")
CONTAINER = "https://acct.blob.core.windows.net/backups"
_WHERE = CloudIdentity(
    "AzureCloud", "t", "s", "me", "managedhsm.azure.net", "core.windows.net", True
)

_NEW = HsmResource(
    id="/target",
    name="target",
    resource_group="rg",
    location="northeurope",
    uri="https://target.managedhsm.azure.net/",
    provisioning_state="Succeeded",
    status_message="",
    activation_status="NotActivated",
    purge_protection=True,
    soft_delete_days=90,
    tenant="t",
    admins=(),
)


def target(**changes: Any) -> HsmResource:
    """Return the target HSM, provisioned and not activated, with what a test changes."""
    return replace(_NEW, **changes)


def ours(**changes: Any) -> HsmResource:
    """Return the target HSM with the tag of the run of `context`."""
    return target(**{"tags": {RUN_TAG: str(RUN)}, **changes})


def context(cloud: Any, *, inventory: Any = None, **more: Any) -> StepContext:
    """Return what an action is given: a cloud as far as the test plays it, and an inventory."""
    inputs = {
        "resource_group": "rg",
        "target_hsm": "target",
        "source_hsm": "source",
        "container_url": CONTAINER,
        "inventory": {"sha256": "0" * 64, "path": "inventory.json"},
    }
    known = {"schema": "drengine/inventory/v1", "hsm": {"name": "source"}, "keys": []}
    text = json.dumps({**known, **(inventory or {})}).encode()
    given: dict[str, Any] = {"outputs": {"step": {}}, "now_ms": 1_795_000_000_000, **more}
    given["inputs"] = inputs | given.get("inputs", {})
    return StepContext(
        run=RUN,
        root=RUN,
        step="step",
        run_class=RunClass.DRILL,
        cloud=cloud,
        where=_WHERE,
        objects=SimpleNamespace(get_object=lambda _: text),  # type: ignore[arg-type]
        secret=Secret,
        **given,
    )
