"""What a look at the cloud returns: the target HSM as the resource manager shows it.

Used by the tests of `drengine.actions` and of `drengine.engine`. Activated, tagged and
configured is what a test says; left alone it is new, and nobody's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from drengine.model.cloud import HsmResource

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
