"""Discoveries: one look at the world when the plan is made, frozen in the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from drengine.actions.contract import Discoverer, StepContext
from drengine.actions.documents import parse_inventory
from drengine.actions.instances import keys_if_there
from drengine.actions.names import host_of, is_host_of_hsm
from drengine.actions.observe import contents_digest, facts_of_folder, folder_blobs
from drengine.actions.sas import LIST_RIGHT, RIGHTS, sas_facts, sas_problems
from drengine.actions.storage import is_minted, storage_of
from drengine.ceremony.domain import parse_security_domain
from drengine.errors import AzureError, InputError, InputFileError
from drengine.model.catalogue import Parameter
from drengine.model.cloud import FailoverGroup, Instance
from drengine.model.folders import folder_form, folder_prefix, folder_time_ms, is_folder_of
from drengine.model.together import together

LATEST = "latest"
_NOT_FOUND: Final = 404


async def discover_backup(ctx: StepContext) -> dict[str, Any]:
    """Resolve `latest` to a folder of the source, or check the folder that was named.

    Raises:
        InputError: no folder of that HSM, or the folder is another HSM's or empty.
    """
    source, folder = str(ctx.values["source_hsm"]), str(ctx.values["folder"])
    url = str(ctx.values["container_url"]).rstrip("/")
    reference = ctx.values.get("storage_sas")
    ctx = replace(ctx, inputs={**ctx.inputs, "container_url": url, "storage_sas": reference})
    target = await storage_of(ctx)
    rights = LIST_RIGHT if is_minted(ctx) else RIGHTS
    if target.sas is not None and (
        wrong := sas_problems(sas_facts(target.sas), rights, ctx.now_ms, 0)
    ):
        raise InputError(
            f"the SAS in {reference}: {'; '.join(wrong)}; nothing was sent",
            hint="Make one for the container with the rights crdwl that lasts some hours.",
        )
    try:
        listed = await ctx.cloud.storage.list_folders(target, folder_prefix(source))
    except AzureError as error:
        if error.status == _NOT_FOUND:
            raise InputError(
                f"there is no container {url} ({error.message})",
                hint="Mend container_url, then plan again; nothing was sent.",
            ) from None
        raise
    folders = [f for f in listed if is_folder_of(source, f) and folder_time_ms(f)]
    if folder == LATEST:
        if not folders:
            raise InputError(
                f"{url} holds no backup of {source} (no folder named {folder_form(source)})",
                hint="Check the container, and whether this principal may list it.",
            )
        folder = max(folders, key=lambda name: folder_time_ms(name) or 0)
    elif not is_folder_of(source, folder):
        raise InputError(
            f"folder {folder!r} is not a backup of {source}: its name is not"
            f" {folder_form(source)} (H04)",
            hint=f"Folders of {source}: {', '.join(folders[-5:]) or 'none'}",
        )
    blobs = await folder_blobs(ctx, folder)
    facts = facts_of_folder(folder, blobs)
    if not facts["blobs"]:
        raise InputError(
            f"backup folder {folder!r} in {url} is empty or does not exist",
            hint=f"Folders of {source}: {', '.join(folders[-5:]) or 'none'}",
        )
    newer = [f for f in folders if (folder_time_ms(f) or 0) > (folder_time_ms(folder) or 0)]
    known = _recorded(ctx, folder)
    facts["newer"] = sorted(newer)
    if known and known["digest"] != facts["digest"]:
        facts["copy_of"] = _copied_from(known, facts, contents_digest(blobs), url)
    return facts


def _recorded(ctx: StepContext, folder: str) -> Mapping[str, Any] | None:
    """Return what the inventory recorded of a folder, None where it is not in it."""
    given = ctx.values.get("inventory")
    if not given:
        return None
    inventory = parse_inventory(ctx.objects.get_object(str(given["sha256"])), str(given["path"]))
    return next((one for one in inventory.get("backups", []) if one["folder"] == folder), None)


def _copied_from(
    known: Mapping[str, Any], found: Mapping[str, Any], contents: str, url: str
) -> str:
    """Return the container that this folder is a copy of.

    A copy in another account has new ETags; its names and sizes are those of the original. What
    the blobs hold is sealed by the HSM itself, which refuses what was changed.

    Raises:
        InputError: the folder holds something else than when the inventory was taken.
    """
    place = str(known.get("container") or "")
    is_copy = place != url and (
        known["contents"] == contents
        if "contents" in known
        else (known["blobs"], known["size"]) == (found["blobs"], found["size"])
    )
    if is_copy:
        return place or "the container of the inventory"
    raise InputError(
        f"backup folder {found['folder']} holds {found['blobs']} blobs, {found['size']}"
        f" bytes; when the inventory was taken it held {known['blobs']}, {known['size']}"
        " bytes: it is incomplete or was changed",
        hint="Name an older folder, or find out what happened to this one.",
    )


async def discover_domain(ctx: StepContext) -> dict[str, Any]:
    """Read what a security-domain file says of itself: quorum and custodians; nothing is opened.

    Raises:
        DomainError: it is damaged or not one.
    """
    given = ctx.values["file"]
    domain = parse_security_domain(ctx.objects.get_object(str(given["sha256"])))
    return {
        "sha256": given["sha256"],
        "required": domain.required,
        "custodians": list(domain.custodians),
    }


async def discover_groups(ctx: StepContext) -> list[dict[str, Any]]:
    """Find every instance that uses keys of an HSM, by failover group or alone.

    Ordered by name; each item carries its members with roles, databases and keys as they
    are now. Source: rules K07, G05.
    """
    instances = await ctx.cloud.sql.instances()
    members = await together(*(_member(ctx, instance) for instance in instances))
    using = {m["id"].lower(): m for m in members if m is not None}
    groups = await ctx.cloud.sql.failover_groups(
        [instance for instance in instances if instance.id.lower() in using]
    )
    items, grouped = _group_items(groups, using)
    items += [_alone(member) for key, member in using.items() if key not in grouped]
    return sorted(items, key=lambda item: str(item["name"]))


async def _member(ctx: StepContext, instance: Instance) -> dict[str, Any] | None:
    name, suffix = str(ctx.values["hsm"]), ctx.where.hsm_suffix
    rows = await keys_if_there(ctx.cloud, instance.id)
    keys = [row.name for row in rows or () if is_host_of_hsm(host_of(row.uri), name, suffix)]
    if not keys:
        return None
    protector = await ctx.cloud.sql.protector(instance.id)
    databases = await ctx.cloud.sql.databases(instance.id)
    moves = is_host_of_hsm(host_of(protector.uri), name, suffix)
    return {
        "id": instance.id,
        "name": instance.name,
        "resource_group": instance.resource_group,
        "location": instance.location,
        "tier": instance.tier,
        "fqdn": instance.fqdn,
        "principals": list(instance.principals),
        "role": "Standalone",
        "databases": [{"name": d.name, "status": d.status} for d in databases],
        "keys": keys,
        "protector": {
            "uri": protector.uri,
            "auto_rotation": protector.auto_rotation,
            "moves": moves,
        },
    }


def _group_items(
    groups: Sequence[FailoverGroup], using: Mapping[str, dict[str, Any]]
) -> tuple[list[dict[str, Any]], set[str]]:
    items: list[dict[str, Any]] = []
    grouped: set[str] = set()
    seen: set[str] = set()
    for group in groups:
        pair = [group.primary.lower(), group.secondary.lower()]
        if group.name.lower() in seen or not all(key in using for key in pair):
            continue
        seen.add(group.name.lower())
        grouped.update(pair)
        items.append(_pair(group, using[pair[0]], using[pair[1]]))
    return items, grouped


def _pair(
    group: FailoverGroup, primary: dict[str, Any], secondary: dict[str, Any]
) -> dict[str, Any]:
    return {
        "name": group.name,
        "id": f"fog:{group.name}",
        "failover_group": {"name": group.name, "resource_group": group.resource_group},
        "members": [{**primary, "role": "Primary"}, {**secondary, "role": "Secondary"}],
    }


def _alone(member: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": member["name"],
        "id": member["id"],
        "failover_group": None,
        "members": [member],
    }


async def discover_inventory(ctx: StepContext) -> dict[str, Any]:
    """Read the head of an inventory file, so that a wrong file is refused before anything else.

    Raises:
        InputFileError: it is not an inventory, or not of the source HSM.
    """
    given = ctx.values["file"]
    data = ctx.objects.get_object(str(given["sha256"]))
    doc = parse_inventory(data, str(given["path"]))
    name = str(doc["hsm"]["name"])
    if name.lower() != str(ctx.values["hsm"]).lower():
        raise InputFileError(
            f"{given['path']} is the inventory of {name}, not {ctx.values['hsm']}",
            hint="Give the inventory of the HSM that is to be recovered.",
        )
    return {
        "taken_at": doc.get("taken_at", ""),
        "keys": len(doc["keys"]),
        "security_domain": doc.get("security_domain"),
        "location": str(doc["hsm"].get("location", "")),
    }


DISCOVERERS: Final[Mapping[str, Discoverer]] = {
    "backup.resolve": discover_backup,
    "securitydomain.inspect": discover_domain,
    "inventory.inspect": discover_inventory,
    "sqlmi.groups": discover_groups,
}

PARAMETERS: Final[Mapping[str, tuple[Parameter, ...]]] = {
    "backup.resolve": (
        Parameter("source_hsm", "whose backups"),
        Parameter("container_url", "where they lie"),
        Parameter("folder", "`latest` or a folder's name"),
        Parameter("storage_sas", "reference to a SAS", required=False),
        Parameter("inventory", "compare with what it recorded", required=False),
    ),
    "securitydomain.inspect": (Parameter("file", "the security-domain file"),),
    "inventory.inspect": (
        Parameter("file", "the inventory"),
        Parameter("hsm", "whose inventory it must be"),
    ),
    "sqlmi.groups": (Parameter("hsm", "the HSM whose keys are used"),),
}
