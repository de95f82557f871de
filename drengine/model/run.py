"""The state of a run: a pure fold over its records, kept nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from drengine.model.canonical import JsonObject
from drengine.model.cloud import Operation
from drengine.model.ids import RunId
from drengine.model.records import Head
from drengine.model.runbook import RunClass


class StepStatus(StrEnum):
    """Where a step stands. `engine.machine` says which record leads from one to the next."""

    PENDING = "pending"
    CHECKING = "checking"  # guards are being evaluated
    PROBING = "probing"  # asking whether it has been done already
    CLEARED = "cleared"  # may be sent
    SENDING = "sending"  # intent is durable; the answer is not
    IN_DOUBT = "in doubt"  # the answer was lost; looking
    RUNNING = "running"  # the service works on it
    VERIFYING = "verifying"  # reading the truth back
    AWAITING_APPROVAL = "awaiting approval"
    AWAITING_DELIVERY = "awaiting delivery"
    FANNING_OUT = "fanning out"
    SUCCEEDED = "succeeded"
    SKIPPED = "skipped"
    FAILED = "failed"
    REFUSED = "refused"  # by a guard; nothing was sent
    UNKNOWN = "unknown outcome"

    @property
    def is_done(self) -> bool:
        """Whether steps that need this one may begin."""
        return self in (StepStatus.SUCCEEDED, StepStatus.SKIPPED)

    @property
    def is_stuck(self) -> bool:
        """Whether only a resume or a person moves it on."""
        return self in (StepStatus.FAILED, StepStatus.REFUSED, StepStatus.UNKNOWN)

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for a person."""
        return self in (StepStatus.AWAITING_APPROVAL, StepStatus.AWAITING_DELIVERY)


class Effect(StrEnum):
    """What is certain of the last request that a step sent."""

    NONE = ""  # nothing was sent, or it is known that nothing came of it
    AT_WORK = "at work"  # it was sent, and only people, if anybody, say that it is over
    HAD = "had"  # it took effect: by its answer, by a look, or, sent by nobody here, by a word


class AbsentBy(StrEnum):
    """Who said that nothing came of a request."""

    NOBODY = ""
    SERVICE = "the service refused it"
    PERSON = "a person said that it did not happen"


class RunStatus(StrEnum):
    """Where a run stands."""

    RUNNING = "running"
    WAITING = "waiting"
    STOPPED = "stopped"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    FINISHED = "finished"
    ROLLING_BACK = "rolling back"
    ROLLED_BACK = "rolled back"

    @property
    def is_over(self) -> bool:
        """Whether nothing will ever be appended to decide on."""
        return self in (RunStatus.CANCELLED, RunStatus.FINISHED, RunStatus.ROLLED_BACK)


class UndoStatus(StrEnum):
    """How far a step has been undone."""

    NONE = ""
    SENDING = "undo sent"
    RUNNING = "undo running"
    CHECKING = "undo to be read back"
    DONE = "undone"
    KEPT = "kept"
    REFUSED = "undo refused"

    @property
    def is_settled(self) -> bool:
        """Whether nothing more is to be undone here."""
        return self in (UndoStatus.DONE, UndoStatus.KEPT)


@dataclass(frozen=True, slots=True)
class GateState:
    """An open or decided gate.

    Attributes:
        seq, digest: the request record's place and the digest of its body: what is approved.
        facts: observation name -> facts as shown.
        approvers: actors that approved this request, in order.
        sha256: hash of the request record's line, which covers every record before it.
        expires_ms: when the first of the approvals expires; None where none does.
        break_glass: somebody approved in an emergency for all who were asked.
        roles: who is asked; one of them is enough.
    """

    seq: int
    digest: str
    facts: JsonObject
    approvers: tuple[str, ...] = ()
    sha256: str = ""
    expires_ms: int | None = None
    break_glass: bool = False
    roles: tuple[str, ...] = ()

    def suffices(self, required: int) -> bool:
        """Whether so many approvals are enough."""
        return len(self.approvers) >= (1 if self.break_glass else required)


@dataclass(frozen=True, slots=True)
class ChildState:
    """A child run as its parent's chain knows it."""

    run: RunId
    item: JsonObject
    status: RunStatus = RunStatus.RUNNING
    head: Head | None = None


@dataclass(frozen=True, slots=True)
class StepState:
    """One step.

    Attributes:
        attempt: 1, 2, … within the generation; 0 before the first.
        failures: failed attempts since a person last opened the run.
        reopened: a stuck step that the last opening of the run lets begin again.
        sends: intents recorded over all generations; more than 0 means it may have had an effect.
        refused: of these, how many the service refused at once: as many as `sends` means none.
        intent_at_ms: when the last intent was made durable.
        before: what the action read just before that intent.
        effect: what is certain of that request; while it is not `NONE`, an "absent" is doubt.
        quiet_from_ms: where the quiet period of that request is counted from: the intent, or
            the last opening of the run, since clocks of different processes need not agree.
        in_doubt_since_ms, looks: set while the answer is lost.
        unknown_seq: the record that called the outcome unknown, -1 where none did.
        absent_by: who said that nothing came of the last request.
        not_before_ms: the next poll, look, verification or attempt is not before this.
        entered_ms: when the present status was entered.
        began_ms, ended_ms: first begin and last checkpoint, for times in reports.
        error: the last error as `DrError.to_json` gives it, plus `transient`.
        undo, undo_operation, undo_looks: how far a rollback has come with it.
        marked_by, marked_evidence: who said last that it was done by hand, and the SHA-256 of
            what they showed.
        last_code: the service's code of the last failure; survives the next attempt's begin.
        attested: (ceremony request, custodian) of every attestation imported for a delivery.
        attested_of: how many custodians that ceremony needs.
        transcripts: SHA-256 of a delivered file -> what a ceremony's transcript says of it:
            form, transcript (SHA-256), required, custodians, signed, deviations.
    """

    id: str
    status: StepStatus = StepStatus.PENDING
    generation: int = 0
    attempt: int = 0
    failures: int = 0
    reopened: bool = False
    sends: int = 0
    refused: int = 0
    intent_at_ms: int | None = None
    before: JsonObject = field(default_factory=dict)
    effect: Effect = Effect.NONE
    quiet_from_ms: int = 0
    unknown_seq: int = -1
    absent_by: AbsentBy = AbsentBy.NOBODY
    in_doubt_since_ms: int | None = None
    looks: int = 0
    not_before_ms: int = 0
    entered_ms: int = 0
    began_ms: int | None = None
    ended_ms: int | None = None
    outputs: JsonObject = field(default_factory=dict)
    operation: Operation | None = None
    polls: int = 0
    detail: str = ""
    error: JsonObject | None = None
    last_code: str = ""
    gate: GateState | None = None
    request_seq: int = -1
    undo: UndoStatus = UndoStatus.NONE
    undo_operation: Operation | None = None
    undo_looks: int = 0
    marked_by: str = ""
    marked_evidence: str = ""
    expects: JsonObject = field(default_factory=dict)
    attested: tuple[tuple[str, str], ...] = ()
    attested_of: int = 0
    transcripts: Mapping[str, JsonObject] = field(default_factory=dict)
    children: Mapping[str, ChildState] = field(default_factory=dict)

    @property
    def progress(self) -> str:
        """How far the custodians of the newest ceremony are; empty where none is known of."""
        if not self.attested:
            return ""
        newest = self.attested[-1][0]
        have = len({custodian for request, custodian in self.attested if request == newest})
        return f"{have} of {self.attested_of} contributed"


@dataclass(frozen=True, slots=True)
class RunState:
    """A run.

    Attributes:
        genesis: body of record 0.
        signals: ids of signals already in the chain.
        openings: how often a process took the run; opened_ms: when the last one did. Deadlines
            count from there: what the service finished meanwhile is looked at first.
        paused: whether a person paused it and nobody has said `continue` since; a step that fails
            meanwhile does not end the pause.
        rolling_back: whether a person asked for a rollback; nothing new is begun any more.
        waiting_for: what the last `run.waiting` or `run.stopped` said.
        handed_to: to whom the run was handed over and not yet taken; empty where it was not.
        holder: how often the run moved and by which record, of record 0 where it never did:
            what the target HSM's holder tag must say.
        marked_ms: when this run last set that tag, None where it did not have to.
        copies_to: where the process that took the run last copies its journals; empty for nowhere.
    """

    run: RunId
    run_class: RunClass
    genesis: JsonObject
    head: Head
    status: RunStatus
    steps: Mapping[str, StepState]
    signals: frozenset[str] = frozenset()
    openings: int = 0
    created_ms: int = 0
    opened_ms: int = 0
    last_ms: int = 0
    finished_ms: int | None = None
    waiting_for: tuple[str, ...] = ()
    paused: bool = False
    rolling_back: bool = False
    handed_to: str = ""
    holder: str = "0"
    marked_ms: int | None = None
    copies_to: str = ""

    def outputs(self) -> dict[str, JsonObject]:
        """Return step id -> outputs, for expressions and actions."""
        return {step.id: step.outputs for step in self.steps.values()}
