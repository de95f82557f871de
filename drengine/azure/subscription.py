"""What a subscription offers and holds, and what the caller may do in it.

Source: Providers_Get, Subscriptions_ListLocations (Microsoft.Resources),
UserAssignedIdentities_Get (Microsoft.ManagedIdentity) and Permissions_ListForResource
(Microsoft.Authorization). Documents are read leniently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from drengine.azure.arm import ArmDocuments
from drengine.azure.operations import Sender
from drengine.azure.pipeline import Pipeline
from drengine.model.cloud import HsmOffer, Permission
from drengine.model.ids import region_key

_RESOURCES_API: Final = "2022-12-01"
_PROVIDERS_API: Final = "2021-04-01"
_IDENTITY_API: Final = "2023-01-31"
_PERMISSIONS_API: Final = "2022-04-01"
_PROVIDER: Final = "Microsoft.KeyVault"
_HSMS: Final = "managedhsms"
_ABSENT: Final = frozenset({"ResourceNotFound", "ResourceGroupNotFound"})
"""Codes of a 404 that say that an identity is not there."""


class ArmSubscription:
    """`ports.Subscription` for one subscription.

    Parameters:
        resource_manager: returns the client for the resource manager.
    """

    def __init__(
        self, pipeline: Pipeline, subscription: str, resource_manager: Callable[[], Sender]
    ) -> None:
        self._documents = ArmDocuments(pipeline, resource_manager)
        self._path = f"/subscriptions/{subscription}"

    async def hsm_offer(self) -> HsmOffer:
        """Return whether Managed HSMs may be created, and in which regions."""
        what = f"reading the registration of {_PROVIDER}"
        path = f"{self._path}/providers/{_PROVIDER}"
        return offer_of(await self._documents.one(what, path, _PROVIDERS_API))

    async def geographies(self) -> Mapping[str, str]:
        """Return the geography of each region that the subscription sees, by its short name."""
        what, path = "listing the regions of the subscription", f"{self._path}/locations"
        return geographies_of(await self._documents.listed(what, path, _RESOURCES_API))

    async def has_identity(self, identity: str) -> bool:
        """Whether a user-assigned identity exists."""
        what, path = f"reading the identity {identity}", quote(identity)
        found = await self._documents.found(what, path, _IDENTITY_API, absent=_ABSENT)
        return found is not None

    async def permissions(self, scope: str) -> Sequence[Permission]:
        """Return what the roles of whoever is signed in allow at a scope."""
        what = f"reading this principal's permissions on {scope}"
        path = f"{quote(scope)}/providers/Microsoft.Authorization/permissions"
        found = await self._documents.listed(what, path, _PERMISSIONS_API)
        return [permission_of(one) for one in found]


def offer_of(doc: Mapping[str, Any]) -> HsmOffer:
    """Return what the document of the provider Microsoft.KeyVault says of Managed HSMs."""
    types = [
        kind
        for kind in doc.get("resourceTypes") or ()
        if str(kind.get("resourceType", "")).lower() == _HSMS
    ]
    shown = [str(place) for kind in types for place in kind.get("locations") or ()]
    return HsmOffer(
        registration=str(doc.get("registrationState") or ""),
        regions=tuple(sorted({region_key(place) for place in shown})),
    )


def geographies_of(regions: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the geography of each region of a listing that tells it."""
    told = ((one.get("name"), (one.get("metadata") or {}).get("geography")) for one in regions)
    return {region_key(str(name)): str(geography) for name, geography in told if geography}


def permission_of(doc: Mapping[str, Any]) -> Permission:
    """Return what one of the caller's role assignments allows."""
    return Permission(
        actions=tuple(str(action) for action in doc.get("actions") or ()),
        not_actions=tuple(str(action) for action in doc.get("notActions") or ()),
    )
