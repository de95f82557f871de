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

from collections.abc import Callable
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


@dataclass(frozen=True, slots=True)
class Turn:
    """A send that is asked for.

    Attributes:
        root: the chain of the root run: the mark counts for all of its children.
        quiet_ms: how long an effect of the step's request may stay invisible.
        overtaken: says why nothing may be sent any more, empty where it may.
    """

    root: Chain
    ctx: StepContext
    quiet_ms: int
    overtaken: Callable[[], str] = str


async def may_send(turn: Turn) -> Held | None:
    """Read the target's holder tag; set it where this host has just taken the run over.

    Raises:
        HandedOver: another host took the run over.
        AzureError: the target cannot be read.
    """
    ctx = turn.ctx
    if "target_hsm" not in ctx.inputs or "resource_group" not in ctx.inputs:
        return None
    hsm = await target_hsm(ctx)
    if hsm is None or hsm.tags.get(RUN_TAG) != ctx.root:
        return None  # nothing to mark yet, or not ours: the action's own guard says so
    refuse_if_superseded(hsm, ctx.holder)
    if holder_of(hsm) != ctx.holder:
        return await _mark(turn, hsm)
    state, now_ms = turn.root.state, ctx.now_ms
    if state.marked_ms is None:
        return None
    # A mark of the future was made by a process whose clock was set back since.
    marked = state.marked_ms if state.marked_ms <= now_ms else state.opened_ms
    if now_ms >= marked + turn.quiet_ms:
        return None
    return Held("the target was marked as this host's; quiet period", marked + turn.quiet_ms)


async def _mark(turn: Turn, hsm: HsmResource) -> Held:
    ctx = turn.ctx
    if hsm.provisioning_state != "Succeeded":
        why = f"the target is {hsm.provisioning_state} and not yet marked as this host's"
        return Held(why, ctx.now_ms + _AGAIN_MS)
    why = f"the holder tag of {hsm.name} is {holder_of(hsm)!r}; this host took over and sets it"
    if overtaken := turn.overtaken():
        return Held(overtaken, 0)
    # The intent of a change that may be repeated: the tag has one value per take-over.
    turn.root.append(R.NOTE, {"for": f"{ctx.run} {ctx.step}", "holder": ctx.holder, "why": why})
    patch = {"tags": {**hsm.tags, HOLDER_TAG: ctx.holder}}
    try:
        await ctx.cloud.hsms.start_update(hsm.resource_group, hsm.name, patch)
    except UnknownOutcome as error:
        return Held(error.message, ctx.now_ms + _AGAIN_MS)
    except AzureError as error:
        if not error.transient:
            raise
        return Held(error.message, ctx.now_ms + _AGAIN_MS)
    return Held(why, ctx.now_ms + turn.quiet_ms)
