"""What most actions share: polling, no outputs from an operation, no undo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from drengine.actions.contract import Absent, InProgress, Kept, Present, ProbeResult, StepContext
from drengine.errors import GuardError, HandedOver
from drengine.model.canonical import JsonObject
from drengine.model.catalogue import ActionSpec
from drengine.model.cloud import HsmResource, Operation, OperationState, OperationStatus
from drengine.model.findings import Findings

RUN_TAG = "drengine-run"
"""The tag by which a run recognises the HSM that it created."""

HOLDER_TAG = "drengine-holder"
"""Which host's turn it is: `<number of moves>.<the record that began it or took it over>`."""

_NOBODY: Final = "0"
"""The tag of a target that no host has marked: it is absent, or the first drengine set it."""


@dataclass(frozen=True)
class BaseAction:
    """Defaults of an action; a subclass gives `start` and `verify`, mostly `probe`."""

    spec: ActionSpec

    async def probe(self, ctx: StepContext) -> ProbeResult:
        """Say absent: right for actions that only read."""
        del ctx
        return Absent()

    async def before(self, ctx: StepContext) -> JsonObject:
        """Read nothing: right for actions whose probe needs no comparison."""
        del ctx
        return {}

    async def poll(self, ctx: StepContext, operation: Operation) -> OperationStatus:
        """Ask the operation's own status URL."""
        return await ctx.cloud.operations.poll(operation)

    def outputs_of(self, status: OperationStatus) -> JsonObject:
        """Return nothing."""
        del status
        return {}

    async def may_undo(self, ctx: StepContext) -> Kept | None:
        """Keep the effect: most lie inside the target HSM and go with it."""
        del ctx
        return Kept("it lies inside the target HSM, or does no harm")

    async def undo(self, ctx: StepContext) -> Operation | JsonObject:
        """Refuse: this action has no way back."""
        raise GuardError(
            f"{self.spec.name} cannot be undone (step {ctx.step})",
            hint=f"Undo it by hand where it must go, then: drengine resume {ctx.root}",
        )

    async def verify_undone(self, ctx: StepContext) -> Findings:
        """Say nothing: nothing was undone."""
        del ctx
        return ()


async def known_operation(ctx: StepContext, action: BaseAction) -> ProbeResult | None:
    """Return what the step's own recorded operation says, None where that decides nothing.

    A failed or vanished operation decides nothing: the resource must be read.
    """
    if ctx.operation is None:
        return None
    status = await action.poll(ctx, ctx.operation)
    if status.state is OperationState.RUNNING:
        return InProgress(ctx.operation, "the recorded operation still runs")
    if status.state is OperationState.SUCCEEDED:
        return Present(action.outputs_of(status), "the recorded operation has succeeded")
    return None


async def target_hsm(ctx: StepContext) -> HsmResource | None:
    """Return the target HSM's resource, None where it does not exist."""
    group, name = str(ctx.inputs["resource_group"]), str(ctx.inputs["target_hsm"])
    return await ctx.cloud.hsms.get(group, name)


def holder_of(hsm: HsmResource) -> str:
    """Return what the holder tag says; one that nobody marked need not have it."""
    return hsm.tags.get(HOLDER_TAG, _NOBODY)


def refuse_if_superseded(hsm: HsmResource, holder: str) -> None:
    """Make sure that no other host has taken this run over and marked the target.

    Raises:
        HandedOver: the tag says a later holder, another one of the same turn, or nonsense.
    """
    found = holder_of(hsm)
    if found == holder or _moves(found) < _moves(holder):
        return
    raise HandedOver(
        f"target HSM {hsm.name} has the holder tag {found!r}, this host's is {holder!r}: another"
        " host drives this run (it took it over, or began the same plan); nothing was sent from"
        " here",
        hint="Go on there. Stop this host's part: do not resume it.",
    )


def _moves(holder: str) -> float:
    if holder == _NOBODY:
        return -1
    count = holder.partition(".")[0]
    # What cannot be read was not written by this version: it counts as later than anything.
    return int(count) if count.isascii() and count.isdigit() else float("inf")


async def our_target(ctx: StepContext) -> HsmResource:
    """Return the target HSM after making sure that it is this run's, and this host's turn.

    Raises:
        GuardError: it does not exist or carries another run's tag or none.
        HandedOver: another host took the run over.
    """
    hsm = await _existing_target(
        ctx, f"drengine status {ctx.root} says how the step that creates it ended."
    )
    refuse_unless_ours(ctx, hsm)
    return hsm


async def named_target(ctx: StepContext) -> HsmResource:
    """Return the target HSM: this run's own where it made one, else the one that was named.

    A runbook that works on any HSM is told by its input `own_target` that the run above it
    made the target.

    Raises:
        GuardError: it does not exist, or is to be this run's and is not.
        HandedOver: another host took the run over.
    """
    if ctx.inputs.get("own_target"):
        return await our_target(ctx)
    return await _existing_target(ctx, "Check its name and its resource group, then plan again.")


async def _existing_target(ctx: StepContext, hint: str) -> HsmResource:
    hsm = await target_hsm(ctx)
    if hsm is None:
        raise GuardError(
            f"target HSM {ctx.inputs['target_hsm']} does not exist; nothing was sent", hint=hint
        )
    return hsm


def refuse_unless_ours(ctx: StepContext, hsm: HsmResource) -> None:
    """Make sure that a target is this run's, and that it is this host's turn.

    Raises:
        GuardError: it carries another run's tag or none.
        HandedOver: another host took the run over.
    """
    if hsm.tags.get(RUN_TAG) != ctx.root:
        raise GuardError(
            f"target HSM {hsm.name} carries the run tag {hsm.tags.get(RUN_TAG)!r}, expected"
            f" {ctx.root!r}: it is not this run's",
            hint="Nothing was sent. Choose another target name, or find out who created it.",
        )
    refuse_if_superseded(hsm, ctx.holder)
