"""All routes and all jobs of the lab, concatenated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from drengine.lab import (
    arm_hsm,
    arm_network,
    arm_providers,
    arm_rights,
    arm_roles,
    arm_subscription,
    control,
    entra,
    vaults,
)
from drengine.lab.blob.routes import ROUTES as BLOB_ROUTES
from drengine.lab.hsm.routes import JOBS as HSM_JOBS
from drengine.lab.hsm.routes import ROUTES as HSM_ROUTES
from drengine.lab.sql.routes import JOBS as SQL_JOBS
from drengine.lab.sql.routes import ROUTES as SQL_ROUTES

if TYPE_CHECKING:
    from drengine.lab.wire import Route
    from drengine.lab.world import Lab

ROUTES: Final[tuple[Route, ...]] = (
    *HSM_ROUTES,
    *arm_hsm.ROUTES,
    *arm_network.ROUTES,
    *arm_providers.ROUTES,
    *arm_rights.ROUTES,
    *arm_roles.ROUTES,
    *vaults.ROUTES,
    *SQL_ROUTES,
    *BLOB_ROUTES,
    *arm_subscription.ROUTES,
    *entra.ROUTES,
    *control.ROUTES,
)
JOBS: Final[Mapping[str, Callable[[Lab, dict[str, Any]], None]]] = {
    **arm_hsm.JOBS,
    **HSM_JOBS,
    **SQL_JOBS,
}
