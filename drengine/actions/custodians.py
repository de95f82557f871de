"""Re-keying custodians: the security domain of a living HSM, wrapped for a new set.

The domain itself does not change, so a second download does no harm; and copies that were
wrapped for earlier custodians stay open to those: they have to be destroyed by people.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from types import ModuleType
from typing import Any

from drengine.actions.base import BaseAction, target_hsm
from drengine.actions.contract import StepContext, Verified
from drengine.errors import DrError, GuardError
from drengine.model.canonical import JsonObject
from drengine.model.catalogue import ActionSpec, Parameter, Repeat
from drengine.model.cloud import Operation
from drengine.model.findings import block, ok


def _founding() -> ModuleType:
    # Loads the cryptographic library: only where a domain is really made.
    return import_module("drengine.ceremony.founding")


class DownloadDomain(BaseAction):
    """Download the security domain of an active HSM, wrapped for new custodians.

    Source: POST /securitydomain/download; the domain is in the answer only.
    """

    async def start(self, ctx: StepContext) -> Operation | JsonObject:
        """POST the certificates; keep the answer before anything else is done with it."""
        hsm = await target_hsm(ctx)
        if hsm is None or hsm.activation_status != "Active":
            raise GuardError(
                f"{ctx.inputs['target_hsm']} is not active: it has no security domain to wrap anew",
                hint="A new HSM is activated with `drengine ceremony init-domain`.",
            )
        certificates, required = _wanted(ctx)
        domain, operation = await ctx.cloud.hsm(hsm.uri).start_download(certificates, required)
        return replace(operation, job=ctx.objects.put_object(domain))

    async def verify(self, ctx: StepContext) -> Verified:
        """Check that what was kept is the domain that was asked for."""
        if ctx.operation is None:
            return Verified((block("domain-kept", "nothing was downloaded in this run"),))
        sha256 = ctx.operation.job
        try:
            certificates, required = _wanted(ctx)
            found = _founding().check_new_domain(
                ctx.objects.get_object(sha256), certificates, required
            )
        except DrError as error:
            return Verified((block("domain-kept", error.message, error.hint),))
        said = f"the domain is kept: {required} of {len(certificates)} custodians, SHA-256 {sha256}"
        outputs = {
            "sha256": sha256,
            "size": found.size_bytes,
            "required": required,
            "custodians": list(found.custodians),
        }
        return Verified((ok("domain-kept", said),), outputs)

    def manual(self, ctx: StepContext) -> str:
        """Return the az command."""
        return (
            f"az keyvault security-domain download --hsm-name {ctx.inputs['target_hsm']}"
            f" --sd-quorum {ctx.values.get('required', 'M')} --sd-wrapping-keys CERTIFICATES"
            " --security-domain-file FILE"
        )


def _wanted(ctx: StepContext) -> tuple[list[bytes], int]:
    bundle = ctx.objects.get_object(str(ctx.values["custodians"]))
    required = int(str(ctx.values["required"]))
    return _founding().check_custodians(_founding().certificates_in(bundle), required), required


async def observe_custodians(ctx: StepContext) -> dict[str, Any]:
    """Return who the new custodians are: what the approval of a re-keying binds."""
    given: Any = ctx.inputs["custodians"]
    bundle = ctx.objects.get_object(str(given["sha256"]))
    required = int(str(ctx.inputs["quorum"]))
    return {
        "required": required,
        "custodians": names_of(_founding().certificates_in(bundle), required),
    }


def names_of(certificates: list[bytes], required: int) -> list[dict[str, str]]:
    """Return subject and x5t#S256 of each certificate, after checking the quorum."""
    from drengine.ceremony.certificates import (  # noqa: PLC0415 - only for this observation
        load_certificate,
        subject_of,
        thumbprint_of,
    )

    loaded = [load_certificate(der) for der in _founding().check_custodians(certificates, required)]
    return [{"subject": subject_of(one), "x5t_256": thumbprint_of(one)} for one in loaded]


DOWNLOAD = DownloadDomain(
    ActionSpec(
        name="securitydomain.download",
        title="Download the security domain for new custodians",
        parameters=(
            Parameter("custodians", "SHA-256 of a PEM bundle with their certificates, in order"),
            Parameter("required", "how many of them are needed"),
        ),
        outputs=("sha256", "size", "required", "custodians"),
        repeat=Repeat.HARMLESS,
        quiet_ms=60_000,
        rest="POST /securitydomain/download",
        poll_ms=5_000,
        settle_ms=60_000,
        timeout_ms=1_800_000,
        expected_ms=60_000,
        expected_source="recorded downloads confirm within a minute",
    )
)
