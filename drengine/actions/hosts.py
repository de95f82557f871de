"""Which HSM a key is on: the lost one, the target, or another."""

from __future__ import annotations

from drengine.actions.contract import StepContext
from drengine.actions.names import host_of, hsm_uri, is_host_of_hsm


def target_host(ctx: StepContext) -> str:
    """Return the data-plane host of the target HSM."""
    return host_of(hsm_uri(str(ctx.inputs["target_hsm"]), ctx.where.hsm_suffix))


def is_on_target(ctx: StepContext, uri: str) -> bool:
    """Whether a key is on the target HSM."""
    return is_host_of_hsm(host_of(uri), str(ctx.inputs["target_hsm"]), ctx.where.hsm_suffix)


def is_on_source(ctx: StepContext, uri: str) -> bool:
    """Whether a key is on the lost HSM."""
    return is_host_of_hsm(host_of(uri), str(ctx.inputs["source_hsm"]), ctx.where.hsm_suffix)


def is_elsewhere(ctx: StepContext, uri: str) -> bool:
    """Whether a protector's key is on neither: such a protector works, and is left as it is."""
    return not is_on_target(ctx, uri) and not is_on_source(ctx, uri)
