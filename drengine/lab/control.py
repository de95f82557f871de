"""The lab's own control host, `lab.drengine.invalid`: clock, log, disasters, faults.

It has no counterpart in Azure, and its name cannot exist in any public zone.
"""

from __future__ import annotations

from typing import Final

from drengine.lab import faults
from drengine.lab.store import read_calls
from drengine.lab.wire import (
    Call,
    LabFault,
    Response,
    Route,
    arm_fault,
    json_response,
    whole_number,
)

CONTROL_HOST: Final = "lab\\.drengine\\.invalid"


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
    rows = read_calls(call.lab.home / "lab.db", _after(call))
    return json_response(200, {"calls": rows})


def _after(call: Call) -> int:
    text = call.request.query.get("after", "0")
    found = whole_number(text)
    if found is None:
        raise LabFault(400, "BadParameter", f"after must be a number, found {text!r}.")
    return found


def _disaster(call: Call) -> Response:
    from drengine.lab import disasters  # noqa: PLC0415 - keeps the control host light

    wanted = call.request.json_object()
    kind = str(wanted.get("kind", "purge"))
    found = disasters.strike(call.tx, kind, str(wanted.get("target") or ""))
    call.effect = f"lab.disaster.{kind}"
    call.target = str(found.get("hsm") or found.get("target"))
    return json_response(200, found)


def _list_faults(call: Call) -> Response:
    return json_response(200, {"faults": call.lab.faults.rules()})


def _add_fault(call: Call) -> Response:
    from drengine.lab import disasters  # noqa: PLC0415 - keeps the control host light

    wanted = call.request.json_object()
    name = str(wanted.get("name"))
    if name in disasters.KINDS:
        # what is lost stays lost, so it is no rule: a disaster by its name
        found = disasters.strike(call.tx, name, str(wanted.get("target") or ""))
        call.effect, call.target = f"lab.disaster.{name}", str(found.get("target"))
        return json_response(200, {"id": name, "kind": "disaster"})
    try:
        rule = faults.rule_from(wanted)
    except (TypeError, ValueError) as error:
        raise LabFault(400, "BadParameter", f"The fault cannot be added: {error}.") from None
    call.lab.faults.add(call.tx, rule)
    call.effect, call.target = "lab.fault.add", rule.id
    return json_response(200, {"id": rule.id, "kind": rule.kind})


def _clear_faults(call: Call) -> Response:
    call.effect, call.target = "lab.fault.clear", "*"
    return json_response(200, {"cleared": call.lab.faults.clear(call.tx)})


def _counts(call: Call) -> Response:
    return json_response(200, {"effects": call.tx.count_effects(_after(call))})


ROUTES: Final[tuple[Route, ...]] = tuple(
    Route(CONTROL_HOST, method, path, handler, "none", arm_fault)
    for method, path, handler in (
        ("GET", "/clock", _clock),
        ("POST", "/clock", _set_clock),
        ("GET", "/log", _log),
        ("GET", "/effects", _counts),
        ("POST", "/disaster", _disaster),
        ("GET", "/faults", _list_faults),
        ("POST", "/faults", _add_fault),
        ("DELETE", "/faults", _clear_faults),
    )
)
