"""Role assignments of Resource Manager, as far as storage and vaults ask for them.

A handful of built-in roles exist. An assignment at a storage account gives its blob
roles at once; vaults ask `roles_at`. What the operator may do with Resource Manager
itself is not decided here: the operator may do everything.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from drengine.lab.blob import domain as blob
from drengine.lab.wire import Call, LabFault, Response, Route, arm_fault, json_response

if TYPE_CHECKING:
    from drengine.lab.store import Tx

ASSIGNMENT: Final = "arm.role"
KEY_VAULT_ADMINISTRATOR: Final = "00482a5a-887f-4fb3-b363-3b7fe8e74483"
KEY_VAULT_CRYPTO_OFFICER: Final = "14b46e9e-c2b7-41b4-b07b-48a6ebf60603"
KEY_VAULT_CRYPTO_USER: Final = "12338af0-0e69-4776-bea7-57ae8d297424"
KEY_VAULT_ENCRYPTION_USER: Final = "e147488a-f6f5-4113-8e2d-b22465e65bf6"
BLOB_ROLES: Final[dict[str, blob.RoleName]] = {
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe": "Storage Blob Data Contributor",
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
    "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1": "Storage Blob Data Reader",
}
ROLES: Final = {
    KEY_VAULT_ADMINISTRATOR: "Key Vault Administrator",
    KEY_VAULT_CRYPTO_OFFICER: "Key Vault Crypto Officer",
    KEY_VAULT_CRYPTO_USER: "Key Vault Crypto User",
    KEY_VAULT_ENCRYPTION_USER: "Key Vault Crypto Service Encryption User",
    **BLOB_ROLES,
}
_ROLE_NAME: Final = re.compile(r"(?i)roleName\s+eq\s+'([^']+)'")
_PRINCIPAL: Final = re.compile(r"(?i)(?:principalId|assignedTo)[\s(]+(?:eq\s+)?'([^']+)'")
_DEFINITIONS: Final = "/providers/Microsoft.Authorization/roleDefinitions"


def roles_at(tx: Tx, scope: str, principal: str) -> set[str]:
    """Return the roles of a principal at a scope or above it."""
    return {
        one["role"]
        for _, one in tx.find(ASSIGNMENT)
        if one["principal"] == principal.lower() and _covers(one["scope"], scope)
    }


def _covers(assigned: str, scope: str) -> bool:
    wide, narrow = assigned.lower().rstrip("/"), scope.lower()
    return narrow == wide or narrow.startswith(f"{wide}/")


def _definition(subscription: str, guid: str) -> dict[str, Any]:
    return {
        "id": f"/subscriptions/{subscription}{_DEFINITIONS}/{guid}",
        "name": guid,
        "type": "Microsoft.Authorization/roleDefinitions",
        "properties": {
            "roleName": ROLES[guid],
            "type": "BuiltInRole",
            "description": "",
            "assignableScopes": ["/"],
            "permissions": [
                {"actions": [], "notActions": [], "dataActions": [], "notDataActions": []}
            ],
        },
    }


def _subscription(call: Call) -> str:
    parts = call.request.path.split("/")
    return parts[2] if len(parts) > 2 and parts[1].lower() == "subscriptions" else ""  # noqa: PLR2004 - /subscriptions/ID


def _list_definitions(call: Call) -> Response:
    found = _ROLE_NAME.search(call.request.query.get("$filter", ""))
    wanted = [guid for guid, name in ROLES.items() if found is None or name == found[1]]
    subscription = _subscription(call)
    return json_response(200, {"value": [_definition(subscription, one) for one in wanted]})


def _get_definition(call: Call) -> Response:
    guid = call.match["name"].lower()
    if guid not in ROLES:
        raise LabFault(404, "RoleDefinitionDoesNotExist", f"The role '{guid}' does not exist.")
    return json_response(200, _definition(_subscription(call), guid))


def _shown(one: dict[str, Any]) -> dict[str, Any]:
    return {
        "properties": {
            "roleDefinitionId": one["definition"],
            "principalId": one["principal"],
            "principalType": "ServicePrincipal",
            "scope": one["scope"],
            "condition": None,
            "conditionVersion": None,
        },
        "id": f"{one['scope']}/providers/Microsoft.Authorization/roleAssignments/{one['name']}",
        "type": "Microsoft.Authorization/roleAssignments",
        "name": one["name"],
    }


def _scope(call: Call) -> str:
    return call.request.path[: call.match.start("tail")] or "/"


def _put(call: Call) -> Response:
    properties = call.request.json_object().get("properties") or {}
    definition = str(properties.get("roleDefinitionId") or "")
    role, scope = definition.rsplit("/", 1)[-1].lower(), _scope(call)
    if role not in ROLES:
        raise LabFault(
            404, "RoleDefinitionDoesNotExist", f"The specified role '{role}' does not exist."
        )
    document = {
        "name": call.match["name"].lower(),
        "role": role,
        "definition": definition,
        "principal": str(properties.get("principalId") or "").lower(),
        "scope": scope,
    }
    for _, one in call.tx.find(ASSIGNMENT):
        if all(
            one[part].lower() == document[part].lower() for part in ("role", "principal", "scope")
        ):
            raise LabFault(409, "RoleAssignmentExists", "The role assignment already exists.")
    call.tx.put(ASSIGNMENT, document["name"], document)
    account = call.tx.get("arm.storage", scope.lower())
    if account is not None and role in BLOB_ROLES:
        blob.grant_role(call.tx, account["name"], document["principal"], BLOB_ROLES[role])
    call.effect, call.target = "arm.role.assign", f"{scope} {document['principal']}"
    return json_response(201, _shown(document))


def _list(call: Call) -> Response:
    scope = _scope(call)
    wanted = _PRINCIPAL.search(call.request.query.get("$filter", ""))
    found = [
        _shown(one)
        for _, one in call.tx.find(ASSIGNMENT)
        if (_covers(one["scope"], scope) or _covers(scope, one["scope"]))
        and (wanted is None or one["principal"] == wanted[1].lower())
    ]
    return json_response(200, {"value": found})


def _delete(call: Call) -> Response:
    found = call.tx.get(ASSIGNMENT, call.match["name"].lower())
    if found is None:
        return Response(204)
    call.tx.delete(ASSIGNMENT, found["name"])
    account = call.tx.get("arm.storage", found["scope"].lower())
    if account is not None and found["role"] in BLOB_ROLES:
        blob.revoke_roles(call.tx, account["name"], found["principal"])
    call.effect, call.target = "arm.role.delete", f"{found['scope']} {found['principal']}"
    return json_response(200, _shown(found))


_AUTHORIZATION: Final = "(/subscriptions/.*)?(?P<tail>/providers/Microsoft\\.Authorization"
_NAME: Final = "/(?P<name>[0-9a-f-]{36})"
ROUTES: Final[tuple[Route, ...]] = tuple(
    Route("management\\.azure\\.com", method, f"{_AUTHORIZATION}{path})", handler, "arm", arm_fault)
    for method, path, handler in (
        ("GET", "/roleDefinitions", _list_definitions),
        ("GET", "/roleDefinitions" + _NAME, _get_definition),
        ("GET", "/roleAssignments", _list),
        ("PUT", "/roleAssignments" + _NAME, _put),
        ("DELETE", "/roleAssignments" + _NAME, _delete),
    )
)
