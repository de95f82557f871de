"""Failover groups: who is primary, asked at the moment of each write and never remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from drengine.actions.contract import StepContext
from drengine.errors import AzureError, GuardError
from drengine.model.cloud import FailoverGroup, Instance

PRIMARY, SECONDARY = "Primary", "Secondary"
_ROLES: Final = (PRIMARY.lower(), SECONDARY.lower())


def as_instance(member: Mapping[str, Any]) -> Instance:
    """Return a group's member as the value that the port takes."""
    return Instance(
        id=str(member["id"]),
        name=str(member["name"]),
        resource_group=str(member["resource_group"]),
        location=str(member["location"]),
        state="",
        tier="",
        fqdn=str(member.get("fqdn", "")),
        principals=tuple(member.get("principals", ())),
    )


async def roles_now(ctx: StepContext, group: Mapping[str, Any]) -> dict[str, str]:
    """Return role -> instance id as the service says right now.

    Each region tells the roles of both. Where the first cannot be asked or knows nothing, the
    other one is: it may be the only one left. Right after a forced failover they may not agree;
    the first then counts, because nothing is lost by it: the keys are linked on both members
    before either protector is switched (G02).

    Raises:
        GuardError: the failover group is gone.
        AzureError: transient; no region can be asked.
    """
    members = group["members"]
    if not group.get("failover_group"):
        return {PRIMARY: str(members[0]["id"])}
    name = str(group["failover_group"]["name"]).lower()
    failure: AzureError | None = None
    for member in sorted(members, key=lambda m: str(m["location"])):
        try:
            groups = await ctx.cloud.sql.failover_groups([as_instance(member)])
        except AzureError as error:
            if not error.transient:
                raise
            failure = error
            continue
        for fog in groups:
            if fog.name.lower() == name:
                primary, secondary = _told(fog, member, members)
                return {PRIMARY: primary, SECONDARY: secondary}
    if failure is not None:
        raise failure
    raise GuardError(
        f"failover group {name} was there when the plan was made and is gone now",
        hint=f"Create it again as the inventory has it, then: drengine resume {ctx.root}",
    )


async def instance_of(ctx: StepContext) -> str | None:
    """Return the instance that has the step's role now; None where the group has no such role."""
    return (await roles_now(ctx, ctx.values["group"])).get(str(ctx.values["role"]))


def _told(
    fog: FailoverGroup, member: Mapping[str, Any], members: Sequence[Mapping[str, Any]]
) -> tuple[str, str]:
    """Return (primary, secondary) as the region of a member tells them.

    The role is that of the region that was asked. Whether its view names the pair the same way
    round as the other region's does is not recorded (INFER), so the role decides.
    """
    others = [str(m["id"]) for m in members if m is not member]
    pair = {fog.primary.lower(), fog.secondary.lower()}
    role = fog.role.lower()
    if pair != {str(m["id"]).lower() for m in members} or role not in _ROLES or len(others) != 1:
        return fog.primary, fog.secondary
    here = str(member["id"])
    return (here, others[0]) if role == PRIMARY.lower() else (others[0], here)
