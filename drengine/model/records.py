"""Records of the journal, as values. How they become bytes is `journal.codec`'s matter.

A record's `type` says what happened, its `body` the facts. The types that move a
step are triggers of the lifecycle table in `engine.machine`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from drengine.model.canonical import JsonObject
from drengine.model.ids import RunId

GENESIS_PREV = "0" * 64


class RecordType(StrEnum):
    """Every type of record that a journal may hold."""

    # A string's own hash: an enumeration's is written in Python, and records are looked up
    # by type many times each.
    __hash__ = str.__hash__

    # the run as a whole
    RUN_CREATED = "run.created"  # record 0
    RUN_OPENED = "run.opened"  # a process took the lease
    RUN_WAITING = "run.waiting"  # a clean stop: what is waited for
    RUN_STOPPED = "run.stopped"  # a resumable stop: failed, refused, unknown, interrupted
    RUN_PAUSED = "run.paused"
    RUN_CONTINUED = "run.continued"
    RUN_CANCELLED = "run.cancelled"
    RUN_ROLLBACK = "run.rollback"  # a person wants it undone
    RUN_ROLLED_BACK = "run.rolled_back"
    RUN_FINISHED = "run.finished"  # verdict
    RUN_HANDED_OVER = "run.handed_over"  # given away: this host does not drive it any more
    RUN_IMPORTED = "run.imported"  # taken over by another host from an export
    NOTE = "note"  # a fact worth evidence that moves nothing
    # one step; the value of `body["step"]` names it
    STEP_BEGUN = "step.begun"
    STEP_SKIPPED = "step.skipped"
    STEP_MARKED = "step.marked"  # a person says that it was done by hand, with evidence
    STEP_ATTESTED = "step.attested"  # a second person says so of the same evidence
    STEP_HELD = "step.held"  # an approved fact changed before the send, or it must wait
    GUARDS_HELD = "guards.held"
    GUARDS_REFUSED = "guards.refused"
    PROBE_ABSENT = "probe.absent"
    PROBE_PRESENT = "probe.present"
    PROBE_IN_PROGRESS = "probe.in_progress"
    PROBE_BUSY = "probe.busy"  # cannot be told yet; look again later
    PROBE_UNDECIDABLE = "probe.undecidable"
    INTENT = "intent"
    ANSWER_OPERATION = "answer.operation"
    ANSWER_DONE = "answer.done"
    ANSWER_REFUSED = "answer.refused"
    ANSWER_LOST = "answer.lost"
    OPERATION_POLLED = "operation.polled"
    OPERATION_SUCCEEDED = "operation.succeeded"
    OPERATION_FAILED = "operation.failed"
    OPERATION_LOST = "operation.lost"
    VERIFY_MISSED = "verify.missed"
    PART_DONE = "part.done"  # one of several sends of the step is verified; the next follows
    STEP_SUCCEEDED = "step.succeeded"  # the checkpoint
    STEP_FAILED = "step.failed"
    OUTCOME_UNKNOWN = "outcome.unknown"
    OUTCOME_FOUND = "outcome.found"  # a person says: it happened
    OUTCOME_ABSENT = "outcome.absent"  # a person says: it did not
    DOUBT_RAISED = "doubt.raised"  # an effect that was taken for had is not seen any more
    DOUBT_CLEARED = "doubt.cleared"
    # undoing, in reverse order, only what may have had an effect
    UNDO_INTENT = "undo.intent"
    UNDO_ANSWERED = "undo.answered"
    UNDO_POLLED = "undo.polled"
    UNDO_DONE = "undo.done"  # read back: it is gone
    UNDO_KEPT = "undo.kept"  # it stays, with the reason
    UNDO_REFUSED = "undo.refused"
    # people
    GATE_REQUESTED = "gate.requested"
    GATE_APPROVED = "gate.approved"
    GATE_REJECTED = "gate.rejected"
    GATE_VOIDED = "gate.voided"
    DELIVERY_REQUESTED = "delivery.requested"
    DELIVERY_ACCEPTED = "delivery.accepted"
    # groups and children
    GENERATION_ENDED = "generation.ended"
    FANOUT_BEGUN = "fanout.begun"
    CHILD_STARTED = "child.started"
    CHILD_FINISHED = "child.finished"


@dataclass(frozen=True, slots=True)
class Draft:
    """A record before the store has given it its place in the chain.

    Attributes:
        at_ms: the engine's clock, epoch milliseconds (virtual in a lab).
        mono_ms: monotonic milliseconds of the process that wrote it.
        wall_ms: the wall clock where it differs from the engine's clock (in a lab), else None.
        actor: who: `engine`, `operator:<name>`, `approver:<name>`, with `simulated:` before it
            where a drill played the person.
    """

    type: RecordType
    actor: str
    body: JsonObject
    at_ms: int
    mono_ms: int
    wall_ms: int | None = None


class Record(msgspec.Struct, frozen=True):
    """A record in its place in the chain.

    It is made for every line that is read, which a struct of msgspec takes a fifth of the
    time for that a dataclass does.

    Attributes:
        seq: 0, 1, 2, … without gaps.
        prev: SHA-256 of the previous line with its newline; `GENESIS_PREV` for record 0.
        sha256: SHA-256 of this line with its newline: what the next record's `prev` must be.
    """

    seq: int
    run: RunId
    type: RecordType
    actor: str
    body: JsonObject
    at_ms: int
    mono_ms: int
    wall_ms: int | None
    prev: str
    sha256: str


class Head(msgspec.Struct, frozen=True):
    """The end of a chain: the last record's seq and hash."""

    seq: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to append to a run.

    Attributes:
        token: strictly increases with every acquisition of the run; an append with an older
            token is refused.
        owner: host, process and boot that hold it, for messages.
    """

    run: RunId
    owner: str
    token: int


@dataclass(frozen=True, slots=True)
class Signal:
    """A message of a person or another process to a run, kept in the inbox until it is recorded.

    Attributes:
        id: unique; the fold ignores a signal id it has already seen.
        kind: approve, reject, deliver, cancel, pause, continue, resolve, skip, mark, rollback.
        actor: who sent it (see `Draft.actor`).
        body: what it says.
        at_ms: when it was sent, by the sender's clock.
    """

    id: str
    run: RunId
    kind: str
    actor: str
    body: JsonObject
    at_ms: int
