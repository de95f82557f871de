"""The requests about role definitions and role assignments."""

from __future__ import annotations

import re
from typing import Any, Final

from drengine.lab.hsm import roles, state
from drengine.lab.wire import Call, LabFault, Response, Route, hsm_fault

_PRINCIPAL_FILTER: Final = re.compile(r"(?i)principalId\s+eq\s+'?([0-9a-f-]{36})'?")
_GUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UNKNOWN_ROLE: Final = "Unkown role definition"  # the service writes it so


def _scope(call: Call) -> str:
    return "/" + (call.match["scope"] or "").strip("/")


def definition_document(name: str, role: str, actions: list[str], **more: Any) -> dict[str, Any]:
    """Return a role definition in the shape of the wire."""
    permission = {
        "actions": [],
        "dataActions": actions,
        "notActions": [],
        "notDataActions": [],
    }
    return {
        "id": roles.DEFINITION_PREFIX + name,
        "name": name,
        "properties": {
            "assignableScopes": more.get("assignableScopes", ["/"]),
            "description": more.get("description", ""),
            "permissions": more.get("permissions", [permission]),
            "roleName": role,
            "type": more.get("type", "AKVBuiltInRole"),
        },
        "type": "Microsoft.Authorization/roleDefinitions",
    }


def _built_in(name: str) -> dict[str, Any]:
    role, actions = roles.BUILT_IN[name]
    return definition_document(name, role, [roles.ACTION_PREFIX + one for one in actions])


def _custom(document: dict[str, Any]) -> dict[str, Any]:
    return definition_document(
        document["name"],
        document["roleName"],
        [],
        assignableScopes=document["assignableScopes"],
        description=document["description"],
        permissions=document["permissions"],
        type="CustomRole",
    )


def _assignment(document: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"/providers/Microsoft.Authorization/roleAssignments/{document['name']}",
        "name": document["name"],
        "properties": {
            "principalId": document["principal"],
            "roleDefinitionId": roles.DEFINITION_PREFIX + document["definition"],
            "scope": document["scope"],
        },
        "type": "Microsoft.Authorization/roleAssignments",
    }


def _list_definitions(call: Call) -> Response:
    hsm = state.load_active(call, "/roleDefinitions/read/action", scope=_scope(call))
    custom = [_custom(one) for _, one in call.tx.find(roles.DEFINITION, f"{hsm['name']}/")]
    return state.answer(call, 200, {"value": [*map(_built_in, roles.BUILT_IN), *custom]})


def _get_definition(call: Call) -> Response:
    hsm = state.load_active(call, "/roleDefinitions/read/action", scope=_scope(call))
    name = call.match["name"].lower()
    if name in roles.BUILT_IN:
        return state.answer(call, 200, _built_in(name))
    return state.answer(call, 200, _custom(_custom_or_404(call, hsm["name"], name)))


def _custom_or_404(call: Call, hsm: str, name: str) -> dict[str, Any]:
    found = call.tx.get(roles.DEFINITION, f"{hsm}/{name}")
    if found is None:
        raise LabFault(404, "RoleDefinitionNotFound", "Requested role definition not found.")
    return found


def _put_definition(call: Call) -> Response:
    hsm = state.load_active(call, "/roleDefinitions/write/action", scope=_scope(call))
    name = call.match["name"].lower()
    if name in roles.BUILT_IN:
        raise LabFault(400, "BadParameter", "A built-in role cannot be changed.")
    wanted = call.request.json_object().get("properties") or {}
    permissions = wanted.get("permissions") or []
    document = {
        "name": name,
        "roleName": wanted.get("roleName") or name,
        "description": wanted.get("description") or "",
        "assignableScopes": wanted.get("assignableScopes") or ["/"],
        "permissions": [
            {
                "actions": one.get("actions") or [],
                "dataActions": one.get("dataActions") or [],
                "notActions": one.get("notActions") or [],
                "notDataActions": one.get("notDataActions") or [],
            }
            for one in permissions
        ],
    }
    call.tx.put(roles.DEFINITION, f"{hsm['name']}/{name}", document)
    call.effect, call.target = "hsm.roledefinition.put", f"{hsm['name']}/{name}"
    return state.answer(call, 201, _custom(document))


def _delete_definition(call: Call) -> Response:
    hsm = state.load_active(call, "/roleDefinitions/delete/action", scope=_scope(call))
    name = call.match["name"].lower()
    found = _custom_or_404(call, hsm["name"], name)
    call.tx.delete(roles.DEFINITION, f"{hsm['name']}/{name}")
    call.effect, call.target = "hsm.roledefinition.delete", f"{hsm['name']}/{name}"
    return state.answer(call, 200, _custom(found))


def _list_assignments(call: Call) -> Response:
    scope = _scope(call)
    hsm = state.load_active(call, "/roleAssignments/read/action", scope=scope)
    wanted = _PRINCIPAL_FILTER.search(call.request.query.get("$filter", ""))
    above = roles.scopes_above(scope)
    found = [
        _assignment(one)
        for _, one in roles.assignments(call.tx, hsm["name"])
        if (scope == "/" or one["scope"].lower() in above)
        and (wanted is None or one["principal"] == wanted[1].lower())
    ]
    return state.answer(call, 200, {"value": found})


def _get_assignment(call: Call) -> Response:
    hsm = state.load_active(call, "/roleAssignments/read/action", scope=_scope(call))
    return state.answer(call, 200, _assignment(_assignment_or_404(call, hsm["name"])))


def _assignment_or_404(call: Call, hsm: str) -> dict[str, Any]:
    found = call.tx.get(roles.ASSIGNMENT, f"{hsm}/{call.match['name'].lower()}")
    if found is None:
        raise LabFault(404, "RoleAssignmentNotFound", "Requested role assignment not found.")
    return found


def _put_assignment(call: Call) -> Response:
    scope = _scope(call)
    hsm = state.load_active(call, "/roleAssignments/write/action", scope=scope)
    properties = call.request.json_object().get("properties") or {}
    definition = _wanted_definition(call, hsm["name"], properties.get("roleDefinitionId"))
    principal = str(properties.get("principalId") or "").lower()
    if not _GUID.fullmatch(principal):
        raise LabFault(400, "BadParameter", "principalId must be an object id.")
    name = call.match["name"].lower()
    for _, one in roles.assignments(call.tx, hsm["name"]):
        same = (one["principal"], one["definition"], one["scope"].lower())
        if one["name"] == name or same == (principal, definition, scope.lower()):
            raise LabFault(409, "RoleAssignmentExists", "The role assignment already exists.")
    document = roles.assign(
        call.tx,
        hsm["name"],
        principal_id=principal,
        definition=definition,
        scope=scope,
        name=name,
    )
    call.effect, call.target = "hsm.role.assign", f"{hsm['name']}{scope} {name}"
    return state.answer(call, 201, _assignment(document))


def _wanted_definition(call: Call, hsm: str, found: object) -> str:
    text = str(found or "")
    name = text.rsplit("/", 1)[-1].lower()
    known = name in roles.BUILT_IN or call.tx.get(roles.DEFINITION, f"{hsm}/{name}") is not None
    # the service refuses an id that begins with a slash, though others write it so
    if text.startswith("/") or not known:
        raise LabFault(400, "BadParameter", _UNKNOWN_ROLE)
    return name


def _delete_assignment(call: Call) -> Response:
    scope = _scope(call)
    hsm = state.load_active(call, "/roleAssignments/delete/action", scope=scope)
    found = _assignment_or_404(call, hsm["name"])
    call.tx.delete(roles.ASSIGNMENT, f"{hsm['name']}/{found['name']}")
    call.effect, call.target = "hsm.role.delete", f"{hsm['name']}{scope} {found['name']}"
    return state.answer(call, 200, _assignment(found))


_AUTHORIZATION: Final = "(?P<scope>/keys(/[0-9a-z-]+)?)?/providers/Microsoft\\.Authorization"
_DEFINITIONS: Final = _AUTHORIZATION + "/roleDefinitions"
_ASSIGNMENTS: Final = _AUTHORIZATION + "/roleAssignments"
_NAME: Final = "/(?P<name>[0-9a-z-]+)"
ROUTES: Final[tuple[Route, ...]] = tuple(
    Route(state.HOST, method, path, handler, "hsm", hsm_fault)
    for method, path, handler in (
        ("GET", _DEFINITIONS, _list_definitions),
        ("GET", _DEFINITIONS + _NAME, _get_definition),
        ("PUT", _DEFINITIONS + _NAME, _put_definition),
        ("DELETE", _DEFINITIONS + _NAME, _delete_definition),
        ("GET", _ASSIGNMENTS, _list_assignments),
        ("GET", _ASSIGNMENTS + _NAME, _get_assignment),
        ("PUT", _ASSIGNMENTS + _NAME, _put_assignment),
        ("DELETE", _ASSIGNMENTS + _NAME, _delete_assignment),
    )
)
