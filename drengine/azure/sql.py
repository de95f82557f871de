"""SQL Managed Instances through the resource manager, in plain requests.

The requests go through the same authenticated pipeline as every other; azure-mgmt-sql is
not used: loading it takes a quarter of a second, and its models take longer than the
requests. Instances are named by their full resource ids. Documents are read leniently: what
a service leaves out is empty here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from azure.core.rest import HttpRequest

from drengine.azure.answers import Answer
from drengine.azure.arm import ArmDocuments
from drengine.azure.hsms import arm_operation, part_of_id, posted_operation
from drengine.azure.operations import Sender
from drengine.azure.pipeline import Pipeline
from drengine.errors import AzureError, UnknownOutcome
from drengine.model.cloud import (
    Database,
    FailoverGroup,
    Instance,
    InstanceKey,
    Operation,
    Protector,
)
from drengine.model.ids import region_key
from drengine.model.together import together

API_VERSION: Final = "2025-01-01"
VAULT_KEY: Final = "AzureKeyVault"  # of a Managed HSM too: there is no other word
_OK: Final = 200
_ABSENT: Final = frozenset(
    {
        *("ResourceNotFound", "ResourceGroupNotFound", "NotFound"),
        *("ServerNotInSubscriptionResourceGroup", "SubscriptionDoesNotHaveServer"),
    }
)
"""Codes of a 404 that say that an instance is not there."""

_UNREGISTERED: Final = frozenset({"MissingSubscriptionRegistration", "SubscriptionNotRegistered"})
_UNFINISHED: Final = frozenset({"pending", "inprogress", "cancelinprogress"})


class ArmSqlInstances:
    """`ports.SqlInstances` for one subscription.

    Parameters:
        resource_manager: returns the client for the resource manager.
    """

    def __init__(
        self, pipeline: Pipeline, subscription: str, resource_manager: Callable[[], Sender]
    ) -> None:
        self._pipeline = pipeline
        self._subscription = subscription
        self._resource_manager = resource_manager
        self._documents = ArmDocuments(pipeline, resource_manager)

    async def instances(self) -> Sequence[Instance]:
        """Return every instance of the subscription."""
        path = f"/subscriptions/{self._subscription}/providers/Microsoft.Sql/managedInstances"
        try:
            found = await self._listed("listing the SQL managed instances", path)
        except AzureError as error:
            if error.service_code not in _UNREGISTERED:
                raise
            found = []  # a subscription that never registered the provider has none
        return sorted((instance_of(doc) for doc in found), key=lambda one: one.id.lower())

    async def get(self, instance: str) -> Instance | None:
        """Return one instance."""
        what = f"reading the instance {_name(instance)}"
        found = await self._documents.found(what, self._path(instance), API_VERSION, absent=_ABSENT)
        return None if found is None else instance_of(found)

    async def failover_groups(self, instances: Sequence[Instance]) -> Sequence[FailoverGroup]:
        """Return the groups seen from the group and region of each instance, each id once."""
        places = sorted({(one.resource_group, region_key(one.location)) for one in instances})
        listed = await together(*(self._groups_at(*place) for place in places))
        found = {str(doc.get("id", "")).lower(): group_of(doc) for docs in listed for doc in docs}
        return [found[key] for key in sorted(found)]

    async def _groups_at(self, group: str, location: str) -> list[dict[str, Any]]:
        return await self._listed(
            f"listing the failover groups of {group} in {location}",
            f"/subscriptions/{self._subscription}/resourceGroups/{quote(group)}"
            f"/providers/Microsoft.Sql/locations/{quote(location)}/instanceFailoverGroups",
        )

    async def keys(self, instance: str) -> Sequence[InstanceKey]:
        """Return the key rows."""
        found = await self._listed(
            f"listing the keys of the instance {_name(instance)}", f"{self._path(instance)}/keys"
        )
        return sorted((key_of(doc) for doc in found), key=lambda row: row.name.lower())

    async def protector(self, instance: str) -> Protector:
        """Return the current protector; thumbprint read from the key row where absent."""
        what = f"reading the protector of the instance {_name(instance)}"
        path = f"{self._path(instance)}/encryptionProtector/current"
        found = await self._documents.one(what, path, API_VERSION)
        protector = protector_of(found)
        if protector.thumbprint and protector.uri:
            return protector
        same = [
            row
            for row in await self.keys(instance)
            if row.name.lower() == protector.key_name.lower()
        ]
        row = same[0] if same else InstanceKey(protector.key_name, protector.type, "", "")
        return Protector(
            key_name=protector.key_name,
            type=protector.type,
            uri=protector.uri or row.uri,
            thumbprint=protector.thumbprint or row.thumbprint,
            auto_rotation=protector.auto_rotation,
        )

    async def databases(self, instance: str) -> Sequence[Database]:
        """Return all databases, inaccessible ones included, each once."""
        what = f"databases of the instance {_name(instance)}"
        path = self._path(instance)
        # an inaccessible database need not be in the first list; where it is in both, the
        # second knows why
        lists = await together(
            self._listed(f"listing the {what}", f"{path}/databases"),
            self._listed(
                f"listing the inaccessible {what}", f"{path}/inaccessibleManagedDatabases"
            ),
        )
        found = {
            str(doc.get("name", "")).lower(): database_of(doc) for docs in lists for doc in docs
        }
        return [found[name] for name in sorted(found)]

    async def busy(self, instance: str) -> Sequence[str]:
        """Return the names of operations in progress on the instance."""
        found = await self._listed(
            f"listing the operations of the instance {_name(instance)}",
            f"{self._path(instance)}/operations",
        )
        rows = [doc.get("properties") or {} for doc in found]
        return sorted(
            str(row.get("operation") or "")
            for row in rows
            if str(row.get("state") or "").lower() in _UNFINISHED
        )

    async def start_validate(self, instance: str, kid: str) -> Operation | None:
        """Ask the instance itself whether it can use the key; None where it answered at once.

        Raises:
            AzureError: transient, where nothing would ever tell what the instance found.
        """
        path = f"{self._path(instance)}/validateAzureKeyVaultEncryptionKey"
        what = f"asking the instance {_name(instance)} to try the key {kid}"
        answer = await self._sent(what, "POST", path, {"tdeKeyUri": kid})
        try:
            return _action(what, answer, instance)
        except UnknownOutcome as error:
            raise AzureError(
                f"{what}: accepted with {answer.status}, but the answer names no operation; whether"
                " the instance can use the key is not proven, and nothing was changed",
                status=answer.status,
                transient=True,
            ) from error

    async def put_key(self, instance: str, key_name: str, kid: str) -> Operation:
        """Add a key row."""
        body = {"properties": {"serverKeyType": VAULT_KEY, "uri": kid}}
        what = f"adding the key {key_name} to the instance {_name(instance)}"
        answer = await self._sent(
            what, "PUT", f"{self._path(instance)}/keys/{quote(key_name)}", body
        )
        return self._operation(answer, f"{instance}/keys/{key_name}")

    async def put_protector(self, instance: str, key_name: str) -> Operation:
        """Make that key row the protector."""
        own = {
            "serverKeyName": key_name,
            "serverKeyType": VAULT_KEY,
            "autoRotationEnabled": False,
        }
        what = f"setting the protector of the instance {_name(instance)} to {key_name}"
        path = f"{self._path(instance)}/encryptionProtector/current"
        answer = await self._sent(what, "PUT", path, {"properties": own})
        return self._operation(answer, f"{instance}/encryptionProtector/current")

    async def start_reevaluate(self, instance: str) -> Operation | None:
        """Ask the instance to look at its inaccessible databases again."""
        path = f"{self._path(instance)}/reevaluateInaccessibleDatabaseState"
        what = f"asking the instance {_name(instance)} to look at its databases again"
        return _action(what, await self._sent(what, "POST", path, None), instance)

    async def _listed(self, what: str, path: str) -> list[dict[str, Any]]:
        return await self._documents.listed(what, path, API_VERSION)

    async def _sent(self, what: str, method: str, path: str, body: object) -> Answer:
        request = HttpRequest(method, self._documents.url(path, API_VERSION), json=body)
        return await self._pipeline.send(
            what, lambda: self._resource_manager().send_request(request)
        )

    def _path(self, instance: str) -> str:
        """Return an instance's path, made anew: in this session's subscription."""
        group = quote(part_of_id(instance, "resourceGroups"))
        return (
            f"/subscriptions/{self._subscription}/resourceGroups/{group}"
            f"/providers/Microsoft.Sql/managedInstances/{quote(_name(instance))}"
        )

    def _operation(self, answer: Answer, resource: str) -> Operation:
        return arm_operation(answer, resource, self._documents.url(resource, API_VERSION))


def _action(what: str, answer: Answer, instance: str) -> Operation | None:
    return None if answer.status == _OK else posted_operation(what, answer, instance)


def instance_of(doc: Mapping[str, Any]) -> Instance:
    """Return the facts of a managedInstances document."""
    own = doc.get("properties") or {}
    resource = str(doc.get("id", ""))
    return Instance(
        id=resource,
        name=str(doc.get("name", "")),
        resource_group=part_of_id(resource, "resourceGroups"),
        location=region_key(str(doc.get("location", ""))),
        state=str(own.get("state") or own.get("provisioningState") or ""),
        tier=str((doc.get("sku") or {}).get("tier") or ""),
        fqdn=str(own.get("fullyQualifiedDomainName") or ""),
        principals=_principals(doc),
    )


def _principals(doc: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the object ids of the instance's identities, the primary one first."""
    identity = doc.get("identity") or {}
    primary = str((doc.get("properties") or {}).get("primaryUserAssignedIdentityId") or "").lower()
    assigned = identity.get("userAssignedIdentities") or {}
    ordered = sorted(assigned, key=lambda name: (name.lower() != primary, name.lower()))
    found = [str((assigned[name] or {}).get("principalId") or "") for name in ordered]
    system = str(identity.get("principalId") or "")
    found = [*found, system] if primary else [system, *found]
    return tuple(one for one in found if one)


def key_of(doc: Mapping[str, Any]) -> InstanceKey:
    """Return the facts of a key row."""
    own = doc.get("properties") or {}
    return InstanceKey(
        name=str(doc.get("name", "")),
        type=str(own.get("serverKeyType") or ""),
        uri=str(own.get("uri") or ""),
        thumbprint=str(own.get("thumbprint") or "").upper(),
        created=str(own.get("creationDate") or ""),
    )


def protector_of(doc: Mapping[str, Any]) -> Protector:
    """Return the facts of an encryptionProtector document."""
    own = doc.get("properties") or {}
    return Protector(
        key_name=str(own.get("serverKeyName") or ""),
        type=str(own.get("serverKeyType") or ""),
        uri=str(own.get("uri") or ""),
        thumbprint=str(own.get("thumbprint") or "").upper(),
        auto_rotation=bool(own.get("autoRotationEnabled")),
    )


def database_of(doc: Mapping[str, Any]) -> Database:
    """Return the facts of a databases document."""
    own = doc.get("properties") or {}
    why = own.get("extendedAccessibilityInfo") or {}
    return Database(
        name=str(doc.get("name", "")),
        status=str(own.get("status") or ""),
        reason_code=str(why.get("inaccessibilityReasonErrorCode") or ""),
        reason=str(why.get("inaccessibilityReasonDescription") or ""),
        reason_kind=str(why.get("inaccessibilityReasonKind") or ""),
        reason_key=str(why.get("inaccessibilityReasonTdeKeyUri") or ""),
    )


def group_of(doc: Mapping[str, Any]) -> FailoverGroup:
    """Return the facts of an instanceFailoverGroups document, as its region sees it."""
    own = doc.get("properties") or {}
    resource = str(doc.get("id", ""))
    pair = (own.get("managedInstancePairs") or [{}])[0]
    partner = (own.get("partnerRegions") or [{}])[0]
    return FailoverGroup(
        id=resource,
        name=str(doc.get("name", "")),
        resource_group=part_of_id(resource, "resourceGroups"),
        location=region_key(part_of_id(resource, "locations")),
        role=str(own.get("replicationRole") or ""),
        state=str(own.get("replicationState") or ""),
        primary=str(pair.get("primaryManagedInstanceId") or ""),
        secondary=str(pair.get("partnerManagedInstanceId") or ""),
        partner_location=region_key(str(partner.get("location") or "")),
    )


def _name(instance: str) -> str:
    return part_of_id(instance, "managedInstances")
