"""What every performer works with: the world, one chain, and how facts are read for a step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from drengine.actions.contract import StepContext
from drengine.actions.moment import Moment
from drengine.engine.chain import Chain
from drengine.engine.failing import error_body
from drengine.engine.judging import judged, observed
from drengine.engine.retry import waited_ms
from drengine.engine.scope import scope_of
from drengine.engine.world import World
from drengine.errors import DrError, JournalError
from drengine.model.cloud import Exchange
from drengine.model.findings import Findings
from drengine.model.ids import root_of
from drengine.model.plan import PlanPart
from drengine.model.records import RecordType as R
from drengine.model.run import StepState
from drengine.model.runbook import Runbook, Step
from drengine.runbook.expressions import resolve


def _hear_nobody() -> None:
    """Take in nothing: for a bench without a driver."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What every performer works with: the world, one chain, its runbook and plan part.

    Attributes:
        stop: set when the process is asked to end: nothing more is sent.
        hear: takes in what people said since the driver last looked into the inbox.
    """

    world: World
    chain: Chain
    runbook: Runbook
    part: PlanPart
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    hear: Callable[[], None] = _hear_nobody

    def step(self, step_id: str) -> tuple[Step, StepState]:
        """Return a step of the runbook and its state now."""
        return self.runbook.step(step_id), self.chain.state.steps[step_id]

    def waited_ms(self, since_ms: int) -> int:
        """Return how long this process has waited for something that began then."""
        return waited_ms(since_ms, self.chain.state.opened_ms, self.world.clock.now_ms())

    def context(self, step_id: str) -> StepContext:
        """Return what an action, observer or rule of this step may know."""
        step, st = self.step(step_id)
        state, world = self.chain.state, self.world
        values = resolve(dict(step.with_), scope_of(state, self.part))
        return StepContext(
            run=state.run,
            root=root_of(state.run),
            step=step_id,
            run_class=state.run_class,
            cloud=world.cloud,
            where=world.plan.cloud,
            objects=world.store,
            secret=world.secret,
            now_ms=world.clock.now_ms(),
            values=values if isinstance(values, dict) else {},
            inputs=state.genesis["inputs"],
            plan=self.part.discovery,
            outputs=state.outputs(),
            intent_at_ms=st.intent_at_ms,
            sends=st.sends,
            operation=st.operation,
            last_code=st.last_code,
            holder=world.holder,
            before=st.before,
        )


def hear_all(bench: Bench) -> None:
    """Take in what lies in the inboxes, the parents' first.

    Raises:
        Fenced: another process has taken a parent.
    """
    if bench.world.above is not None:
        bench.world.above.hear()
    bench.hear()


def with_exchanges(body: dict[str, Any], exchanges: list[Exchange]) -> dict[str, Any]:
    """Return a record's body with the exchanges that led to it."""
    if exchanges:
        body["exchanges"] = [exchange.to_json() for exchange in exchanges]
    return body


async def observe(
    bench: Bench, step_id: str, names: Iterable[str], moment: Moment | None = None
) -> tuple[dict[str, Any], StepContext]:
    """Read the named facts, all at once and for one moment."""
    ctx = _looking(bench, step_id, moment)
    return await observed(bench.world.kit, ctx, names), ctx


async def evaluate_rules(
    bench: Bench, step_id: str, rules: tuple[str, ...], moment: Moment | None = None
) -> Findings:
    """Read what the rules need and return what they find."""
    if not rules:
        return ()
    return await judged(bench.world.kit, _looking(bench, step_id, moment), rules)


def _looking(bench: Bench, step_id: str, moment: Moment | None) -> StepContext:
    return replace(bench.context(step_id), cloud=moment or Moment(bench.world.cloud))


def fail(bench: Bench, step_id: str, error: DrError, exchanges: list[Exchange]) -> None:
    """Record that a step failed; an error of the journal itself goes up.

    Raises:
        JournalError: it is one.
    """
    if isinstance(error, JournalError):
        raise error
    body = {"step": step_id, "error": error_body(error, bench.chain.run)}
    bench.chain.append(R.STEP_FAILED, with_exchanges(body, exchanges))
