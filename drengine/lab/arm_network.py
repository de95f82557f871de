"""The part of Microsoft.Network that private access to a HSM needs.

Virtual networks with subnets and peerings, private endpoints with their DNS zone groups,
private DNS zones with A records and links. A resource is what was put, with an id, a
state and, for endpoints, an address and a connection on its target. Packets, routes and
security rules are NOT simulated; `hsm.network` decides reachability from these documents.
"""

from __future__ import annotations

import ipaddress
import uuid
from typing import Any, Final

from drengine.lab.hsm.network import CONNECTION, RESOURCE, ZONES
from drengine.lab.hsm.state import retry_headers
from drengine.lab.store import Tx
from drengine.lab.wire import Call, LabFault, Response, Route, arm_fault, json_response

OPERATION: Final = "arm.network.operation"
_TYPES: Final = {
    name.lower(): name
    for name in (
        "virtualNetworks",
        "subnets",
        "virtualNetworkPeerings",
        "privateEndpoints",
        "privateDnsZoneGroups",
        "privateDnsZones",
        "virtualNetworkLinks",
        "A",
        "networkInterfaces",
    )
}
_FIRST_HOST: Final = 4
"""Azure keeps the first four addresses of a subnet."""


def _type_of(path: str) -> str:
    parts = path.split("/providers/Microsoft.Network/", 1)[1].split("/")
    return "/".join(_TYPES.get(one.lower(), one) for one in parts[::2])


def _document(call: Call) -> dict[str, Any]:
    found = call.tx.get(RESOURCE, call.request.path.lower())
    if found is None:
        kind, name = _type_of(call.request.path), call.request.path.rsplit("/", 1)[-1]
        raise LabFault(
            404,
            "ResourceNotFound" if "/" not in kind else "NotFound",
            f"The Resource 'Microsoft.Network/{kind}/{name}' was not found.",
        )
    return found


def _shown(tx: Tx, document: dict[str, Any]) -> dict[str, Any]:
    ready = tx.now_ms >= document["ready_ms"]
    properties = {
        "provisioningState": "Succeeded" if ready else "Updating",
        **document["properties"],
    }
    if document["type"].endswith("/virtualNetworks"):
        properties["subnets"] = _children(tx, document, "subnets")
        properties["virtualNetworkPeerings"] = _children(tx, document, "virtualNetworkPeerings")
    kept = ("name", "id", "etag", "type", "location", "tags")
    shown = {name: document[name] for name in kept if document.get(name) is not None}
    return {**shown, "properties": properties}


def _children(tx: Tx, document: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    prefix = f"{document['id'].lower()}/{kind.lower()}/"
    return [_shown(tx, one) for _, one in tx.find(RESOURCE, prefix)]


def _get(call: Call) -> Response:
    return json_response(200, _shown(call.tx, _document(call)))


def _list(call: Call) -> Response:
    head, _, kind = call.request.path.lower().rpartition("/")
    # a subscription's list goes over all resource groups
    prefix = head.partition("/providers/")[0] + "/"
    found = [
        _shown(call.tx, one)
        for key, one in call.tx.find(RESOURCE, prefix)
        if key.rpartition("/")[0].endswith(f"/{kind}")
        and (head.endswith("/microsoft.network") or key.startswith(f"{head}/{kind}/"))
    ]
    return json_response(200, {"value": found})


def put_resource(
    tx: Tx, path: str, body: dict[str, Any], *, ready_ms: int = 0
) -> tuple[dict[str, Any], bool]:
    """Write a resource and return its document and whether it is new."""
    old = tx.get(RESOURCE, path.lower())
    kind = _type_of(path)
    properties = {
        name: part
        for name, part in (body.get("properties") or {}).items()
        if name not in {"provisioningState", "subnets", "virtualNetworkPeerings"}
    }
    document = {
        "name": body.get("name") or path.rsplit("/", 1)[-1],
        "id": old["id"] if old else path,
        "etag": f'W/"{uuid.uuid4()}"',
        "type": f"Microsoft.Network/{kind}",
        "location": body.get("location"),
        "tags": body.get("tags"),
        "properties": properties,
        "ready_ms": ready_ms,
    }
    tx.put(RESOURCE, path.lower(), document)
    for child in ("subnets", "virtualNetworkPeerings"):
        for one in (body.get("properties") or {}).get(child) or ():
            put_resource(tx, f"{path}/{child}/{one['name']}", one)
    return document, old is None


def _put(call: Call) -> Response:
    path, body, kind = call.request.path, call.request.json_object(), _type_of(call.request.path)
    seconds = call.lab.settings.network_change if kind == "privateEndpoints" else 0
    ready_ms = call.tx.now_ms + int(seconds * 1000)
    document, is_new = put_resource(call.tx, path, body, ready_ms=ready_ms)
    if kind == "privateEndpoints":
        _connect(call.tx, document)
    elif kind == "privateEndpoints/privateDnsZoneGroups":
        _write_records(call.tx, document)
    elif kind == "privateDnsZones/A":
        document["properties"]["fqdn"] = f"{document['name']}.{path.split('/')[-3]}."
        document["properties"].setdefault("ttl", 3600)
    call.tx.put(RESOURCE, path.lower(), document)
    call.effect, call.target = "network.put", path
    headers = _operation(call, seconds) if seconds else {}
    return json_response(201 if is_new else 200, _shown(call.tx, document), headers)


def _delete(call: Call) -> Response:
    found = call.tx.get(RESOURCE, call.request.path.lower())
    if found is None:
        return Response(204)
    call.tx.delete(RESOURCE, call.request.path.lower())
    for key, _ in call.tx.find(RESOURCE, f"{call.request.path.lower()}/"):
        call.tx.delete(RESOURCE, key)
    for key, connection in call.tx.find(CONNECTION):
        if connection["endpoint"].lower() == call.request.path.lower():
            call.tx.put(CONNECTION, key, {**connection, "status": "Disconnected"})
    call.effect, call.target = "network.delete", call.request.path
    return Response(202, _operation(call, call.lab.settings.network_change))


def _operation(call: Call, seconds: float) -> dict[str, str]:
    guid = str(uuid.uuid4())
    call.tx.put(OPERATION, guid, {"due_ms": call.tx.now_ms + int(seconds * 1000)})
    subscription = call.request.path.split("/")[2]
    version = call.request.query.get("api-version", "2024-05-01")
    base = (
        f"https://{call.request.host}/subscriptions/{subscription}/providers/Microsoft.Network"
        "/locations/westeurope"
    )
    found = {"azure-asyncoperation": f"{base}/operations/{guid}?api-version={version}"}
    if call.request.method == "DELETE":
        found["location"] = f"{base}/operationResults/{guid}?api-version={version}"
    return {**found, **retry_headers(call)}


def _poll(call: Call) -> Response:
    found = call.tx.get(OPERATION, call.match["guid"].lower())
    if found is None:
        raise LabFault(404, "OperationNotFound", "There is no such operation.")
    running = call.tx.now_ms < found["due_ms"]
    if call.match["kind"].lower() == "operationresults":
        return Response(202 if running else 204, retry_headers(call))
    word = "InProgress" if running else "Succeeded"
    return json_response(200, {"status": word}, retry_headers(call))


def _connect(tx: Tx, document: dict[str, Any]) -> None:
    """Give an endpoint its address and write its connections on the targets."""
    properties = document["properties"]
    subnet = str((properties.get("subnet") or {}).get("id", ""))
    for member, status in (
        ("privateLinkServiceConnections", "Approved"),
        ("manualPrivateLinkServiceConnections", "Pending"),
    ):
        connections = properties.setdefault(member, [])
        for one in connections:
            wanted = one.setdefault("properties", {})
            one["etag"] = document["etag"]
            one["id"] = f"{document['id']}/privateLinkServiceConnections/{one['name']}"
            one["type"] = "Microsoft.Network/privateEndpoints/privateLinkServiceConnections"
            wanted["provisioningState"] = "Succeeded"
            text = "Auto Approved" if status == "Approved" else "Awaiting approval"
            wanted["privateLinkServiceConnectionState"] = {
                "status": status,
                "description": text,
                "actionsRequired": "None",
            }
            _connect_one(tx, document, one, subnet, status)
    properties.setdefault("customNetworkInterfaceName", "")
    properties.setdefault("ipConfigurations", [])
    properties["resourceGuid"] = str(uuid.uuid5(uuid.NAMESPACE_URL, document["id"].lower()))
    card = f"{document['id'].rsplit('/privateEndpoints/', 1)[0]}/networkInterfaces"
    properties["networkInterfaces"] = [{"id": f"{card}/{document['name']}.nic"}]


def _connect_one(
    tx: Tx, document: dict[str, Any], one: dict[str, Any], subnet: str, status: str
) -> None:
    target = str(one["properties"].get("privateLinkServiceId", ""))
    owner = _owner(tx, target)
    if owner is None:
        raise LabFault(
            400, "InvalidResourceReference", f"Resource {target} referenced by it was not found."
        )
    key = f"{target.lower()}/{one['name'].lower()}"
    old = tx.get(CONNECTION, key)
    connection = {
        "name": one["name"],
        "target": target,
        "endpoint": document["id"],
        "network": subnet.lower().partition("/subnets/")[0],
        "address": old["address"] if old else _free_address(tx, subnet),
        "status": old["status"] if old else status,
        "description": "",
        "etag": None,
        "location": owner,
        "ready_ms": document["ready_ms"],
    }
    tx.put(CONNECTION, key, connection)
    host = _host(target)
    document["properties"]["customDnsConfigs"] = [
        {"fqdn": host, "ipAddresses": [connection["address"]]}
    ]


def _owner(tx: Tx, target: str) -> str | None:
    for kind in ("arm.hsm", "arm.vault"):
        found = tx.get(kind, target.lower())
        if found is not None:
            return str(found["resource"]["location"])
    return None


def _host(target: str) -> str:
    zone = "managedhsm" if "/managedhsms/" in target.lower() else "vault"
    return f"{target.rsplit('/', 1)[-1].lower()}.{zone}.azure.net"


def _free_address(tx: Tx, subnet: str) -> str:
    found = tx.get(RESOURCE, subnet.lower()) or {"properties": {}}
    prefix = (
        found["properties"].get("addressPrefix")
        or (found["properties"].get("addressPrefixes") or ["10.0.0.0/24"])[0]
    )
    taken = {one["address"] for _, one in tx.find(CONNECTION)}
    for number, address in enumerate(ipaddress.ip_network(prefix, strict=False)):
        if number >= _FIRST_HOST and str(address) not in taken:
            return str(address)
    raise LabFault(409, "SubnetIsFull", f"The subnet {subnet} has no free address.")


def _write_records(tx: Tx, group: dict[str, Any]) -> None:
    """Write the A records that a zone group of an endpoint keeps in its zones."""
    endpoint = group["id"].lower().partition("/privatednszonegroups/")[0]
    zones = [
        str(one["properties"]["privateDnsZoneId"])
        for one in group["properties"].get("privateDnsZoneConfigs") or ()
    ]
    for _, connection in tx.find(CONNECTION):
        if connection["endpoint"].lower() != endpoint:
            continue
        name, _, domain = _host(connection["target"]).partition(".")
        for zone in zones:
            if zone.lower().endswith(ZONES[domain]):
                record = {"aRecords": [{"ipv4Address": connection["address"]}], "ttl": 10}
                put_resource(tx, f"{zone}/A/{name}", {"properties": record})


def _interface(call: Call) -> Response:
    """Answer the network card of an endpoint, which clients read for the address."""
    name = call.request.path.rsplit("/", 1)[-1].removesuffix(".nic")
    endpoint = call.request.path.rsplit("/networkInterfaces/", 1)[0] + f"/privateEndpoints/{name}"
    found = [
        one for _, one in call.tx.find(CONNECTION) if one["endpoint"].lower() == endpoint.lower()
    ]
    configurations = [
        {
            "name": f"ip-{number}",
            "properties": {
                "privateIPAddress": one["address"],
                "privateLinkConnectionProperties": {
                    "groupId": "managedhsm",
                    "requiredMemberName": "default",
                    "fqdns": [_host(one["target"])],
                },
            },
        }
        for number, one in enumerate(found)
    ]
    return json_response(
        200,
        {
            "name": f"{name}.nic",
            "id": call.request.path,
            "type": "Microsoft.Network/networkInterfaces",
            "properties": {"provisioningState": "Succeeded", "ipConfigurations": configurations},
        },
    )


_SUBSCRIPTION: Final = "/subscriptions/[^/]+"
_PROVIDER: Final = "/providers/Microsoft\\.Network"
_TOP: Final = "(virtualNetworks|privateEndpoints|privateDnsZones)"
_CHILD: Final = "(subnets|virtualNetworkPeerings|privateDnsZoneGroups|virtualNetworkLinks|A)"
_GROUP: Final = f"{_SUBSCRIPTION}/resourceGroups/[^/]+{_PROVIDER}"
_ONE: Final = f"{_GROUP}/{_TOP}/[^/]+(/{_CHILD}/[^/]+)?"
_MANY: Final = f"({_GROUP}/{_TOP}(/[^/]+/{_CHILD})?|{_SUBSCRIPTION}{_PROVIDER}/{_TOP})"
_POLLS: Final = (
    f"{_SUBSCRIPTION}{_PROVIDER}/locations/[^/]+"
    "/(?P<kind>operations|operationResults)/(?P<guid>[0-9a-f-]{36})"
)
ROUTES: Final[tuple[Route, ...]] = tuple(
    Route("management\\.azure\\.com", method, path, handler, "arm", arm_fault)
    for method, path, handler in (
        ("GET", _POLLS, _poll),
        ("GET", f"{_GROUP}/networkInterfaces/[^/]+", _interface),
        ("GET", _MANY, _list),
        ("GET", _ONE, _get),
        ("PUT", _ONE, _put),
        ("DELETE", _ONE, _delete),
    )
)
