"""What a child run asks of the run it belongs to: whether anything may be sent now.

Rules:
- A pause, a cancel or a rollback of the parent counts for a child from its record on, not only
  from the moment at which the child has been told.
- A child is sent for only by the process that has its parents.
- The gates before a fan-out stand before each send of its children, as those before a step do
  before that step's: still approved, not expired, and the facts as they were shown.
"""

from __future__ import annotations

from dataclasses import dataclass

from drengine.engine.bench import Bench
from drengine.engine.chain import Chain
from drengine.engine.gates import drifted_gate, void
from drengine.engine.scope import held_by, standing_gates


@dataclass(frozen=True, slots=True)
class ParentStep:
    """The step of the parent that drives a child (see `world.Above`)."""

    bench: Bench
    step: str

    @property
    def root(self) -> Chain:
        """The chain of the root run."""
        above = self.bench.world.above
        return self.bench.chain if above is None else above.root

    @property
    def rolls_back(self) -> bool:
        """Whether a person asked for a rollback of the parent."""
        return self.bench.chain.state.rolling_back

    def hear(self) -> None:
        """Take in what people said to the parents, the root first.

        Raises:
            Fenced: another process has taken a parent, and may have been told something else.
        """
        if self.bench.world.above is not None:
            self.bench.world.above.hear()
        self.bench.chain.make_sure()
        self.bench.hear()

    def rests(self) -> bool:
        """Whether a parent is paused or over: then not even an undo is sent."""
        state, above = self.bench.chain.state, self.bench.world.above
        is_at_rest = state.paused or state.status.is_over
        return is_at_rest or (above is not None and above.rests())

    def halted(self) -> str:
        """Return why nothing may be sent now, empty where it may."""
        bench, state = self.bench, self.bench.chain.state
        if word := held_by(state):
            return f"run {state.run} is {word}"
        step = bench.runbook.step(self.step)
        fallen = standing_gates(step, bench.runbook, state, bench.world.clock.now_ms())
        if fallen is not None:
            return f"{state.run}: {fallen.why}"
        return "" if bench.world.above is None else bench.world.above.halted()

    async def drifted(self) -> str:
        """Read the facts of the gates again; void a gate whose facts changed, and return why."""
        bench = self.bench
        fallen = await drifted_gate(bench, bench.runbook.step(self.step))
        if fallen is not None:
            void(bench, fallen)
            return f"{bench.chain.run}: {fallen.why}"
        return "" if bench.world.above is None else await bench.world.above.drifted()
