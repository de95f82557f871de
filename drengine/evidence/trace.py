"""One chain, followed record by record: its state, its times, its requests, its people.

Pure. `Trace.take` may be called with any portions of the chain; what `facts` says
depends on the records alone. The lifecycle's own fold is used, so that a record which
the engine would refuse is refused here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from drengine.engine.fold import apply, begin
from drengine.engine.machine import TRIGGERS
from drengine.errors import JournalDamaged
from drengine.evidence.deciders import Deciders
from drengine.evidence.deviations import DeviationLog
from drengine.evidence.outline import Outline, outline_of
from drengine.evidence.people import PeopleLog, is_point_of_no_return
from drengine.evidence.reading import error_text, findings, mapping, moment, requests, text, texts
from drengine.evidence.stretches import Clocking, share_of, total_ms
from drengine.model.canonical import JsonObject
from drengine.model.facts import FindingFacts, Moment, RequestFacts, RunFacts, Share, StepFacts
from drengine.model.plan import Plan
from drengine.model.records import Record
from drengine.model.records import RecordType as R
from drengine.model.run import RunState
from drengine.model.runbook import Step


@dataclass(slots=True)
class StepTrace:
    """What the records so far say of one step, beyond its state."""

    clocking: Clocking = field(default_factory=Clocking)
    queued: Moment | None = None
    began: Moment | None = None
    done: Moment | None = None
    checkpoint: Record | None = None
    attempts: int = 0
    failures: int = 0
    reads: int = 0
    requests: list[RequestFacts] = field(default_factory=list)
    findings: dict[str, tuple[FindingFacts, ...]] = field(default_factory=dict)
    error: str = ""
    evidence: JsonObject = field(default_factory=dict)
    evidence_ms: int = 0
    skipped_by: str = ""


_STAGES: Mapping[R, str] = {
    R.GUARDS_HELD: "before",
    R.GUARDS_REFUSED: "before",
    R.GATE_REQUESTED: "gate",
    R.DELIVERY_ACCEPTED: "delivery",
    R.VERIFY_MISSED: "after",
    R.STEP_SUCCEEDED: "after",
    R.STEP_FAILED: "after",
}
_LOOK = {"step", "polls", "detail", "not_before", "exchanges"}
"""What the record of a look at an operation holds, and nothing else."""

_BEGINNINGS = (R.STEP_BEGUN, R.GATE_REQUESTED, R.DELIVERY_REQUESTED)
_ENDINGS = (R.STEP_SUCCEEDED, R.DELIVERY_ACCEPTED, R.STEP_SKIPPED)
_FAILURES = (
    R.ANSWER_REFUSED,
    R.OPERATION_FAILED,
    R.STEP_FAILED,
    R.GUARDS_REFUSED,
    R.PROBE_UNDECIDABLE,
    R.OUTCOME_UNKNOWN,
    R.GATE_REJECTED,
)


class Trace:
    """Follows one chain; feed it its records in order, then ask for facts."""

    def __init__(self, plan: Plan, register: JsonObject | None = None) -> None:
        self._plan, self._register = plan, register
        self._state: RunState | None = None
        self._first: Record | None = None
        self._last: Record | None = None
        self._look: Record | None = None  # the last record, if it was one
        self._skipped: Record | None = None
        self._finished: Moment | None = None
        self._outline: Outline | None = None
        self._path: tuple[str, ...] = ()
        self._people: PeopleLog | None = None
        self.deviations = DeviationLog()
        self.looks: list[tuple[Moment, Mapping[str, object]]] = []
        self.transcripts: list[str] = []
        self.steps: dict[str, StepTrace] = {}

    def take(self, record: Record) -> None:
        """Take in the next record.

        Raises:
            JournalDamaged: the lifecycle has no place for it.
        """
        if self._is_one_more_look(record):
            self._skipped = self._last = self._look = record
            _note_requests(self.steps[record.body["step"]], record)
            return
        self._catch_up()
        before, last = self._state, self._last
        self._state = self._folded(before, record)
        self._last = record
        self._look = record if _is_look(record) else None
        if before is None:
            self._begin(record)
        self.deviations.take(before, record, last)
        self.people.take(before, record)
        self._note(record)
        self._clock(record)

    def _is_one_more_look(self, record: Record) -> bool:
        """Whether a look at an operation follows one: then only the last of them matters.

        A long run is made of looks. All that one leaves in the state, the next one replaces;
        and after the first has found its place in the lifecycle, the others have it too.
        """
        last = self._look
        return (
            last is not None
            and _is_look(record)
            and record.body["step"] == last.body["step"]
            and record.at_ms >= last.at_ms
            and moment(record).wall_ms >= moment(last).wall_ms
        )

    def _catch_up(self) -> None:
        """Fold the last of the looks that were passed over."""
        skipped, self._skipped = self._skipped, None
        if skipped is not None:
            self._state = self._folded(self._state, skipped)

    def _folded(self, before: RunState | None, record: Record) -> RunState:
        try:
            return begin(record) if before is None else apply(before, record)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise JournalDamaged(
                f"run {record.run}: record {record.seq} (`{record.type}`) lacks what it must say:"
                f" {type(error).__name__} {error}"
            ) from error

    def _begin(self, record: Record) -> None:
        if not isinstance(record.body.get("inputs"), Mapping):
            raise JournalDamaged(f"run {record.run}: record 0 has no inputs")
        self._first = record
        self._path = texts(record.body.get("path"))
        self._outline = outline_of(self._plan, self._path)
        self.deviations.deciders = Deciders(record.body, self._register)
        self._people = PeopleLog(self._outline, self.deviations.deciders)
        known = {step.id for step in self._outline.runbook.steps}
        if known != set(self.state.steps):
            odd = ", ".join(sorted(map(str, known ^ set(self.state.steps))))
            raise JournalDamaged(
                f"run {record.run}: record 0 and the plan's runbook differ in steps: {odd}"
            )
        self.steps = {step: StepTrace() for step in self.state.steps}

    @property
    def state(self) -> RunState:
        """The state after the records taken so far."""
        self._catch_up()
        if self._state is None:
            raise JournalDamaged("the journal has no record 0")
        return self._state

    @property
    def outline(self) -> Outline:
        """The chain's part of the plan."""
        if self._outline is None:
            raise JournalDamaged("the journal has no record 0")
        return self._outline

    @property
    def people(self) -> PeopleLog:
        """Gates, deliveries and points of no return so far."""
        if self._people is None:
            raise JournalDamaged("the journal has no record 0")
        return self._people

    def _note(self, record: Record) -> None:
        if record.type in (R.RUN_FINISHED, R.RUN_CANCELLED, R.RUN_ROLLED_BACK):
            self._finished = moment(record)
        if "evidence" in record.body and "databases" in mapping(record.body["evidence"]):
            self.looks.append((moment(record), mapping(record.body["evidence"])))
        if record.type is R.NOTE and record.body.get("attached") == "ceremony_transcript":
            self.transcripts.append(text(record.body.get("sha256")))
        trace = self.steps.get(text(record.body.get("step")))
        if trace is not None:
            if record.type in _BEGINNINGS and trace.began is None:
                trace.queued = self._ready(text(record.body.get("step")))
            _note_step(trace, record)
        if record.type is R.GENERATION_ENDED:
            for name in record.body.get("steps", ()):
                self.steps[name].done = self.steps[name].checkpoint = None
                self.steps[name].evidence = {}
        if record.type is R.GATE_VOIDED and trace is not None:
            trace.done = trace.checkpoint = None

    def _clock(self, record: Record) -> None:
        state = self.state
        names = texts(record.body.get("steps")) or (text(record.body.get("step")),)
        # Only a record of the run as a whole changes the share of every step.
        for name in names if record.type in TRIGGERS else state.steps:
            share = share_of(state.steps[name].status, state.status)
            self.steps[name].clocking.turn(share, record.at_ms)

    def facts(self) -> RunFacts:
        """Return what the records so far amount to."""
        state, first, last = self.state, self._first, self._last
        if first is None or last is None:
            raise JournalDamaged("the journal has no record 0")
        genesis = state.genesis
        runbook = self.outline.runbook
        return RunFacts(
            run=str(state.run),
            parent=text(genesis.get("parent")),
            parent_step=self._path[-1] if self._path else "",
            item=text(mapping(genesis.get("item")).get("name")),
            title=text(genesis.get("title")),
            runbook=runbook.name,
            runbook_sha256=self.outline.part.runbook_sha256,
            status=str(state.status),
            created=moment(first),
            finished=self._finished if state.status.is_over else None,
            last=moment(last),
            openings=state.openings,
            waiting_for=state.waiting_for,
            named_by_parent="",
            records=last.seq + 1,
            head_seq=last.seq,
            head_sha256=last.sha256,
            steps=tuple(self._step(step, last.at_ms) for step in runbook.steps),
        )

    def _step(self, step: Step, until_ms: int) -> StepFacts:
        trace, st = self.steps[step.id], self.state.steps[step.id]
        stretches = trace.clocking.until(until_ms)
        return StepFacts(
            id=step.id,
            title=step.title or step.id,
            kind=str(step.kind),
            action=step.action or step.runbook,
            group=step.group or "",
            irreversible=is_point_of_no_return(step, self.state, self.outline),
            status=str(st.status),
            generation=st.generation,
            attempts=trace.attempts,
            failures=trace.failures,
            sends=st.sends,
            queued=trace.queued or self._ready(step.id),
            began=trace.began,
            ended=trace.done,
            work_ms=total_ms(stretches, Share.WORK),
            wait_ms=total_ms(stretches, Share.WAIT),
            cloud_ms=total_ms(stretches, Share.CLOUD),
            stopped_ms=total_ms(stretches, Share.STOPPED),
            stretches=stretches,
            checkpoint_seq=trace.checkpoint.seq if trace.checkpoint else None,
            checkpoint_sha256=trace.checkpoint.sha256 if trace.checkpoint else "",
            findings=tuple(f for found in trace.findings.values() for f in found),
            requests=tuple(trace.requests),
            reads=trace.reads,
            error="" if st.status.is_done else trace.error,
            detail=st.detail,
            expected_ms=step.expected_ms,
        )

    def _ready(self, step: str) -> Moment | None:
        """Return when everything that the step needs was done, None where it is not."""
        needs = self.outline.runbook.step(step).needs
        done = [self.steps[need].done for need in needs]
        known = [moment for moment in done if moment is not None]
        if len(known) < len(done) or self._first is None:
            return None
        return max(known, key=lambda m: m.at_ms, default=moment(self._first))


def _is_look(record: Record) -> bool:
    return record.type is R.OPERATION_POLLED and record.body.keys() == _LOOK


def _note_requests(trace: StepTrace, record: Record) -> None:
    if "exchanges" in record.body:
        named, reads = requests(record)
        trace.requests.extend(named)
        trace.reads += reads


def _note_step(trace: StepTrace, record: Record) -> None:
    body = record.body
    _note_requests(trace, record)
    if record.type in _BEGINNINGS:
        trace.began = trace.began or moment(record)
        trace.attempts += 1
        trace.skipped_by = ""
    if record.type in _STAGES and "findings" in body:
        trace.findings[_STAGES[record.type]] = findings(body, _STAGES[record.type])
    if record.type in _FAILURES:
        trace.failures += 1
        trace.error = error_text(body.get("error"))
    if record.type in _ENDINGS:
        trace.done = moment(record)
    if record.type is R.STEP_SKIPPED:
        trace.skipped_by = record.actor
    elif record.type in _ENDINGS:
        trace.checkpoint = record
    if record.type in _STAGES and "evidence" in body:
        trace.evidence, trace.evidence_ms = mapping(body["evidence"]), record.at_ms
