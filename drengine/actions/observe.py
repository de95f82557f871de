"""Observations: facts that rules judge and gates bind.

Every observer only reads and returns plain JSON that is the same when nothing has
changed: no times of reading, no request ids, ordered lists.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final, TypeVar

from drengine.actions.base import RUN_TAG, refuse_unless_ours, target_hsm
from drengine.actions.contract import Observer, StepContext
from drengine.actions.documents import inventory_of
from drengine.actions.groups import roles_now
from drengine.actions.hosts import is_elsewhere, target_host
from drengine.actions.names import hsm_uri, subscription_of_identity
from drengine.actions.rights import observe_rights, will_not_tell
from drengine.actions.sas import RIGHTS, sas_facts, sas_problems
from drengine.actions.security_domain import unstable_key
from drengine.actions.storage import is_minted, storage_of
from drengine.ceremony.blob import inspect_restore_blob
from drengine.errors import AzureError, GuardError
from drengine.model.canonical import digest
from drengine.model.cloud import BlobItem, HsmResource
from drengine.model.folders import folder_time_ms
from drengine.model.ids import region_key
from drengine.model.plan import CloudIdentity
from drengine.model.times import utc_text

T = TypeVar("T")

_RECOVERY_MS: Final = 3_600_000
"""How long a SAS must still be valid when it is checked."""


_PROVISIONED: Final = ("succeeded", "updating")


def _hsm_facts(hsm: HsmResource | None) -> dict[str, Any]:
    if hsm is None:
        return {"exists": False}
    return {
        "exists": True,
        "id": hsm.id,
        "uri": hsm.uri,
        "location": hsm.location,
        "provisioning": hsm.provisioning_state,
        "activation": hsm.activation_status,
        "purge_protection": hsm.purge_protection,
        "soft_delete_days": hsm.soft_delete_days,
        "run_tag": hsm.tags.get(RUN_TAG, ""),
        "tenant": hsm.tenant,
        "bypass": hsm.network.get("bypass", ""),
        "default_action": hsm.network.get("defaultAction", ""),
        "public_access": hsm.public_access,
    }


async def observe_source(ctx: StepContext) -> dict[str, Any]:
    """Is the lost HSM alive, or only soft-deleted? Then there is a cheaper way."""
    name = str(ctx.inputs["source_hsm"])
    live, deleted = await asyncio.gather(
        ctx.cloud.hsms.find(name), ctx.cloud.hsms.find_deleted(name)
    )
    facts = {"name": name, **_hsm_facts(live)}
    facts["soft_deleted"] = deleted.to_json() if deleted else None
    return facts


async def observe_target(ctx: StepContext) -> dict[str, Any]:
    """The target as the resource manager shows it.

    People approve these facts. That the service works on a change of tags or network rules is
    none of them: this engine's own tag of the holder would void the approval, twice.
    """
    facts = {"name": str(ctx.inputs["target_hsm"]), **_hsm_facts(await target_hsm(ctx))}
    if (state := facts.pop("provisioning", None)) is not None:
        facts["provisioned"] = str(state).lower() in _PROVISIONED
    return facts


async def observe_target_name(ctx: StepContext) -> dict[str, Any]:
    """Is the target's name free: in the subscription, among the soft-deleted, in the cloud?"""
    name = str(ctx.inputs["target_hsm"])
    live, deleted, check = await asyncio.gather(
        ctx.cloud.hsms.find(name),
        ctx.cloud.hsms.find_deleted(name),
        ctx.cloud.hsms.check_name(name),
    )
    return {
        "name": name,
        "live": live.id if live else "",
        "run_tag": live.tags.get(RUN_TAG, "") if live else "",
        "soft_deleted": deleted.to_json() if deleted else None,
        "free": check.available,
        "reason": check.reason,
        "message": check.message,
    }


async def observe_target_place(ctx: StepContext) -> dict[str, Any]:
    """Is the target's resource group there, and may an HSM be created in its region?

    The group is asked for through the provider of HSMs, which answers nothing unregistered.
    """
    group = str(ctx.inputs["resource_group"])
    offer, unread = await _if_told(ctx.cloud.subscription.hsm_offer())
    usable = offer is None or offer.is_usable
    exists = await ctx.cloud.hsms.has_group(group) if usable else None
    return {
        "group": group,
        "exists": exists,
        "location": region_key(str(ctx.inputs.get("location") or "")),
        "registration": offer.registration if offer else "",
        "usable": usable,
        "regions": list(offer.regions) if offer else [],
        "unread": unread,
    }


async def observe_geography(ctx: StepContext) -> dict[str, Any]:
    """In which geographies do the lost HSM and the target lie?"""
    told, unread = await _if_told(ctx.cloud.subscription.geographies())
    places = {
        "source": region_key(str(inventory_of(ctx)["hsm"].get("location") or "")),
        "target": region_key(str(ctx.inputs.get("location") or "")),
    }
    facts: dict[str, Any] = {
        role: {"location": place, "geography": (told or {}).get(place, "")}
        for role, place in places.items()
    }
    return {**facts, "unread": unread}


async def _if_told(read: Awaitable[T]) -> tuple[T | None, str]:
    """Return what is read, or why the service will not tell.

    Whoever may create an HSM need not be allowed to read what surrounds it.

    Raises:
        AzureError: the service cannot be asked now, or nobody is signed in.
    """
    try:
        return await read, ""
    except AzureError as error:
        if not will_not_tell(error):
            raise
        return None, error.message


async def observe_target_keys(ctx: StepContext) -> dict[str, Any]:
    """The names of the keys that the target holds; none before it is active."""
    hsm = await target_hsm(ctx)
    if hsm is None or hsm.activation_status != "Active":
        return {"active": False, "names": []}
    return {"active": True, "names": sorted(await ctx.cloud.hsm(hsm.uri).key_names())}


async def observe_exchange_key(ctx: StepContext) -> dict[str, Any]:
    """The exchange key that the target shows now.

    To ask for it puts an HSM into recovery mode: only this run's own target is asked.

    Raises:
        GuardError: the target carries another run's tag or none.
        HandedOver: another host took the run over.
    """
    hsm = await target_hsm(ctx)
    if hsm is None or hsm.activation_status == "Active":
        return {"x5t_256": ""}
    refuse_unless_ours(ctx, hsm)
    if (kept := unstable_key(ctx)) is not None:
        return {"x5t_256": kept}
    key = await ctx.cloud.hsm(hsm.uri).transfer_key()
    return {"x5t_256": key.x5t_256}


async def observe_restore_blob(ctx: StepContext) -> dict[str, Any]:
    """The restore blob that was delivered, as far as it can be read without a key."""
    for step, outputs in sorted(ctx.outputs.items()):
        if "sha256" in outputs and "size" in outputs:
            blob = inspect_restore_blob(ctx.objects.get_object(str(outputs["sha256"])))
            return {
                "step": step,
                "sha256": blob.sha256,
                "size": blob.size_bytes,
                "exchange": blob.exchange_x5t_256,
                "made": outputs.get("made") or {},
            }
    return {}


async def observe_backup(ctx: StepContext) -> dict[str, Any]:
    """The planned backup folder as it lies in storage now."""
    planned = ctx.plan.get("backup") or {}
    folder = str(planned.get("folder") or ctx.values.get("folder") or "")
    return await folder_facts(ctx, folder)


async def folder_facts(ctx: StepContext, folder: str) -> dict[str, Any]:
    """Return what a backup folder holds, with one digest over its listing."""
    return facts_of_folder(folder, await folder_blobs(ctx, folder))


async def folder_blobs(ctx: StepContext, folder: str) -> Sequence[BlobItem]:
    """Return the blobs of a backup folder."""
    return await ctx.cloud.storage.list_blobs(await storage_of(ctx), f"{folder}/")


def facts_of_folder(folder: str, blobs: Sequence[BlobItem]) -> dict[str, Any]:
    """Return what a backup folder holds, and when it was made, by its name."""
    taken_ms = folder_time_ms(folder)
    taken_at = "" if taken_ms is None else utc_text(taken_ms)
    facts = {"taken_at_ms": taken_ms, "taken_at": taken_at}
    return {"folder": folder, **listing_facts(blobs), **facts}


def contents_digest(blobs: Sequence[BlobItem]) -> str:
    """Return one digest of names and sizes: what a copy has in common with its original."""
    return digest([[blob.name, blob.size] for blob in blobs])


def listing_facts(blobs: Sequence[BlobItem]) -> dict[str, Any]:
    """Return count, size and one digest of a listing."""
    listing = [[blob.name, blob.size, blob.etag] for blob in blobs]
    return {
        "blobs": len(blobs),
        "size": sum(blob.size for blob in blobs),
        "digest": digest(listing),
    }


async def observe_target_backup(ctx: StepContext) -> dict[str, Any]:
    """The backup of the target that this run took."""
    for outputs in ctx.outputs.values():
        folder = str(outputs.get("folder", ""))
        if folder and folder != (ctx.plan.get("backup") or {}).get("folder"):
            return await folder_facts(ctx, folder)
    return {"folder": "", "blobs": 0}


async def observe_storage_access(ctx: StepContext) -> dict[str, Any]:
    """How the HSM reaches the container, and whether that will do.

    The SAS itself stays where it is; what it says of its rights and times does not. One that is
    made when it is needed is made now, to see that it can be; its times are no facts, because
    the next process makes another. Its rights are the most that any use is given.
    """
    target = await storage_of(ctx)
    if is_minted(ctx):
        return {"by": "delegation", "rights": "".join(sorted(RIGHTS)), "problems": []}
    if target.sas is None:
        return await _identity_access(ctx)
    facts = sas_facts(target.sas)
    problems = sas_problems(facts, RIGHTS, ctx.now_ms, _RECOVERY_MS)
    return {"by": "sas", **facts, "problems": problems}


async def _identity_access(ctx: StepContext) -> dict[str, Any]:
    """Return the facts of an identity, and whether it exists."""
    facts = identity_facts(str(ctx.inputs.get("storage_identity") or ""), ctx.where)
    if facts["problems"]:
        return facts
    identity = facts["identity"]
    exists, unread = await _if_told(ctx.cloud.subscription.has_identity(identity))
    return {**facts, "exists": exists is not False, "unread": unread}


def identity_facts(identity: str, where: CloudIdentity) -> dict[str, Any]:
    """Say whether an id is one of a user-assigned identity, and whether of this subscription."""
    facts: dict[str, Any] = {"by": "identity", "identity": identity, "problems": []}
    if not identity:
        facts["problems"] = ["neither storage_identity nor storage_sas was given"]
    elif (subscription := subscription_of_identity(identity)) is None:
        facts["problems"] = [f"{identity} is not the id of a user-assigned identity"]
    elif subscription != where.subscription.lower():
        facts["elsewhere"] = subscription
    return facts


async def observe_inventory(ctx: StepContext) -> dict[str, Any]:
    """What the inventory says that decisions rest on; not its whole text."""
    inventory = inventory_of(ctx)
    return {
        "sha256": ctx.inputs["inventory"]["sha256"],
        "taken_at": inventory.get("taken_at", ""),
        "hsm": inventory["hsm"],
        "security_domain": inventory.get("security_domain"),
        "keys": len(inventory["keys"]),
        "roles": inventory["roles"],
    }


async def observe_target_access(ctx: StepContext) -> dict[str, Any]:
    """May this principal list keys and roles of the target?"""
    data = ctx.cloud.hsm(hsm_uri(str(ctx.inputs["target_hsm"]), ctx.where.hsm_suffix))
    facts: dict[str, Any] = {"principal": ctx.where.principal, "keys": True, "roles": True}
    try:
        await data.key_names()
    except AzureError as error:
        facts["keys"] = error.message
    try:
        await data.role_assignments()
    except AzureError as error:
        facts["roles"] = error.message
    return facts


async def observe_group(ctx: StepContext) -> dict[str, Any]:
    """Roles, protectors, keys, databases and running operations of one group."""
    group: Mapping[str, Any] = ctx.inputs.get("group") or ctx.values["group"]
    roles, members = await asyncio.gather(
        _roles_if_any(ctx, group),
        asyncio.gather(*(_member_facts(ctx, member) for member in group["members"])),
    )
    by_id = {instance.lower(): role for role, instance in roles.items()}
    for member in members:
        member["role"] = by_id.get(str(member["id"]).lower(), "")
    return {
        "name": group["name"],
        "target_host": target_host(ctx),
        "members": sorted(members, key=lambda member: str(member["id"])),
    }


async def _roles_if_any(ctx: StepContext, group: Mapping[str, Any]) -> dict[str, str]:
    """Return the roles, none where the group is gone: a late heal may cost it (rule T02).

    What is written in the order of roles is kept by G01, which does not accept that.
    """
    try:
        return await roles_now(ctx, group)
    except GuardError:
        return {}


async def _member_facts(ctx: StepContext, member: Mapping[str, Any]) -> dict[str, Any]:
    instance = str(member["id"])
    sql = ctx.cloud.sql
    live, keys, protector, databases, busy = await asyncio.gather(
        sql.get(instance),
        sql.keys(instance),
        sql.protector(instance),
        sql.databases(instance),
        sql.busy(instance),
    )
    return {
        "id": instance,
        "state": live.state if live else "gone",
        "principals": list(live.principals) if live else [],
        "keys": sorted([key.name, key.uri, key.thumbprint] for key in keys),
        "protector": protector.to_json(),
        "elsewhere": is_elsewhere(ctx, protector.uri),
        "databases": sorted([d.name, d.status] for d in databases),
        "busy": sorted(busy),
    }


async def observe_group_roles(ctx: StepContext) -> dict[str, Any]:
    """Only the roles and protectors: what an approval of a switch binds."""
    group: Mapping[str, Any] = ctx.inputs.get("group") or ctx.values["group"]
    members = [str(member["id"]) for member in group["members"]]
    roles, protectors = await asyncio.gather(
        roles_now(ctx, group),
        asyncio.gather(*(ctx.cloud.sql.protector(member) for member in members)),
    )
    by_id = {instance.lower(): role for role, instance in roles.items()}
    found = [
        {"id": member, "role": by_id.get(member.lower(), ""), "protector": protector.to_json()}
        for member, protector in zip(members, protectors, strict=True)
    ]
    return {
        "name": group["name"],
        "target_host": target_host(ctx),
        "members": sorted(found, key=lambda member: str(member["id"])),
    }


async def observe_planned(ctx: StepContext) -> dict[str, Any]:
    """What the plan is to do, in words of its inputs: nothing is asked of Azure for it."""
    given = ctx.inputs
    storage = given.get("storage_sas") or given.get("storage_identity") or ""
    return {
        "source": given.get("source_hsm"),
        "target": given.get("target_hsm"),
        "resource_group": given.get("resource_group"),
        "location": given.get("location"),
        "backup": (ctx.plan.get("backup") or {}).get("folder"),
        "container": given.get("container_url"),
        "storage": str(storage),
    }


def _planned_protector(protector: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what is worth knowing of a protector, beside that it moves."""
    if protector is None:  # of a plan from before
        return {}
    if not protector["moves"]:
        return {"protector": f"{protector['uri'] or 'of the service'}: left as it is"}
    if protector["auto_rotation"]:
        return {"protector": "rotates by itself; will not any more"}
    return {}


async def observe_planned_groups(ctx: StepContext) -> dict[str, Any]:
    """Which instances are to take their protector from the target, as the plan found them."""
    return {
        "target": ctx.inputs.get("target_hsm"),
        "groups": [
            {
                "name": group["name"],
                "instances": [
                    {
                        "name": member["name"],
                        "role": member["role"],
                        "location": member["location"],
                        "databases": [database["name"] for database in member["databases"]],
                        "keys": member["keys"],
                        **_planned_protector(member.get("protector")),
                    }
                    for member in group["members"]
                ],
            }
            for group in ctx.plan.get("groups") or ()
        ],
    }


OBSERVERS: Final[Mapping[str, Observer]] = {
    "planned": observe_planned,
    "planned-groups": observe_planned_groups,
    "source-hsm": observe_source,
    "target-hsm": observe_target,
    "target-name": observe_target_name,
    "target-place": observe_target_place,
    "geography": observe_geography,
    "operator-rights": observe_rights,
    "target-keys": observe_target_keys,
    "target-access": observe_target_access,
    "target-backup": observe_target_backup,
    "exchange-key": observe_exchange_key,
    "restore-blob": observe_restore_blob,
    "backup-folder": observe_backup,
    "inventory": observe_inventory,
    "storage-access": observe_storage_access,
    "group": observe_group,
    "group-roles": observe_group_roles,
}
