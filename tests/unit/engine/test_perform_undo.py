"""Polling and reading back a rollback's own operation."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from drengine.engine.perform_undo import check_undo, poll_undo
from drengine.engine.undoing import undone
from drengine.errors import AzureError
from drengine.model.cloud import Exchange, Operation, OperationKind, OperationState, OperationStatus
from drengine.model.findings import block
from drengine.model.ids import RunId
from drengine.model.records import Record
from drengine.model.records import RecordType as R
from drengine.model.run import StepState, UndoStatus

RUN, NOW = RunId("r-0123456789ab"), 1_000_000
JOB = Operation(OperationKind.ARM, "https://management.azure.com/job", "1")
RUNNING = StepState("create", undo=UndoStatus.RUNNING, undo_operation=JOB)


@contextmanager
def _no_exchanges() -> Iterator[list[Exchange]]:
    yield []


@dataclass
class Bench:
    """One step that is being undone; the service's answers are the test's."""

    state: StepState = RUNNING
    answers: list[Any] = field(default_factory=list)
    chain: Any = None

    def __post_init__(self) -> None:
        self.chain = SimpleNamespace(run=RUN, append=self._append)
        spec = SimpleNamespace(poll_ms=10_000, look_gap_ms=0)
        action = SimpleNamespace(spec=spec, verify_undone=self._still_there)
        self.world: Any = SimpleNamespace(
            clock=SimpleNamespace(now_ms=lambda: NOW),
            cloud=SimpleNamespace(operations=self),
            kit=SimpleNamespace(actions={"hsm.create": action}),
            collect=_no_exchanges,
        )

    def step(self, _: str) -> Any:
        return SimpleNamespace(action="hsm.create"), self.state

    def context(self, _: str) -> None:
        return None

    def waited_ms(self, since_ms: int) -> int:
        return NOW - since_ms

    async def poll(self, operation: Operation) -> OperationStatus:
        assert operation == JOB
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return OperationStatus(answer)

    async def _still_there(self, _: None) -> Sequence[Any]:
        return (block("hsm-deleted", "target is still there"),)

    def _append(self, kind: R, body: dict[str, Any]) -> None:
        record = Record(1, RUN, kind, "engine", body, NOW, 0, None, "", "")
        self.state = undone(self.state, record)


def told(*answers: Any) -> StepState:
    bench = Bench(answers=list(answers))
    while bench.answers:
        asyncio.run(poll_undo(bench, "create"))  # type: ignore[arg-type]
    return bench.state


def test_a_poll_that_failed_and_may_pass_leaves_the_undoing_running():
    step = told(AzureError("503", status=503, transient=True, retry_after_seconds=20))
    assert (step.undo, step.undo_operation) == (UndoStatus.RUNNING, JOB)
    assert step.not_before_ms == NOW + 20_000, "what the service asked for"


def test_a_poll_that_was_refused_stops_the_rollback_and_says_a_next_step():
    step = told(AzureError("403", status=403))
    assert step.undo is UndoStatus.REFUSED
    assert step.error is not None
    assert step.error["hint"].endswith(f"drengine resume {RUN}")


def test_the_polls_of_a_long_undoing_are_no_looks_at_its_effect():
    step = told(*[OperationState.RUNNING] * 70, OperationState.SUCCEEDED)
    assert step.undo is UndoStatus.CHECKING
    bench = Bench(step)
    asyncio.run(check_undo(bench, "create"))  # type: ignore[arg-type]
    assert bench.state.undo is UndoStatus.CHECKING, "it is looked for again, not given up"


@pytest.mark.parametrize("looks", [60, 61])
def test_an_effect_that_does_not_go_stops_the_rollback_and_says_a_next_step(looks):
    bench = Bench(replace(RUNNING, undo=UndoStatus.CHECKING, undo_looks=looks))
    asyncio.run(check_undo(bench, "create"))  # type: ignore[arg-type]
    assert bench.state.undo is UndoStatus.REFUSED
    assert bench.state.error is not None
    assert "target is still there" in bench.state.error["message"]
    assert bench.state.error["hint"].endswith(f"drengine resume {RUN}")
