"""The shape of a runbook document: which keys there are and what stands in them.

It does not know which actions, rules or steps exist; `loader` does. Unknown keys are
refused with a suggestion, and all problems of shape are told at once. This is the
only module that imports pydantic; its words never reach the user.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)
from pydantic.config import JsonDict
from pydantic_core import ErrorDetails, PydanticCustomError

from drengine.model.ids import STEP_ID
from drengine.model.runbook import API_VERSION, InputType, Runbook
from drengine.runbook import durations
from drengine.runbook.expression_functions import kind_of
from drengine.runbook.problems import Problems
from drengine.runbook.suggest import did_you_mean, shown
from drengine.runbook.yaml import Path

MAX_STEPS: Final = 500
MAX_NAMED: Final = 200
NAME: Final = r"[a-z][a-z0-9_]{0,62}"
"""Names of inputs, discoveries and loop variables."""

_MAX_SHOWN: Final = 40


def _duration(value: object) -> int:
    if isinstance(value, str):
        try:
            return durations.parse_duration(value)
        except ValueError:
            pass
    raise PydanticCustomError("expected", f"a duration {durations.EXAMPLES}")


def _condition(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "${true}" if value else None
    raise PydanticCustomError("expected", "true, false or an expression in quotes")


_NAMED: Final[JsonDict] = {"propertyNames": {"pattern": f"^{NAME}$"}}
_VARIABLE: Final[JsonDict] = {"pattern": f"^{NAME}$"}
_ID: Final[JsonDict] = {"pattern": f"^{STEP_ID.pattern}$"}

Duration = Annotated[
    int,
    BeforeValidator(_duration),
    WithJsonSchema({"type": "string", "pattern": durations.PATTERN, "examples": ["4h", "1h30m"]}),
]
Condition = Annotated[
    str | None,
    BeforeValidator(_condition),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "string"}]}),
]
Kind = Annotated[InputType, Field(strict=False)]
Count = Annotated[int, Field(ge=1, le=1_000)]


class _Doc(BaseModel):
    # Only the whole document is ever validated, so only its validator is built, on first use.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class ObjectivesDoc(_Doc):
    """What the recovery must reach."""

    rto: Duration | None = Field(None, description="Time in which service must be back.")
    rpo: Duration | None = Field(None, description="Age that the restored backup may have.")


class InputDoc(_Doc):
    """A value that is given when the plan is made."""

    type: Kind = Field(description="What the value must be.")
    description: str = ""
    default: Any = Field(None, description="Used where nothing is given; a literal value.")
    optional: bool = Field(False, description="Without a value it is null.")
    choices: list[str] = Field(default_factory=list, description="The only values allowed.")


class DiscoveryDoc(_Doc):
    """A look at the world, made once, when the plan is made."""

    source: str = Field(description="The discovery to run, such as backup.latest.")
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    when: str | None = Field(None, description="Only where this is true; otherwise null.")


class GateDoc(_Doc):
    """A human decision."""

    approvals: Annotated[int, Field(ge=1, le=20)] = 1
    roles: list[str] = Field(default_factory=list)
    facts: list[str] = Field(default_factory=list, description="Observations that are signed.")
    rules: list[str] = Field(default_factory=list, description="Findings shown at the gate.")
    ask: str = ""
    break_glass: bool = Field(
        default=False,
        description="In an emergency one approver with a reason passes alone: in any role, and"
        " whoever began the run too.",
    )


class DeliveryDoc(_Doc):
    """A file that a person brings."""

    kind: str
    expects: dict[str, str] = Field(default_factory=dict)
    ask: str = ""


class GuardsDoc(_Doc):
    """Rules that must hold before and after a step."""

    before: list[str] = Field(default_factory=list)
    after: list[str] = Field(default_factory=list)


class RetryDoc(_Doc):
    """How often a step that failed without effect is tried."""

    attempts: Annotated[int, Field(ge=1, le=100)] = 3
    first_wait: Duration = 5_000
    max_wait: Duration = 120_000


class ExpectedDoc(_Doc):
    """The planning figure of a step."""

    duration: Duration
    source: str = Field("", description="Where the figure is from.")


class ForeachDoc(_Doc):
    """One child run for each item of a list."""

    in_: str = Field(alias="in", description="An expression; a list of objects with a name.")
    as_: str = Field("item", alias="as", json_schema_extra=_VARIABLE)
    parallel: Count = 4
    stop_after_failures: Count = 1
    canary: Annotated[int, Field(ge=0, le=1_000)] = 0


class StepDoc(_Doc):
    """An entry of the runbook: exactly one of action, gate, delivery and runbook."""

    id: str = Field(json_schema_extra=_ID)
    title: str = ""
    action: str | None = None
    gate: GateDoc | None = None
    delivery: DeliveryDoc | None = None
    runbook: str | None = Field(None, description="Name of a sub-runbook, never a path.")
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    needs: list[str] | None = Field(
        None, description="Steps that must be done first; without it, the step before."
    )
    when: str | None = Field(None, description="An expression; the step is skipped where false.")
    group: str | None = Field(None, description="Steps that are begun anew together.")
    guards: GuardsDoc = GuardsDoc()
    irreversible: Condition = Field(None, description="A point of no return; needs a gate.")
    rollback: str | None = Field(None, description="Action that undoes this one.")
    retry: RetryDoc = RetryDoc()
    timeout: Duration | None = None
    expected: ExpectedDoc | None = None
    foreach: ForeachDoc | None = None


class RunbookDoc(_Doc):
    """A disaster-recovery runbook."""

    api_version: Literal["drengine/v1"] = Field(alias="apiVersion")
    kind: Literal["Runbook"]
    name: str = Field(json_schema_extra=_ID)
    title: str
    description: str = ""
    objectives: ObjectivesDoc = Field(default_factory=lambda: ObjectivesDoc.model_validate({}))
    inputs: dict[str, InputDoc] = Field(default_factory=dict, json_schema_extra=_NAMED)
    discovery: dict[str, DiscoveryDoc] = Field(default_factory=dict, json_schema_extra=_NAMED)
    steps: list[StepDoc] = Field(min_length=1, max_length=MAX_STEPS)


def read_document(problems: Problems) -> RunbookDoc | None:
    """Return the document that the tree holds, or None after adding what is wrong with it."""
    try:
        return RunbookDoc.model_validate(problems.tree.value)
    except ValidationError as error:
        for details in error.errors(include_url=False, include_context=True):
            _add(problems, details)
            if problems.is_full:
                break
    return None


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a runbook, for editors."""
    schema = RunbookDoc.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:drengine:{API_VERSION.replace('/', ':')}:{Runbook.__name__.lower()}",
        **schema,
    }


def _add(problems: Problems, details: ErrorDetails) -> None:
    path: Path = details["loc"]
    if details["type"] == "extra_forbidden":
        key = str(path[-1])
        close = did_you_mean(key, _keys(path[:-1]))
        problems.add(path, f"unknown key {shown(key)}{_inside(path)}{close}", at_key=True)
    elif details["type"] == "missing":
        problems.add(path[:-1], f"key '{path[-1]}' is missing{_inside(path)}")
    else:
        problems.add(path, _mismatch(path, details))


def _mismatch(path: Path, details: ErrorDetails) -> str:
    label = ".".join(str(part) for part in path[-2:] if isinstance(part, str)) or "the document"
    value, context = details["input"], details.get("ctx", {})
    match details["type"]:
        case "expected":
            wanted = details["msg"]
        case "enum":
            known = [str(kind) for kind in InputType]
            close = did_you_mean(value, known) if isinstance(value, str) else ""
            return f"{label}: {_found(value)} is not an input type{close}"
        case "literal_error":
            wanted = str(context["expected"])
        case "greater_than_equal":
            wanted = f"at least {context['ge']}"
        case "less_than_equal":
            wanted = f"at most {context['le']}"
        case "too_short":
            return f"{label} is empty; at least one entry is needed"
        case "too_long":
            return f"{label} has more than {context['max_length']} entries"
        case kind:
            wanted = _WANTED.get(kind, details["msg"])
    return f"{label}: expected {wanted}, found {_found(value)}"


_WANTED: Final[Mapping[str, str]] = {
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def _found(value: Any) -> str:
    """Name a value for a message; long text and text with `=` (a signature?) is not repeated."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"the number {value}"
    if isinstance(value, str):
        return (
            f"the text {shown(value)}" if len(value) < _MAX_SHOWN and "=" not in value else "text"
        )
    return "nothing" if value is None else kind_of(value)


def _inside(path: Path) -> str:
    names = [str(part) for part in path[:-1] if isinstance(part, str)]
    return f" in {names[-1]}" if names else ""


def _keys(path: Path) -> list[str]:
    """Return the keys that the mapping at `path` may have."""
    at: Any = RunbookDoc
    for part in path:
        if isinstance(at, type) and issubclass(at, BaseModel):
            fields = {field.alias or name: field for name, field in at.model_fields.items()}
            at = _bare(fields[str(part)].annotation) if part in fields else None
        else:
            at = _bare(get_args(at)[-1]) if get_origin(at) in (list, dict) else None
    if isinstance(at, type) and issubclass(at, BaseModel):
        return [field.alias or name for name, field in at.model_fields.items()]
    return []


def _bare(annotation: Any) -> Any:
    """Return the one type of `X | None`."""
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    is_optional = type(None) in get_args(annotation)
    return kinds[0] if is_optional else annotation
