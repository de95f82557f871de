"""A run of two steps by the real driver: a gate and a change, over ports made for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from drengine.actions.base import BaseAction
from drengine.actions.contract import Absent, Kept, Kit, ProbeResult, StepContext, Verified
from drengine.engine.driver import Outcome, drive
from drengine.engine.genesis import create_run
from drengine.engine.world import Listener, World
from drengine.errors import StoreFailed
from drengine.journal.copying import JournalCopy
from drengine.journal.memory import MemoryStore
from drengine.model.catalogue import ActionSpec, Catalogue, Repeat
from drengine.model.findings import Finding, block, ok
from drengine.model.ids import RunId
from drengine.model.plan import CloudIdentity, Plan, PlanPart
from drengine.model.records import Record, Signal
from drengine.model.records import RecordType as R
from drengine.model.runbook import Runbook, RunClass
from drengine.model.secret import Secret
from drengine.rules.contract import Rule
from drengine.runbook.loader import load_runbook

TEXT = """
apiVersion: drengine/v1
kind: Runbook
name: small
title: A small runbook
steps:
  - id: ask
    gate: {approvals: 1, ask: really?, facts: [backup]}
  - id: change
    needs: [ask]
    action: thing.change
    guards: {before: [G1], after: [G2]}
    irreversible: true
    retry: {attempts: 1}
"""
FAN = """
apiVersion: drengine/v1
kind: Runbook
name: fan
title: One change a thing
discovery:
  things: {source: things}
steps:
  - id: each
    foreach: {in: "${plan.things}", as: thing, parallel: 2}
    runbook: one
    with: {name: "${thing.name}"}
"""
ONE = """
apiVersion: drengine/v1
kind: Runbook
name: one
title: One thing
inputs: {name: {type: string}}
steps:
  - id: change
    action: thing.change
    guards: {after: [G2]}
    retry: {attempts: 1}
"""
SPEC = ActionSpec("thing.change", "Change the thing", (), (), Repeat.NEVER, quiet_ms=60_000)
WHERE = CloudIdentity("AzureCloud", "t", "s", "p", "managedhsm.azure.net", "core.windows.net", True)
RUN = RunId("r-0123456789ab")
_LONG_SECONDS = 0.05
"""So long does a slow look take: the driver reads the inbox many times in it."""

PORTS = ("identity", "rows", "sql", "storage", "subscription")


@dataclass
class Clock:
    """A clock that stands at the time somebody last slept for."""

    at_ms: int = 1_000_000

    def now_ms(self) -> int:
        return self.at_ms

    def mono_ms(self) -> int:
        return self.at_ms

    def wall_ms(self) -> None:
        return None

    async def sleep_until(self, at_ms: int) -> None:
        self.at_ms = max(self.at_ms, at_ms)


@dataclass(frozen=True)
class Change(BaseAction):
    """Counts its sends; what they answer is the test's choice."""

    answers: list[Any] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    at_start: list[Callable[[], None]] = field(default_factory=list)
    seen: list[Finding] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    looks: list[int] = field(default_factory=list)
    just_before: list[Callable[[], None]] = field(default_factory=list)
    found: list[ProbeResult] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)
    undone_at: list[int] = field(default_factory=list)
    before_undo: list[Callable[[], None]] = field(default_factory=list)

    async def probe(self, ctx: StepContext) -> ProbeResult:
        self.looks.append(ctx.now_ms)
        return self.found.pop(0) if self.found else Absent("nothing there")

    async def before(self, ctx: StepContext) -> dict[str, Any]:
        del ctx
        for act in self.just_before:
            act()
        return {}

    async def start(self, ctx: StepContext) -> dict[str, Any]:
        for look in self.at_start:
            look()
        self.sent.append(ctx.now_ms)
        self.runs.append(ctx.run.removeprefix(RUN))
        if self.answers and isinstance(answer := self.answers.pop(0), Exception):
            raise answer
        return {}

    async def verify(self, ctx: StepContext) -> Verified:
        del ctx
        return Verified(tuple(self.seen) or (ok("G2", "it is there"),))

    async def may_undo(self, ctx: StepContext) -> Kept | None:
        del ctx
        for act in self.before_undo:
            act()
        return None

    async def undo(self, ctx: StepContext) -> dict[str, Any]:
        self.undone.append(ctx.run.removeprefix(RUN))
        self.undone_at.append(ctx.now_ms)
        return {}

    async def verify_undone(self, ctx: StepContext) -> tuple[Finding, ...]:
        del ctx
        return (ok("G2", "it is gone"),)

    def manual(self, ctx: StepContext) -> str:
        del ctx
        return "by hand"


@dataclass
class Small:
    """A world with one thing to change, and the run in it."""

    change: Change = field(default_factory=lambda: Change(SPEC))
    guard_holds: bool = True
    backup: str = "the one of Monday"
    readings: int = 0
    unreadable: Exception | None = None
    meanwhile: dict[int, list[Callable[[], None]]] = field(default_factory=dict)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    operations: Any = None
    dies_at: tuple[R, int] | None = None
    hsms: Any = None
    store: MemoryStore = field(default_factory=MemoryStore)
    clock: Clock = field(default_factory=Clock)

    part: PlanPart = field(default_factory=lambda: PlanPart("small", TEXT, "0", {}))
    copies_to: Path | None = None

    def world(self) -> World:
        part = self.part
        guards = {name: Rule(name, name, (), "", "", self._guard) for name in ("G1", "G2")}
        return World(
            plan=Plan(RunClass.DRILL, "", "0", WHERE, part, {}),
            store=self.store,
            cloud=SimpleNamespace(
                **dict.fromkeys(PORTS), operations=self.operations, hsms=self.hsms
            ),  # type: ignore[arg-type]
            clock=self.clock,
            kit=Kit({"thing.change": self.change}, guards, {"backup": self._read}, {}, {}),
            load=self.load,
            collect=no_exchanges,
            secret=Secret,
            owner="test",
            listener=self._listener(),
            inbox_ms=1,
            copies_to=str(self.copies_to or ""),
        )

    def _listener(self) -> Listener:
        copy = JournalCopy(self.store, self.copies_to) if self.copies_to else None

        def listen(_: object, record: Record) -> None:
            if copy is not None:
                copy.follow(record.run, record.type)
            if self.dies_at == (record.type, self.kinds().count(record.type)):
                raise StoreFailed("the process dies here, as far as the run can see")

        return listen

    def load(self, text: str) -> Runbook:
        catalogue = Catalogue(
            actions={"thing.change": SPEC},
            rules=frozenset({"G1", "G2"}),
            observations=frozenset({"backup"}),
            discoveries={"things": ()},
        )
        return load_runbook(text, "small.yaml", catalogue)

    def _guard(self, facts: Any, ctx: Any) -> Any:
        del facts
        holds = self.guard_holds or ctx.step != "change"
        return ((ok if holds else block)("G1", "as it should be, or not"),)

    async def _read(self, ctx: StepContext) -> str:
        del ctx
        self.readings += 1
        if self.unreadable is not None:
            raise self.unreadable
        for meanwhile in self.meanwhile.get(self.readings, ()):
            meanwhile()
            await asyncio.sleep(_LONG_SECONDS)
        return self.backup

    def drive(self) -> Outcome:
        world = self.world()
        part = world.plan.root
        runbook = self.load(part.runbook_text)
        create_run(world, RUN, runbook, part=part, inputs={}, initiator="operator:x", tool={})
        return asyncio.run(drive(world, RUN, self.stop))

    def approve(self) -> None:
        gate = self.drive().state.steps["ask"].gate
        assert gate is not None
        body = {"step": "ask", "request_seq": gate.seq, "digest": gate.digest}
        self.store.put_signal(Signal("s-1", RUN, "approve", "approver:a", body, 0))

    def kinds(self) -> list[R]:
        return [record.type for record in self.store.read(RUN)]


@contextmanager
def no_exchanges():
    yield []


def told(small: Small, kind: str, actor: str = "operator:x", **body: Any) -> Outcome:
    """Leave a message and let the run read it."""
    name = f"{kind}-{len(small.kinds())}"
    small.store.put_signal(Signal(name, RUN, kind, actor, {"step": "change", **body}, 0))
    return small.drive()
