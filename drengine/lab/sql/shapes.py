"""Documents of the lab rendered as the resources that ARM clients see.

The key sets follow recorded answers: what Azure leaves out is left out here too (a
service-managed key has no thumbprint, a protector never shows one).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drengine.lab.hsm import regions
from drengine.lab.places import region_key
from drengine.lab.sql import state
from drengine.lab.sql.names import place_of, time_text

if TYPE_CHECKING:
    from drengine.lab.store import Tx

Doc = dict[str, Any]

_MAINTENANCE = "/providers/Microsoft.Maintenance/publicMaintenanceConfigurations/SQL_Default"


def instance_body(tx: Tx, key: str, doc: Doc) -> Doc:
    """Return a managed instance."""
    place = place_of(doc["id"])
    linked = state.protector_key(tx, key, doc)
    properties = {
        "provisioningState": "Succeeded",
        "fullyQualifiedDomainName": doc["fqdn"],
        "administratorLogin": "contosoadmin",
        "subnetId": f"{place.path}/providers/Microsoft.Network/virtualNetworks/"
        f"vnet-{doc['name']}/subnets/ManagedInstance",
        "state": "Ready",
        "licenseType": "LicenseIncluded",
        "vCores": doc["sku"]["capacity"],
        "storageSizeInGB": 256,
        "collation": "SQL_Latin1_General_CP1_CI_AS",
        "dnsZone": doc["dns_zone"],
        "publicDataEndpointEnabled": False,
        "proxyOverride": "Redirect",
        "timezoneId": "UTC",
        "maintenanceConfigurationId": f"/subscriptions/{place.subscription}{_MAINTENANCE}",
        "privateEndpointConnections": [],
        "minimalTlsVersion": "1.2",
        "currentBackupStorageRedundancy": "Geo",
        "requestedBackupStorageRedundancy": "Geo",
        "zoneRedundant": False,
    }
    if linked is not None:
        properties["keyId"] = linked["uri"]
    if doc["identity"].get("primary"):
        properties["primaryUserAssignedIdentityId"] = doc["identity"]["primary"]
    return {
        "identity": _identity(tx, doc["identity"]),
        "sku": doc["sku"],
        "properties": properties,
        "location": doc["location"],
        "tags": doc["tags"],
        "id": doc["id"],
        "name": doc["name"],
        "type": "Microsoft.Sql/managedInstances",
    }


def _identity(tx: Tx, identity: Doc) -> Doc:
    body: Doc = {"type": identity["type"], "tenantId": identity["tenant"]}
    if identity.get("principal_id"):
        body = {"principalId": identity["principal_id"], **body}
    if identity.get("user_assigned"):
        body["userAssignedIdentities"] = {
            name: _user_assigned(tx, name) for name in identity["user_assigned"]
        }
    return body


def _user_assigned(tx: Tx, name: str) -> Doc:
    held = tx.get("arm.identity", name.lower()) or {}
    return {"principalId": held.get("principalId"), "clientId": held.get("clientId")}


def key_body(instance_doc: Doc, doc: Doc) -> Doc:
    """Return a linked key."""
    return {
        "kind": "azurekeyvault",
        "properties": {
            "serverKeyType": state.VAULT_KEY,
            "uri": doc["uri"],
            "thumbprint": doc["thumbprint"],
            "creationDate": time_text(doc["created_ms"]),
            "autoRotationEnabled": False,
        },
        "id": f"{instance_doc['id']}/keys/{doc['name']}",
        "name": doc["name"],
        "type": "Microsoft.Sql/managedInstances/keys",
    }


def service_key_body(instance_doc: Doc) -> Doc:
    """Return the service-managed key, which every instance lists."""
    return {
        "kind": "servicemanaged",
        "properties": {"serverKeyType": state.SERVICE_MANAGED, "autoRotationEnabled": False},
        "id": f"{instance_doc['id']}/keys/{state.SERVICE_MANAGED}",
        "name": state.SERVICE_MANAGED,
        "type": "Microsoft.Sql/managedInstances/keys",
    }


def protector_body(tx: Tx, key: str, doc: Doc) -> Doc:
    """Return the encryption protector."""
    protector = doc["protector"]
    properties = {"serverKeyName": protector["name"], "serverKeyType": protector["type"]}
    linked = state.protector_key(tx, key, doc)
    if linked is not None:
        properties["uri"] = linked["uri"]
    return {
        "kind": protector["type"].lower(),
        "properties": {**properties, "autoRotationEnabled": protector["auto_rotation"]},
        "id": f"{doc['id']}/encryptionProtector/current",
        "name": "current",
        "type": "Microsoft.Sql/managedInstances/encryptionProtector",
    }


def database_body(instance_doc: Doc, doc: Doc) -> Doc:
    """Return a database; an inaccessible one says why."""
    properties: Doc = {
        "collation": "SQL_Latin1_General_CP1_CI_AS",
        "status": doc["status"],
        "creationDate": time_text(doc["created_ms"]),
        "earliestRestorePoint": time_text(int(doc.get("restorable_ms") or doc["created_ms"])),
        "isLedgerOn": False,
    }
    found = doc["inaccessible"]
    if found:
        properties["extendedAccessibilityInfo"] = {
            "inaccessibilityReasonErrorCode": found["code"],
            "inaccessibilityReasonDescription": found["message"],
            "inaccessibilityReasonKind": "TransparentDataEncryption",
            "inaccessibilityReasonTdeKeyUri": found["uri"],
        }
    return {
        "properties": properties,
        "location": instance_doc["location"],
        "tags": {},
        "id": f"{instance_doc['id']}/databases/{doc['name']}",
        "name": doc["name"],
        "type": "Microsoft.Sql/managedInstances/databases",
    }


def group_body(tx: Tx, doc: Doc, member: str) -> Doc:
    """Return a failover group as the region of one member sees it."""
    here = state.instance(tx, member)
    is_primary = member == doc["primary"]
    other = state.instance(tx, doc["secondary"] if is_primary else doc["primary"])
    apart = any(regions.is_down(tx, one["location"]) for one in (here, other))
    pair = [state.instance(tx, doc[role])["id"] for role in ("primary", "secondary")]
    place = place_of(here["id"])
    return {
        "properties": {
            "readWriteEndpoint": doc["read_write"],
            "readOnlyEndpoint": doc["read_only"],
            "replicationRole": "Primary" if is_primary else "Secondary",
            "replicationState": "SUSPENDED" if apart else "CATCH_UP",
            "partnerRegions": [
                {
                    "location": region_key(other["location"]),
                    "replicationRole": "Secondary" if is_primary else "Primary",
                }
            ],
            "managedInstancePairs": [
                {"primaryManagedInstanceId": pair[0], "partnerManagedInstanceId": pair[1]}
            ],
        },
        "id": place.group_id(here["location"], doc["name"]),
        "name": doc["name"],
        "type": "Microsoft.Sql/locations/instanceFailoverGroups",
    }


def operation_body(instance_doc: Doc, doc: Doc, now_ms: int) -> Doc:
    """Return a row of an instance's operation history."""
    ended = doc["end_ms"] is not None
    span = max(1, doc["due_ms"] - doc["start_ms"])
    percent = 100 if ended else min(99, max(0, (now_ms - doc["start_ms"]) * 100 // span))
    properties: Doc = {
        "managedInstanceName": instance_doc["name"],
        "operation": doc["operation"],
        "operationFriendlyName": doc["operation"],
        "percentComplete": percent,
        "startTime": time_text(doc["start_ms"]),
        "state": doc["status"],
        "isUserError": doc["error"] is not None,
        "isCancellable": False,
    }
    if doc["error"]:
        properties["errorDescription"] = doc["error"]["message"]
        properties["errorSeverity"] = 16
        properties["operationParameters"] = {"errorCode": doc["error"]["code"]}
    return {
        "properties": properties,
        "id": f"{instance_doc['id']}/operations/{doc['guid']}",
        "name": doc["guid"],
        "type": "Microsoft.Sql/managedInstances/operations",
    }
