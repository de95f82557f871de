"""The requests about the settings of a HSM; the service has one, a boolean as a string."""

from __future__ import annotations

from typing import Final

from drengine.lab.hsm import state
from drengine.lab.wire import Call, LabFault, Response, Route, hsm_fault

SETTING: Final = "AllowKeyManagementOperationsThroughARM"
VALUES: Final = ("true", "false")


def _wire(value: str) -> dict[str, str]:
    return {"name": SETTING, "type": "boolean", "value": value}


def _list(call: Call) -> Response:
    hsm = state.load_active(call, "/settings/read/action")
    return state.answer(call, 200, {"settings": [_wire(hsm["setting"])]})


def _require_known(call: Call) -> None:
    if call.match["name"].lower() != SETTING.lower():
        raise LabFault(404, "SettingNotFound", f"The setting {call.match['name']} does not exist.")


def _get(call: Call) -> Response:
    hsm = state.load_active(call, "/settings/read/action")
    _require_known(call)
    return state.answer(call, 200, _wire(hsm["setting"]))


def _patch(call: Call) -> Response:
    hsm = state.load_active(call, "/settings/write/action")
    _require_known(call)
    value = str(call.request.json_object().get("value")).lower()
    if value not in VALUES:
        raise LabFault(400, "BadParameter", "value must be true or false.")
    hsm["setting"] = value
    state.store(call.tx, hsm)
    call.effect, call.target = "hsm.setting", f"{hsm['name']}/{SETTING}"
    return state.answer(call, 200, _wire(value))


_NAME: Final = "/settings/(?P<name>[A-Za-z]+)"
ROUTES: Final[tuple[Route, ...]] = (
    Route(state.HOST, "GET", "/settings", _list, "hsm", hsm_fault),
    Route(state.HOST, "GET", _NAME, _get, "hsm", hsm_fault),
    Route(state.HOST, "PATCH", _NAME, _patch, "hsm", hsm_fault),
)
