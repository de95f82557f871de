"""The contract between the engine and an action, a rule's facts and a gate's facts.

Rules of every action:
- `probe` only reads. It is asked before every send and after every lost answer.
- `start` is the one send. No layer below repeats it.
- `poll` can be asked from the journal alone, on another host.
- `verify` reads the truth back; it decides about success, never the answer of `start`.
- `manual` is the way by hand, with exact commands and no secret.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from drengine.azure.ports import Cloud
from drengine.model.canonical import JsonObject
from drengine.model.catalogue import ActionSpec
from drengine.model.cloud import Operation, OperationStatus
from drengine.model.findings import Findings
from drengine.model.ids import RunId
from drengine.model.plan import CloudIdentity
from drengine.model.runbook import RunClass
from drengine.model.secret import Secret
from drengine.rules.contract import Rule


class Objects(Protocol):
    """Large things beside the journal, by SHA-256."""

    def put_object(self, data: bytes) -> str:
        """Keep `data` and return its SHA-256."""
        ...

    def get_object(self, sha256: str) -> bytes:
        """Return the bytes of that digest."""
        ...


@dataclass(frozen=True, slots=True)
class StepContext:
    """Everything an action, observation or rule may know.

    Attributes:
        step: the step's id, empty for an observation made for a plan.
        values: the step's `with`, resolved.
        inputs: the runbook's inputs; `plan`: its frozen discovery; `outputs`: step -> outputs.
        now_ms: the engine's clock when the call was made.
        intent_at_ms: when the last intent was made durable, None where nothing was sent.
        sends: how often this step has sent, over all generations.
        operation: the last known operation of this step.
        last_code: the service's code of this step's last failure, empty where there was none.
        root: the id of the root run: what the target is tagged with.
        holder: what the target's holder tag must say; a newer one is another host's.
    """

    run: RunId
    root: RunId
    step: str
    run_class: RunClass
    cloud: Cloud
    where: CloudIdentity
    objects: Objects
    secret: Callable[[str], Secret]
    now_ms: int
    values: JsonObject = field(default_factory=dict)
    inputs: JsonObject = field(default_factory=dict)
    plan: JsonObject = field(default_factory=dict)
    outputs: Mapping[str, JsonObject] = field(default_factory=dict)
    intent_at_ms: int | None = None
    sends: int = 0
    operation: Operation | None = None
    last_code: str = ""
    holder: str = "0"
    before: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Absent:
    """The effect is not there."""

    why: str = ""


@dataclass(frozen=True, slots=True)
class Present:
    """The effect is there already."""

    outputs: JsonObject = field(default_factory=dict)
    why: str = ""


@dataclass(frozen=True, slots=True)
class InProgress:
    """The service works on it."""

    operation: Operation
    why: str = ""


@dataclass(frozen=True, slots=True)
class Busy:
    """It cannot be told yet; ask again."""

    why: str
    again_ms: int = 10_000


@dataclass(frozen=True, slots=True)
class Stale:
    """What the step would send no longer fits: its group begins a new generation."""

    why: str


@dataclass(frozen=True, slots=True)
class Undecidable:
    """It is there, but not ours or not as it should be: a person must look."""

    why: str
    advice: str = ""


ProbeResult = Absent | Present | InProgress | Busy | Stale | Undecidable


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification observed.

    Attributes:
        findings: hold or do not hold.
        outputs: facts read back that later steps may use.
        evidence: larger facts for the report; kept in the journal with the checkpoint.
        again_ms: when to look again where it does not hold yet; in the first minute the
            engine looks earlier.
        more: this send was read back, and the step has others to send.
        watches: the pause is what is watched; no earlier look is made.
    """

    findings: Findings
    outputs: JsonObject = field(default_factory=dict)
    evidence: JsonObject = field(default_factory=dict)
    again_ms: int = 10_000
    more: bool = False
    watches: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """An effect that a rollback leaves where it is."""

    why: str


class Action(Protocol):
    """One verb of the catalogue."""

    @property
    def spec(self) -> ActionSpec:
        """What is known of the action without running it."""
        ...

    async def probe(self, ctx: StepContext) -> ProbeResult:
        """Look whether the effect is there already."""
        ...

    async def before(self, ctx: StepContext) -> JsonObject:
        """Read what `probe` will compare with after a lost answer; kept in the intent."""
        ...

    async def start(self, ctx: StepContext) -> Operation | JsonObject:
        """Send once; return the operation to follow, or the outputs where it is done at once."""
        ...

    async def poll(self, ctx: StepContext, operation: Operation) -> OperationStatus:
        """Ask where the operation stands."""
        ...

    def outputs_of(self, status: OperationStatus) -> JsonObject:
        """Return the outputs that a succeeded operation's answer gives."""
        ...

    async def verify(self, ctx: StepContext) -> Verified:
        """Read the truth back."""
        ...

    async def may_undo(self, ctx: StepContext) -> Kept | None:
        """Say why the effect stays, or None where it can be taken away; read only.

        Raises:
            GuardError: taking it away would do harm now.
        """
        ...

    async def undo(self, ctx: StepContext) -> Operation | JsonObject:
        """Take the effect away."""
        ...

    async def verify_undone(self, ctx: StepContext) -> Findings:
        """Read back whether the effect is gone."""
        ...

    def manual(self, ctx: StepContext) -> str:
        """Return the commands that do the step by hand."""
        ...


Observer = Callable[[StepContext], Any]
"""`async (ctx) -> JSON`: reads facts, stable ones only, so that two readings can be compared."""

Discoverer = Callable[[StepContext], Any]
"""`async (ctx) -> JSON`: the same, once, for the plan; `ctx.values` holds its parameters."""


class DeliveryCheck(Protocol):
    """A pure function from delivered bytes to findings."""

    def __call__(self, data: bytes, expects: JsonObject) -> Findings:
        """Return whether `data` is what the step expects."""
        ...


@dataclass(frozen=True, slots=True)
class Attached:
    """What a document says that people attach to a step which waits for them.

    Attributes:
        findings: whether it is one and belongs to this step.
        facts: what the fold counts: `request`, `custodian` and `required` of an attestation;
            `blob`, `form` and `head` of a ceremony's transcript.
    """

    findings: Findings
    facts: JsonObject = field(default_factory=dict)


AttachmentCheck = Callable[[bytes, JsonObject, RunClass], Attached]
"""A pure function from a document, what the step expects and the run's class."""


@dataclass(frozen=True, slots=True)
class Kit:
    """All that runbooks may name, with the code behind it."""

    actions: Mapping[str, Action]
    rules: Mapping[str, Rule]
    observers: Mapping[str, Observer]
    discoverers: Mapping[str, Discoverer]
    deliveries: Mapping[str, DeliveryCheck]
    attachments: Mapping[str, AttachmentCheck] = field(default_factory=dict)
