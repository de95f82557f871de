"""Builds the SQL side of an estate: instances, linked keys, databases, failover groups.

Runs after the source HSM and its keys exist, in the process that holds the store. The
keys of databases are wrapped here with the public part of the HSM's key, which is what
`wrapkey` with RSA-OAEP-256 computes; from then on everything goes through the HSM.

Rules:
- the recovery level of the source HSM's keys is not checked, as for keys that were
  linked before Azure began to check it;
- every version of an instance's key is linked, the newest is the protector;
- a group's instances link the same keys, and the secondary has replicas.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

from drengine.lab import arm_network
from drengine.lab.places import region_key
from drengine.lab.spec import InstanceSpec
from drengine.lab.sql import cells, cycle, failover, keys, state
from drengine.lab.sql.faults import Refusal
from drengine.lab.sql.keycalls import KeyFacts
from drengine.lab.sql.names import (
    Place,
    dns_zone_of,
    parse_key_uri,
    place_of,
    principal_of,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import rsa

    from drengine.lab.spec import EstateSpec, GroupSpec
    from drengine.lab.store import Tx
    from drengine.lab.world import Lab

_SPREAD: Final = 97
"""Instances begin their check cycles at different times; any odd number does."""


def principal_ids(subscription: str, spec: EstateSpec) -> dict[str, str]:
    """Return the object id of each instance's identity, by the instance's name.

    Known before `build`, so that the HSM's role assignments can be made first.
    """
    names = [one.name for one in _all_instances(spec)]
    return {name: principal_of(subscription, name) for name in names}


def _all_instances(spec: EstateSpec) -> list[InstanceSpec]:
    found = list(spec.standalone)
    for group in spec.groups:
        found += [group.primary, _secondary(group)]
    return found


def _secondary(group: GroupSpec) -> InstanceSpec:
    return InstanceSpec(
        name=group.secondary_name,
        location=group.secondary_location,
        databases=(),
        key=group.primary.key,
    )


def build(lab: Lab, spec: EstateSpec) -> None:
    """Create the instances, keys, databases and groups of an estate.

    Raises:
        LookupError: the source HSM or one of the keys does not exist.
    """
    with lab.store.transaction() as tx:
        place = _place(tx, spec)
        for number, one in enumerate(_all_instances(spec)):
            own = Place(place.subscription, one.resource_group or place.resource_group)
            _build_instance(lab, tx, spec, own, one, number)
        for group in spec.groups:
            wanted = {
                "name": group.name,
                "primary": place.instance_id(group.primary.name).lower(),
                "secondary": place.instance_id(group.secondary_name).lower(),
                "read_write": {"failoverPolicy": "Manual"},
                "read_only": {"failoverPolicy": "Disabled"},
            }
            outcome = failover.create_group(tx, wanted)
            if isinstance(outcome, Refusal):
                raise LookupError(f"{group.name}: {outcome.message}")


def _place(tx: Tx, spec: EstateSpec) -> Place:
    hsm = tx.get("hsm", spec.source_hsm.lower())
    if hsm is None:
        raise LookupError(f"the source HSM {spec.source_hsm} does not exist")
    return Place(hsm["arm_id"].split("/")[2], spec.resource_group)


def _build_instance(
    lab: Lab, tx: Tx, spec: EstateSpec, place: Place, one: InstanceSpec, number: int
) -> None:
    principal = principal_of(place.subscription, one.name)
    zone = dns_zone_of(place.subscription, one.location)
    resource_id = place.instance_id(one.name)
    key = resource_id.lower()
    doc: state.Doc = {
        "id": resource_id,
        "name": one.name,
        "location": region_key(one.location),
        "dns_zone": zone,
        "fqdn": f"{one.name}.{zone}.database.windows.net",
        "system_principal": principal,
        "identity": {
            "type": "SystemAssigned",
            "tenant": lab.tenant,
            "principal_id": principal,
            "user_assigned": [],
            "primary": None,
        },
        "sku": {"name": "GP_Gen5", "tier": "GeneralPurpose", "family": "Gen5", "capacity": 4},
        "tags": {},
        "group": None,
        "busy": False,
    }
    _remove_children(tx, key)
    if one.key:
        versions = _link_versions(tx, spec, key, one.key)
        facts, public = versions[-1]
        doc["protector"] = _protector(_server_key_name(facts.uri), state.VAULT_KEY)
        for name in one.databases:
            _build_database(tx, resource_id, name, facts, public)
    else:
        doc["protector"] = _protector(state.SERVICE_MANAGED, state.SERVICE_MANAGED)
    cycle_ms = int(lab.settings.check_cycle * 1000)
    cycle.start(tx, key, doc, tx.now_ms + cycle_ms // 2 + number * _SPREAD % max(1, cycle_ms // 2))
    _build_network(tx, doc, number)
    tx.put(state.INSTANCES, key, doc)
    tx.put(state.HOSTS, doc["fqdn"], {"instance": key})


def _protector(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "type": kind, "auto_rotation": False}


def _build_network(tx: Tx, doc: state.Doc, number: int) -> None:
    """Give an instance the virtual network that its resource names."""
    place = place_of(doc["id"])
    first = f"10.{number // 250 + 1}.{number % 250}"
    subnet = {"name": "ManagedInstance", "properties": {"addressPrefix": f"{first}.0/25"}}
    spare = {"name": "endpoints", "properties": {"addressPrefix": f"{first}.128/25"}}
    space = {"addressSpace": {"addressPrefixes": [f"{first}.0/24"]}, "subnets": [subnet, spare]}
    body = {"location": doc["location"], "tags": {}, "properties": space}
    path = f"{place.path}/providers/Microsoft.Network/virtualNetworks/vnet-{doc['name']}"
    arm_network.put_resource(tx, path, body)


def _remove_children(tx: Tx, instance_key: str) -> None:
    """Remove what a build that was killed has left; the HSM has other keys now."""
    for kind in (state.KEYS, state.DATABASES):
        for child, _ in tx.find(kind, f"{instance_key}/"):
            tx.delete(kind, child)


def _server_key_name(uri: str) -> str:
    parsed = parse_key_uri(uri)
    if parsed is None:
        raise LookupError(f"{uri} is no key identifier")
    return parsed.server_key_name


def _link_versions(
    tx: Tx, spec: EstateSpec, instance_key: str, name: str
) -> list[tuple[KeyFacts, rsa.RSAPublicKey]]:
    """Link every version of a key and return them, the newest last."""
    held = tx.get("hsm.key", f"{spec.source_hsm.lower()}/{name.lower()}")
    if held is None:
        raise LookupError(f"the source HSM {spec.source_hsm} has no key {name}")
    found = []
    for version in held["versions"]:
        public = cells.public_key(version["public"])
        uri = f"https://{spec.source_hsm}.managedhsm.azure.net/keys/{name}/{version['version']}"
        facts = KeyFacts(uri, uri, cells.thumbprint(public))
        keys.store_key(tx, instance_key, _server_key_name(uri), facts)
        found.append((facts, public))
    return found


def _build_database(
    tx: Tx, instance_id: str, name: str, facts: KeyFacts, public: rsa.RSAPublicKey
) -> None:
    dek = cells.new_dek()
    row = {
        "id": f"{instance_id}/databases/{name}",
        "name": name,
        "status": "Online",
        "created_ms": tx.now_ms,
        "wrapped": base64.b64encode(cells.wrap_locally(public, dek)).decode(),
        "key_uri": facts.resolved_uri,
        "thumbprint": facts.thumbprint,
        "rows": cells.new_rows(dek, name),
        "inaccessible": None,
    }
    tx.put(state.DATABASES, state.database_key(instance_id.lower(), name), row)


def describe(tx: Tx) -> dict[str, Any]:
    """Return `instances` and `failover_groups` as the lab's status document has them."""
    instances = []
    for key, doc in tx.find(state.INSTANCES):
        rows = state.databases(tx, key)
        instances.append(
            {
                "name": doc["name"],
                "resource_group": doc["id"].split("/")[4],
                "location": doc["location"],
                "role": state.role_of(tx, key, doc),
                "databases": [row["name"] for _, row in rows],
            }
        )
    groups = []
    for _, doc in tx.find(state.GROUPS):
        members = {role: state.instance(tx, doc[role]) for role in ("primary", "secondary")}
        groups.append(
            {
                "name": doc["name"],
                "resource_group": members["primary"]["id"].split("/")[4],
                **{role: member["name"] for role, member in members.items()},
                "locations": [member["location"] for member in members.values()],
            }
        )
    return {"instances": instances, "failover_groups": groups}
