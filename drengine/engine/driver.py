"""The one loop that touches the world: decide, perform, record, until the run rests.

Rules:
- Commands of different steps run side by side; one step is never under way twice.
- Every record passes through the chain of its run; a failed commit ends the process.
- A child run is driven by the same loop, on a chain of its own.
- When asked to stop, nothing new begins; what is under way has a moment to end and record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from drengine.engine.above import ParentStep
from drengine.engine.bench import Bench
from drengine.engine.chain import ENGINE, Chain
from drengine.engine.commands import (
    Append,
    Check,
    CheckUndo,
    Command,
    Decision,
    FanOut,
    Observe,
    Poll,
    PollUndo,
    Probe,
    RequestGate,
    Rest,
    RunChild,
    Send,
    Undo,
    Verify,
)
from drengine.engine.decide import decide, rest_of
from drengine.engine.ending import cancel
from drengine.engine.gates import request_gate
from drengine.engine.genesis import create_run, part_of
from drengine.engine.inbox import absorb
from drengine.engine.perform import check, observe_step, poll, verify
from drengine.engine.perform_undo import check_undo, poll_undo, undo
from drengine.engine.probing import probe
from drengine.engine.scope import items_of, scope_of
from drengine.engine.sending import fan_out, send
from drengine.engine.session import Session
from drengine.engine.world import World
from drengine.model.ids import RunId, child_id
from drengine.model.records import RecordType as R
from drengine.model.run import RunState, RunStatus
from drengine.runbook.expressions import resolve
from drengine.runbook.inputs import bind_child_inputs

_FIRST_LOOK_SECONDS = 0.02
"""While people are waited for, looks into the inbox begin this close and grow apart."""

_STOP_GRACE_SECONDS = 1.5
"""After a signal to stop, what is under way may still end; then it is left to the resume."""


_PERFORMERS: Final[Mapping[type[Command], Callable[[Bench, str], Coroutine[Any, Any, None]]]] = {
    Check: check,
    Probe: probe,
    Send: send,
    Observe: observe_step,
    Poll: poll,
    Verify: verify,
    RequestGate: request_gate,
    FanOut: fan_out,
    Undo: undo,
    PollUndo: poll_undo,
    CheckUndo: check_undo,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run came to rest."""

    run: RunId
    rest: Rest
    reasons: tuple[str, ...]
    state: RunState


async def drive(world: World, run: RunId, stop: asyncio.Event) -> Outcome:
    """Drive a run until it rests.

    Raises:
        Locked: another process holds it.
        HandedOver: another host has it by now.
        JournalError: its chain is damaged, or a commit failed.
    """
    chain = Chain.open(world, run)
    if "/" not in run:
        world = replace(world, holder=chain.state.holder)
    try:
        if (ended := chain.state.status).is_over:
            # Another process ended it between the look that led here and the lease.
            return Outcome(run, rest_of(ended), (), chain.state)
        return await _Driver(world, chain, stop).until_rest()
    finally:
        chain.release()


class _Driver:
    def __init__(self, world: World, chain: Chain, stop: asyncio.Event) -> None:
        part = part_of(world.plan, chain.state.genesis["path"])
        self._world = world
        self._bench = Bench(world, chain, world.load(part.runbook_text), part, stop, self._hear)
        self._chain = chain
        self._stop = stop
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._parked: dict[str, Rest] = {}
        self._looks = 0

    async def until_rest(self) -> Outcome:
        try:
            return await self._loop()
        finally:
            await self._cancel_tasks()

    async def _loop(self) -> Outcome:
        while True:
            self._collect()
            self._hear()
            decision = self._decide()
            if decision.rest is not None:
                if self._keeps_waiting(decision):
                    await self._nap(None)
                    self._looks += 1
                    continue
                return self._rest(decision)
            self._looks = 0
            appended = False
            for command in decision.commands:
                if isinstance(command, Append):
                    self._chain.append(command.type, command.body)
                    appended = True
                else:
                    self._begin(command)
            if not appended:
                await self._nap(decision.wake_at_ms)

    def _decide(self) -> Decision:
        bench, world = self._bench, self._world
        session = Session(
            busy=frozenset(self._tasks),
            parked=self._parked,
            stopping=self._stop.is_set(),
            halted="" if world.above is None else world.above.halted(),
            rests=world.above is not None and world.above.rests(),
        )
        return decide(
            bench.runbook,
            bench.part,
            world.specs,
            self._chain.state,
            session,
            world.clock.now_ms(),
        )

    def _begin(self, command: Command) -> None:
        name, work = self._work(command)
        self._tasks[name] = asyncio.create_task(work, name=name)

    def _work(self, command: Command) -> tuple[str, Coroutine[Any, Any, None]]:
        if isinstance(command, RunChild):
            name = f"{command.step}/{command.name}"
            return name, self._run_child(command.step, command.name)
        return command.step, _PERFORMERS[type(command)](self._bench, command.step)

    def _collect(self) -> None:
        for name, task in list(self._tasks.items()):
            if task.done():
                del self._tasks[name]
                task.result()

    async def _nap(self, wake_at_ms: int | None) -> None:
        """Wait for a task, the clock, the inbox or a stop, whichever comes first."""
        stopped = asyncio.create_task(self._stop.wait())
        waits: set[asyncio.Task[Any]] = {stopped, *self._tasks.values()}
        extra = [stopped]
        if wake_at_ms is not None:
            timer = asyncio.create_task(self._world.clock.sleep_until(wake_at_ms))
            waits.add(timer)
            extra.append(timer)  # type: ignore[arg-type]
        limit = self._inbox_seconds()
        if self._stop.is_set():
            waits.discard(stopped)
            limit = _STOP_GRACE_SECONDS
        done, _ = await asyncio.wait(waits, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        for task in extra:
            task.cancel()
        if self._stop.is_set() and not done:
            await self._cancel_tasks()

    def _inbox_seconds(self) -> float:
        """Return how long the inbox may wait: an answer that comes at once is taken at once."""
        most = self._world.inbox_ms / 1000
        waits = self._chain.state.status is RunStatus.WAITING
        return min(most, _FIRST_LOOK_SECONDS * 2 ** (self._looks // 8)) if waits else most

    async def _cancel_tasks(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        for task in self._tasks.values():
            with suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()

    def _keeps_waiting(self, decision: Decision) -> bool:
        if not self._world.waits_for_people or decision.rest is not Rest.WAITING:
            return False
        if self._chain.state.status is not RunStatus.WAITING:
            self._chain.append(R.RUN_WAITING, {"for": list(decision.reasons)})
            self._chain.leave_status(None)
        return not self._stop.is_set()

    def _rest(self, decision: Decision) -> Outcome:
        rest = decision.rest or Rest.WAITING
        body = {"why": str(rest), "for": list(decision.reasons)}
        state = self._chain.state
        if rest is Rest.DONE and not state.status.is_over:
            self._chain.append(R.RUN_FINISHED, body)
        elif rest is Rest.ROLLED_BACK and not state.status.is_over:
            self._chain.append(R.RUN_ROLLED_BACK, body)
        elif rest in (Rest.WAITING, Rest.NEEDS) and state.status is not RunStatus.WAITING:
            self._chain.append(R.RUN_WAITING, body)
        elif rest in (Rest.FAILED, Rest.REFUSED, Rest.UNKNOWN, Rest.INTERRUPTED):
            self._chain.append(R.RUN_STOPPED, body)
        self._chain.leave_status(None)
        if rest is Rest.CANCELLED:
            self._end_children()
        if self._chain.state.status.is_over and "/" not in self._chain.run:
            self._world.store.release_claims(self._chain.run)
        return Outcome(self._chain.run, rest, decision.reasons, self._chain.state)

    async def _run_child(self, step_id: str, name: str) -> None:
        """Start or resume one child run and record how it ended."""
        step, st = self._bench.step(step_id)
        run = child_id(child_id(self._chain.run, step_id), name)
        if step.foreach is None:
            run = child_id(self._chain.run, step_id)
        scope = scope_of(self._chain.state, self._bench.part)
        item = next(i for i in items_of(step, scope) if str(i["name"]) == name)
        if name not in st.children:
            body = {"step": step_id, "name": name, "run": run, "item": item}
            self._chain.append(R.CHILD_STARTED, body)
        path = [*self._chain.state.genesis["path"], step_id]
        part = part_of(self._world.plan, path)
        runbook = self._world.load(part.runbook_text)
        if step.foreach is not None:
            scope[step.foreach.variable] = item
        values = resolve(dict(step.with_), scope)
        bound = values if isinstance(values, dict) else {}
        inputs = bind_child_inputs(
            part,
            runbook,
            {name: bound[name] for name in part.deferred},
            allow_lab_names=self._world.plan.cloud.lab,
        )
        genesis = self._chain.state.genesis
        create_run(
            self._world,
            run,
            runbook,
            part=part,
            inputs=inputs,
            initiator=genesis["initiator"],
            tool=genesis["tool"],
            path=path,
            item=item,
            parent=self._chain.run,
        )
        above = ParentStep(self._bench, step_id)
        outcome = await drive(replace(self._world, above=above), run, self._stop)
        if not outcome.state.status.is_over:
            self._parked[f"{step_id}/{name}"] = outcome.rest
            return
        head = outcome.state.head
        finished: dict[str, Any] = {
            "step": step_id,
            "name": name,
            "run": run,
            "status": str(outcome.state.status),
            "seq": head.seq,
            "sha256": head.sha256,
        }
        self._chain.append(R.CHILD_FINISHED, finished)

    def _hear(self) -> None:
        """Take in what people said to this run, and what the parent was asked for."""
        recorded = absorb(self._world, self._chain, self._bench.runbook)
        above, state = self._world.above, self._chain.state
        if (
            above is not None
            and above.rolls_back
            and not (state.rolling_back or state.status.is_over)
        ):
            self._chain.append(R.RUN_ROLLBACK, {"reason": f"rollback of {above.root.run}"})
        # A child that rests because of its parent's gate, pause or way forward may go on now.
        if R.RUN_ROLLBACK in recorded:
            self._parked.clear()
        if {R.GATE_APPROVED, R.RUN_CONTINUED} & {*recorded}:
            resting = (Rest.WAITING, Rest.PAUSED)
            self._parked = {n: r for n, r in self._parked.items() if r not in resting}

    def _end_children(self) -> None:
        """Cancel the children that are open: they have come to rest, and nobody drives them."""
        world, reason = self._world, f"cancel of {self._chain.run}"
        for child in self._open_children():
            if world.store.exists(child):
                cancel(world.store, child, world.owner, ENGINE, reason, world.clock)

    def _open_children(self) -> list[RunId]:
        steps = self._chain.state.steps.values()
        children = [child for step in steps for child in step.children.values()]
        return [child.run for child in children if not child.status.is_over]
