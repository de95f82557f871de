"""Managed HSMs as Azure resources: the document, its wire form, creation and removal.

The transitions are plain functions on a transaction, so that requests, jobs, the estate
and disasters all use the same ones. HTTP is in `arm_hsm`.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Any, Final

from drengine.lab import arm_connections
from drengine.lab.hsm import keystore, operations, roles, state
from drengine.lab.wire import LabFault

if TYPE_CHECKING:
    from drengine.lab.store import Tx

HSM: Final = "arm.hsm"
DELETED: Final = "arm.hsm.deleted"
EXPIRE: Final = "arm.hsm.expire"
PROVIDER: Final = "Microsoft.KeyVault/managedHSMs"
NAME: Final = re.compile(r"[a-zA-Z][-a-zA-Z0-9]{1,22}[a-zA-Z0-9]")
DAY_MS: Final = 86_400_000
DEFAULT_RETENTION_DAYS: Final = 90
RETENTION_DAYS: Final = range(7, 91)
ALLOCATION_SHARE: Final = 0.28
"""How much of a creation goes by with allocating hardware (from one recorded creation)."""

_READY: Final = "The Managed HSM is provisioned and ready to use."
_ACTIVATION: Final = {
    "Unknown": "An unknown error has occurred. Please contact Microsoft Support.",
    "NotActivated": (
        "Your HSM has been provisioned, but cannot be used for cryptographic operations until it "
        "is activated. To activate the HSM, download the security domain."
    ),
    "Active": "Your HSM has been activated and can be used for cryptographic operations.",
}
_STATUS: Final = {
    "Updating": "Resource update in progress.",
    "Deleting": "Resource deletion in progress.",
    "Succeeded": _READY,
}


def timestamp(ms: int, *, fraction: bool = False) -> str:
    """Return a time the way Azure Resource Manager writes it."""
    moment = dt.datetime.fromtimestamp(ms / 1000, dt.UTC)
    tail = f".{moment.microsecond // 1000:03}Z" if fraction else "Z"
    return f"{moment:%Y-%m-%dT%H:%M:%S}{tail}"


def resource_id(subscription: str, group: str, name: str) -> str:
    """Return the resource id of a Managed HSM."""
    return f"/subscriptions/{subscription}/resourceGroups/{group}/providers/{PROVIDER}/{name}"


def create(
    tx: Tx,
    resource: dict[str, Any],
    *,
    who: str,
    reachable_ms: int,
    ready_ms: int,
    visible_ms: int = 0,
) -> dict[str, Any]:
    """Write a new HSM that is being provisioned and return its document.

    Parameters:
        resource: id, name, location and properties as `wanted_resource` makes them.
        who: object id of the caller.
        reachable_ms: when its data plane answers.
        ready_ms: when provisioning ends.
        visible_ms: when a GET begins to find it.
    """
    document = {
        "resource": resource,
        "created_ms": tx.now_ms,
        "ready_ms": ready_ms,
        "visible_ms": visible_ms,
        "modified_ms": tx.now_ms,
        "created_by": who,
        "modified_by": who,
        "state": "Provisioning",
    }
    name = resource["name"].lower()
    tx.put(HSM, resource["id"].lower(), document)
    tx.put(
        state.HSM,
        name,
        {
            "name": name,
            "display_name": resource["name"],
            "arm_id": resource["id"],
            "location": resource["location"],
            "phase": state.PROVISIONING,
            "reachable_ms": reachable_ms,
            "setting": "false",
        },
    )
    for principal in resource["properties"]["initialAdminObjectIds"]:
        roles.assign(
            tx, name, principal_id=principal, definition=roles.ADMINISTRATOR, immediate=True
        )
    return document


def wanted_resource(body: dict[str, Any], arm_id: str, tenant: str) -> dict[str, Any]:
    """Return a new HSM's resource from the body of its PUT.

    Raises:
        LabFault: something in it is missing or not allowed.
    """
    name = arm_id.rsplit("/", 1)[-1]
    if not NAME.fullmatch(name):
        raise LabFault(400, "400", f"The name '{name}' is not valid for a Managed HSM.")
    wanted = body.get("properties") or {}
    days = int(wanted.get("softDeleteRetentionInDays") or DEFAULT_RETENTION_DAYS)
    if days not in RETENTION_DAYS:
        raise LabFault(400, "400", "softDeleteRetentionInDays must be between 7 and 90.")
    admins = wanted.get("initialAdminObjectIds")
    if not isinstance(admins, list) or not admins or not body.get("location"):
        raise LabFault(400, "400", "location and initialAdminObjectIds are required.")
    sku = body.get("sku") or {"family": "B", "name": "Standard_B1"}
    resource = {
        "sku": {"family": sku.get("family", "B"), "name": sku.get("name", "Standard_B1")},
        "id": arm_id,
        "name": name,
        "type": PROVIDER,
        "location": str(body["location"]).replace(" ", "").lower(),
        "tags": body.get("tags") or {},
        "properties": {
            "tenantId": wanted.get("tenantId") or tenant,
            "hsmUri": f"https://{name}.{state.ZONE}/",
            "initialAdminObjectIds": [str(one) for one in admins],
            "enableSoftDelete": True,
            "softDeleteRetentionInDays": days,
            "enablePurgeProtection": bool(wanted.get("enablePurgeProtection")),
            "networkAcls": _network(wanted.get("networkAcls")),
            "publicNetworkAccess": wanted.get("publicNetworkAccess") or "Enabled",
            "regions": [],
        },
    }
    return with_identity(resource, body.get("identity"))


def _network(wanted: dict[str, Any] | None) -> dict[str, Any]:
    found = wanted or {}
    return {
        "bypass": found.get("bypass") or "AzureServices",
        "defaultAction": found.get("defaultAction") or "Allow",
        "ipRules": found.get("ipRules") or [],
        "virtualNetworkRules": found.get("virtualNetworkRules") or [],
    }


def with_identity(resource: dict[str, Any], identity: dict[str, Any] | None) -> dict[str, Any]:
    """Return the resource with the identity replaced; type None removes it."""
    rest = {name: part for name, part in resource.items() if name != "identity"}
    if identity is None or identity.get("type") in {None, "None"}:
        return rest
    if identity["type"] != "UserAssigned":
        raise LabFault(400, "400", "A Managed HSM takes user-assigned identities only.")
    attached: dict[str, dict[str, str]] = {
        one: {} for one in identity.get("userAssignedIdentities") or {}
    }
    return {"identity": {"type": "UserAssigned", "userAssignedIdentities": attached}, **rest}


def change(resource: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """Return the resource as a PUT or PATCH of an existing HSM leaves it.

    Raises:
        LabFault: the change is not allowed.
    """
    wanted, properties = body.get("properties") or {}, dict(resource["properties"])
    days = wanted.get("softDeleteRetentionInDays")
    if days is not None and int(days) != properties["softDeleteRetentionInDays"]:
        raise LabFault(400, "400", "softDeleteRetentionInDays cannot be changed.")
    if wanted.get("enablePurgeProtection") is False and properties["enablePurgeProtection"]:
        raise LabFault(400, "400", "enablePurgeProtection cannot be set to false.")
    if wanted.get("enablePurgeProtection"):
        properties["enablePurgeProtection"] = True
    if "networkAcls" in wanted:
        properties["networkAcls"] = _network(wanted["networkAcls"])
    if wanted.get("publicNetworkAccess"):
        properties["publicNetworkAccess"] = wanted["publicNetworkAccess"]
    changed = {**resource, "properties": properties}
    if body.get("tags") is not None:
        changed["tags"] = body["tags"]
    return with_identity(changed, body["identity"]) if body.get("identity") else changed


def render(tx: Tx, document: dict[str, Any]) -> dict[str, Any]:
    """Return the resource as a GET shows it now."""
    resource = document["resource"]
    hsm = tx.get(state.HSM, resource["name"].lower()) or {}
    provisioning, message = _provisioning(document, tx.now_ms)
    activation = _activation(hsm, tx.now_ms)
    properties = dict(resource["properties"])
    regions = properties.pop("regions")
    network = {"networkAcls": properties.pop("networkAcls")}
    connections = arm_connections.of_hsm(tx, resource["id"])
    if connections:
        network["privateEndpointConnections"] = connections
    network["publicNetworkAccess"] = properties.pop("publicNetworkAccess")
    system = {
        "createdBy": document["created_by"],
        "createdByType": "Application",
        "createdAt": timestamp(document["created_ms"], fraction=True),
        "lastModifiedBy": document["modified_by"],
        "lastModifiedByType": "Application",
        "lastModifiedAt": timestamp(document["modified_ms"], fraction=True),
    }
    shown = {name: part for name, part in resource.items() if name != "properties"}
    return {
        **shown,
        "systemData": system,
        "properties": {
            **properties,
            "provisioningState": provisioning,
            "statusMessage": message,
            **network,
            "regions": regions,
            "securityDomainProperties": {
                "activationStatus": activation,
                "activationStatusMessage": _ACTIVATION[activation],
            },
        },
    }


def _provisioning(document: dict[str, Any], now_ms: int) -> tuple[str, str]:
    found = document["state"]
    if found != "Provisioning":
        return found, _STATUS.get(found, _READY)
    whole = max(1, document["ready_ms"] - document["created_ms"])
    early = (now_ms - document["created_ms"]) / whole < ALLOCATION_SHARE
    doing = "Allocating hardware" if early else "Starting service"
    return found, f"Resource creation in progress. {doing}..."


def _activation(hsm: dict[str, Any], now_ms: int) -> str:
    phase = state.phase(hsm, now_ms) if hsm else state.PROVISIONING
    if phase == state.ACTIVE:
        return "Active"
    return "Unknown" if phase == state.PROVISIONING else "NotActivated"


def soft_delete(tx: Tx, document: dict[str, Any]) -> dict[str, Any]:
    """Move a HSM to the deleted ones and return the deleted document."""
    resource = document["resource"]
    name = resource["name"].lower()
    days = resource["properties"]["softDeleteRetentionInDays"]
    deleted = {**document, "deleted_ms": tx.now_ms, "purge_ms": tx.now_ms + days * DAY_MS}
    tx.delete(HSM, resource["id"].lower())
    tx.put(DELETED, name, deleted)
    hsm = tx.get(state.HSM, name)
    if hsm is not None:
        phase_before = state.phase(hsm, tx.now_ms)
        state.store(tx, {**hsm, "phase": state.DELETED, "phase_before": phase_before})
    tx.schedule(EXPIRE, {"name": name, "deleted_ms": tx.now_ms}, deleted["purge_ms"])
    return deleted


def recover(tx: Tx, name: str) -> dict[str, Any]:
    """Bring a soft-deleted HSM back and return its document."""
    deleted = tx.get(DELETED, name)
    if deleted is None:
        raise LabFault(404, "404", f"There is no deleted Managed HSM named '{name}'.")
    document = {key: part for key, part in deleted.items() if key not in {"deleted_ms", "purge_ms"}}
    document["state"] = "Succeeded"
    tx.delete(DELETED, name)
    tx.put(HSM, document["resource"]["id"].lower(), document)
    hsm = tx.get(state.HSM, name)
    if hsm is not None:
        hsm["phase"] = hsm.pop("phase_before")
        state.store(tx, hsm)
    return document


def purge(tx: Tx, name: str) -> None:
    """Destroy a soft-deleted HSM with all its keys; its name is free afterwards."""
    tx.delete(DELETED, name)
    tx.delete(state.HSM, name)
    tx.delete(state.DOMAIN, name)
    for kind in (
        keystore.KEY,
        keystore.DELETED_KEY,
        roles.ASSIGNMENT,
        roles.DEFINITION,
        operations.JOB_DOC,
    ):
        for key, _ in tx.find(kind, f"{name}/"):
            tx.delete(kind, key)


def render_deleted(subscription: str, deleted: dict[str, Any]) -> dict[str, Any]:
    """Return a deleted HSM as the list of deleted ones shows it."""
    resource = deleted["resource"]
    location, name = resource["location"], resource["name"]
    return {
        "id": (
            f"/subscriptions/{subscription}/providers/Microsoft.KeyVault/locations/{location}"
            f"/deletedManagedHSMs/{name}"
        ),
        "name": name,
        "type": "Microsoft.Keyvault/deletedManagedHSMs",  # the service writes it with a small v
        "properties": {
            "mhsmId": resource["id"],
            "location": location,
            "deletionDate": timestamp(deleted["deleted_ms"]),
            "scheduledPurgeDate": timestamp(deleted["purge_ms"]),
            "purgeProtectionEnabled": resource["properties"]["enablePurgeProtection"],
            "tags": resource["tags"],
        },
    }
