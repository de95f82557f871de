"""The order of steps: who runs before whom, and which orders a runbook may not have.

Rules:
* every need exists, none twice, no cycle;
* the steps of a group hang together and nothing outside it stands between two of
  them: when the group is begun anew, nothing of it may rest on what was done before;
* an irreversible step needs a gate directly, and a gate that is not skipped where the
  step is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

from drengine.errors import ExpressionError
from drengine.model.runbook import Runbook, Step, StepKind
from drengine.runbook.expression_syntax import parse_template
from drengine.runbook.problems import Problems
from drengine.runbook.suggest import did_you_mean, shown


def upstream(runbook: Runbook) -> dict[str, frozenset[str]]:
    """Return step id -> the ids of all steps that are done before it; the graph is acyclic."""
    ids = [step.id for step in runbook.steps]
    bit = {step_id: 1 << index for index, step_id in enumerate(ids)}
    masks: dict[str, int] = {}
    for step in in_order(runbook):
        mask = 0
        for need in step.needs:
            mask |= bit[need] | masks[need]
        masks[step.id] = mask
    return {
        step_id: frozenset(other for other in ids if bit[other] & mask)
        for step_id, mask in masks.items()
    }


def in_order(runbook: Runbook) -> list[Step]:
    """Return the steps so that each comes after what it needs."""
    by_id = {step.id: step for step in runbook.steps}
    sorter = TopologicalSorter({step.id: step.needs for step in runbook.steps})
    return [by_id[step_id] for step_id in sorter.static_order()]


def check_needs(runbook: Runbook, problems: Problems) -> bool:
    """Check that needs exist and that there is no cycle; return whether order can be spoken of."""
    known = {step.id for step in runbook.steps}
    is_sound = True
    for index, step in enumerate(runbook.steps):
        for position, need in enumerate(step.needs):
            path = ("steps", index, "needs", position)
            if need not in known:
                close = did_you_mean(need, known)
                problems.add(path, f"step '{step.id}' needs unknown step {shown(need)}{close}")
                is_sound = False
            elif need in step.needs[:position]:
                problems.add(path, f"step '{step.id}' needs '{need}' twice")
    return is_sound and _check_cycle(runbook, problems)


def _check_cycle(runbook: Runbook, problems: Problems) -> bool:
    try:
        TopologicalSorter({step.id: step.needs for step in runbook.steps}).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        first = next(i for i, step in enumerate(runbook.steps) if step.id in cycle)
        rounds = " needs ".join(f"'{step_id}'" for step_id in reversed(cycle[-12:]))
        problems.add(("steps", first, "needs"), f"steps wait for each other: {rounds}")
        return False
    return True


def check_groups(runbook: Runbook, above: Mapping[str, frozenset[str]], problems: Problems) -> None:
    """Check that each group hangs together and encloses nothing foreign; the graph is sound."""
    groups: dict[str, list[int]] = {}
    for index, step in enumerate(runbook.steps):
        if step.group is not None:
            groups.setdefault(step.group, []).append(index)
    for name, indexes in groups.items():
        members = [runbook.steps[index] for index in indexes]
        inside = {step.id for step in members}
        if apart := _not_connected(members):
            index = next(i for i in indexes if runbook.steps[i].id in apart)
            message = (
                f"step '{runbook.steps[index].id}' is in group '{name}', but no chain of `needs` "
                f"inside the group joins it with '{members[0].id}'"
            )
            problems.add(("steps", index, "group"), message)
            continue
        for index, step in enumerate(runbook.steps):
            if step.id in inside or not (first := above[step.id] & inside):
                continue
            if last := [member.id for member in members if step.id in above[member.id]]:
                message = (
                    f"step '{step.id}' runs between '{min(first)}' and '{last[0]}' of group "
                    f"'{name}' but is not in the group; when the group is begun anew, its result "
                    "would be stale: put it into the group"
                )
                problems.add(("steps", index), message)


def _not_connected(members: list[Step]) -> set[str]:
    """Return the ids of members that the first one is not joined with inside the group."""
    inside = {step.id for step in members}
    joined: dict[str, set[str]] = {step_id: set() for step_id in inside}
    for step in members:
        for need in inside.intersection(step.needs):
            joined[step.id].add(need)
            joined[need].add(step.id)
    return inside - _reach(members[0].id, joined)


def _reach(start: str, joined: Mapping[str, Iterable[str]]) -> set[str]:
    seen, ahead = {start}, [start]
    while ahead:
        for step_id in joined[ahead.pop()]:
            if step_id not in seen:
                seen.add(step_id)
                ahead.append(step_id)
    return seen


def check_points_of_no_return(runbook: Runbook, problems: Problems) -> None:
    """Check that each irreversible step needs a gate that no condition takes away."""
    by_id = {step.id: step for step in runbook.steps}
    for index, step in enumerate(runbook.steps):
        if step.irreversible is None or _same(step.irreversible, "${false}"):
            continue
        gates = [by_id[n] for n in step.needs if by_id[n].kind is StepKind.GATE]
        path = ("steps", index, "irreversible")
        if not gates:
            message = (
                f"step '{step.id}' is irreversible but needs no gate: what cannot be undone is "
                "decided by a person, right before it"
            )
            problems.add(path, message, hint="Add a gate step and name it in `needs`.")
        elif not any(_holds_with(gate, step) for gate in gates):
            message = (
                f"step '{step.id}' is irreversible, but gate '{gates[0].id}' is skipped where its "
                "own `when` is false, and the step is not"
            )
            hint = "Give the gate no `when`, or the same as the step's `when` or `irreversible`."
            problems.add(path, message, hint=hint)


def _holds_with(gate: Step, step: Step) -> bool:
    return gate.when is None or any(
        other is not None and _same(gate.when, other) for other in (step.when, step.irreversible)
    )


def _same(left: str, right: str) -> bool:
    """Return whether two texts are the same expression, white space aside."""
    try:
        # By representation: Python holds `True == 1`, an expression does not.
        return repr(parse_template(left)) == repr(parse_template(right))
    except ExpressionError:
        return False  # reported where the expression stands
