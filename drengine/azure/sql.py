"""SQL Managed Instances through the resource manager, over azure-mgmt-sql.

The SDK builds the requests; its pollers are never used. Instances are named by their full
resource ids. Documents are read leniently: what a service leaves out is empty here.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from drengine.azure.answers import Answer
from drengine.azure.hsms import arm_operation, part_of_id
from drengine.azure.pipeline import Pipeline
from drengine.model.cloud import (
    Database,
    FailoverGroup,
    Instance,
    InstanceKey,
    Operation,
    Protector,
)

if TYPE_CHECKING:
    from azure.mgmt.sql.aio import SqlManagementClient

API_VERSION: Final = "2025-01-01"  # what azure-mgmt-sql 4.0 sends
VAULT_KEY: Final = "AzureKeyVault"  # of a Managed HSM too: there is no other word
_OK: Final = 200
_UNFINISHED: Final = frozenset({"pending", "inprogress", "cancelinprogress"})


class ArmSqlInstances:
    """`ports.SqlInstances` for one subscription."""

    def __init__(self, pipeline: Pipeline, subscription: str) -> None:
        self._pipeline = pipeline
        self._subscription = subscription
        self._made: SqlManagementClient | None = None

    async def instances(self) -> Sequence[Instance]:
        """Return every instance of the subscription."""
        found = await self._listed(
            "listing the SQL managed instances", self._client().managed_instances.list
        )
        return sorted((instance_of(doc) for doc in found), key=lambda one: one.id.lower())

    async def get(self, instance: str) -> Instance | None:
        """Return one instance."""
        found = await self._pipeline.find(
            f"reading the instance {_name(instance)}",
            lambda: self._client().managed_instances.get(*_place(instance)),
        )
        return None if found is None else instance_of(found.as_dict())

    async def failover_groups(self, instances: Sequence[Instance]) -> Sequence[FailoverGroup]:
        """Return the groups seen from the group and region of each instance, each id once."""
        places = sorted({(one.resource_group, _region(one.location)) for one in instances})
        found: dict[str, FailoverGroup] = {}
        for group, location in places:
            listed = await self._listed(
                f"listing the failover groups of {group} in {location}",
                lambda g=group, at=location: (  # type: ignore[misc]
                    self._client().instance_failover_groups.list_by_location(g, at)
                ),
            )
            found.update({str(doc.get("id", "")).lower(): group_of(doc) for doc in listed})
        return [found[key] for key in sorted(found)]

    async def keys(self, instance: str) -> Sequence[InstanceKey]:
        """Return the key rows."""
        found = await self._listed(
            f"listing the keys of the instance {_name(instance)}",
            lambda: self._client().managed_instance_keys.list_by_instance(*_place(instance)),
        )
        return sorted((key_of(doc) for doc in found), key=lambda row: row.name.lower())

    async def protector(self, instance: str) -> Protector:
        """Return the current protector; thumbprint read from the key row where absent."""
        found = await self._pipeline.read(
            f"reading the protector of the instance {_name(instance)}",
            lambda: self._client().managed_instance_encryption_protectors.get(
                *_place(instance), "current"
            ),
        )
        protector = protector_of(found.as_dict())
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
        client = self._client().managed_databases
        what = f"databases of the instance {_name(instance)}"
        listed = await self._listed(
            f"listing the {what}", lambda: client.list_by_instance(*_place(instance))
        )
        # an inaccessible database need not be in the first list; where it is in both, this
        # list knows why
        lost = await self._listed(
            f"listing the inaccessible {what}",
            lambda: client.list_inaccessible_by_instance(*_place(instance)),
        )
        found = {str(doc.get("name", "")).lower(): database_of(doc) for doc in (*listed, *lost)}
        return [found[name] for name in sorted(found)]

    async def busy(self, instance: str) -> Sequence[str]:
        """Return the names of operations in progress on the instance."""
        found = await self._listed(
            f"listing the operations of the instance {_name(instance)}",
            lambda: self._client().managed_instance_operations.list_by_managed_instance(
                *_place(instance)
            ),
        )
        rows = [doc.get("properties") or {} for doc in found]
        return sorted(
            str(row.get("operation") or "")
            for row in rows
            if str(row.get("state") or "").lower() in _UNFINISHED
        )

    async def start_validate(self, instance: str, kid: str) -> Operation | None:
        """Ask the instance itself whether it can use the key; None where it answered at once."""
        call = self._client().managed_instances.begin_validate_azure_key_vault_encryption_key
        answer = await self._pipeline.send(
            f"asking the instance {_name(instance)} to try the key {kid}",
            lambda: call(*_place(instance), {"tdeKeyUri": kid}, polling=False),
        )
        return None if answer.status == _OK else self._operation(answer, instance)

    async def put_key(self, instance: str, key_name: str, kid: str) -> Operation:
        """Add a key row."""
        body = {"properties": {"serverKeyType": VAULT_KEY, "uri": kid}}
        answer = await self._pipeline.send(
            f"adding the key {key_name} to the instance {_name(instance)}",
            lambda: self._client().managed_instance_keys.begin_create_or_update(
                *_place(instance), key_name, body, polling=False
            ),
        )
        return self._operation(answer, f"{instance}/keys/{key_name}")

    async def put_protector(self, instance: str, key_name: str) -> Operation:
        """Make that key row the protector."""
        own = {
            "serverKeyName": key_name,
            "serverKeyType": VAULT_KEY,
            "autoRotationEnabled": False,
        }
        call = self._client().managed_instance_encryption_protectors.begin_create_or_update
        answer = await self._pipeline.send(
            f"setting the protector of the instance {_name(instance)} to {key_name}",
            lambda: call(*_place(instance), "current", {"properties": own}, polling=False),
        )
        return self._operation(answer, f"{instance}/encryptionProtector/current")

    async def start_reevaluate(self, instance: str) -> Operation | None:
        """Ask the instance to look at its inaccessible databases again."""
        call = self._client().managed_instances.begin_reevaluate_inaccessible_database_state
        answer = await self._pipeline.send(
            f"asking the instance {_name(instance)} to look at its databases again",
            lambda: call(*_place(instance), polling=False),
        )
        return None if answer.status == _OK else self._operation(answer, instance)

    async def _listed(
        self, what: str, pages: Callable[[], AsyncIterable[Any]]
    ) -> list[dict[str, Any]]:
        async def listed() -> list[dict[str, Any]]:
            return [item.as_dict() async for item in pages()]

        return await self._pipeline.read(what, listed)

    def _operation(self, answer: Answer, resource: str) -> Operation:
        manager = self._pipeline.endpoints.resource_manager
        return arm_operation(answer, resource, f"{manager}{resource}?api-version={API_VERSION}")

    def _client(self) -> SqlManagementClient:
        if self._made is None:
            from azure.mgmt.sql.aio import (  # noqa: PLC0415 (251 ms, only where needed)
                SqlManagementClient,
            )

            self._made = SqlManagementClient(
                self._pipeline.credential,
                self._subscription,
                **self._pipeline.resource_manager_options(),
            )
        return self._made


def instance_of(doc: Mapping[str, Any]) -> Instance:
    """Return the facts of a managedInstances document."""
    own = doc.get("properties") or {}
    resource = str(doc.get("id", ""))
    return Instance(
        id=resource,
        name=str(doc.get("name", "")),
        resource_group=part_of_id(resource, "resourceGroups"),
        location=_region(str(doc.get("location", ""))),
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
        location=_region(part_of_id(resource, "locations")),
        role=str(own.get("replicationRole") or ""),
        state=str(own.get("replicationState") or ""),
        primary=str(pair.get("primaryManagedInstanceId") or ""),
        secondary=str(pair.get("partnerManagedInstanceId") or ""),
        partner_location=_region(str(partner.get("location") or "")),
    )


def _region(location: str) -> str:
    """Return a region the way request paths name it: `West Europe` is `westeurope`."""
    return location.replace(" ", "").lower()


def _name(instance: str) -> str:
    return part_of_id(instance, "managedInstances")


def _place(instance: str) -> tuple[str, str]:
    return part_of_id(instance, "resourceGroups"), _name(instance)
