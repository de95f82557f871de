"""Actions on SQL Managed Instances: link keys, switch the protector, reevaluate.

Rules:
- Roles are read from the failover group at the moment of each write, never remembered (G01).
- Secondary first, then primary: the primary's protector changes only when the secondary
  holds a key of the same material (G02).
- Old key rows and old keys are never deleted: log and older backups still need them.
- A protector that is no key of the lost HSM works, and is left as it is.
- A new key must show the old key's thumbprint: same material, other host (sqlmi-protocol §0.4).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from drengine.actions.base import BaseAction, known_operation
from drengine.actions.contract import Absent, Busy, Present, ProbeResult, StepContext, Verified
from drengine.actions.groups import PRIMARY, SECONDARY, instance_of, roles_now
from drengine.actions.hosts import is_elsewhere, is_on_source, is_on_target, target_host
from drengine.actions.names import instance_key_name, kid_on
from drengine.errors import GuardError
from drengine.model.canonical import JsonObject
from drengine.model.catalogue import ActionSpec, Parameter, Repeat
from drengine.model.cloud import InstanceKey, Operation, OperationStatus, Protector
from drengine.model.findings import Finding, block, ok, warn

_NOT_ALLOWED_WHILE_INACCESSIBLE = "CMKOperationNotAllowed"


class ReadRoles(BaseAction):
    """Read the group's roles and state."""

    async def start(self, ctx: StepContext) -> Operation | JsonObject:
        """Return primary and secondary as they are now."""
        roles = await roles_now(ctx, ctx.values["group"])
        return {"primary": roles[PRIMARY], "secondary": roles.get(SECONDARY, "")}

    async def verify(self, ctx: StepContext) -> Verified:
        """Say what was read."""
        primary = ctx.outputs[ctx.step].get("primary")
        if primary is None:  # a person marked the step as done
            return Verified((block("G01", "this run has not read the roles"),))
        return Verified((ok("G01", f"primary is {_short(primary)}"),))

    def manual(self, ctx: StepContext) -> str:
        """Return the az command."""
        del ctx
        return "az sql instance-failover-group show -g RG -l REGION -n NAME"


def _short(instance: object) -> str:
    return str(instance).rsplit("/", 1)[-1]


def _pairs(
    ctx: StepContext, rows: Sequence[InstanceKey]
) -> list[tuple[InstanceKey, str, InstanceKey | None]]:
    """Return (old row, new kid, new row if linked) for every key of the lost HSM."""
    by_uri = {row.uri.lower().rstrip("/"): row for row in rows if row.uri}
    by_name = {row.name.lower(): row for row in rows}
    old = [row for row in rows if row.uri and is_on_source(ctx, row.uri)]
    kids = [kid_on(row.uri, target_host(ctx)) for row in old]
    return [
        # a row without a version may show one in its URI
        (row, kid, by_uri.get(kid.lower()) or by_name.get(instance_key_name(kid).lower()))
        for row, kid in zip(old, kids, strict=True)
    ]


class LinkKeys(BaseAction):
    """Add every key that the instance knows from the lost HSM, from its new place.

    One key row a send; touches no protector. Source: PUT {mi}/keys/{name}; rules K06, K07.
    """

    async def probe(self, ctx: StepContext) -> ProbeResult:
        """List the key rows and find the first that is not linked yet."""
        instance = await instance_of(ctx)
        if instance is None:
            return Present({}, "the group has no such role")
        if ctx.operation is not None and (known := await known_operation(ctx, self)) is not None:
            return known
        pairs = _pairs(ctx, await ctx.cloud.sql.keys(instance))
        missing = [kid for _, kid, new in pairs if new is None]
        if missing:
            return Absent(f"{len(missing)} of {len(pairs)} keys are not linked")
        return Present({}, f"all {len(pairs)} keys are linked")

    async def before(self, ctx: StepContext) -> JsonObject:
        """Name the key that is to be linked: it is what must be listed afterwards."""
        instance = await instance_of(ctx)
        if instance is None:
            return {}
        pairs = _pairs(ctx, await ctx.cloud.sql.keys(instance))
        missing = [kid for _, kid, new in pairs if new is None]
        return {"kid": missing[0]} if missing else {}

    async def start(self, ctx: StepContext) -> Operation | JsonObject:
        """PUT the key row that was named before."""
        instance, kid = await instance_of(ctx), str(ctx.before.get("kid") or "")
        if instance is None or not kid:
            return {}
        return await ctx.cloud.sql.put_key(instance, instance_key_name(kid), kid)

    async def verify(self, ctx: StepContext) -> Verified:
        """Read the rows back and compare thumbprints.

        A part is done when its own row is listed: a rollback that does not see it yet would
        delete the HSM under it.
        """
        instance = await instance_of(ctx)
        if instance is None:
            return Verified((ok("K07", "nothing to link"),))
        pairs = _pairs(ctx, await ctx.cloud.sql.keys(instance))
        wrong = [
            f"{new.name} has thumbprint {new.thumbprint}, the old row {old.thumbprint}"
            for old, _, new in pairs
            if new is not None and new.thumbprint.upper() != old.thumbprint.upper()
        ]
        if wrong:
            advice = "The key on the target is another one: plan again with the right backup."
            return Verified((block("K06", "; ".join(wrong), advice),))
        sent = ctx.before.get("kid")
        if any(kid == sent and new is None for _, kid, new in pairs):
            return Verified((block("K07", f"{_short(instance)} does not list {sent} yet"),))
        linked = [new for _, _, new in pairs if new is not None]
        text = f"{_short(instance)}: {len(linked)} of {len(pairs)} keys linked, thumbprints equal"
        return Verified((ok("K07", text),), more=len(linked) < len(pairs))

    def manual(self, ctx: StepContext) -> str:
        """Return the az command."""
        return f"az sql mi key create -g RG --mi INSTANCE -k https://{target_host(ctx)}/keys/K/V"


async def _moving(ctx: StepContext) -> tuple[str, Protector] | None:
    """Return instance and protector of the step's role, None where there is none to be moved."""
    instance = await instance_of(ctx)
    if instance is None:
        return None
    protector = await ctx.cloud.sql.protector(instance)
    return None if is_elsewhere(ctx, protector.uri) else (instance, protector)


class Validate(BaseAction):
    """Ask the instance itself whether it can use the key on the target (rule I05).

    Source: POST {mi}/validateAzureKeyVaultEncryptionKey; changes nothing.
    """

    async def start(self, ctx: StepContext) -> Operation | JsonObject:
        """POST the question for the key that is to be the protector."""
        if (moving := await _moving(ctx)) is None:
            return {}
        instance, protector = moving
        kid = kid_on(protector.uri, target_host(ctx))
        return await ctx.cloud.sql.start_validate(instance, kid) or {}

    async def verify(self, ctx: StepContext) -> Verified:
        """The operation's success is the answer, where there was a key to ask for."""
        instance = await instance_of(ctx)
        if instance is None:
            return Verified((ok("I05", "the group has no such role"),))
        protector = await ctx.cloud.sql.protector(instance)
        if is_elsewhere(ctx, protector.uri):
            return Verified((ok("I05", f"{_left(instance, protector)}; nothing was asked"),))
        return Verified((ok("I05", "the instance can use the key on the target"),))

    def manual(self, ctx: StepContext) -> str:
        """Return the az command."""
        return (
            'az rest --method post --url "{mi}/validateAzureKeyVaultEncryptionKey'
            '?api-version=2024-11-01-preview" --body'
            f' \'{{"tdeKeyUri":"https://{target_host(ctx)}/keys/K/V"}}\''
        )


class SetProtector(BaseAction):
    """Make the key on the target the instance's protector.

    Source: PUT {mi}/encryptionProtector/current. Where the service refuses while databases
    are inaccessible, the instance is asked to look again first (sqlmi-protocol §1.8, INFER).
    """

    async def probe(self, ctx: StepContext) -> ProbeResult:
        """Read the protector and what the instance is busy with."""
        instance = await instance_of(ctx)
        if instance is None:
            return Present({}, "the group has no such role")
        if ctx.operation is not None and (known := await known_operation(ctx, self)) is not None:
            return known
        protector = await ctx.cloud.sql.protector(instance)
        if is_on_target(ctx, protector.uri):
            return Present({"key_name": protector.key_name}, "it is the protector already")
        if is_elsewhere(ctx, protector.uri):
            return Present({"key_name": protector.key_name}, _left(instance, protector))
        if busy := await ctx.cloud.sql.busy(instance):
            return Busy(f"{_short(instance)} is busy: {', '.join(busy)}", 15_000)
        return Absent(f"the protector is {protector.key_name}")

    async def before(self, ctx: StepContext) -> JsonObject:
        """Refuse a switch to a key that is not linked: where its link was left out, say so.

        What the switch takes away beside the key is kept: whether the key rotated by itself.

        Raises:
            GuardError: the service would refuse it, at each resume.
        """
        if (moving := await _moving(ctx)) is None:
            return {}
        instance, protector = moving
        kid = kid_on(protector.uri, target_host(ctx))
        linked = {row.name.lower() for row in await ctx.cloud.sql.keys(instance)}
        if (name := instance_key_name(kid)).lower() not in linked:
            raise GuardError(
                f"{_short(instance)} has no key {name}: its link was left out or undone, and the"
                " switch would be refused; nothing was sent",
                hint=f"Link it by hand: az sql mi key create -g RG --mi {_short(instance)} -k {kid}"
                f"   then: drengine resume {ctx.root}",
            )
        return {"auto_rotation": True} if protector.auto_rotation else {}

    async def start(self, ctx: StepContext) -> Operation | JsonObject:
        """PUT the protector, or ask to look again where that was refused before."""
        if (moving := await _moving(ctx)) is None:
            return {}
        instance, protector = moving
        if ctx.last_code == _NOT_ALLOWED_WHILE_INACCESSIBLE:
            return await ctx.cloud.sql.start_reevaluate(instance) or {}
        name = instance_key_name(kid_on(protector.uri, target_host(ctx)))
        return await ctx.cloud.sql.put_protector(instance, name)

    async def verify(self, ctx: StepContext) -> Verified:
        """Read the protector back."""
        instance = await instance_of(ctx)
        if instance is None:
            return Verified((ok("protector-on-target", "nothing to switch"),))
        protector = await ctx.cloud.sql.protector(instance)
        found = f"{_short(instance)}: protector is {protector.key_name}"
        if is_elsewhere(ctx, protector.uri):
            return Verified((ok("protector-on-target", _left(instance, protector)),))
        if is_on_target(ctx, protector.uri):
            rotated = bool(ctx.before.get("auto_rotation")) and not protector.auto_rotation
            return Verified(
                (ok("protector-on-target", found), *(_no_longer_rotating(instance),) * rotated),
                {"key_name": protector.key_name},
                {"protector": protector.to_json()},
            )
        if ctx.last_code == _NOT_ALLOWED_WHILE_INACCESSIBLE:
            return Verified((ok("protector-on-target", f"{found}; looked again"),), more=True)
        return Verified((block("protector-on-target", found),))

    def manual(self, ctx: StepContext) -> str:
        """Return the az command."""
        return (
            "az sql mi tde-key set -g RG --mi INSTANCE -t AzureKeyVault"
            f" -k https://{target_host(ctx)}/keys/K/V"
        )


def _left(instance: str, protector: Protector) -> str:
    what = f"its protector is {protector.uri or protector.type}"
    return f"{_short(instance)}: {what}, no key of the lost HSM, and is left as it is"


def _no_longer_rotating(instance: str) -> Finding:
    return warn(
        "G03",
        f"{_short(instance)}: the protector rotated by itself before, and does not any more",
        "Where that is wanted, switch it on again once both members of a group are on the target:"
        " az sql mi tde-key set … --auto-rotation-enabled true",
    )


class Reevaluate(BaseAction):
    """Ask every member with inaccessible databases to look at them again.

    Past the auto-heal window this is the normal way. One instance a send.
    Source: POST {mi}/reevaluateInaccessibleDatabaseState; rule T02.
    """

    async def probe(self, ctx: StepContext) -> ProbeResult:
        """Look for inaccessible databases."""
        if ctx.operation is not None and (known := await known_operation(ctx, self)) is not None:
            return known
        sick = await _inaccessible(ctx)
        return Absent(f"{len(sick)} instances hold some") if sick else Present({}, "none is")

    async def start(self, ctx: StepContext) -> Operation | JsonObject:
        """POST for an instance that holds inaccessible databases, another one each time."""
        sick = await _inaccessible(ctx)
        if not sick:
            return {}
        return await ctx.cloud.sql.start_reevaluate(sick[ctx.sends % len(sick)]) or {}

    async def poll(self, ctx: StepContext, operation: Operation) -> OperationStatus:
        """Ask the operation's own status URL."""
        return await ctx.cloud.operations.poll(operation)

    async def verify(self, ctx: StepContext) -> Verified:
        """Count again."""
        sick = await _inaccessible(ctx)
        if sick:
            text = f"{_short(sick[0])} still holds inaccessible databases"
            # Every member is asked once; one that does not heal by that is waited for.
            if ctx.sends < len(ctx.values["group"]["members"]):
                return Verified((ok("T02", text),), more=True)
            return Verified((block("T02", text),), again_ms=30_000)
        found = [ok("T02", "no database is inaccessible for want of its key")]
        group = ctx.values["group"]
        try:
            await roles_now(ctx, group)
        except GuardError:
            text = (
                f"the failover group {group['failover_group']['name']} is gone with the late heal"
            )
            found.append(warn("T02", text, "Create it again from the inventory; check tags."))
        return Verified(tuple(found))

    def manual(self, ctx: StepContext) -> str:
        """Return the az command."""
        del ctx
        return (
            'az rest --method post --url "{mi}/reevaluateInaccessibleDatabaseState'
            '?api-version=2024-11-01-preview"'
        )


async def _inaccessible(ctx: StepContext) -> list[str]:
    members = [str(m["id"]) for m in ctx.values["group"]["members"]]
    answers = await asyncio.gather(*(ctx.cloud.sql.databases(m) for m in members))
    return [
        member
        for member, databases in zip(members, answers, strict=True)
        if any(d.status == "Inaccessible" for d in databases)
    ]


_GROUP = Parameter("group", "the failover group or standalone instance")
_ROLE = Parameter("role", "Primary or Secondary")

ROLES = ReadRoles(
    ActionSpec(
        name="sql.roles",
        title="Read the group's roles",
        parameters=(_GROUP,),
        outputs=("primary", "secondary"),
        repeat=Repeat.READ,
        rest="GET …/instanceFailoverGroups",
        expected_ms=5_000,
    )
)

LINK_KEYS = LinkKeys(
    ActionSpec(
        name="sql.link_keys",
        title="Link the target's keys to the instance",
        parameters=(_GROUP, _ROLE),
        outputs=(),
        repeat=Repeat.BY_NAME,
        rest="PUT {mi}/keys/{name}",
        quiet_ms=60_000,
        poll_ms=5_000,
        settle_ms=60_000,
        expected_ms=60_000,
        expected_source="recorded: about one second a key",
    )
)

VALIDATE = Validate(
    ActionSpec(
        name="sql.validate",
        title="Ask the instance whether it can use the key",
        parameters=(_GROUP, _ROLE),
        outputs=(),
        repeat=Repeat.HARMLESS,
        rest="POST {mi}/validateAzureKeyVaultEncryptionKey",
        quiet_ms=30_000,
        poll_ms=5_000,
        expected_ms=30_000,
    )
)

SET_PROTECTOR = SetProtector(
    ActionSpec(
        name="sql.set_protector",
        title="Switch the protector to the target's key",
        parameters=(_GROUP, _ROLE),
        outputs=("key_name",),
        repeat=Repeat.BY_NAME,
        rest="PUT {mi}/encryptionProtector/current",
        quiet_ms=120_000,
        look_gap_ms=30_000,
        poll_ms=10_000,
        settle_ms=120_000,
        expected_ms=107_000,
        expected_source="recorded: 107 s",
    )
)

REEVALUATE = Reevaluate(
    ActionSpec(
        name="sql.reevaluate",
        title="Make the databases look for their key again",
        parameters=(_GROUP,),
        outputs=(),
        repeat=Repeat.HARMLESS,
        rest="POST {mi}/reevaluateInaccessibleDatabaseState",
        quiet_ms=60_000,
        poll_ms=10_000,
        settle_ms=7_200_000,
        expected_ms=300_000,
        expected_source="planning value; Business Critical takes longer (restore path)",
    )
)
