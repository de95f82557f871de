"""Failover groups: who is primary, asked at the moment of each write and never remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from drengine.actions.contract import StepContext
from drengine.errors import AzureError, GuardError
from drengine.model.cloud import Instance

PRIMARY, SECONDARY = "Primary", "Secondary"


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

    Each region tells the roles of both. Both are asked: one may be down, and right after a
    forced failover one may not know of it yet (sqlmi-protocol §1.7).

    Raises:
        GuardError: the failover group is gone.
        AzureError: transient; the regions do not agree, or none can be asked.
    """
    members = group["members"]
    if not group.get("failover_group"):
        return {PRIMARY: str(members[0]["id"])}
    name = str(group["failover_group"]["name"]).lower()
    views, failure = await _views(ctx, members, name)
    if len({(primary.lower(), secondary.lower()) for primary, secondary in views}) > 1:
        raise AzureError(
            f"reading the roles of the failover group {name}: its regions do not agree on who is"
            " primary; nothing was sent",
            transient=True,
            hint="After a failover they agree within minutes; az sql instance-failover-group show"
            " in both regions tells.",
        )
    if views:
        return {PRIMARY: views[0][0], SECONDARY: views[0][1]}
    if failure is not None:
        raise failure
    raise GuardError(
        f"failover group {name} was there when the plan was made and is gone now",
        hint=f"Create it again as the inventory has it, then: drengine resume {ctx.root}",
    )


async def _views(
    ctx: StepContext, members: Sequence[Mapping[str, Any]], name: str
) -> tuple[list[tuple[str, str]], AzureError | None]:
    """Return (primary, secondary) as each region tells them, and why one could not be asked."""
    views: list[tuple[str, str]] = []
    failure: AzureError | None = None
    for member in sorted(members, key=lambda m: str(m["location"])):
        try:
            groups = await ctx.cloud.sql.failover_groups([as_instance(member)])
        except AzureError as error:
            if not error.transient:
                raise
            failure = error
            continue
        views += [(fog.primary, fog.secondary) for fog in groups if fog.name.lower() == name]
    return views, failure


async def instance_of(ctx: StepContext) -> str | None:
    """Return the instance that has the step's role now; None where the group has no such role."""
    return (await roles_now(ctx, ctx.values["group"])).get(str(ctx.values["role"]))
