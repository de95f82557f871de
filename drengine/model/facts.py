"""Facts of the evidence: what a journal amounts to, as values and nothing else.

They are derived by `evidence.collect` from journals and plan alone, shown by
`evidence.render`, and recomputed by `evidence.verify`. No number in a report comes
from anywhere else. They hold no floats: times are epoch milliseconds of the engine's
clock (virtual in a lab), with the wall clock beside them where it differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from typing import Final

from drengine.model.canonical import SCALARS, Json, JsonObject, plain

FACTS_SCHEMA: Final = "drengine/evidence-facts/v1"


class Verdict(StrEnum):
    """What a run amounts to."""

    RECOVERED = "recovered"
    OBJECTIVE_MISSED = "recovered, objective missed"
    NOT_FINISHED = "not finished"
    NOT_RECOVERED = "not recovered"
    FINISHED = "finished"
    """The runbook recovers nothing (new custodians, say), and came to its end."""
    FINISHED_LATE = "finished, objective missed"


class Holds(StrEnum):
    """What can be said of a criterion."""

    YES = "holds"
    NO = "does not hold"
    NOT_SHOWN = "not shown"  # the runbook has the proof, the journal has not
    NOT_ASKED = "not part of this run"

    @property
    def counts_against(self) -> bool:
        """Whether a run with it did not recover."""
        return self in (Holds.NO, Holds.NOT_SHOWN)


class Reached(StrEnum):
    """What can be said of an objective."""

    MET = "met"
    MISSED = "missed"
    NOT_YET = "not yet"  # the run goes on
    NOT_MEASURED = "not measured"
    NOT_SHOWN = "not shown"  # nothing came back that a time could be taken of
    NO_TARGET = "no target set"


class Share(StrEnum):
    """What a stretch of a step's time went into."""

    WORK = "work"  # the engine checks, looks, sends, reads back
    WAIT = "wait"  # a person's approval or delivery
    CLOUD = "cloud"  # the service works, or its answer was lost
    CHILDREN = "child runs"
    STOPPED = "stopped"  # failed, refused, unknown or the run at rest: nobody worked


@dataclass(frozen=True, slots=True)
class Moment:
    """When, by the engine's clock and by the wall clock.

    Attributes:
        wall_ms: equal to `at_ms` where the engine followed the wall clock.
    """

    at_ms: int
    wall_ms: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """An uninterrupted part of a step's time."""

    share: Share
    from_ms: int
    to_ms: int


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """One HTTP request worth naming: it changed something, or it went wrong.

    Attributes:
        seq: the record that holds it.
        status: 0 where no answer came.
    """

    seq: int
    method: str
    host: str
    path: str
    status: int
    request_id: str
    client_request_id: str
    ms: int
    sent: bool


@dataclass(frozen=True, slots=True)
class FindingFacts:
    """One finding as the journal has it.

    Attributes:
        stage: `before`, `after`, `gate` or `delivery`.
    """

    stage: str
    rule: str
    severity: str
    message: str
    advice: str


@dataclass(frozen=True, slots=True)
class StepFacts:
    """One step of a run or child run.

    Attributes:
        queued: when everything it needs was first done; began: first begin; ended: last checkpoint.
        generation: how often its group was begun anew; attempts, sends: over all generations.
        checkpoint_seq: the record after which it is not repeated.
        reads: requests that only read and went well; they are counted, not listed.
        expected_ms: what the runbook expects it to take, None where it does not say.
    """

    id: str
    title: str
    kind: str
    action: str
    group: str
    irreversible: bool
    status: str
    generation: int
    attempts: int
    failures: int
    sends: int
    queued: Moment | None
    began: Moment | None
    ended: Moment | None
    work_ms: int
    wait_ms: int
    cloud_ms: int
    stopped_ms: int
    stretches: tuple[Stretch, ...]
    checkpoint_seq: int | None
    checkpoint_sha256: str
    findings: tuple[FindingFacts, ...]
    requests: tuple[RequestFacts, ...]
    reads: int
    error: str
    detail: str
    expected_ms: int | None = None

    @property
    def spent_ms(self) -> int:
        """All of its time, from the sum of its stretches."""
        return sum(stretch.to_ms - stretch.from_ms for stretch in self.stretches)


@dataclass(frozen=True, slots=True)
class RunFacts:
    """One chain: the run itself or a child.

    Attributes:
        item: name of the item that a child run is about.
        parent, parent_step: empty for the root.
        named_by_parent: what the parent's chain says of the child's end, empty where it says
            nothing yet.
        records: length of the chain; head_sha256: SHA-256 of its last line.
    """

    run: str
    parent: str
    parent_step: str
    item: str
    title: str
    runbook: str
    runbook_sha256: str
    status: str
    created: Moment
    finished: Moment | None
    last: Moment
    openings: int
    waiting_for: tuple[str, ...]
    named_by_parent: str
    records: int
    head_seq: int
    head_sha256: str
    steps: tuple[StepFacts, ...]


@dataclass(frozen=True, slots=True)
class DecisionFacts:
    """What one person said at a gate.

    Attributes:
        sent_ms: when it was sent, by the sender's clock.
        is_simulated: a drill played the person.
        signer: the id of the key that signed it, empty where nothing is signed.
        break_glass: given in an emergency for all who were asked.
        by_initiator: whether whoever decided began the run, by the accounts in the run's
            register; None where there is none to tell.
    """

    actor: str
    is_simulated: bool
    said: str
    role: str
    reason: str
    at: Moment
    sent_ms: int | None
    seq: int
    signer: str = ""
    break_glass: bool = False
    by_initiator: bool | None = None


@dataclass(frozen=True, slots=True)
class GateFacts:
    """One request for approval and what became of it.

    Attributes:
        outcome: `approved`, `rejected`, `voided` or `open`.
        facts: observation name -> what was shown and is approved.
    """

    run: str
    step: str
    ask: str
    seq: int
    digest: str
    generation: int
    required: int
    roles: tuple[str, ...]
    requested: Moment
    facts: JsonObject
    findings: tuple[FindingFacts, ...]
    decisions: tuple[DecisionFacts, ...]
    outcome: str
    decided: Moment | None
    why: str


@dataclass(frozen=True, slots=True)
class DeliveryFacts:
    """One file that was asked for, and what came.

    Attributes:
        outcome: `accepted`, `voided` or `open`.
        ceremony: how the file was made, as the delivery says it: `combine` (all keys met on one
            machine), `contribute` (each custodian on their own), empty where it does not say.
    """

    run: str
    step: str
    kind: str
    ask: str
    seq: int
    expects: JsonObject
    requested: Moment
    accepted: Moment | None
    outcome: str
    actor: str
    is_simulated: bool
    sha256: str
    size_bytes: int
    ceremony: str
    findings: tuple[FindingFacts, ...]


@dataclass(frozen=True, slots=True)
class PointOfNoReturn:
    """One irreversible send and the gates that it needed.

    Attributes:
        approved: every gate it needs stood approved in the chain before it was sent.
    """

    run: str
    step: str
    seq: int
    sent: Moment
    gates: tuple[str, ...]
    approved: bool


@dataclass(frozen=True, slots=True)
class DeviationFacts:
    """Something that did not go as the plan says; it stays in the evidence.

    Attributes:
        resolution: what became of it, empty where nothing did.
    """

    kind: str
    run: str
    step: str
    seq: int
    at: Moment
    actor: str
    text: str
    resolution: str


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """One key version of the inventory, looked for in the rebuilt HSM."""

    name: str
    version: str
    kty: str
    status: str
    public_key_equal: bool | None
    canary: str
    why: str


@dataclass(frozen=True, slots=True)
class KeyInventory:
    """What the keys were compared with."""

    sha256: str
    taken_at: str


@dataclass(frozen=True, slots=True)
class RoleContinuity:
    """Local role assignments against the inventory."""

    expected: int
    found: int
    missing: tuple[str, ...]
    extra: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """One database before and after."""

    instance: str
    name: str
    before: str
    status: str
    canary: str
    protector: str
    thumbprint_equal: bool | None


@dataclass(frozen=True, slots=True)
class DatabaseLook:
    """A database was seen in a state that it was not seen in before.

    Attributes:
        at: None for what the inventory says of the time before the run.
    """

    instance: str
    name: str
    at: Moment | None
    status: str


@dataclass(frozen=True, slots=True)
class CustodyFacts:
    """Who holds the security domain's shares, as the plan found it.

    Attributes:
        custodians: thumbprints (x5t#S256) of the certificates that the shares are wrapped to.
        transcripts: SHA-256 of every ceremony's transcript that is attached, in order.
    """

    sha256: str
    required: int
    custodians: tuple[str, ...]
    transcripts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ObjectiveFacts:
    """A recovery objective, what was reached and how it was measured.

    Attributes:
        actual_wall_ms: the same stretch by the wall clock, None where it has no such form.
        is_simulated: the times are a lab's.
        from_what, to_what: what the two ends of the measurement are.
        why: why nothing is shown; empty where something is.
    """

    name: str
    target_ms: int | None
    actual_ms: int | None
    actual_wall_ms: int | None
    from_what: str
    from_ms: int | None
    to_what: str
    to_ms: int | None
    reached: Reached
    is_simulated: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class Criterion:
    """A statement that a recovered run must bear out."""

    id: str
    statement: str
    holds: Holds
    detail: str


@dataclass(frozen=True, slots=True)
class EvidenceFacts:
    """Everything that the evidence of one run says.

    Attributes:
        run_class: drill, incident or tabletop; is_lab: no real cloud was touched.
        runs: the run, then its children in the order in which they were created.
        limits: what this evidence does not prove, in plain sentences.
        approvers: digest of the register that decisions were judged by; empty where none was.
        source_location: the region of what was lost, by the inventory; empty where it is unknown.
    """

    run: str
    run_class: str
    is_lab: bool
    title: str
    plan_digest: str
    plan_created_at: str
    initiator: str
    tool: JsonObject
    cloud: JsonObject
    inputs: JsonObject
    status: str
    created: Moment
    finished: Moment | None
    last: Moment
    verdict: Verdict
    verdict_reasons: tuple[str, ...]
    rto: ObjectiveFacts
    rpo: ObjectiveFacts
    criteria: tuple[Criterion, ...]
    runs: tuple[RunFacts, ...]
    gates: tuple[GateFacts, ...]
    deliveries: tuple[DeliveryFacts, ...]
    points_of_no_return: tuple[PointOfNoReturn, ...]
    keys: tuple[KeyFacts, ...]
    key_inventory: KeyInventory | None
    roles: RoleContinuity | None
    databases: tuple[DatabaseFacts, ...]
    deviations: tuple[DeviationFacts, ...]
    limits: tuple[str, ...]
    approvers: str = ""
    custody: CustodyFacts | None = None
    database_looks: tuple[DatabaseLook, ...] = ()
    source_location: str = ""

    def to_json(self) -> dict[str, Json]:
        """Return the facts as `facts.json` holds them."""
        body = _json(self)
        if not isinstance(body, dict):
            raise TypeError("facts are an object")
        return {"schema": FACTS_SCHEMA, **body}


def _json(value: object) -> Json:
    if type(value) in SCALARS:
        return value  # type: ignore[return-value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, tuple):
        return [_json(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    return plain(value)
