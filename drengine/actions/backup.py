"""Full backup of the target, full restore into it.

A backup that is repeated makes one more folder: harmless, counted apart. A restore
replaces every key and every role assignment: after a lost answer it is never sent
again without a person, and a restore that is not ours is never adopted.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from drengine.actions.base import BaseAction, known_operation, our_target
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
from drengine.actions.documents import inventory_of
from drengine.actions.sas import BACKUP_RIGHTS, RESTORE_RIGHTS, RIGHTS
from drengine.actions.storage import az_options, storage_of
from drengine.errors import AzureError, DrError, GuardError, NotAuthorized
from drengine.model.canonical import JsonObject
from drengine.model.catalogue import ActionSpec, Parameter, Repeat
from drengine.model.cloud import Operation, OperationStatus
from drengine.model.findings import block, ok
from drengine.model.folders import folder_form, folder_prefix, folder_time_ms, is_folder_of
from drengine.model.times import utc_seconds

_BAD_REQUEST: Final = 400
_BACKUP_AGE_MS: Final = 30 * 60_000
_CLOCK_SKEW_MS = 120_000
"""A folder's name carries the service's clock, the intent the engine's."""


class BackupTarget(BaseAction):
    """Take a full backup of the target: the restore point, and a must before any restore.

    Source: POST /backup; seed 004 ("a backup is required before any restore").
    """

    async def probe(self, ctx: StepContext) -> ProbeResult:
        """Ask the recorded job, then look for a folder younger than the intent."""
        if (known := await known_operation(ctx, self)) is not None:
            return known
        if ctx.intent_at_ms is None:
            return Absent("this run has not sent a backup yet")
        folders = await _folders_since(ctx, ctx.intent_at_ms - _CLOCK_SKEW_MS)
        if not folders:
            return Absent("no folder of the target is younger than the intent")
        return Present({"folder": folders[-1]}, f"{len(folders)} folder(s) since the intent")

    async def start(self, ctx: StepContext) -> Operation | JsonObject:
        """POST the backup."""
        hsm = await our_target(ctx)
        return await ctx.cloud.hsm(hsm.uri).start_backup(await storage_of(ctx, BACKUP_RIGHTS))

    def outputs_of(self, status: OperationStatus) -> JsonObject:
        """Return the folder's name from the job's answer."""
        return {"folder": status.result.rstrip("/").rsplit("/", 1)[-1]} if status.result else {}

    async def verify(self, ctx: StepContext) -> Verified:
        """List the folder's blobs."""
        folder = str(ctx.outputs[ctx.step].get("folder", ""))
        target = await storage_of(ctx)
        blobs = await ctx.cloud.storage.list_blobs(target, f"{folder}/") if folder else ()
        if not blobs:
            why = f"folder {folder!r} holds no blob"
            return Verified((block("target-backup", why, "Resume: a new backup is taken."),))
        size = sum(blob.size for blob in blobs)
        found = ok("target-backup", f"{folder}: {len(blobs)} blobs, {size} bytes")
        counted = {"backups_of_target": len(await _folders_since(ctx, 0))}
        return Verified((found,), {"folder": folder}, counted)

    async def may_undo(self, ctx: StepContext) -> Kept | None:
        """Keep the folder: nothing of ours deletes from the container of backups."""
        folder = (ctx.outputs.get(ctx.step) or {}).get("folder") or "of the target"
        return Kept(f"the backup {folder} lies in the container, and does no harm")

    def manual(self, ctx: StepContext) -> str:
        """Return the az command."""
        options = az_options(ctx, BACKUP_RIGHTS)
        return f"az keyvault backup start --hsm-name {ctx.inputs['target_hsm']} {options}"


async def _folders_since(ctx: StepContext, since_ms: int) -> list[str]:
    name = str(ctx.inputs["target_hsm"])
    folders = await ctx.cloud.storage.list_folders(await storage_of(ctx), folder_prefix(name))
    ours = [folder for folder in folders if is_folder_of(name, folder)]
    return [folder for folder in ours if (folder_time_ms(folder) or 0) >= since_ms]


def _source_folder(ctx: StepContext) -> str:
    """Return the folder to restore from.

    Raises:
        GuardError: it is not a backup of the source.
    """
    folder, source = str(ctx.values["folder"]), str(ctx.inputs["source_hsm"])
    if is_folder_of(source, folder):
        return folder
    raise GuardError(
        f"restoring {folder!r}: it is not a backup of {source}, whose folders are named"
        f" {folder_form(source)}; nothing was sent",
        hint="Plan again with a folder of that HSM.",
    )


async def _young_backup(ctx: StepContext) -> str:
    """Return what to do where a refusal may be about the age of the target's own backup.

    Source: "a full backup at least 30 minutes before a restore" in the service's documents;
    recorded restores succeeded seconds after one (mhsm-protocol.md: enforcement unknown).
    """
    times = [folder_time_ms(folder) or 0 for folder in await _folders_since(ctx, 0)]
    old_enough_ms = max(times, default=0) + _BACKUP_AGE_MS
    if old_enough_ms <= ctx.now_ms:
        return ""
    return (
        "The documents ask for a backup of the target 30 minutes before a restore, and its newest"
        f" is younger. If the refusal is about that: after {utc_seconds(old_enough_ms)},"
        f" drengine resume {ctx.root}"
    )


class Restore(BaseAction):
    """Restore the source's full backup into the target.

    Source: PUT /restore; the job id exists only in the answer, and there is no list of jobs.
    """

    async def probe(self, ctx: StepContext) -> ProbeResult:
        """Ask the recorded job; without one, compare the target's keys with the inventory."""
        if (known := await known_operation(ctx, self)) is not None:
            return known
        if ctx.intent_at_ms is None:
            return Absent("this run has not sent a restore")
        hsm = await our_target(ctx)
        try:
            names = sorted(await ctx.cloud.hsm(hsm.uri).key_names())
        except NotAuthorized:
            # Role assignments are replaced with the keys: losing ours is a sign, not a proof.
            return Undecidable(
                "this principal may no longer list keys: the restore may have replaced the roles"
            )
        except AzureError as error:
            if error.transient:
                return Busy(f"the HSM does not answer: {error.message}", 15_000)
            raise
        expected = sorted({str(key["name"]) for key in inventory_of(ctx)["keys"]})
        held = ctx.before.get("keys", "an unknown number of")
        if not names:
            return Absent("the target holds no key")
        if names == expected and held == 0:
            return Present({}, f"the target was empty before and now holds all {len(names)} keys")
        return Undecidable(
            f"the target holds {len(names)} keys, it held {held} before the request, and the"
            f" inventory has {len(expected)}: whether this run's restore made them cannot be told"
        )

    async def before(self, ctx: StepContext) -> JsonObject:
        """Count the target's keys: where there was none, those found later are the restore's."""
        hsm = await our_target(ctx)
        try:
            return {"keys": len(await ctx.cloud.hsm(hsm.uri).key_names())}
        except NotAuthorized:
            return {}  # nothing to compare with: after a lost answer a person must look

    async def start(self, ctx: StepContext) -> Operation | JsonObject:
        """PUT the restore."""
        hsm = await our_target(ctx)
        folder = _source_folder(ctx)
        try:
            place = await storage_of(ctx, RESTORE_RIGHTS)
            return await ctx.cloud.hsm(hsm.uri).start_restore(place, folder)
        except AzureError as error:
            if error.status == _BAD_REQUEST:
                with suppress(DrError):  # the refusal is what counts, whatever more can be told
                    error.hint = await _young_backup(ctx) or error.hint
            raise

    async def verify(self, ctx: StepContext) -> Verified:
        """List the keys: every name of the inventory must be there."""
        hsm = await our_target(ctx)
        try:
            names = set(await ctx.cloud.hsm(hsm.uri).key_names())
        except NotAuthorized as error:
            # Local roles need a moment after they were replaced.
            return Verified((block("restored-keys", f"keys cannot be listed: {error.message}"),))
        expected = {str(key["name"]) for key in inventory_of(ctx)["keys"]}
        evidence: dict[str, Any] = {"found": len(names), "expected": len(expected)}
        if missing := sorted(expected - names):
            rpo = "They are younger than the backup, or it is another's: plan with another one."
            text = f"{len(missing)} of {len(expected)} keys are missing: {', '.join(missing[:10])}"
            return Verified((block("restored-keys", text, rpo),), evidence=evidence)
        return Verified(
            (ok("restored-keys", f"all {len(expected)} keys of the inventory are listed"),),
            evidence=evidence,
        )

    def manual(self, ctx: StepContext) -> str:
        """Return the az command."""
        return (
            f"az keyvault restore start --hsm-name {ctx.inputs['target_hsm']}"
            f" {az_options(ctx, RESTORE_RIGHTS)} --backup-folder {ctx.values['folder']}"
        )


class CheckRestore(BaseAction):
    """Let the service check the backup against this HSM; changes nothing that lasts.

    Source: PUT /prerestore (7.6-preview.2 and later). Finds an incomplete folder or a
    backup of another security domain before anything is replaced.
    """

    async def probe(self, ctx: StepContext) -> ProbeResult:
        """Ask the recorded job."""
        known = await known_operation(ctx, self)
        return known or Absent("not checked yet")

    async def start(self, ctx: StepContext) -> Operation | JsonObject:
        """PUT the check."""
        hsm = await our_target(ctx)
        folder = _source_folder(ctx)
        # What the check needs is not documented: it gets what covers every use.
        place = await storage_of(ctx, RIGHTS)
        return await ctx.cloud.hsm(hsm.uri).start_restore_check(place, folder)

    async def verify(self, ctx: StepContext) -> Verified:
        """The job's success is the answer."""
        folder = ctx.values["folder"]
        return Verified((ok("restore-check", f"the service would restore {folder}"),))

    def manual(self, ctx: StepContext) -> str:
        """Say that az has no verb for it."""
        del ctx
        return "az has no command for it; the step may be skipped"


BACKUP = BackupTarget(
    ActionSpec(
        name="hsm.backup",
        title="Back the target up before the restore",
        parameters=(),
        outputs=("folder",),
        repeat=Repeat.HARMLESS,
        rest="POST /backup",
        quiet_ms=60_000,
        look_gap_ms=15_000,
        poll_ms=5_000,
        settle_ms=60_000,
        expected_ms=60_000,
        expected_source="recorded: 8 to 11 s with few keys",
    )
)

CHECK_RESTORE = CheckRestore(
    ActionSpec(
        name="hsm.restore_check",
        title="Let the service check the backup",
        parameters=(Parameter("folder", "the backup folder of the source"),),
        outputs=(),
        repeat=Repeat.HARMLESS,
        rest="PUT /prerestore",
        quiet_ms=60_000,
        look_gap_ms=5_000,
        poll_ms=5_000,
        expected_ms=60_000,
    )
)

RESTORE = Restore(
    ActionSpec(
        name="hsm.restore",
        title="Restore the source's full backup",
        parameters=(Parameter("folder", "the backup folder of the source"),),
        outputs=(),
        repeat=Repeat.NEVER,
        rest="PUT /restore",
        quiet_ms=120_000,
        look_gap_ms=60_000,
        poll_ms=5_000,
        settle_ms=600_000,
        timeout_ms=10_800_000,
        expected_ms=300_000,
        expected_source="recorded: 7 to 47 s with few keys; grows with the number of keys",
    )
)
