"""Bind what was given to the inputs that a runbook declares.

Rules:
* everything that is missing, unknown or mistyped is told at once;
* null counts as not given: the default stands in, an optional input stays null;
* a `file` is read through the `read_file` that comes in, which gives its path, size
  and digest; a digest that was given along must agree.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from drengine.errors import InputError
from drengine.model.canonical import Json, JsonObject
from drengine.model.plan import PlanPart
from drengine.model.runbook import InputSpec, InputType, Runbook
from drengine.runbook.input_types import MistypedInput, typed_value
from drengine.runbook.suggest import did_you_mean, shown

ReadFile = Callable[[str], JsonObject]

FILES: Final = (InputType.FILE, InputType.DOCUMENT)
_MAX_TOLD: Final = 50


@dataclass(frozen=True, slots=True)
class _Reader:
    read_file: ReadFile | None
    now: str
    allow_lab_names: bool

    def value(self, spec: InputSpec, given: Json) -> Json:
        """Return the value for the plan.

        Raises:
            MistypedInput: when `given` does not fit.
        """
        if spec.type in FILES and self.read_file is not None:
            return self._file(spec, given, self.read_file)
        return typed_value(spec, given, now=self.now, allow_lab_names=self.allow_lab_names)

    def _file(self, spec: InputSpec, given: Json, read_file: ReadFile) -> Json:
        expected = None
        if not isinstance(given, str):
            expected = typed_value(spec, given, now=self.now, allow_lab_names=False)
            given = expected["path"] if isinstance(expected, Mapping) else ""
        try:
            found: Json = read_file(str(given))
        except InputError as error:
            raise MistypedInput(error.message) from error
        found = typed_value(spec, found, now=self.now, allow_lab_names=False)
        if expected is not None and found != expected:
            raise MistypedInput(f"file {shown(str(given))} is not the one that was named by digest")
        return found


def resolve_inputs(
    runbook: Runbook,
    given: Mapping[str, Json],
    *,
    read_file: ReadFile | None,
    now: str,
    allow_lab_names: bool = False,
    deferred: Collection[str] = (),
) -> dict[str, Json]:
    """Return input name -> the value that stands in the plan.

    Parameters:
        given: text as from `--input name=value`, or JSON of the input's kind.
        read_file: path -> {path, sha256, size}; without it, files must come in that form.
        now: what `now` means for an input of type time.
        allow_lab_names: whether HSM names may be such as only the lab takes.
        deferred: inputs that only a running parent knows; they are absent from the answer.

    Raises:
        InputError: names every input that is missing, unknown or mistyped.
    """
    reader = _Reader(read_file, now, allow_lab_names)
    values: dict[str, Json] = {}
    wrong = [
        f"unknown input {shown(name)}{did_you_mean(name, runbook.inputs)}"
        for name in (*given, *deferred)
        if name not in runbook.inputs
    ]
    for name, spec in runbook.inputs.items():
        if name in deferred:
            continue
        try:
            values[name] = _bound(spec, given.get(name), reader)
        except MistypedInput as error:
            wrong.append(f"input '{name}' ({spec.type}): {error}")
    if wrong:
        raise _refusal(runbook, wrong)
    return values


def typed_inputs(
    runbook: Runbook, values: Mapping[str, Json], *, now: str = "", allow_lab_names: bool = False
) -> dict[str, Json]:
    """Return the values of some inputs, typed; inputs that are not in `values` stay out.

    Raises:
        InputError: names every value that does not fit.
    """
    reader = _Reader(None, now, allow_lab_names)
    typed: dict[str, Json] = {}
    wrong: list[str] = []
    for name, value in values.items():
        spec = runbook.inputs.get(name)
        if spec is None:
            wrong.append(f"unknown input {shown(name)}{did_you_mean(name, runbook.inputs)}")
            continue
        try:
            typed[name] = _bound(spec, value, reader)
        except MistypedInput as error:
            wrong.append(f"input '{name}' ({spec.type}): {error}")
    if wrong:
        raise _refusal(runbook, wrong)
    return typed


def bind_child_inputs(
    part: PlanPart,
    runbook: Runbook,
    values: Mapping[str, Json],
    *,
    now: str = "",
    allow_lab_names: bool = False,
) -> JsonObject:
    """Return all inputs of a child run: those of its plan part and the deferred ones.

    Raises:
        InputError: when a deferred input is not in `values`, one that is not deferred is, or a
            value does not fit.
    """
    missing = sorted(set(part.deferred) - values.keys())
    foreign = sorted(values.keys() - set(part.deferred))
    if missing or foreign:
        wrong = [f"input '{name}' was deferred and is not there now" for name in missing]
        wrong += [f"input {shown(name)} is already fixed by the plan" for name in foreign]
        raise _refusal(runbook, wrong)
    bound = typed_inputs(runbook, values, now=now, allow_lab_names=allow_lab_names)
    return {**part.inputs, **bound}


def _bound(spec: InputSpec, given: Json, reader: _Reader) -> Json:
    if given is not None:
        return reader.value(spec, given)
    if spec.default is not None:
        return reader.value(spec, spec.default)
    if spec.optional or spec.has_default:
        return None
    what = f": {spec.description}" if spec.description else ""
    raise MistypedInput(f"is missing{what}")


def _refusal(runbook: Runbook, wrong: list[str]) -> InputError:
    count = len(wrong)
    if count == 1:
        message = f"an input of runbook '{runbook.name}' does not fit: {wrong[0]}"
        return InputError(message, hint="Give it with --input NAME=VALUE.")
    told = "".join(f"\n  {line}" for line in wrong[:_MAX_TOLD])
    message = f"{count} inputs of runbook '{runbook.name}' do not fit:{told}"
    return InputError(message, hint="Give each with --input NAME=VALUE.")
