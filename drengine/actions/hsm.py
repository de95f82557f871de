"""Actions on the HSM as a resource: create, role grants."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from shlex import quote
from typing import Any, Final

from drengine.actions.base import (
    HOLDER_TAG,
    RUN_TAG,
    BaseAction,
    known_operation,
    named_target,
    our_target,
    refuse_if_superseded,
    target_hsm,
)
from drengine.actions.contract import (
    Absent,
    Busy,
    Kept,
    Present,
    ProbeResult,
    StepContext,
    Undecidable,
    Verified,
)
from drengine.actions.instances import keys_if_there
from drengine.actions.names import host_of, hsm_uri, is_host_of_hsm
from drengine.errors import GuardError, NotAuthorized
from drengine.model.canonical import JsonObject
from drengine.model.catalogue import ActionSpec, Parameter, Repeat
from drengine.model.cloud import HsmResource, NewHsm, Operation, RoleAssignment
from drengine.model.findings import Findings, block, ok
from drengine.model.ids import is_same_id, region_key

CRYPTO_SERVICE_USER: Final = "33413926-3206-4cdd-b39a-83574fe37a17"
"""Managed HSM Crypto Service Encryption User: what an instance's identity needs."""

CRYPTO_AUDITOR: Final = "2c18b078-7c48-4d3a-af88-5a3a1b3f82b3"
"""Managed HSM Crypto Auditor: reads keys and their attributes, uses none."""

_READERS: Final = (
    CRYPTO_AUDITOR,
    "21dbd100-6940-42c2-9190-5d6cb909625b",  # Managed HSM Crypto User
)
_FAILED_STATES: Final = ("failed", "deleting", "canceled", "cancelled")
"""Of these nothing comes any more, however the service spells them."""


def _new_hsm(ctx: StepContext) -> NewHsm:
    values = ctx.values
    admins = [str(admin) for admin in values.get("admins") or ()]
    if not any(is_same_id(admin, ctx.where.principal) for admin in admins):
        admins.append(ctx.where.principal)
    identity = values.get("identity")
    return NewHsm(
        resource_group=str(values["resource_group"]),
        name=str(values["name"]),
        location=str(values["location"]),
        tenant=ctx.where.tenant,
        admins=tuple(admins),
        purge_protection=bool(values.get("purge_protection")),
        soft_delete_days=int(values.get("soft_delete_days") or 90),
        sku=str(values.get("sku") or "Standard_B1"),
        identities=(str(identity),) if identity else (),
        tags={
            RUN_TAG: ctx.root,
            HOLDER_TAG: ctx.holder,
            "drengine-class": str(ctx.run_class),
        },
        network={"bypass": "AzureServices", "defaultAction": "Allow"},
    )


class CreateHsm(BaseAction):
    """Create the target HSM, tagged with the run.

    Source: PUT Microsoft.KeyVault/managedHSMs; reliability.md, reconcile table, first row.
    """

    async def probe(self, ctx: StepContext) -> ProbeResult:
        """Find the resource by name and tag."""
        hsm = await target_hsm(ctx)
        if hsm is None:
            return Absent("no HSM of that name in the resource group")
        if hsm.tags.get(RUN_TAG) != ctx.root:
            return Undecidable(
                f"HSM {hsm.name} has the run tag {hsm.tags.get(RUN_TAG)!r}, not {ctx.root!r}",
                "It is not this run's. Plan again with another target name.",
            )
        refuse_if_superseded(hsm, ctx.holder)
        state = hsm.provisioning_state.lower()
        if state in _FAILED_STATES:
            return Undecidable(
                f"HSM {hsm.name} is ours but {hsm.provisioning_state}: {hsm.status_message}",
                "Its name stays taken while it is soft-deleted: roll back, and plan with another"
                " target name.",
            )
        if state != "succeeded":
            return await known_operation(ctx, self) or Busy(f"it is {hsm.provisioning_state}")
        return Present(_hsm_outputs(hsm), "it exists with this run's tag")

    async def start(self, ctx: StepContext) -> Operation | JsonObject:
        """PUT the resource."""
        return await ctx.cloud.hsms.create_hsm(_new_hsm(ctx))

    async def verify(self, ctx: StepContext) -> Verified:
        """Read the resource: provisioned, as asked, ours."""
        new, hsm = _new_hsm(ctx), await target_hsm(ctx)
        if hsm is None:
            return Verified((block("hsm-created", f"{new.name} cannot be read"),))
        wrong = [
            f"{what} is {found!r}, asked for {asked!r}"
            for what, found, asked in (
                ("location", region_key(hsm.location), new.location.lower()),
                ("purge protection", hsm.purge_protection, new.purge_protection),
                ("run tag", hsm.tags.get(RUN_TAG), str(ctx.root)),
                ("tenant", hsm.tenant.lower(), new.tenant.lower()),
            )
            if found != asked
        ]
        if not any(is_same_id(admin, ctx.where.principal) for admin in hsm.admins):
            wrong.append("this principal is not among its initial administrators")
        if hsm.provisioning_state.lower() != "succeeded":
            wrong.append(f"provisioning state is {hsm.provisioning_state}")
        finding = (
            block("hsm-created", "; ".join(wrong))
            if wrong
            else ok("hsm-created", f"{hsm.name} is provisioned in {hsm.location} as asked")
        )
        return Verified((finding,), _hsm_outputs(hsm), {"resource": hsm.to_json()})

    async def may_undo(self, ctx: StepContext) -> Kept | None:
        """Allow the delete of our own HSM that nothing uses.

        Raises:
            GuardError: an instance has one of its keys linked.
        """
        hsm = await target_hsm(ctx)
        if hsm is None:
            return Kept("it does not exist")
        if hsm.tags.get(RUN_TAG) != ctx.root:
            return Kept(f"{hsm.name} is not this run's")
        for instance in await ctx.cloud.sql.instances():
            rows = await keys_if_there(ctx.cloud, instance.id)
            if any(_is_of(ctx, hsm.name, key.uri) for key in rows or ()):
                raise GuardError(
                    f"deleting {hsm.name}: instance {instance.name} has a key of it linked; its"
                    " databases would become inaccessible. Nothing was deleted",
                    hint="Point the instance elsewhere first, then roll back again.",
                )
        return None

    async def verify_undone(self, ctx: StepContext) -> Findings:
        """Read that it is gone, or only soft-deleted any more."""
        hsm = await target_hsm(ctx)
        if hsm is not None:
            state = hsm.provisioning_state
            return (block("hsm-deleted", f"{hsm.name} is still there: {state}"),)
        name = str(ctx.inputs["target_hsm"])
        deleted = await ctx.cloud.hsms.find_deleted(name)
        until = f", soft-deleted until {deleted.scheduled_purge_date}" if deleted else ""
        return (ok("hsm-deleted", f"{name} is deleted{until}; drengine never purges by itself"),)

    async def undo(self, ctx: StepContext) -> Operation | JsonObject:
        """Soft-delete the HSM that this run created."""
        hsm = await our_target(ctx)
        return await ctx.cloud.hsms.start_delete(hsm.resource_group, hsm.name)

    def manual(self, ctx: StepContext) -> str:
        """Return the az command."""
        new = _new_hsm(ctx)
        purge = " --enable-purge-protection true" if new.purge_protection else ""
        identity = f" --mi-user-assigned {new.identities[0]}" if new.identities else ""
        # without its tags the run would take the HSM for somebody else's
        tags = " ".join(quote(f"{name}={value}") for name, value in new.tags.items())
        return (
            f"az keyvault create --hsm-name {new.name} -g {new.resource_group} -l {new.location}"
            f" --administrators {' '.join(new.admins)} --retention-days {new.soft_delete_days}"
            f"{purge}{identity} --sku {new.sku} --tags {tags}"
        )


def _is_of(ctx: StepContext, name: str, uri: str) -> bool:
    return is_host_of_hsm(host_of(uri), name, ctx.where.hsm_suffix)


def _hsm_outputs(hsm: HsmResource) -> dict[str, Any]:
    return {"id": hsm.id, "uri": hsm.uri, "name": hsm.name, "location": hsm.location}


class GrantIdentities(BaseAction):
    """Give every instance's identity the right to wrap and unwrap on the target HSM.

    A full restore brings role assignments back; this closes what changed since. Sends one
    assignment at a time, under a name derived from what it grants.
    Source: PUT {scope}/providers/Microsoft.Authorization/roleAssignments/{name}; rule I03.
    """

    async def probe(self, ctx: StepContext) -> ProbeResult:
        """List assignments and look for each identity."""
        missing = await self._missing(ctx)
        return Absent(f"no assignment for {missing[0]}") if missing else Present({}, "all granted")

    async def start(self, ctx: StepContext) -> Operation | JsonObject:
        """PUT the first missing assignment."""
        await named_target(ctx)
        missing = await self._missing(ctx)
        if not missing:
            return {}
        name = uuid.uuid5(uuid.NAMESPACE_URL, f"{_target_uri(ctx)}#{missing[0]}")
        grant = RoleAssignment(str(name), "/keys", CRYPTO_SERVICE_USER, missing[0])
        await ctx.cloud.hsm(_target_uri(ctx)).put_role_assignment(grant)
        return {}

    async def verify(self, ctx: StepContext) -> Verified:
        """List assignments again."""
        missing = await self._missing(ctx)
        principals = _principals(ctx)
        if missing:
            found = ok("I03", f"{len(principals) - len(missing)} of {len(principals)} granted")
            return Verified((found,), more=True)
        return Verified((ok("I03", f"{len(principals)} identities may wrap and unwrap"),))

    async def _missing(self, ctx: StepContext) -> list[str]:
        assignments = await ctx.cloud.hsm(_target_uri(ctx)).role_assignments()
        return [p for p in _principals(ctx) if not _may_use_keys(p, assignments)]

    def manual(self, ctx: StepContext) -> str:
        """Return the az commands."""
        name = str(ctx.inputs["target_hsm"])
        return "\n".join(
            f"az keyvault role assignment create --hsm-name {name} --scope /keys"
            f" --role {CRYPTO_SERVICE_USER} --assignee-object-id {principal}"
            for principal in _principals(ctx)
        )


def _target_uri(ctx: StepContext) -> str:
    return hsm_uri(str(ctx.inputs["target_hsm"]), ctx.where.hsm_suffix)


def _principals(ctx: StepContext) -> list[str]:
    members = ctx.values.get("members") or []
    found = [str(p) for member in members for p in member.get("principals", [])[:1]]
    if len(found) < len(members):
        raise GuardError(
            "an instance has no identity that could use a key",
            hint="Give it a managed identity first (rule I02), then plan again.",
        )
    return sorted(set(found))


def _may_use_keys(principal: str, assignments: Sequence[RoleAssignment]) -> bool:
    return any(
        is_same_id(a.principal, principal)
        and is_same_id(a.role, CRYPTO_SERVICE_USER)
        and a.scope in ("/", "/keys")
        for a in assignments
    )


class GrantSelf(BaseAction):
    """Let this principal list the target's keys: an administrator may not (mhsm-protocol §3.2).

    Only reading is granted, and the restore replaces it with what the backup holds.
    """

    async def probe(self, ctx: StepContext) -> ProbeResult:
        """Look for an assignment that allows reading."""
        hsm = await our_target(ctx)
        assignments = await ctx.cloud.hsm(hsm.uri).role_assignments()
        me = ctx.where.principal
        if any(is_same_id(a.principal, me) and a.role.lower() in _READERS for a in assignments):
            return Present({}, "this principal has a role that reads keys")
        return Absent("this principal has no role that reads keys")

    async def start(self, ctx: StepContext) -> Operation | JsonObject:
        """PUT the assignment."""
        hsm = await our_target(ctx)
        me = ctx.where.principal
        name = uuid.uuid5(uuid.NAMESPACE_URL, f"{hsm.uri}#{me}#read")
        grant = RoleAssignment(str(name), "/keys", CRYPTO_AUDITOR, me)
        await ctx.cloud.hsm(hsm.uri).put_role_assignment(grant)
        return {}

    async def verify(self, ctx: StepContext) -> Verified:
        """List the keys: roles need a moment to take effect."""
        hsm = await our_target(ctx)
        try:
            names = await ctx.cloud.hsm(hsm.uri).key_names()
        except NotAuthorized as error:
            return Verified((block("may-list-keys", error.message),), again_ms=5_000)
        return Verified((ok("may-list-keys", f"the target's {len(names)} keys can be listed"),))

    def manual(self, ctx: StepContext) -> str:
        """Return the az command."""
        return (
            f"az keyvault role assignment create --hsm-name {ctx.inputs['target_hsm']}"
            f" --scope /keys --role {CRYPTO_AUDITOR} --assignee-object-id {ctx.where.principal}"
        )


CREATE = CreateHsm(
    ActionSpec(
        name="hsm.create",
        title="Create the target HSM",
        parameters=(
            Parameter("name", "name of the new HSM"),
            Parameter("resource_group", "where it is placed"),
            Parameter("location", "Azure region"),
            Parameter("purge_protection", "cannot be undone; SQL MI demands it"),
            Parameter("soft_delete_days", "retention after a delete", required=False),
            Parameter("sku", "Standard_B1 where absent", required=False),
            Parameter("admins", "further initial administrators (object ids)", required=False),
            Parameter(
                "identity", "user-assigned identity that reaches the storage", required=False
            ),
        ),
        outputs=("id", "uri", "name", "location"),
        repeat=Repeat.BY_NAME,
        rest="PUT Microsoft.KeyVault/managedHSMs/{name}",
        quiet_ms=120_000,
        look_gap_ms=30_000,
        poll_ms=20_000,
        settle_ms=300_000,
        timeout_ms=5_400_000,
        expected_ms=900_000,
        expected_source="eight recorded creates took 9 to 21 minutes",
    )
)

GRANT = GrantIdentities(
    ActionSpec(
        name="hsm.grant_identities",
        title="Let the instances' identities use the keys",
        parameters=(Parameter("members", "instances with their principals"),),
        outputs=(),
        repeat=Repeat.BY_NAME,
        rest="PUT /keys/providers/Microsoft.Authorization/roleAssignments/{guid}",
        quiet_ms=15_000,
        look_gap_ms=5_000,
        settle_ms=60_000,
        expected_ms=60_000,
    )
)

GRANT_SELF = GrantSelf(
    ActionSpec(
        name="hsm.grant_self",
        title="Let this principal list the target's keys",
        parameters=(),
        outputs=(),
        repeat=Repeat.BY_NAME,
        rest="PUT /keys/providers/Microsoft.Authorization/roleAssignments/{guid}",
        quiet_ms=15_000,
        look_gap_ms=5_000,
        settle_ms=600_000,
        expected_ms=30_000,
        expected_source="planning value; roles took up to three minutes in recordings",
    )
)
