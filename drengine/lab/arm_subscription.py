"""Azure Resource Manager requests about subscriptions, groups and identities."""

from __future__ import annotations

from typing import Any, Final

from drengine.lab import vaults
from drengine.lab.wire import Call, LabFault, Response, Route, arm_fault, json_response

IDENTITY: Final = "arm.identity"
META: Final = "lab.meta"
ESTATE: Final = "estate"


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
    one = _subscription_document(estate_of(call), call.lab.tenant)
    if one["subscriptionId"].lower() != call.match["subscription"].lower():
        raise LabFault(
            404,
            "SubscriptionNotFound",
            f"The subscription '{call.match['subscription']}' could not be found.",
        )
    return json_response(200, one)


def _tenants(call: Call) -> Response:
    tenant = call.lab.tenant
    found = {"id": f"/tenants/{tenant}", "tenantId": tenant, "displayName": "drengine lab"}
    return json_response(200, {"value": [found]})


def _group_document(call: Call, name: str) -> dict[str, Any]:
    return {
        "id": f"/subscriptions/{call.match['subscription']}/resourceGroups/{name}",
        "name": name,
        "type": "Microsoft.Resources/resourceGroups",
        "location": estate_of(call).get("location", "westeurope"),
        "tags": {},
        "properties": {"provisioningState": "Succeeded"},
    }


def _groups(call: Call) -> Response:
    name = estate_of(call).get("resource_group")
    return json_response(200, {"value": [_group_document(call, name)] if name else []})


def _group(call: Call) -> Response:
    name = str(estate_of(call).get("resource_group", ""))
    if name.lower() != call.match["group"].lower():
        raise LabFault(
            404,
            "ResourceGroupNotFound",
            f"Resource group '{call.match['group']}' could not be found.",
        )
    return json_response(200, _group_document(call, name))


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
    Route("management\\.azure\\.com", "GET", path, handler, "arm", arm_fault)
    for path, handler in (
        ("/subscriptions", _subscriptions),
        (_SUBSCRIPTION, _subscription),
        ("/tenants", _tenants),
        (_SUBSCRIPTION + "/resourceGroups", _groups),
        (_GROUP, _group),
        (_SUBSCRIPTION + "/resources", _resources),
        (_GROUP + "/resources", _resources),
        (_SUBSCRIPTION + _IDENTITIES, _identities),
        (_GROUP + _IDENTITIES, _identities),
        (_GROUP + _IDENTITIES + "/(?P<name>[^/]+)", _identity),
    )
)
