"""Private endpoint connections of a HSM, as its own resource provider shows them."""

from __future__ import annotations

import base64
import json
import uuid
from typing import TYPE_CHECKING, Any, Final

from drengine.lab.hsm.network import CONNECTION
from drengine.lab.hsm.state import retry_headers
from drengine.lab.wire import Call, LabFault, Response, json_response

if TYPE_CHECKING:
    from drengine.lab.store import Tx

_TYPE: Final = "Microsoft.KeyVault/vaults/privateEndpointConnections"
"""The real service says `vaults` for HSMs too."""


def of_hsm(tx: Tx, arm_id: str) -> list[dict[str, Any]]:
    """Return the connections of a HSM as its resource lists them."""
    found = []
    for _, one in tx.find(CONNECTION, f"{arm_id.lower()}/"):
        etag = {"etag": one["etag"]} if one["etag"] else {}
        found.append({"id": _id(one), **etag, "properties": _properties(tx, one)})
    return found


def _id(one: dict[str, Any]) -> str:
    return f"{one['target']}/privateEndpointConnections/{one['name']}"


def _properties(tx: Tx, one: dict[str, Any]) -> dict[str, Any]:
    described = {"description": one["description"]} if one["description"] else {}
    return {
        "provisioningState": "Succeeded" if tx.now_ms >= one["ready_ms"] else "Updating",
        "privateEndpoint": {"id": one["endpoint"]},
        "privateLinkServiceConnectionState": {
            "status": one["status"],
            **described,
            "actionsRequired": "None",
        },
    }


def _shown(tx: Tx, one: dict[str, Any]) -> dict[str, Any]:
    etag = {"etag": one["etag"]} if one["etag"] else {}
    return {
        "id": _id(one),
        "name": one["name"],
        "type": _TYPE,
        "location": one["location"],
        **etag,
        "properties": _properties(tx, one),
    }


def _key(call: Call) -> str:
    path = call.request.path
    arm_id, _, name = path.rpartition("/privateEndpointConnections/")
    return f"{arm_id}/{name}".lower()


def _find(call: Call) -> dict[str, Any]:
    found = call.tx.get(CONNECTION, _key(call))
    if found is None:
        raise LabFault(404, "404", "There is no such private endpoint connection.")
    return found


def list_all(call: Call) -> Response:
    """Answer the connections of a HSM."""
    arm_id = call.request.path.rpartition("/privateEndpointConnections")[0]
    return json_response(200, {"value": of_hsm(call.tx, arm_id)})


def show(call: Call) -> Response:
    """Answer a connection, or the poll of an operation on it."""
    operation = _read_operation(call)
    if operation.get("code", "").endswith("delete"):
        if call.tx.now_ms < int(operation.get("due", 0)):
            url = f"https://{call.request.host}{call.request.raw_target}"
            return Response(202, {"location": url, **retry_headers(call)})
        return Response(204)
    return json_response(200, _shown(call.tx, _find(call)), retry_headers(call))


def _read_operation(call: Call) -> dict[str, Any]:
    text = call.request.query.get("kv-operation", "")
    try:
        return dict(json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) or "{}"))
    except ValueError:
        raise LabFault(400, "400", "kv-operation is not well formed.") from None


def _operation_url(call: Call, code: str, due_ms: int) -> str:
    text = json.dumps({"code": f"privateEndpointConnections/{code}", "due": due_ms})
    mark = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    version = call.request.query.get("api-version", "2023-07-01")
    return (
        f"https://{call.request.host}{call.request.path}?api-version={version}&kv-operation={mark}"
    )


def put(call: Call) -> Response:
    """Approve or reject a connection."""
    found = _find(call)
    properties = call.request.json_object().get("properties") or {}
    state = properties.get("privateLinkServiceConnectionState") or {}
    status = str(state.get("status"))
    if status not in {"Approved", "Rejected", "Pending"}:
        raise LabFault(400, "400", f"The status '{status}' is not one of a connection.")
    due_ms = call.tx.now_ms + int(call.lab.settings.approve_connection * 1000)
    found |= {
        "status": status,
        "description": str(state.get("description") or ""),
        "etag": uuid.uuid4().hex,
        "ready_ms": due_ms,
    }
    call.tx.put(CONNECTION, _key(call), found)
    call.effect, call.target = f"hsm.connection.{status.lower()}", _id(found)
    code = {"Approved": "approve", "Rejected": "reject"}.get(status, "change")
    headers = {"azure-asyncoperation": _operation_url(call, code, due_ms), **retry_headers(call)}
    return json_response(200, _shown(call.tx, found), headers)


def delete(call: Call) -> Response:
    """Remove a connection."""
    found = call.tx.get(CONNECTION, _key(call))
    if found is None:
        return Response(204)
    call.tx.delete(CONNECTION, _key(call))
    call.effect, call.target = "hsm.connection.delete", _id(found)
    due_ms = call.tx.now_ms + int(call.lab.settings.approve_connection * 1000)
    return Response(
        202, {"location": _operation_url(call, "delete", due_ms), **retry_headers(call)}
    )


def link_resources(call: Call) -> Response:
    """Answer what of a HSM an endpoint can be connected to."""
    item = {
        "id": f"{call.request.path}/managedhsm",
        "name": "managedhsm",
        "type": "Microsoft.KeyVault/managedHSMs/privateLinkResources",
        "properties": {
            "groupId": "managedhsm",
            "requiredMembers": ["default"],
            "requiredZoneNames": ["privatelink.managedhsm.azure.net"],
        },
    }
    return json_response(200, {"value": [item]})
