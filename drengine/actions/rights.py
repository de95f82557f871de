"""What whoever is signed in must be allowed to do, and whether Azure says that it may.

Source: Permissions_ListForResourceGroup and Permissions_ListForResource. They tell what role
assignments allow; deny assignments, conditions and locks are not among it (INFER: no recording
shows more). So what is lacking is a warning, and that nothing is lacking is no promise.

Pure but for `observe_rights`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from drengine.actions.contract import StepContext
from drengine.actions.documents import inventory_of
from drengine.actions.names import subscription_of_identity
from drengine.errors import AzureError
from drengine.model.cloud import Permission
from drengine.model.together import together

CREATE: Final = ("Microsoft.KeyVault/managedHSMs/write",)
ATTACH: Final = ("Microsoft.ManagedIdentity/userAssignedIdentities/assign/action",)
REPOINT: Final = (
    "Microsoft.Sql/managedInstances/keys/write",
    "Microsoft.Sql/managedInstances/encryptionProtector/write",
)

Needed = dict[str, tuple[str, ...]]
"""Scope (a resource id) -> the actions that the run needs there."""

_Answer = Sequence[Permission] | str
"""What is allowed, or why the service will not tell."""


def needed(inputs: Mapping[str, Any], subscription: str, instances: Iterable[str]) -> Needed:
    """Return where a runbook needs which actions.

    Parameters:
        inputs: of the runbook: where it has a location, an HSM is created in resource_group,
            and storage_identity attached to it.
        instances: resource ids of the managed instances whose protector is switched.
    """
    found: Needed = {}
    if inputs.get("location"):
        found[f"/subscriptions/{subscription}/resourceGroups/{inputs['resource_group']}"] = CREATE
        identity = str(inputs.get("storage_identity") or "")
        if subscription_of_identity(identity) is not None:
            found[identity] = ATTACH
    return found | dict.fromkeys(instances, REPOINT)


def group_of(resource_id: str) -> str:
    """Return the id of the resource group that a resource lies in."""
    return "/".join(resource_id.split("/")[:5])


def lacking(allowed: Sequence[Permission], actions: Iterable[str]) -> list[str]:
    """Return the actions that none of the caller's role assignments allows."""
    return [
        action
        for action in actions
        if not any(_allows(permission, action) for permission in allowed)
    ]


def _allows(permission: Permission, action: str) -> bool:
    return _is_among(action, permission.actions) and not _is_among(action, permission.not_actions)


def _is_among(action: str, patterns: Iterable[str]) -> bool:
    # `*` is the only sign that role definitions know; fnmatch has more
    plain = (pattern.replace("[", "[[]").replace("?", "[?]") for pattern in patterns)
    return any(fnmatchcase(action.lower(), pattern.lower()) for pattern in plain)


async def observe_rights(ctx: StepContext) -> dict[str, Any]:
    """Which of the actions that the run needs are not among this principal's permissions?

    A resource inherits from its group: it is asked itself only where the group does not do.
    """
    wanted = needed(ctx.inputs, ctx.where.subscription, _instances(ctx))
    answers = await _answers(ctx, {group_of(scope) for scope in wanted})
    left = {
        scope: actions
        for scope, actions in wanted.items()
        if _is_short(answers[group_of(scope)], actions)
    }
    answers |= await _answers(ctx, left.keys() - answers.keys())
    unread = {scope: said for scope in left if isinstance(said := answers[scope], str)}
    return {
        "principal": ctx.where.principal,
        "scopes": len(wanted),
        "lacking": sorted(_pairs(left, answers)),
        "unread": sorted([scope, said] for scope, said in unread.items()),
    }


def _instances(ctx: StepContext) -> list[str]:
    """Return the instances that are to be switched: as planned, or as the inventory has them."""
    if groups := ctx.plan.get("groups"):
        return [str(member["id"]) for group in groups for member in group["members"]]
    if not ctx.inputs.get("protects_sql"):
        return []
    return [str(one["id"]) for one in inventory_of(ctx).get("instances") or ()]


async def _answers(ctx: StepContext, scopes: Iterable[str]) -> dict[str, _Answer]:
    ordered = sorted(scopes)
    told = await together(*(_asked(ctx, scope) for scope in ordered))
    return dict(zip(ordered, told, strict=True))


async def _asked(ctx: StepContext, scope: str) -> _Answer:
    try:
        return await ctx.cloud.subscription.permissions(scope)
    except AzureError as error:
        if not will_not_tell(error):
            raise
        return error.message


def will_not_tell(error: AzureError) -> bool:
    """Whether the service answered that it will not say: no fault, and no use in asking again."""
    return not error.transient and error.status in (400, 403, 404)


def _is_short(answer: _Answer, actions: Iterable[str]) -> bool:
    return isinstance(answer, str) or bool(lacking(answer, actions))


def _pairs(left: Needed, by_scope: Mapping[str, _Answer]) -> Iterator[list[str]]:
    for scope, actions in left.items():
        answer = by_scope[scope]
        if not isinstance(answer, str):
            yield from ([scope, action] for action in lacking(answer, actions))
