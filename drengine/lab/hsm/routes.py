"""All routes and jobs of the Managed HSM data plane."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from drengine.lab.hsm import (
    keyops,
    keysapi,
    operations,
    rolesapi,
    rotation,
    securitydomain,
    settingsapi,
    state,
)
from drengine.lab.wire import Call, Response, Route, hsm_fault

if TYPE_CHECKING:
    from drengine.lab.world import Lab


def _root(call: Call) -> Response:
    state.load(call)
    return Response(200, {"content-type": "text/plain"}, b"OK")


ROUTES: Final[tuple[Route, ...]] = (
    *keyops.ROUTES,
    *keysapi.ROUTES,
    *rolesapi.ROUTES,
    *securitydomain.ROUTES,
    *operations.ROUTES,
    *settingsapi.ROUTES,
    Route(state.HOST, "GET", "/", _root, "hsm", hsm_fault),
)
JOBS: Final[Mapping[str, Callable[[Lab, dict[str, Any]], None]]] = {
    securitydomain.JOB: securitydomain.finish,
    operations.RUN: operations.run,
    rotation.JOB: rotation.rotate_job,
}
