"""The documents of SQL Managed Instance and how to reach them.

Kinds: `arm.mi`, `arm.mi.key`, `arm.mi.database` by lower-case resource id, `arm.fog` by
lower-case id of the view that created it, `sql.fqdn` from host name to instance.

Rules:
- an instance's children have keys that begin with the instance's key and a slash;
- the service-managed key has no document: every instance has it.
"""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING, Any, Final

from drengine.lab.places import region_key
from drengine.lab.sql.faults import fault
from drengine.lab.sql.keycalls import Caller
from drengine.lab.sql.names import PROVIDER, place_of

if TYPE_CHECKING:
    from drengine.lab.store import Tx
    from drengine.lab.wire import Call, LabFault

INSTANCES: Final = "arm.mi"
KEYS: Final = "arm.mi.key"
DATABASES: Final = "arm.mi.database"
GROUPS: Final = "arm.fog"
HOSTS: Final = "sql.fqdn"
SERVICE_KEYS: Final = "sql.service-key"
SERVICE_MANAGED: Final = "ServiceManaged"
VAULT_KEY: Final = "AzureKeyVault"

Doc = dict[str, Any]


def not_found(kind: str, name: str) -> LabFault:
    """Return the 404 for a resource that does not exist."""
    return fault("ResourceNotFound", type=f"Microsoft.Sql/{kind}", name=name)


def called_instance(call: Call) -> tuple[str, Doc]:
    """Return key and document of the instance that a request's path names.

    Raises:
        LabFault: 404 ResourceNotFound.
    """
    part = call.match
    key = (
        f"/subscriptions/{part['sub']}/resourceGroups/{part['rg']}"
        f"{PROVIDER}/managedInstances/{part['mi']}"
    ).lower()
    doc = call.tx.get(INSTANCES, key)
    if doc is None:
        raise not_found("managedInstances", part["mi"])
    return key, doc


def instance(tx: Tx, key: str) -> Doc:
    """Return the document of an instance that must exist."""
    doc = tx.get(INSTANCES, key)
    if doc is None:
        raise not_found("managedInstances", key.rsplit("/", 1)[-1])
    return doc


def databases(tx: Tx, instance_key: str) -> list[tuple[str, Doc]]:
    """Return the databases of an instance, by name."""
    return list(tx.find(DATABASES, f"{instance_key}/"))


def database_key(instance_key: str, name: str) -> str:
    """Return the document key of a database."""
    return f"{instance_key}/databases/{name.lower()}"


def linked_keys(tx: Tx, instance_key: str) -> list[tuple[str, Doc]]:
    """Return the keys that are linked to an instance and visible, by name."""
    rows = tx.find(KEYS, f"{instance_key}/")
    return [(key, doc) for key, doc in rows if doc["visible_ms"] <= tx.now_ms]


def key_key(instance_key: str, name: str) -> str:
    """Return the document key of a linked key."""
    return f"{instance_key}/keys/{name.lower()}"


def network_of(doc: Doc) -> str:
    """Return the id of the virtual network of an instance, lower-cased."""
    place = place_of(doc["id"])
    return f"{place.path}/providers/Microsoft.Network/virtualNetworks/vnet-{doc['name']}".lower()


def caller_of(tx: Tx, doc: Doc) -> Caller | None:
    """Return the identity with which an instance calls the HSM, None without one."""
    identity = doc["identity"]
    primary = identity.get("primary")
    principal = identity.get("principal_id")
    if primary:
        held = tx.get("arm.identity", primary.lower())
        principal = held["principalId"] if held else None
    if not principal:
        return None
    return Caller(doc["name"], principal, network_of(doc), doc["location"])


def protector_key(tx: Tx, instance_key: str, doc: Doc) -> Doc | None:
    """Return the linked key that is the protector, None when it is service-managed."""
    protector = doc["protector"]
    if protector["type"] == SERVICE_MANAGED:
        return None
    return tx.get(KEYS, key_key(instance_key, protector["name"]))


def service_key(tx: Tx, instance_key: str) -> str:
    """Return the instance's own key, making it when it is first needed."""
    held = tx.get(SERVICE_KEYS, instance_key)
    if held is None:
        held = {"value": base64.b64encode(secrets.token_bytes(32)).decode()}
        tx.put(SERVICE_KEYS, instance_key, held)
    return str(held["value"])


def group_of(tx: Tx, doc: Doc) -> tuple[str, Doc] | None:
    """Return the failover group of an instance, None when it stands alone."""
    key = doc.get("group")
    found = tx.get(GROUPS, key) if key else None
    return None if key is None or found is None else (key, found)


def find_group(
    tx: Tx, subscription: str, resource_group: str, location: str, name: str
) -> tuple[str, Doc, str] | None:
    """Return a failover group as one region sees it: key, document, member's key.

    A group exists in two regions, and in each under the resource group of its member.
    """
    for key, doc in tx.find(GROUPS):
        if doc["name"].lower() == name.lower():
            member = member_in(tx, doc, subscription, resource_group, location)
            if member is not None:
                return key, doc, member
    return None


def member_in(
    tx: Tx, group: Doc, subscription: str, resource_group: str, location: str
) -> str | None:
    """Return the key of a group's member in a region and resource group, None without one."""
    wanted = (subscription.lower(), resource_group.lower(), region_key(location))
    for member in (group["primary"], group["secondary"]):
        held = instance(tx, member)
        place = place_of(held["id"])
        found = (place.subscription.lower(), place.resource_group.lower())
        if (*found, region_key(held["location"])) == wanted:
            return str(member)
    return None


def role_of(tx: Tx, key: str, doc: Doc) -> str:
    """Return Primary, Secondary or Standalone."""
    group = group_of(tx, doc)
    if group is None:
        return "Standalone"
    return "Primary" if group[1]["primary"] == key else "Secondary"
