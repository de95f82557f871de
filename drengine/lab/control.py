"""The lab's own control host, `lab.drengine.invalid`: clock, log, disasters.

It has no counterpart in Azure, and its name cannot exist in any public zone.
"""

from __future__ import annotations

from typing import Final

from drengine.lab.store import read_calls
from drengine.lab.wire import Call, LabFault, Response, Route, arm_fault, json_response

CONTROL_HOST: Final = "lab\\.drengine\\.invalid"
DISASTERS: Final = ("purge", "soft-delete")


def _clock(call: Call) -> Response:
    clock = call.lab.clock
    return json_response(200, {"now_ms": clock.now_ms(), "speed": clock.speed})


def _set_clock(call: Call) -> Response:
    wanted = call.request.json_object()
    advance = wanted.get("advance_seconds")
    try:
        call.lab.clock.set(
            speed=wanted.get("speed"),
            advance_ms=None if advance is None else int(float(advance) * 1000),
        )
    except (TypeError, ValueError) as error:
        raise LabFault(400, "BadParameter", f"The clock cannot be set: {error}.") from None
    call.effect, call.target = "lab.clock", "clock"
    return _clock(call)


def _log(call: Call) -> Response:
    after = call.request.query.get("after", "0")
    if not after.isdigit():
        raise LabFault(400, "BadParameter", f"after must be a number, found {after!r}.")
    rows = read_calls(call.lab.home / "lab.db", int(after))
    return json_response(200, {"calls": rows})


def _disaster(call: Call) -> Response:
    from drengine.lab.hsm.disaster import strike  # noqa: PLC0415 - keeps the control host light

    kind = call.request.json_object().get("kind", "purge")
    if kind not in DISASTERS:
        raise LabFault(400, "BadParameter", f"kind must be one of {', '.join(DISASTERS)}.")
    name = strike(call.tx, kind)
    call.effect, call.target = f"lab.disaster.{kind}", name
    return json_response(200, {"kind": kind, "hsm": name})


ROUTES: Final[tuple[Route, ...]] = (
    Route(CONTROL_HOST, "GET", "/clock", _clock, "none", arm_fault),
    Route(CONTROL_HOST, "POST", "/clock", _set_clock, "none", arm_fault),
    Route(CONTROL_HOST, "GET", "/log", _log, "none", arm_fault),
    Route(CONTROL_HOST, "POST", "/disaster", _disaster, "none", arm_fault),
)
