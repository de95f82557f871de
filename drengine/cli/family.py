"""A run and its children as the screens see them: states, open requests, who holds it.

Built from the journal alone, in one go or following it while it grows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from drengine.engine.fold import folded_on
from drengine.journal.port import JournalStore
from drengine.model.canonical import JsonObject
from drengine.model.ids import RunId, root_of
from drengine.model.records import Record, Signal
from drengine.model.records import RecordType as R
from drengine.model.run import RunState, RunStatus
from drengine.model.times import instant_ms


def step_name(run: RunId, step: str) -> str:
    """Return how the screens name a step: a child's with the way below its root run."""
    return "/".join(part for part in (run.partition("/")[2], step) if part)


_REQUESTS = (R.GATE_REQUESTED, R.DELIVERY_REQUESTED)
_ANSWERED = (
    *(*_REQUESTS, R.GATE_APPROVED, R.GATE_REJECTED, R.DELIVERY_ACCEPTED, R.STEP_BEGUN),
    *(R.OUTCOME_FOUND, R.OUTCOME_ABSENT, R.STEP_MARKED, R.STEP_ATTESTED, R.STEP_SKIPPED),
)
"""After these what did not count before is of no interest any more."""


@dataclass(slots=True)
class Family:
    """A root run with its child runs.

    Attributes:
        states: the root first.
        requests: (run, step) -> what a gate or delivery last asked.
        uncounted: (run, step) -> why what a person last said to it did not count.
        inbox: what people have sent and no process has taken in yet.
        stopped_why: how the root run last stopped, in the words of its record.
        owner: the process that holds the root run, None where nobody does.
    """

    root_run: RunId
    states: dict[RunId, RunState] = field(default_factory=dict)
    requests: dict[tuple[RunId, str], JsonObject] = field(default_factory=dict)
    uncounted: dict[tuple[RunId, str], str] = field(default_factory=dict)
    inbox: list[Signal] = field(default_factory=list)
    stopped_why: str = ""
    owner: str | None = None

    def take(self, state: RunState, record: Record) -> None:
        """Note a record and the state after it."""
        self.states[record.run] = state
        if record.type in _REQUESTS:
            self.requests[record.run, str(record.body["step"])] = record.body
        if record.type is R.RUN_STOPPED and record.run == self.root_run:
            self.stopped_why = str(record.body.get("why", ""))
        self._note_uncounted(record)

    def _note_uncounted(self, record: Record) -> None:
        if record.type is R.NOTE and "ignored" in record.body:
            said = record.body.get("said")
            step = str(said.get("step", "")) if isinstance(said, Mapping) else ""
            told = f"{record.body['ignored']} of {record.actor} did not count"
            self.uncounted[record.run, step] = f"{told}: {record.body.get('why', '')}"
        elif record.type in _ANSWERED:
            self.uncounted.pop((record.run, str(record.body["step"])), None)

    @property
    def root(self) -> RunState:
        """The root run's state."""
        return self.states[self.root_run]

    @property
    def is_alone(self) -> bool:
        """Whether it is in the middle of its work and no process drives it."""
        at_work = self.root.status in (RunStatus.RUNNING, RunStatus.ROLLING_BACK)
        return at_work and self.owner is None

    @property
    def rolls_back(self) -> bool:
        """Whether it is being undone, or will be: nothing is begun, approved or delivered then."""
        if self.root.status.is_over:
            return False
        asked = any(each.kind == "rollback" and each.run == self.root_run for each in self.inbox)
        return self.root.rolling_back or asked

    def asks(self, run: RunId, step: str) -> bool:
        """Whether an answer of people to this step would move something on."""
        state = self.states[run]
        found = state.steps.get(step)
        over = self.root.status.is_over or state.status.is_over or self.rolls_back
        return found is not None and found.status.is_waiting and not over

    @property
    def lab(self) -> bool:
        """Whether the run acts in a lab."""
        return bool(self.root.genesis["cloud"]["lab"])

    def children_of(self, run: RunId, step: str) -> Iterator[tuple[str, RunState]]:
        """Yield name and state of a step's children that have begun."""
        for name, child in self.states[run].steps[step].children.items():
            if child.run in self.states:
                yield name, self.states[child.run]

    def handed_in(self, run: RunId, step: str, *kinds: str) -> list[Signal]:
        """Return what of these kinds waits to be taken in for a step as it is asked now."""
        found = self.states[run].steps.get(step)
        asked = found.gate.seq if found is not None and found.gate else None
        return [
            signal
            for signal in self.inbox
            if (signal.run, signal.kind in kinds) == (run, True)
            and signal.body.get("step") == step
            and signal.body.get("request_seq", asked) == asked
        ]

    def started_ms(self) -> int:
        """Return when the objective's clock began: at the incident where the inputs name one."""
        named = self.root.genesis["inputs"].get("incident_at")
        found = instant_ms(named)
        return self.root.created_ms if found is None else found


class Follower:
    """Reads what a store's chains of one run have grown by.

    Parameters:
        run: the root run; it need not exist yet.
    """

    def __init__(self, store: JournalStore, run: RunId) -> None:
        self.store = store
        self.family = Family(run)

    def advance(self) -> list[tuple[RunState, Record]]:
        """Read the new records of the run and its children, in the order of time."""
        family, found = self.family, []
        runs = [family.root_run]
        for run in runs:
            if run not in family.states and not self.store.exists(run):
                continue
            found += self._grow(run)
            steps = family.states[run].steps.values()
            runs += [child.run for step in steps for child in step.children.values()]
        family.inbox = [each for run in runs for each in self._waiting(run)]
        family.owner = self.store.living_owner(family.root_run)
        # Stable: the order within a chain stays, whatever its clock did.
        return sorted(found, key=lambda pair: pair[1].at_ms)

    def _waiting(self, run: RunId) -> Sequence[Signal]:
        """Return the inbox of a run without what its chain has by now."""
        state = self.family.states.get(run)
        if state is None:
            return ()
        return [each for each in self.store.peek_signals(run) if each.id not in state.signals]

    def _grow(self, run: RunId) -> list[tuple[RunState, Record]]:
        state = self.family.states.get(run)
        found = []
        for record in self.store.read(run, state.head.seq if state else -1):
            state = folded_on(state, record)
            self.family.take(state, record)
            found.append((state, record))
        return found


def read_family(store: JournalStore, run: RunId) -> Family:
    """Return the family that a run belongs to: its root, and everything below that.

    Raises:
        JournalError: there is no such run, or a chain is damaged.
    """
    root = root_of(run)
    store.head(root)
    follower = Follower(store, root)
    follower.advance()
    return follower.family
