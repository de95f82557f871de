"""Whose turn it is: the holder tag on the target HSM, read before every send.

A lease cannot reach from one host to another, so a run that moved says so on the thing it
works on. The host that took the run over sets the tag before its first send; the one it
came from, should it come back, finds a later holder than itself and stops.

Rules:
- A tag of a later holder, or of another host's same turn, ends this process (`HandedOver`).
- After setting the tag nothing is sent for the quiet period of the step: what the other
  host sent just before is then visible, and the step looks again.
- Reading and sending are two requests: a host that read the tag just before it was set may
  still send once. That window is why the quiet period follows, not why it is skipped.

Not for runs that did not create their target HSM: its tags are another run's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from drengine.actions.base import (
    HOLDER_TAG,
    RUN_TAG,
    holder_of,
    refuse_if_superseded,
    target_hsm,
)
from drengine.actions.contract import StepContext
from drengine.engine.chain import Chain
from drengine.errors import AzureError, UnknownOutcome
from drengine.model.cloud import HsmResource
from drengine.model.records import RecordType as R

_AGAIN_MS: Final = 15_000


@dataclass(frozen=True, slots=True)
class Held:
    """A send that has to wait, and until when."""

    why: str
    not_before_ms: int


async def may_send(chain: Chain, ctx: StepContext, quiet_ms: int) -> Held | None:
    """Read the target's holder tag; set it where this host has just taken the run over.

    Parameters:
        quiet_ms: how long an effect of the step's request may stay invisible.

    Raises:
        HandedOver: another host took the run over.
        AzureError: the target cannot be read.
    """
    if "target_hsm" not in ctx.inputs or "resource_group" not in ctx.inputs:
        return None
    hsm = await target_hsm(ctx)
    if hsm is None or hsm.tags.get(RUN_TAG) != ctx.root:
        return None  # nothing to mark yet, or not ours: the action's own guard says so
    refuse_if_superseded(hsm, ctx.holder)
    if holder_of(hsm) != ctx.holder:
        return await _mark(chain, ctx, hsm, quiet_ms)
    marked = chain.state.marked_ms
    if marked is None or ctx.now_ms >= marked + quiet_ms:
        return None
    return Held("the target was marked as this host's; quiet period", marked + quiet_ms)


async def _mark(chain: Chain, ctx: StepContext, hsm: HsmResource, quiet_ms: int) -> Held:
    if hsm.provisioning_state != "Succeeded":
        why = f"the target is {hsm.provisioning_state} and not yet marked as this host's"
        return Held(why, ctx.now_ms + _AGAIN_MS)
    why = f"the holder tag of {hsm.name} is {holder_of(hsm)!r}; this host took over and sets it"
    # The intent of a change that may be repeated: the tag has one value per take-over.
    chain.append(R.NOTE, {"step": ctx.step, "holder": ctx.holder, "why": why})
    patch = {"tags": {**hsm.tags, HOLDER_TAG: ctx.holder}}
    try:
        await ctx.cloud.hsms.start_update(hsm.resource_group, hsm.name, patch)
    except UnknownOutcome as error:
        return Held(error.message, ctx.now_ms + _AGAIN_MS)
    except AzureError as error:
        if not error.transient:
            raise
        return Held(error.message, ctx.now_ms + _AGAIN_MS)
    return Held(why, ctx.now_ms + quiet_ms)
