"""All routes and all jobs of the lab, concatenated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from drengine.lab import arm_hsm, arm_subscription, control, entra
from drengine.lab.blob import routes as blob
from drengine.lab.hsm import routes as hsm
from drengine.lab.sql import routes as sql

if TYPE_CHECKING:
    from drengine.lab.wire import Route
    from drengine.lab.world import Lab

ROUTES: Final[tuple[Route, ...]] = (
    *hsm.ROUTES,
    *arm_hsm.ROUTES,
    *sql.ROUTES,
    *blob.ROUTES,
    *arm_subscription.ROUTES,
    *entra.ROUTES,
    *control.ROUTES,
)
JOBS: Final[Mapping[str, Callable[[Lab, dict[str, Any]], None]]] = {
    **arm_hsm.JOBS,
    **hsm.JOBS,
    **sql.JOBS,
}
