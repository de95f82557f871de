"""Azure Resource Manager requests about subscriptions, groups and identities."""

from __future__ import annotations

from typing import Any, Final

from drengine.lab import arm_scope, vaults
from drengine.lab.wire import Call, LabFault, Response, Route, arm_fault, json_response

IDENTITY: Final = "arm.identity"
META: Final = arm_scope.META
ESTATE: Final = arm_scope.ESTATE


def estate_of(call: Call) -> dict[str, Any]:
    """Return the ids and names the estate was built with."""
    return call.tx.get(META, ESTATE) or {}


def _subscription_document(estate: dict[str, Any], tenant: str) -> dict[str, Any]:
    subscription = estate.get("subscription", "")
    return {
        "id": f"/subscriptions/{subscription}",
        "authorizationSource": "RoleBased",
        "managedByTenants": [],
        "subscriptionId": subscription,
        "tenantId": tenant,
        "displayName": "drengine lab",
        "state": "Enabled",
        "subscriptionPolicies": {
            "locationPlacementId": "Public_2014-09-01",
            "quotaId": "PayAsYouGo_2014-09-01",
            "spendingLimit": "Off",
        },
    }


def _subscriptions(call: Call) -> Response:
    one = _subscription_document(estate_of(call), call.lab.tenant)
    return json_response(200, {"value": [one], "count": {"type": "Total", "value": 1}})


def _subscription(call: Call) -> Response:
    return json_response(200, _subscription_document(estate_of(call), call.lab.tenant))


def _tenants(call: Call) -> Response:
    tenant = call.lab.tenant
    found = {"id": f"/tenants/{tenant}", "tenantId": tenant, "displayName": "drengine lab"}
    return json_response(200, {"value": [found]})


def _group_document(call: Call, found: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"/subscriptions/{call.match['subscription']}/resourceGroups/{found['name']}",
        "name": found["name"],
        "type": "Microsoft.Resources/resourceGroups",
        "location": found["location"],
        "tags": found["tags"],
        "properties": {"provisioningState": "Succeeded"},
    }


def _groups(call: Call) -> Response:
    found = [_group_document(call, one) for _, one in call.tx.find(arm_scope.GROUP)]
    return json_response(200, {"value": found})


def _group(call: Call) -> Response:
    found = call.tx.get(arm_scope.GROUP, call.match["group"].lower())
    if found is None:
        raise arm_scope.missing_group(call.match["group"])
    return json_response(200, _group_document(call, found))


def _has_group(call: Call) -> Response:
    found = call.tx.get(arm_scope.GROUP, call.match["group"].lower())
    return Response(204 if found is not None else 404)


def _put_group(call: Call) -> Response:
    body = call.request.json_object()
    found, is_new = arm_scope.put_group(call.tx, call.match["group"], body)
    call.effect, call.target = "arm.group.put", found["name"]
    return json_response(201 if is_new else 200, _group_document(call, found))


def _resources(call: Call) -> Response:
    # clients ask this for key vaults only
    prefix = call.request.path.removesuffix("resources")
    kept = ("id", "name", "type", "location", "tags")
    found = [{part: one[part] for part in kept} for one in vaults.all_vaults(call.tx, prefix)]
    return json_response(200, {"value": found})


def identity_document(found: dict[str, Any]) -> dict[str, Any]:
    """Return a user-assigned identity in the shape of the wire."""
    return {
        "location": found["location"],
        "tags": {},
        "id": found["id"],
        "name": found["name"],
        "type": "Microsoft.ManagedIdentity/userAssignedIdentities",
        "properties": {
            "tenantId": found["tenantId"],
            "principalId": found["principalId"],
            "clientId": found["clientId"],
        },
    }


def _identity(call: Call) -> Response:
    found = call.tx.get(IDENTITY, call.request.path.lower())
    if found is None:
        raise LabFault(
            404, "ResourceNotFound", f"The identity '{call.match['name']}' was not found."
        )
    return json_response(200, identity_document(found))


def _identities(call: Call) -> Response:
    prefix = call.request.path.lower().partition("/providers/")[0] + "/"
    found = [identity_document(one) for _, one in call.tx.find(IDENTITY, prefix)]
    return json_response(200, {"value": found})


_SUBSCRIPTION: Final = "/subscriptions/(?P<subscription>[^/]+)"
_GROUP: Final = _SUBSCRIPTION + "/resourceGroups/(?P<group>[^/]+)"
_IDENTITIES: Final = "/providers/Microsoft\\.ManagedIdentity/userAssignedIdentities"
ROUTES: Final[tuple[Route, ...]] = tuple(
    Route("management\\.azure\\.com", method, path, handler, "arm", arm_fault)
    for method, path, handler in (
        ("GET", "/subscriptions", _subscriptions),
        ("GET", _SUBSCRIPTION, _subscription),
        ("GET", "/tenants", _tenants),
        ("GET", _SUBSCRIPTION + "/resourceGroups", _groups),
        ("GET", _GROUP, _group),
        ("HEAD", _GROUP, _has_group),
        ("PUT", _GROUP, _put_group),
        ("GET", _SUBSCRIPTION + "/resources", _resources),
        ("GET", _GROUP + "/resources", _resources),
        ("GET", _SUBSCRIPTION + _IDENTITIES, _identities),
        ("GET", _GROUP + _IDENTITIES, _identities),
        ("GET", _GROUP + _IDENTITIES + "/(?P<name>[^/]+)", _identity),
    )
)
