"""Managed HSMs through the resource manager, over azure-mgmt-keyvault.

The SDK builds the requests; what became of a changing one is told by the pipeline from
the answer itself. Pollers of the SDK are never used.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from drengine.azure.answers import Answer
from drengine.azure.pipeline import Pipeline
from drengine.errors import UnknownOutcome
from drengine.model.canonical import JsonObject
from drengine.model.cloud import (
    DeletedHsm,
    HsmResource,
    NameCheck,
    NewHsm,
    Operation,
    OperationKind,
)

if TYPE_CHECKING:
    from azure.mgmt.keyvault.aio import KeyVaultManagementClient

API_VERSION: Final = "2026-05-15"  # what azure-mgmt-keyvault 14.1 sends
_NO_GROUP: Final = "ResourceGroupNotFound"
_ABSENT: Final = frozenset({"ResourceNotFound", _NO_GROUP, "NotFound", "404"})
"""Codes of a 404 that say that a HSM is not there; the last two are its provider's own."""

_OPEN_NETWORK: Final[JsonObject] = {"bypass": "AzureServices", "defaultAction": "Allow"}


class ArmHsms:
    """`ports.ManagedHsms` for one subscription."""

    def __init__(self, pipeline: Pipeline, subscription: str) -> None:
        self._pipeline = pipeline
        self._subscription = subscription
        self._made: KeyVaultManagementClient | None = None

    async def get(self, resource_group: str, name: str) -> HsmResource | None:
        """Return the resource, None where it does not exist."""
        found = await self._pipeline.find(
            f"reading the Managed HSM {name}",
            lambda: self._client().managed_hsms.get(resource_group, name),
            absent=_ABSENT,
        )
        return None if found is None else hsm_resource(found.as_dict())

    async def find(self, name: str) -> HsmResource | None:
        """Return the resource of that name anywhere in the subscription."""

        async def listed() -> list[dict[str, Any]]:
            return [
                item.as_dict() async for item in self._client().managed_hsms.list_by_subscription()
            ]

        what = "listing the Managed HSMs of the subscription"
        found = await self._pipeline.read(what, listed, listing=True)
        same = [item for item in found if _is_named(item, name)]
        return hsm_resource(same[0]) if same else None

    async def has_group(self, resource_group: str) -> bool:
        """Whether the subscription has that resource group: the HSMs in it can be listed."""

        async def listed() -> list[object]:
            hsms = self._client().managed_hsms
            return [item async for item in hsms.list_by_resource_group(resource_group)]

        what = f"listing the Managed HSMs of the resource group {resource_group}"
        found = await self._pipeline.find(what, listed, absent={_NO_GROUP}, listing=True)
        return found is not None

    async def find_deleted(self, name: str) -> DeletedHsm | None:
        """Return the soft-deleted HSM of that name in the subscription."""

        async def listed() -> list[dict[str, Any]]:
            return [item.as_dict() async for item in self._client().managed_hsms.list_deleted()]

        what = "listing the soft-deleted Managed HSMs"
        found = await self._pipeline.read(what, listed, listing=True)
        same = [item for item in found if _is_named(item, name)]
        return deleted_hsm(same[0]) if same else None

    async def check_name(self, name: str) -> NameCheck:
        """Ask whether the name is free in the whole cloud."""
        found = await self._pipeline.read(
            f"asking whether the name {name} is free",
            lambda: self._client().managed_hsms.check_mhsm_name_availability({"name": name}),
            by_post=True,
        )
        doc = found.as_dict()
        return NameCheck(
            available=bool(doc.get("nameAvailable")),
            reason=str(doc.get("reason") or ""),
            message=str(doc.get("message") or ""),
        )

    async def create_hsm(self, new: NewHsm) -> Operation:
        """PUT the resource."""
        body: Any = hsm_body(new)  # the SDK takes JSON, which its types do not say
        return await self._start(
            f"creating the Managed HSM {new.name}",
            self._id(new.resource_group, new.name),
            lambda: self._client().managed_hsms.begin_create_or_update(
                new.resource_group, new.name, body, polling=False
            ),
        )

    async def start_update(self, resource_group: str, name: str, patch: JsonObject) -> Operation:
        """PATCH the resource with `patch` (`tags`, `identity`, `properties`)."""
        body: Any = dict(patch)
        return await self._start(
            f"updating the Managed HSM {name}",
            self._id(resource_group, name),
            lambda: self._client().managed_hsms.begin_update(
                resource_group, name, body, polling=False
            ),
        )

    async def start_delete(self, resource_group: str, name: str) -> Operation:
        """Soft-delete the resource."""
        return await self._start(
            f"deleting the Managed HSM {name}",
            self._id(resource_group, name),
            lambda: self._client().managed_hsms.begin_delete(resource_group, name, polling=False),
        )

    async def start_purge(self, location: str, name: str) -> Operation:
        """Purge the soft-deleted resource; refused under purge protection."""
        return await self._start(
            f"purging the deleted Managed HSM {name}",
            f"/subscriptions/{self._subscription}/providers/Microsoft.KeyVault/locations/"
            f"{location}/deletedManagedHSMs/{name}",
            lambda: self._client().managed_hsms.begin_purge_deleted(name, location, polling=False),
            by_post=True,
        )

    async def _start(
        self,
        what: str,
        resource: str,
        call: Callable[[], Awaitable[object]],
        *,
        by_post: bool = False,
    ) -> Operation:
        answer = await self._pipeline.send(what, call)
        if by_post:
            return posted_operation(what, answer, resource)
        fallback = (
            f"{self._pipeline.endpoints.resource_manager}{resource}?api-version={API_VERSION}"
        )
        return arm_operation(answer, resource, fallback)

    def _id(self, resource_group: str, name: str) -> str:
        return (
            f"/subscriptions/{self._subscription}/resourceGroups/{resource_group}"
            f"/providers/Microsoft.KeyVault/managedHSMs/{name}"
        )

    def _client(self) -> KeyVaultManagementClient:
        if self._made is None:
            from azure.mgmt.keyvault.aio import (  # noqa: PLC0415 (141 ms, only where needed)
                KeyVaultManagementClient,
            )

            self._made = KeyVaultManagementClient(
                self._pipeline.credential,
                self._subscription,
                **self._pipeline.resource_manager_options(),
            )
        return self._made


def arm_operation(answer: Answer, resource: str, resource_url: str) -> Operation:
    """Return the operation that the answer to a changing request names.

    Where it names none, the service was done at once or tells its state on the resource:
    the status URL is then the resource's own. That holds for a resource which was written or
    deleted, never for an action on one (`posted_operation`).
    """
    named = answer.status_url
    return Operation(
        kind=OperationKind.ARM,
        url=named or resource_url,
        job=named.partition("?")[0].rsplit("/", 1)[-1],
        resource=resource,
        request_id=answer.request_id,
        retry_after_ms=answer.retry_after_ms,
    )


def posted_operation(what: str, answer: Answer, resource: str) -> Operation:
    """Return the operation that the answer to an action on a resource names.

    The state of the resource says nothing about the action.

    Raises:
        UnknownOutcome: the answer names none.
    """
    if not answer.status_url:
        raise UnknownOutcome(
            f"{what}: accepted with {answer.status}, but the answer names no operation; it may "
            "run, and cannot be asked for",
            hint="nothing is sent again before the service was asked what is there: "
            "drengine resume",
        )
    return arm_operation(answer, resource, "")


def hsm_body(new: NewHsm) -> dict[str, Any]:
    """Return the body that creates `new`.

    Purge protection is sent only where it is wanted: the service takes no `false`.
    """
    properties: dict[str, Any] = {
        "tenantId": new.tenant,
        "initialAdminObjectIds": list(new.admins),
        "enableSoftDelete": True,
        "softDeleteRetentionInDays": new.soft_delete_days,
        "networkAcls": dict(new.network or _OPEN_NETWORK),
    }
    if new.purge_protection:
        properties["enablePurgeProtection"] = True
    body: dict[str, Any] = {
        "location": new.location,
        "sku": {"family": new.sku.rpartition("_")[2][:1], "name": new.sku},
        "tags": dict(new.tags),
        "properties": properties,
    }
    if new.identities:
        body["identity"] = {
            "type": "UserAssigned",
            "userAssignedIdentities": {identity: {} for identity in new.identities},
        }
    return body


def hsm_resource(doc: Mapping[str, Any]) -> HsmResource:
    """Return the facts of a managedHSMs document."""
    own = doc.get("properties") or {}
    domain = own.get("securityDomainProperties") or {}
    identities = (doc.get("identity") or {}).get("userAssignedIdentities") or {}
    return HsmResource(
        id=str(doc.get("id", "")),
        name=str(doc.get("name", "")),
        resource_group=part_of_id(str(doc.get("id", "")), "resourceGroups"),
        location=str(doc.get("location", "")),
        uri=str(own.get("hsmUri") or ""),
        provisioning_state=str(own.get("provisioningState") or ""),
        status_message=str(own.get("statusMessage") or ""),
        activation_status=str(domain.get("activationStatus") or ""),
        purge_protection=bool(own.get("enablePurgeProtection")),
        soft_delete_days=int(own.get("softDeleteRetentionInDays") or 0),
        tenant=str(own.get("tenantId") or ""),
        admins=tuple(str(admin) for admin in own.get("initialAdminObjectIds") or ()),
        identities=tuple(identities),
        tags=dict(doc.get("tags") or {}),
        network=dict(own.get("networkAcls") or {}),
        public_access=str(own.get("publicNetworkAccess") or "Enabled"),
        sku=str((doc.get("sku") or {}).get("name") or ""),
    )


def deleted_hsm(doc: Mapping[str, Any]) -> DeletedHsm:
    """Return the facts of a deletedManagedHSMs document."""
    own = doc.get("properties") or {}
    return DeletedHsm(
        name=str(doc.get("name", "")),
        location=str(own.get("location") or ""),
        deletion_date=str(own.get("deletionDate") or ""),
        scheduled_purge_date=str(own.get("scheduledPurgeDate") or ""),
        purge_protection=bool(own.get("purgeProtectionEnabled")),
        hsm_id=str(own.get("mhsmId") or ""),
    )


def part_of_id(resource_id: str, kind: str) -> str:
    """Return the segment after `kind` in a resource id; empty where there is none."""
    parts = resource_id.strip("/").split("/")
    lower = [part.lower() for part in parts]
    at = lower.index(kind.lower()) if kind.lower() in lower else len(parts)
    return parts[at + 1] if at + 1 < len(parts) else ""


def _is_named(doc: Mapping[str, Any], name: str) -> bool:
    return str(doc.get("name", "")).lower() == name.lower()
