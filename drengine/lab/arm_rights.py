"""What the operator may do through Resource Manager: everything but `operator_lacks`.

The name of an action follows from the request, as Resource Manager derives it: the types in
the path, then `read`, `write`, `delete`, or the last segment of a POST and `action`. The texts
of the refusals are those of public reports.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from drengine.lab.wire import Call, LabFault, Request, Response, Route, arm_fault, json_response

if TYPE_CHECKING:
    from collections.abc import Iterable

    from drengine.lab.settings import Settings

_VERBS: Final = {
    "GET": "read",
    "HEAD": "read",
    "PUT": "write",
    "PATCH": "write",
    "DELETE": "delete",
    "POST": "action",
}
_ASSIGN: Final = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"
_OWN: Final = "/providers/microsoft.authorization/permissions"


def require(settings: Settings, request: Request) -> None:
    """Check that the operator may send this request.

    Raises:
        LabFault: 403 AuthorizationFailed.
    """
    lacks = _lacking(settings)
    if not lacks or request.path.lower().endswith(_OWN):
        return
    action = action_of(request.method, request.path)
    if _is_among(action, lacks):
        who = request.principal.object_id if request.principal else ""
        raise LabFault(
            403,
            "AuthorizationFailed",
            f"The client '{who}' with object id '{who}' does not have authorization to perform "
            f"action '{action}' over scope '{request.path}' or the scope is invalid. If access "
            "was recently granted, please refresh your credentials.",
        )


def require_assignable(call: Call, identities: Iterable[str]) -> None:
    """Check that the operator may attach these identities to a resource.

    Raises:
        LabFault: 403 LinkedAuthorizationFailed.
    """
    names = ", ".join(identities)
    if names and _is_among(_ASSIGN, _lacking(call.lab.settings)):
        who = call.principal.object_id
        raise LabFault(
            403,
            "LinkedAuthorizationFailed",
            f"The client '{who}' has permission to perform action "
            f"'{action_of(call.request.method, call.request.path)}' on scope "
            f"'{call.request.path}'; however, it does not have permission to perform action(s) "
            f"'{_ASSIGN}' on the linked scope(s) '{names}' (respectively) or the linked scope(s) "
            "are invalid.",
        )


def action_of(method: str, path: str) -> str:
    """Return the action that a request stands for."""
    head, _, tail = path.strip("/").rpartition("providers/")
    parts = tail.split("/") if head else ["Microsoft.Resources", *tail.split("/")]
    namespace, rest = parts[0], parts[1:]
    last = [rest[-1]] if method == "POST" and rest else []
    types = rest[: len(rest) - len(last) : 2]
    return "/".join([namespace, *types, *last, _VERBS.get(method, "action")])


def _lacking(settings: Settings) -> list[str]:
    return [one.strip() for one in settings.operator_lacks.split(",") if one.strip()]


def _is_among(action: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)


def _permissions(call: Call) -> Response:
    role: dict[str, Any] = {
        "actions": ["*"],
        "notActions": _lacking(call.lab.settings),
        "dataActions": [],
        "notDataActions": [],
    }
    return json_response(200, {"value": [role]})


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "management\\.azure\\.com",
        "GET",
        "/subscriptions/[^/]+/resourceGroups/.+/providers/Microsoft\\.Authorization/permissions",
        _permissions,
        "arm",
        arm_fault,
    ),
)
