"""What a driver is given: every port to the world, in one value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from drengine.actions.contract import Kit
from drengine.azure.ports import Cloud
from drengine.clock import Clock
from drengine.journal.port import JournalStore
from drengine.model.catalogue import ActionSpec
from drengine.model.cloud import Exchange
from drengine.model.plan import Plan
from drengine.model.records import Record
from drengine.model.run import RunState
from drengine.model.runbook import Runbook
from drengine.model.secret import Secret
from drengine.trust.approval import Judged, Terms

if TYPE_CHECKING:
    from drengine.engine.chain import Chain

Listener = Callable[[RunState, Record], None]
"""Called after each record is durable and folded; for progress only."""

Judge = Callable[[object, Terms], Judged]
"""Judges a signed decision: `(envelope, what the gate asks)`."""


class Above(Protocol):
    """What a child run sees of its parent; see `above.ParentStep`."""

    @property
    def root(self) -> Chain:
        """The chain of the root run."""
        ...

    @property
    def rolls_back(self) -> bool:
        """Whether a person asked for a rollback of the parent."""
        ...

    def hear(self) -> None:
        """Take in what people said to the parents."""
        ...

    def rests(self) -> bool:
        """Whether a parent is paused or over."""
        ...

    def halted(self) -> str:
        """Return why nothing may be sent now, empty where it may."""
        ...

    async def drifted(self) -> str:
        """Read the facts of the parent's gates again; return what is no longer as approved."""
        ...


@dataclass(frozen=True, slots=True)
class World:
    """Ports and settings shared by a run and its children.

    Attributes:
        load: a runbook's text -> the Runbook; the texts come from the plan.
        collect: opens a collector of the HTTP exchanges made inside it.
        secret: a reference's text -> the secret.
        waits_for_people: keep the process and look into the inbox, instead of a clean stop.
        inbox_ms: how often, in wall milliseconds, the inbox is looked into.
        judge: says whether a signed decision counts; None where the run was started without a
            register of approvers.
        approvers: digest of that register, for record 0; empty where there is none.
        copies_to: where the journals of this run are copied; empty for nowhere.
        holder: what the target HSM's holder tag must say; the driver of the root run sets it.
        above: the parent, for a child run; its driver sets it.
    """

    plan: Plan
    store: JournalStore
    cloud: Cloud
    clock: Clock
    kit: Kit
    load: Callable[[str], Runbook]
    collect: Callable[[], AbstractContextManager[list[Exchange]]]
    secret: Callable[[str], Secret]
    owner: str
    listener: Listener
    waits_for_people: bool = False
    inbox_ms: int = 200
    judge: Judge | None = None
    approvers: str = ""
    copies_to: str = ""
    holder: str = "0"
    above: Above | None = None

    @property
    def specs(self) -> Mapping[str, ActionSpec]:
        """Return the specs of all actions, for `decide`."""
        return {name: action.spec for name, action in self.kit.actions.items()}
