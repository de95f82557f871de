"""The blob service's routes, its XML error envelope, and the ARM side of accounts.

A storage request is told apart by method, `restype` and `comp`, so three paths share
one handler that looks the operation up in a table.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

from drengine.lab.blob import blobs, containers, copying
from drengine.lab.blob.target import Target, open_target
from drengine.lab.wire import LabFault, Response, Route, arm_fault, json_response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from drengine.lab.wire import Call, Request

BLOB_HOST: Final = r"[a-z0-9-]+\.blob\.core\.windows\.net"
ARM_HOST: Final = r"management\.azure\.com"

_SERVICE: Final[Mapping[tuple[str, str, str], Callable[[Target], Response]]] = {
    ("GET", "", "list"): containers.list_containers,
    ("POST", "service", "userdelegationkey"): containers.user_delegation_key,
    ("GET", "service", "properties"): containers.service_properties,
    ("GET", "account", "properties"): containers.account_properties,
    ("HEAD", "account", "properties"): containers.account_properties,
}
_CONTAINER: Final[Mapping[tuple[str, str, str], Callable[[Target], Response]]] = {
    ("PUT", "container", ""): containers.create,
    ("GET", "container", ""): containers.properties,
    ("HEAD", "container", ""): containers.properties,
    ("DELETE", "container", ""): containers.delete,
    ("GET", "container", "list"): containers.list_blobs,
    ("PUT", "container", "metadata"): containers.set_metadata,
    ("PUT", "container", "lease"): containers.lease,
    ("GET", "container", "acl"): containers.get_acl,
    ("GET", "account", "properties"): containers.account_properties,
}
_BLOB: Final[Mapping[tuple[str, str, str], Callable[[Target], Response]]] = {
    ("PUT", "", ""): blobs.put_blob,
    ("PUT", "", "block"): blobs.put_block,
    ("PUT", "", "blocklist"): blobs.put_block_list,
    ("GET", "", "blocklist"): blobs.get_block_list,
    ("PUT", "", "appendblock"): blobs.append_block,
    ("PUT", "", "seal"): blobs.seal,
    ("PUT", "", "lease"): blobs.lease_blob,
    ("PUT", "", "metadata"): blobs.set_metadata,
    ("PUT", "", "properties"): blobs.set_properties,
    ("PUT", "", "immutabilitypolicies"): blobs.set_immutability,
    ("DELETE", "", "immutabilitypolicies"): blobs.delete_immutability,
    ("PUT", "", "legalhold"): blobs.set_legal_hold,
    ("GET", "", ""): blobs.get_blob,
    ("HEAD", "", ""): blobs.head_blob,
    ("GET", "", "metadata"): blobs.head_blob,
    ("DELETE", "", ""): blobs.delete_blob,
}


def blob_fault(fault: LabFault, request: Request) -> Response:
    """Render a fault the way blob storage does: a header and, with a body, XML."""
    headers = {"x-ms-error-code": fault.code, **_echo(request), **fault.headers}
    if fault.status == 401:  # noqa: PLR2004 - the one status that needs a challenge
        headers["www-authenticate"] = (
            "Bearer authorization_uri=https://login.microsoftonline.com/common/oauth2/authorize "
            "resource_id=https://storage.azure.com"
        )
    if request.method == "HEAD" or fault.status == 304:  # noqa: PLR2004 - has no body
        return Response(fault.status, headers)
    root = ET.Element("Error")
    ET.SubElement(root, "Code").text = fault.code
    ET.SubElement(root, "Message").text = fault.message
    headers["content-type"] = "application/xml"
    return Response(fault.status, headers, ET.tostring(root, "utf-8", xml_declaration=True))


def _echo(request: Request) -> dict[str, str]:
    version = request.headers.get("x-ms-version", "")
    return {"x-ms-version": version} if version else {}


def serve(call: Call) -> Response:
    """Answer one request to a storage account."""
    operation = _operation(call.request)
    answer = operation(open_target(call))
    return Response(answer.status, {**_echo(call.request), **answer.headers}, answer.body)


def _operation(request: Request) -> Callable[[Target], Response]:
    container, _, name = request.path.lstrip("/").partition("/")
    table = _BLOB if name else _CONTAINER if container else _SERVICE
    restype = request.query.get("restype", "").lower()
    comp = request.query.get("comp", "").lower()
    if name and request.method == "PUT" and "x-ms-copy-source" in request.headers and not comp:
        return copying.copy_blob
    found = table.get((request.method, restype, comp))
    if found is None:
        raise LabFault(
            405 if request.method not in ("GET", "HEAD", "PUT", "DELETE", "POST") else 400,
            "UnsupportedHttpVerb" if not (restype or comp) else "InvalidQueryParameterValue",
            f"The lab does not know {request.method} with restype={restype!r} comp={comp!r} here.",
        )
    return found


def show_account(call: Call) -> Response:
    """Answer GET of a storage account resource."""
    return json_response(200, _account_body(_arm_account(call)))


def list_accounts(call: Call) -> Response:
    """Answer the list of storage accounts of a subscription or resource group."""
    wanted = call.request.path.lower().split("/providers/", 1)[0] + "/"
    found = [doc for key, doc in call.tx.find("arm.storage") if key.startswith(wanted)]
    return json_response(200, {"value": [_account_body(doc) for doc in found]})


def list_keys(call: Call) -> Response:
    """Answer listKeys of a storage account."""
    doc = _arm_account(call)
    keys = (call.tx.get("storage.account", doc["name"].lower()) or {"keys": []})["keys"]
    created = _iso(doc["created_ms"])
    listed = [
        {
            "creationTime": created,
            "keyName": key["name"],
            "value": key["value"],
            "permissions": "FULL",
        }
        for key in keys
    ]
    return json_response(200, {"keys": listed})


def _arm_account(call: Call) -> dict[str, Any]:
    wanted = re.sub(r"/listKeys$", "", call.request.path, flags=re.IGNORECASE)
    doc = call.tx.get("arm.storage", wanted.lower())
    if doc is None:
        name = wanted.rsplit("/", 1)[-1]
        raise LabFault(
            404,
            "ResourceNotFound",
            f"The Resource 'Microsoft.Storage/storageAccounts/{name}' was not found.",
        )
    return doc


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")


def _account_body(doc: dict[str, Any]) -> dict[str, Any]:
    created = _iso(doc["created_ms"])
    return {
        "sku": {"name": "Standard_RAGRS", "tier": "Standard"},
        "kind": "StorageV2",
        "id": doc["id"],
        "name": doc["name"],
        "type": "Microsoft.Storage/storageAccounts",
        "location": doc["location"],
        "tags": {},
        "properties": {
            "creationTime": created,
            "primaryEndpoints": {"blob": f"https://{doc['name']}.blob.core.windows.net/"},
            "primaryLocation": doc["location"],
            "statusOfPrimary": "available",
            "provisioningState": "Succeeded",
            "supportsHttpsTrafficOnly": True,
            "minimumTlsVersion": "TLS1_2",
            "allowSharedKeyAccess": True,
        },
    }


_ACCOUNTS: Final = r"/subscriptions/[^/]+(/resourceGroups/[^/]+)?/providers/Microsoft\.Storage"
_ACCOUNT: Final = (
    r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Storage/storageAccounts/[^/]+"
)

ROUTES: Final[tuple[Route, ...]] = (
    *(
        Route(BLOB_HOST, method, r"/.*", serve, "storage", blob_fault)
        for method in ("GET", "HEAD", "PUT", "POST", "DELETE")
    ),
    Route(ARM_HOST, "GET", _ACCOUNT, show_account, "arm", arm_fault),
    Route(ARM_HOST, "POST", _ACCOUNT + "/listKeys", list_keys, "arm", arm_fault),
    Route(ARM_HOST, "GET", _ACCOUNTS + "/storageAccounts", list_accounts, "arm", arm_fault),
)
