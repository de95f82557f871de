"""Azure Resource Manager requests about regions and resource providers.

A subscription creates a resource only where its provider is registered, and only in regions
in which the provider offers it. The texts of both refusals are those of public reports.

Rules:
- a provider is registered until a client says otherwise; registering takes its time;
- of other providers than that of Managed HSM only the registration is shown, not enforced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from drengine.lab.places import HSM_REGIONS, NAMED_REGIONS, REGIONS, Region, region_key
from drengine.lab.wire import Call, LabFault, Response, Route, arm_fault, json_response

if TYPE_CHECKING:
    from drengine.lab.store import Tx

PROVIDER: Final = "arm.provider"
KEY_VAULT: Final = "Microsoft.KeyVault"
HSMS: Final = "managedHSMs"
REGISTERING_MS: Final = 60_000
_EVERYWHERE: Final = tuple(REGIONS)
_TYPES: Final[dict[str, dict[str, tuple[str, tuple[str, ...]]]]] = {
    "Microsoft.Authorization": {"roleAssignments": ("2022-04-01", ())},
    KEY_VAULT: {
        "vaults": ("2026-02-01", _EVERYWHERE),
        HSMS: ("2026-05-15", HSM_REGIONS),
    },
    "Microsoft.ManagedIdentity": {"userAssignedIdentities": ("2023-01-31", _EVERYWHERE)},
    "Microsoft.Network": {"virtualNetworks": ("2024-05-01", _EVERYWHERE)},
    "Microsoft.Sql": {"managedInstances": ("2025-01-01", _EVERYWHERE)},
    "Microsoft.Storage": {"storageAccounts": ("2025-06-01", _EVERYWHERE)},
}
"""Namespace -> type -> an API version, and the regions where it is offered."""


def require_offered(tx: Tx, location: str) -> None:
    """Check that a Managed HSM may be created in a region.

    Raises:
        LabFault: 409 MissingSubscriptionRegistration, 400 LocationNotAvailableForResourceType.
    """
    if _state(tx, KEY_VAULT) != "Registered":
        raise LabFault(
            409,
            "MissingSubscriptionRegistration",
            f"The subscription is not registered to use namespace '{KEY_VAULT}'. See "
            "https://aka.ms/rps-not-found for how to register subscriptions.",
        )
    if region_key(location) not in HSM_REGIONS:
        raise LabFault(
            400,
            "LocationNotAvailableForResourceType",
            f"The provided location '{location}' is not available for resource type "
            f"'{KEY_VAULT}/{HSMS}'. List of available regions for the resource type is "
            f"'{','.join(NAMED_REGIONS)}'.",
        )


def _state(tx: Tx, namespace: str) -> str:
    changed = tx.get(PROVIDER, namespace.lower())
    if changed is None:
        return "Registered"
    if not changed["registered"]:
        return "Unregistered"
    return "Registering" if tx.now_ms < changed["at_ms"] + REGISTERING_MS else "Registered"


def _document(call: Call, namespace: str) -> dict[str, Any]:
    return {
        "id": f"/subscriptions/{call.match['subscription']}/providers/{namespace}",
        "namespace": namespace,
        "resourceTypes": [
            {
                "resourceType": kind,
                "locations": [REGIONS[name].shown for name in regions],
                "apiVersions": [version],
                "defaultApiVersion": version,
                "capabilities": "SupportsTags, SupportsLocation" if regions else "None",
            }
            for kind, (version, regions) in _TYPES[namespace].items()
        ],
        "registrationState": _state(call.tx, namespace),
        "registrationPolicy": "RegistrationRequired",
    }


def _namespace(call: Call) -> str:
    wanted = call.match["namespace"].lower()
    for namespace in _TYPES:
        if namespace.lower() == wanted:
            return namespace
    raise LabFault(
        404,
        "InvalidResourceNamespace",
        f"The resource namespace '{call.match['namespace']}' is invalid.",
    )


def _get(call: Call) -> Response:
    return json_response(200, _document(call, _namespace(call)))


def _list(call: Call) -> Response:
    return json_response(200, {"value": [_document(call, namespace) for namespace in _TYPES]})


def _change(call: Call) -> Response:
    namespace, word = _namespace(call), call.match["word"].lower()
    changed = {"registered": word == "register", "at_ms": call.tx.now_ms}
    call.tx.put(PROVIDER, namespace.lower(), changed)
    call.effect, call.target = f"arm.provider.{word}", namespace
    return json_response(200, _document(call, namespace))


def _locations(call: Call) -> Response:
    subscription = call.match["subscription"]
    return json_response(200, {"value": [_place(subscription, one) for one in REGIONS.values()]})


def _place(subscription: str, region: Region) -> dict[str, Any]:
    return {
        "id": f"/subscriptions/{subscription}/locations/{region.name}",
        "name": region.name,
        "type": "Region",
        "displayName": region.shown,
        "regionalDisplayName": f"({region.geography}) {region.shown}",
        "metadata": {
            "regionType": "Physical",
            "regionCategory": "Recommended" if region.has_hsms else "Other",
            "geography": region.geography,
        },
    }


_SUBSCRIPTION: Final = "/subscriptions/(?P<subscription>[^/]+)"
_PROVIDERS: Final = _SUBSCRIPTION + "/providers"
_ONE: Final = _PROVIDERS + "/(?P<namespace>[^/]+)"
ROUTES: Final[tuple[Route, ...]] = tuple(
    Route("management\\.azure\\.com", method, path, handler, "arm", arm_fault)
    for method, path, handler in (
        ("GET", _SUBSCRIPTION + "/locations", _locations),
        ("GET", _PROVIDERS, _list),
        ("GET", _ONE, _get),
        ("POST", _ONE + "/(?P<word>register|unregister)", _change),
    )
)
