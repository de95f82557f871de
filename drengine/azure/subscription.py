"""What a subscription offers and holds, in plain requests to the resource manager.

Source: Providers_Get, Subscriptions_ListLocations (Microsoft.Resources) and
UserAssignedIdentities_Get (Microsoft.ManagedIdentity). Documents are read leniently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from azure.core.rest import HttpRequest

from drengine.azure.operations import Sender, document_of
from drengine.azure.pipeline import Pipeline
from drengine.model.cloud import HsmOffer
from drengine.model.ids import region_key

_RESOURCES_API: Final = "2022-12-01"
_PROVIDERS_API: Final = "2021-04-01"
_IDENTITY_API: Final = "2023-01-31"
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
        self._pipeline = pipeline
        self._path = f"/subscriptions/{subscription}"
        self._resource_manager = resource_manager

    async def hsm_offer(self) -> HsmOffer:
        """Return whether Managed HSMs may be created, and in which regions."""
        what = f"reading the registration of {_PROVIDER}"
        url = self._url(f"{self._path}/providers/{_PROVIDER}", _PROVIDERS_API)
        return offer_of(await self._pipeline.read(what, lambda: self._asked(what, url)))

    async def geographies(self) -> Mapping[str, str]:
        """Return the geography of each region that the subscription sees, by its short name."""
        what = "listing the regions of the subscription"
        url = self._url(f"{self._path}/locations", _RESOURCES_API)
        page = await self._pipeline.read(what, lambda: self._asked(what, url), listing=True)
        return geographies_of(page)

    async def has_identity(self, identity: str) -> bool:
        """Whether a user-assigned identity exists."""
        what = f"reading the identity {identity}"
        url = self._url(quote(identity), _IDENTITY_API)
        found = await self._pipeline.find(what, lambda: self._asked(what, url), absent=_ABSENT)
        return found is not None

    async def _asked(self, what: str, url: str) -> dict[str, Any]:
        """Send one GET; the pipeline judges its status."""
        response = await self._resource_manager().send_request(HttpRequest("GET", url))
        return document_of(what, response)

    def _url(self, path: str, version: str) -> str:
        return f"{self._pipeline.endpoints.resource_manager}{path}?api-version={version}"


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


def geographies_of(page: Mapping[str, Any]) -> dict[str, str]:
    """Return the geography of each region of a listing that tells it."""
    found = {
        region_key(str(one.get("name", ""))): str(
            (one.get("metadata") or {}).get("geography") or ""
        )
        for one in page.get("value") or ()
    }
    return {name: geography for name, geography in found.items() if geography}
