"""The runbook as a value: what the loader makes of the YAML text.

Expressions stay text here (`${…}`); `drengine.runbook.expressions` evaluates them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from drengine.model.canonical import Json

API_VERSION = "drengine/v1"


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file, 1-based."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class InputType(StrEnum):
    """What a runbook input may be; the value in the plan is always plain JSON."""

    STRING = "string"
    BOOL = "bool"
    INT = "int"
    DURATION = "duration"  # text such as 4h or 30m; milliseconds in the plan
    TIME = "time"  # UTC text such as 2026-11-22T03:00:00Z; `now` is allowed
    HSM_NAME = "hsm_name"
    LOCATION = "location"
    GUID = "guid"
    RESOURCE_ID = "resource_id"
    URL = "url"
    FILE = "file"  # plan holds {path, sha256, size}
    DOCUMENT = "document"  # as FILE, and its bytes travel with the run
    BACKUP_FOLDER = "backup_folder"  # `latest` is resolved by discovery
    SECRET = "secret"  # noqa: S105 - the name of a type; the plan holds a reference such as env:NAME
    STRING_LIST = "string_list"
    OBJECT = "object"
    OBJECT_LIST = "object_list"


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One declared input of a runbook."""

    name: str
    type: InputType
    description: str = ""
    optional: bool = False
    default: Json = None
    has_default: bool = False
    choices: tuple[str, ...] = ()
    position: Position | None = None


@dataclass(frozen=True, slots=True)
class Discovery:
    """A look at the world made once, when the plan is made; its answer is frozen in the plan."""

    name: str
    source: str
    with_: Mapping[str, Json]
    when: str | None = None
    position: Position | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    """A human decision on listed facts.

    Attributes:
        approvals: how many different approvers must agree.
        roles: who may approve; empty means any enrolled approver.
        facts: names of observations that are read, shown, signed and read again before the send.
        rules: ids of rules whose findings are shown at the gate (for example a lock-out risk).
        ask: the question put to the approver.
        break_glass: in an emergency one approver with a reason will do, in any role, who began the
            run too (decision 30).
    """

    approvals: int = 1
    roles: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    ask: str = ""
    break_glass: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """A file that a person brings.

    Attributes:
        kind: what it must be; `restore_blob` is checked for size and exchange fingerprint.
        expects: expressions whose values the file must match (for example `exchange`).
        ask: what the person is asked for.
    """

    kind: str
    expects: Mapping[str, str]
    ask: str = ""


@dataclass(frozen=True, slots=True)
class Foreach:
    """Fan-out into child runs.

    Attributes:
        items: an expression that gives a list of objects with a `name`.
        variable: the name under which an item is seen in `with`.
        parallel: how many children run at once.
        stop_after_failures: no new child is started after so many failed.
        canary: so many children run first and alone.
    """

    items: str
    variable: str
    parallel: int = 4
    stop_after_failures: int = 1
    canary: int = 0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often the engine tries a step that failed without effect."""

    attempts: int = 3
    first_wait_ms: int = 5_000
    max_wait_ms: int = 120_000


class StepKind(StrEnum):
    """What an entry of a runbook is."""

    ACTION = "action"
    GATE = "gate"
    DELIVERY = "delivery"
    RUNBOOK = "runbook"


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of a runbook."""

    id: str
    kind: StepKind
    title: str = ""
    action: str = ""
    runbook: str = ""
    gate: Gate | None = None
    delivery: Delivery | None = None
    foreach: Foreach | None = None
    with_: Mapping[str, Json] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    when: str | None = None
    group: str | None = None
    guards_before: tuple[str, ...] = ()
    guards_after: tuple[str, ...] = ()
    irreversible: str | None = None  # an expression; None means it can be undone or repeated
    rollback: str | None = None
    retry: RetryPolicy = RetryPolicy()
    timeout_ms: int | None = None
    expected_ms: int | None = None
    expected_source: str = ""
    position: Position | None = None


@dataclass(frozen=True, slots=True)
class Objectives:
    """What the recovery must reach."""

    rto_ms: int | None = None
    rpo_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Runbook:
    """A runbook: the document after every check that needs no inputs.

    Attributes:
        sha256: digest of the text it was loaded from.
        text: that text, byte for byte, so that a plan can carry it.
        steps: in document order; `needs` has been checked to be acyclic. A step without
            `needs` depends on the step before it; `needs: []` makes it a root.
    """

    name: str
    title: str
    description: str
    objectives: Objectives
    inputs: Mapping[str, InputSpec]
    discovery: tuple[Discovery, ...]
    steps: tuple[Step, ...]
    sha256: str
    text: str
    file: str = ""

    def step(self, step_id: str) -> Step:
        """Return the step with that id; the loader has made sure that references exist."""
        return next(step for step in self.steps if step.id == step_id)


class RunClass(StrEnum):
    """What a run is for; it stands on every screen and page."""

    DRILL = "drill"
    INCIDENT = "incident"
    TABLETOP = "tabletop"
