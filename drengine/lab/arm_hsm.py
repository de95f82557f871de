"""Azure Resource Manager requests about Managed HSMs, and their long operations.

A long operation answers 202 with an empty body and a `Location`; polling that gives 202
and, at the end, 200 with the resource (creation, recovery) or with nothing (the rest).
Errors carry numeric strings as codes, as recorded.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from drengine.lab import arm_connections, arm_providers, arm_regions, arm_rights
from drengine.lab import arm_resource as hsms
from drengine.lab.hsm import exchange, state
from drengine.lab.wire import (
    Call,
    LabFault,
    Response,
    Route,
    arm_fault,
    json_response,
)

if TYPE_CHECKING:
    from drengine.lab.world import Lab

OPERATION: Final = "arm.hsm.operation"
RUNNING: Final = "arm.hsm.running"
"""By name of the HSM: the operation that was begun last."""
FINISH: Final = "arm.hsm.finish"
_RESERVED: Final = (
    "A KV MHSM with the same name already exists in deleted state. "
    "You need to either recover or purge existing KV MHSM."
)
_HEADERS: Final = {"x-ms-keyvault-service-version": "1.5.969.0", "cache-control": "no-cache"}


def _json(status: int, body: object) -> Response:
    return json_response(status, body, _HEADERS)


def _subscription(call: Call) -> str:
    return str(call.match["subscription"])


def _arm_id(call: Call) -> str:
    return hsms.resource_id(_subscription(call), call.match["group"], call.match["name"])


def _find(call: Call) -> dict[str, Any]:
    document = call.tx.get(hsms.HSM, _arm_id(call).lower())
    if document is None or call.tx.now_ms < document["visible_ms"]:
        raise LabFault(
            404,
            "ResourceNotFound",
            f"The Resource 'Microsoft.KeyVault/managedHSMs/{call.match['name']}' under resource "
            f"group '{call.match['group']}' was not found. For more details please go to "
            "https://aka.ms/ARMResourceNotFoundFix",
        )
    return document


def _begin(call: Call, action: str, seconds: float, document: dict[str, Any]) -> Response:
    """Write the operation, have it end after its time, and answer 202."""
    operation = str(uuid.uuid4())
    resource = document["resource"]
    call.tx.put(
        OPERATION,
        operation,
        {
            "action": action,
            "name": resource["name"].lower(),
            "id": resource["id"],
            "done": False,
        },
    )
    call.tx.put(RUNNING, resource["name"].lower(), {"operation": operation})
    due = call.tx.now_ms + int(seconds * 1000)
    call.tx.schedule(FINISH, {"operation": operation}, due)
    call.effect, call.target = f"hsm.{action}", resource["id"]
    return _accepted(call, operation, resource["location"])


def _accepted(call: Call, operation: str, location: str) -> Response:
    version = call.request.query.get("api-version", "2023-07-01")
    subscription = call.match.groupdict().get("subscription")
    url = (
        f"https://{call.request.host}/subscriptions/{subscription}/providers/Microsoft.KeyVault"
        f"/locations/{location}/managedHsmOperationResults/{operation}?api-version={version}"
    )
    return Response(202, {**_HEADERS, "location": url, **state.retry_headers(call)})


def _put(call: Call) -> Response:
    body = call.request.json_object()
    if (body.get("properties") or {}).get("createMode") == "Recover":
        return _recover(call)
    existing = call.tx.get(hsms.HSM, _arm_id(call).lower())
    if existing is not None:
        return _update(call, existing, body)
    name = call.match["name"].lower()
    if call.tx.get(hsms.DELETED, name) is not None:
        raise LabFault(409, "ConflictError", _RESERVED)
    if call.tx.get(state.HSM, name) is not None:
        raise LabFault(409, "409", f"The name '{call.match['name']}' is already in use.")
    resource = hsms.wanted_resource(body, _arm_id(call), call.lab.tenant)
    arm_providers.require_offered(call.tx, resource["location"])
    arm_rights.require_assignable(call, _attached(body))
    _check_quota(call, resource["location"])
    settings, now = call.lab.settings, call.tx.now_ms
    # the exchange key takes seconds to make, and somebody will ask for it soon
    call.lab.keys.fill_in_background(exchange.EXCHANGE_BITS)
    document = hsms.create(
        call.tx,
        resource,
        who=call.principal.object_id,
        reachable_ms=now + int(min(settings.start_service, settings.create_hsm) * 1000),
        ready_ms=now + int(settings.create_hsm * 1000),
        visible_ms=now + settings.effect_visible_after_ms,
    )
    return _begin(call, "create", settings.create_hsm, document)


def _check_quota(call: Call, location: str) -> None:
    """Check that a region takes one more HSM.

    Raises:
        LabFault: 403 QuotaExceeded.
    """
    settings = call.lab.settings
    kinds = (hsms.HSM, hsms.DELETED) if settings.quota_counts_deleted else (hsms.HSM,)
    found = [one for kind in kinds for _, one in call.tx.find(kind)]
    count = sum(one["resource"]["location"] == location for one in found)
    if count >= settings.hsm_quota:
        raise LabFault(
            403,
            "QuotaExceeded",
            f"The subscription has {count} Managed HSMs in {location}; its quota there is "
            f"{settings.hsm_quota}.",
        )


def _attached(body: dict[str, Any]) -> list[str]:
    return list((body.get("identity") or {}).get("userAssignedIdentities") or ())


def _update(call: Call, document: dict[str, Any], body: dict[str, Any]) -> Response:
    arm_rights.require_assignable(call, _attached(body))
    if document["state"] != "Succeeded":
        return _busy(call, document)
    action = arm_regions.wanted_action(call.tx, document, body)
    seconds = call.lab.settings.update_hsm
    if action != "update":
        arm_regions.begin(document, body, action)
        settings = call.lab.settings
        seconds = settings.add_region if action == "extend" else settings.remove_region
    document["resource"] = hsms.change(document["resource"], body)
    document["state"] = "Updating"
    document["modified_ms"] = call.tx.now_ms
    document["modified_by"] = call.principal.object_id
    call.tx.put(hsms.HSM, document["resource"]["id"].lower(), document)
    return _begin(call, action, seconds, document)


def _busy(call: Call, document: dict[str, Any]) -> Response:
    """Refuse, or take the request as the one that is being worked on."""
    running = call.tx.get(RUNNING, document["resource"]["name"].lower())
    if call.lab.settings.put_while_busy == 409 or running is None:  # noqa: PLR2004 - a setting
        raise LabFault(409, "409", "Another operation on this Managed HSM is in progress.")
    return _accepted(call, running["operation"], document["resource"]["location"])


def _patch(call: Call) -> Response:
    return _update(call, _find(call), call.request.json_object())


def _recover(call: Call) -> Response:
    name = call.match["name"].lower()
    deleted = call.tx.get(hsms.DELETED, name)
    if deleted is None:
        raise LabFault(404, "404", f"There is no deleted Managed HSM named '{name}'.")
    return _begin(call, "recover", call.lab.settings.recover_hsm, deleted)


def _get(call: Call) -> Response:
    return _json(200, hsms.render(call.tx, _find(call)))


def _visible(call: Call, prefix: str) -> list[dict[str, Any]]:
    return [
        hsms.render(call.tx, one)
        for _, one in call.tx.find(hsms.HSM, prefix.lower())
        if call.tx.now_ms >= one["visible_ms"]
    ]


def _list(call: Call) -> Response:
    return _json(200, {"value": _visible(call, f"/subscriptions/{_subscription(call)}/")})


def _list_group(call: Call) -> Response:
    prefix = f"/subscriptions/{_subscription(call)}/resourceGroups/{call.match['group']}/"
    return _json(200, {"value": _visible(call, prefix)})


def _delete(call: Call) -> Response:
    document = call.tx.get(hsms.HSM, _arm_id(call).lower())
    if document is None:
        return Response(204, _HEADERS)
    extended = ", ".join(one["name"] for one in document["resource"]["properties"]["regions"])
    if extended:
        raise LabFault(
            400,
            "400",
            f"Soft delete of a pool {call.match['name']} that is extended to regions "
            f"({extended}) is not allowed.",
        )
    if document["state"] == "Deleting":
        raise LabFault(409, "409", "The Managed HSM is being deleted already.")
    document["state"] = "Deleting"
    call.tx.put(hsms.HSM, document["resource"]["id"].lower(), document)
    return _begin(call, "delete", call.lab.settings.delete_hsm, document)


def _find_deleted(call: Call) -> dict[str, Any]:
    found = call.tx.get(hsms.DELETED, call.match["name"].lower())
    if found is None or found["resource"]["location"] != call.match["location"].lower():
        raise LabFault(404, "404", f"There is no deleted Managed HSM '{call.match['name']}'.")
    return found


def _get_deleted(call: Call) -> Response:
    return _json(200, hsms.render_deleted(_subscription(call), _find_deleted(call)))


def _list_deleted(call: Call) -> Response:
    found = [hsms.render_deleted(_subscription(call), one) for _, one in call.tx.find(hsms.DELETED)]
    return _json(200, {"value": found})


def _purge(call: Call) -> Response:
    deleted = _find_deleted(call)
    if deleted["resource"]["properties"]["enablePurgeProtection"]:
        raise LabFault(
            403,
            "403",
            f"Purge of '{call.match['name']}' is not allowed: purge protection is enabled.",
        )
    return _begin(call, "purge", call.lab.settings.purge_hsm, deleted)


def _check_name(call: Call) -> Response:
    name = str(call.request.json_object().get("name") or "")
    if not hsms.NAME.fullmatch(name):
        text = f"The name '{name}' is not valid for a Managed HSM."
        return _json(200, {"nameAvailable": False, "reason": "AccountNameInvalid", "message": text})
    if call.tx.get(state.HSM, name.lower()) is None:
        return _json(200, {"nameAvailable": True})
    text = f"The name '{name}' is already in use."
    return _json(200, {"nameAvailable": False, "reason": "AlreadyExists", "message": text})


def _result(call: Call) -> Response:
    key = call.match["operation"].lower()
    operation = call.tx.get(OPERATION, key)
    if operation is None:
        raise LabFault(404, "404", "There is no such operation.")
    if not operation["done"]:
        return _accepted(call, key, call.match["location"])
    document = call.tx.get(hsms.HSM, operation["id"].lower())
    if operation["action"] == "create" and document is not None:
        return _json(200, hsms.render(call.tx, document))
    return Response(200, _HEADERS)


def _regions(call: Call) -> Response:
    return _json(200, {"value": arm_regions.shown(hsms.render(call.tx, _find(call)))})


def finish(lab: Lab, payload: dict[str, Any]) -> None:
    """Job: let a long operation take effect."""
    with lab.store.transaction() as tx:
        operation = tx.get(OPERATION, payload["operation"])
        if operation is None or operation["done"]:
            return
        operation["done"] = True
        tx.put(OPERATION, payload["operation"], operation)
        name, arm_id = operation["name"], operation["id"].lower()
        document = tx.get(hsms.HSM, arm_id)
        match operation["action"]:
            case "extend" | "shrink" if document is not None:
                arm_regions.finish(tx, document)
                tx.put(hsms.HSM, arm_id, document)
            case "create" | "update" if document is not None and document["state"] != "Deleting":
                document["state"] = "Succeeded"
                tx.put(hsms.HSM, arm_id, document)
                hsm = tx.get(state.HSM, name)
                if hsm is not None and hsm["phase"] == state.PROVISIONING:
                    state.store(tx, {**hsm, "phase": state.NOT_ACTIVATED})
            case "delete" if document is not None:
                hsms.soft_delete(tx, document)
            case "recover" if tx.get(hsms.DELETED, name) is not None:
                hsms.recover(tx, name)
            case "purge" if tx.get(hsms.DELETED, name) is not None:
                hsms.purge(tx, name)
        tx.log_effect(f"hsm.{operation['action']}.done", operation["id"], {})


def expire(lab: Lab, payload: dict[str, Any]) -> None:
    """Job: purge a HSM whose retention is over, unless it came back meanwhile."""
    with lab.store.transaction() as tx:
        deleted = tx.get(hsms.DELETED, payload["name"])
        if deleted is None or deleted["deleted_ms"] != payload["deleted_ms"]:
            return
        hsms.purge(tx, payload["name"])
        tx.log_effect("hsm.expired", deleted["resource"]["id"], {})


JOBS: Final[Mapping[str, Callable[[Lab, dict[str, Any]], None]]] = {
    FINISH: finish,
    hsms.EXPIRE: expire,
}
_SUBSCRIPTION: Final = "/subscriptions/(?P<subscription>[^/]+)"
_GROUP: Final = _SUBSCRIPTION + "/resourceGroups/(?P<group>[^/]+)"
_PROVIDER: Final = "/providers/Microsoft\\.KeyVault"
_HSMS: Final = _PROVIDER + "/managedHSMs"
_HSM: Final = _GROUP + _HSMS + "/(?P<name>[^/]+)"
_CONNECTION: Final = _HSM + "/privateEndpointConnections/[^/]+"
_LOCATION: Final = _SUBSCRIPTION + _PROVIDER + "/locations/(?P<location>[^/]+)"
_DELETED: Final = _LOCATION + "/deletedManagedHSMs/(?P<name>[^/]+)"
ROUTES: Final[tuple[Route, ...]] = tuple(
    Route("management\\.azure\\.com", method, path, handler, "arm", arm_fault)
    for method, path, handler in (
        ("GET", _SUBSCRIPTION + _HSMS, _list),
        ("GET", _GROUP + _HSMS, _list_group),
        ("GET", _HSM, _get),
        ("PUT", _HSM, _put),
        ("PATCH", _HSM, _patch),
        ("DELETE", _HSM, _delete),
        ("GET", _HSM + "/regions", _regions),
        ("GET", _HSM + "/privateLinkResources", arm_connections.link_resources),
        ("GET", _HSM + "/privateEndpointConnections", arm_connections.list_all),
        ("GET", _CONNECTION, arm_connections.show),
        ("PUT", _CONNECTION, arm_connections.put),
        ("DELETE", _CONNECTION, arm_connections.delete),
        ("GET", _SUBSCRIPTION + _PROVIDER + "/deletedManagedHSMs", _list_deleted),
        ("GET", _DELETED, _get_deleted),
        ("POST", _DELETED + "/purge", _purge),
        ("POST", _SUBSCRIPTION + _PROVIDER + "/checkMhsmNameAvailability", _check_name),
        ("GET", _LOCATION + "/managedHsmOperationResults/(?P<operation>[0-9a-f-]{36})", _result),
    )
)
