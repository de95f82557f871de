"""Actions of the security domain: the exchange key, the upload of the finished blob.

The engine never sees a share, a custodian's key or the plain domain: it handles an
exchange certificate and a blob that only the target HSM can open.
"""

from __future__ import annotations

from drengine.actions.base import BaseAction, our_target
from drengine.actions.contract import (
    Absent,
    Busy,
    InProgress,
    Present,
    ProbeResult,
    Stale,
    StepContext,
    Undecidable,
    Verified,
)
from drengine.ceremony.blob import inspect_restore_blob
from drengine.errors import DrError, GuardError
from drengine.model.canonical import JsonObject
from drengine.model.catalogue import ActionSpec, Parameter, Repeat
from drengine.model.cloud import Operation, OperationKind, OperationState, OperationStatus
from drengine.model.findings import Findings, block, ok, warn


class ExchangeKey(BaseAction):
    """Put the target into recovery mode and keep its exchange certificate.

    Source: GET /securitydomain/upload. Whether a later GET returns the same key is not
    documented, so it is read twice: where the key changed, the second one holds and is not
    read again before the upload, which would void it under a finished blob.
    """

    async def start(self, ctx: StepContext) -> Operation | JsonObject:
        """Read the transfer key and store the certificate beside the journal."""
        hsm = await our_target(ctx)
        if hsm.activation_status == "Active":
            raise GuardError(
                f"{hsm.name} is active already: it has a security domain and takes no other",
                hint="Find out who gave it one. This run cannot use it:"
                f" drengine rollback {ctx.root} --reason TEXT, then plan again.",
            )
        key = await ctx.cloud.hsm(hsm.uri).transfer_key()
        sha256 = ctx.objects.put_object(key.certificate_der)
        return {"x5t_256": key.x5t_256, "certificate": sha256, "uri": hsm.uri, "stable": True}

    async def verify(self, ctx: StepContext) -> Verified:
        """Read the key once more: does this service show the same one?"""
        kept = ctx.outputs[ctx.step]
        if "uri" not in kept:  # a person marked the step as done
            return Verified((block("exchange-key-stable", "this run has not read the key"),))
        key = await ctx.cloud.hsm(str(kept["uri"])).transfer_key()
        if key.x5t_256 == kept["x5t_256"]:
            found = ok("exchange-key-stable", f"exchange key {key.x5t_256} read twice, equal")
            return Verified((found,))
        finding = warn(
            "exchange-key-stable",
            f"this HSM shows another exchange key at each read; the last one, {key.x5t_256}, holds"
            " and is not read again",
            "Nobody else may read the exchange key until the blob is uploaded.",
        )
        sha256 = ctx.objects.put_object(key.certificate_der)
        newer = {"x5t_256": key.x5t_256, "certificate": sha256, "stable": False}
        return Verified((finding,), newer)

    def manual(self, ctx: StepContext) -> str:
        """Return the az command."""
        name = ctx.inputs["target_hsm"]
        return (
            f"az keyvault security-domain init-recovery --hsm-name {name}"
            f" --sd-exchange-key {name}-exchange.cer"
        )


class UploadDomain(BaseAction):
    """Upload the restore blob: gives the target the source's security domain for ever.

    Source: POST /securitydomain/upload, GET /securitydomain/upload/pending (a singleton:
    its effect can always be found by looking).
    """

    async def probe(self, ctx: StepContext) -> ProbeResult:
        """Look at activation, the pending operation, and whether the blob still fits."""
        hsm = await our_target(ctx)
        data = ctx.cloud.hsm(hsm.uri)
        if hsm.activation_status == "Active":
            if ctx.sends == 0:
                return Undecidable(
                    f"{hsm.name} is active, but this run has uploaded nothing",
                    "Find out who activated it, and with which domain. With the right one:"
                    f" drengine mark-done {ctx.run} {ctx.step} --evidence FILE",
                )
            return Present({}, "the HSM is active and this run sent the domain")
        pending = await data.upload_status() if ctx.sends else None
        if pending is not None and pending.state is OperationState.RUNNING:
            return InProgress(_upload_operation(hsm.uri), pending.detail)
        if pending is not None and pending.state is OperationState.SUCCEEDED:
            return Busy("the upload succeeded; the resource does not show it as active yet")
        if (kept := unstable_key(ctx)) is not None:
            return Absent(f"not active, no upload pending; the key {kept} is not read again")
        key = await data.transfer_key()
        if key.x5t_256 != ctx.values["exchange"]:
            return Stale(
                f"the HSM now shows exchange key {key.x5t_256}; the blob was made for"
                f" {ctx.values['exchange']}"
            )
        return Absent("not active, no upload pending, the exchange key is the blob's")

    async def start(self, ctx: StepContext) -> Operation | JsonObject:
        """POST the blob."""
        hsm = await our_target(ctx)
        blob = ctx.objects.get_object(str(ctx.values["blob"]))
        for finding in check_restore_blob(blob, {"exchange": ctx.values["exchange"]}):
            if not finding.holds:
                raise GuardError(finding.message, hint=finding.advice)
        return await ctx.cloud.hsm(hsm.uri).start_upload(blob)

    async def poll(self, ctx: StepContext, operation: Operation) -> OperationStatus:
        """Ask the singleton; an answer that there is none means: read the resource."""
        status = await ctx.cloud.hsm(operation.resource).upload_status()
        return status or OperationStatus(OperationState.LOST)

    async def verify(self, ctx: StepContext) -> Verified:
        """Read the activation state from the resource manager."""
        hsm = await our_target(ctx)
        if hsm.activation_status == "Active":
            return Verified((ok("hsm-active", f"{hsm.name} is active"),))
        return Verified((block("hsm-active", f"{hsm.name} is {hsm.activation_status}"),))

    def manual(self, ctx: StepContext) -> str:
        """Return the az command."""
        return (
            f"az keyvault security-domain upload --hsm-name {ctx.inputs['target_hsm']}"
            " --sd-file restore-blob.json --restore-blob"
        )


def unstable_key(ctx: StepContext) -> str | None:
    """Return the recorded exchange key where reading it again would replace it, else None."""
    for outputs in ctx.outputs.values():
        if outputs.get("stable") is False and "x5t_256" in outputs:
            return str(outputs["x5t_256"])
    return None


def _upload_operation(uri: str) -> Operation:
    url = f"{uri.rstrip('/')}/securitydomain/upload/pending"
    return Operation(OperationKind.SD_UPLOAD, url, resource=uri)


def check_restore_blob(data: bytes, expects: JsonObject) -> Findings:
    """Return whether delivered bytes are a restore blob for the expected exchange key."""
    try:
        blob = inspect_restore_blob(data)
    except DrError as error:
        return (block("restore-blob", error.message, error.hint),)
    if blob.exchange_x5t_256 != expects["exchange"]:
        return (
            block(
                "restore-blob",
                f"the blob was made for exchange key {blob.exchange_x5t_256}, the target shows"
                f" {expects['exchange']}",
                "Make the blob again for this run's exchange certificate.",
            ),
        )
    size, parts = blob.size_bytes, len(blob.tags)
    return (ok("restore-blob", f"a restore blob of {size} bytes, {parts} parts, for this key"),)


EXCHANGE_KEY = ExchangeKey(
    ActionSpec(
        name="securitydomain.exchange_key",
        title="Read the security-domain exchange key",
        parameters=(),
        outputs=("x5t_256", "certificate", "uri", "stable"),
        repeat=Repeat.READ,
        rest="GET /securitydomain/upload",
        settle_ms=30_000,
        expected_ms=5_000,
        expected_source="recorded: under one second",
    )
)

UPLOAD = UploadDomain(
    ActionSpec(
        name="securitydomain.upload",
        title="Upload the security domain",
        parameters=(
            Parameter("blob", "SHA-256 of the delivered restore blob"),
            Parameter("exchange", "x5t#S256 of the exchange key it was made for"),
        ),
        outputs=(),
        repeat=Repeat.FINDABLE,
        rest="POST /securitydomain/upload",
        quiet_ms=60_000,
        look_gap_ms=30_000,
        poll_ms=5_000,
        settle_ms=600_000,
        timeout_ms=3_600_000,
        expected_ms=150_000,
        expected_source="recorded: 125 s and more",
    )
)
