"""A plan while it is being made: each part with its runbook, its scope and its children.

It answers one question for planner and summary alike: can this expression be
evaluated now, or only when the run is there?
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from drengine.errors import ExpressionError, InputError
from drengine.model.canonical import Json, JsonObject
from drengine.model.plan import PlanPart
from drengine.model.runbook import Runbook, Step
from drengine.runbook.expressions import references_in, resolve


@dataclass(slots=True)
class Branch:
    """One runbook of the plan with everything known of it before the run.

    Attributes:
        deferred: inputs that only a running parent knows.
        scope: what expressions see at plan time.
        children: step id -> the branch of the sub-runbook it runs.
        items: step id -> the frozen items of its `foreach`.
        skipped: ids of steps whose `when` is already false.
    """

    runbook: Runbook
    inputs: JsonObject
    deferred: frozenset[str]
    scope: dict[str, Json]
    discovery: dict[str, Json] = field(default_factory=dict)
    children: dict[str, Branch] = field(default_factory=dict)
    items: dict[str, tuple[JsonObject, ...]] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)

    def to_part(self) -> PlanPart:
        """Return the part of the plan that this branch has become."""
        return PlanPart(
            runbook_name=self.runbook.name,
            runbook_text=self.runbook.text,
            runbook_sha256=self.runbook.sha256,
            inputs=self.inputs,
            discovery=self.discovery,
            deferred=tuple(sorted(self.deferred)),
            children={step: branch.to_part() for step, branch in self.children.items()},
        )

    def is_late(self, value: Json, variable: str = "") -> bool:
        """Return whether `value` needs what only the run will know.

        Told from the names alone: a `coalesce` must not settle early for its second choice.

        Parameters:
            variable: a loop variable whose item is not fixed yet.
        """
        return any(self._is_late_name(path, variable) for path in references_in(value))

    def _is_late_name(self, path: tuple[str, ...], variable: str) -> bool:
        match path:
            case ("steps", *_) | ("run", "id", *_):
                return True
            case ("inputs", name, *_):
                return name in self.deferred
            case _:
                return bool(variable) and path[0] == variable

    def value(self, value: Json, where: str, extra: Mapping[str, Json] | None = None) -> Json:
        """Return `value` resolved now.

        Raises:
            InputError: says where in which runbook it failed.
        """
        try:
            return resolve(value, {**self.scope, **(extra or {})})
        except ExpressionError as error:
            raise InputError(
                f"{where} of runbook '{self.runbook.name}' cannot be planned: {error}"
            ) from error

    def truth(self, text: str, where: str) -> bool:
        """Return a condition evaluated now.

        Raises:
            InputError: when it is neither true nor false.
        """
        answer = self.value(text, where)
        if not isinstance(answer, bool):
            raise InputError(
                f"{where} of runbook '{self.runbook.name}' must be true or false: {text}"
            )
        return answer

    def is_skipped(self, step: Step) -> bool:
        """Return whether it is certain now that `step` will not run.

        Raises:
            InputError: when its `when` is neither true nor false.
        """
        if step.when is None or self.is_late(step.when):
            return False
        return not self.truth(step.when, f"`when` of step '{step.id}'")
