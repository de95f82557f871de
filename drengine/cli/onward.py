"""The commands that move a run on, as every screen and every answer offers them.

A line can be pasted into a shell: what is no part of the command stands behind `#`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Final

from drengine.cli.family import Family
from drengine.model.ids import RunId
from drengine.model.run import RunStatus, StepState, UndoStatus
from drengine.model.run import StepStatus as S
from drengine.model.runbook import RunClass

ANSWERS: Final = ("approve", "reject", "deliver", "resolve")
"""Kinds of signals that answer what a step waits for."""


def next_commands(family: Family) -> list[str]:
    """Return the commands that move the run on, the most urgent first.

    What is no part of a command stands behind `#`: the line can be pasted into a shell.
    """
    status, run = family.root.status, family.root_run
    if status is RunStatus.FINISHED:
        return [f"drengine report {run} --out evidence-{run}"]
    if status in (RunStatus.CANCELLED, RunStatus.ROLLED_BACK):
        return [f"drengine report {run} --out evidence-{run}   # a {status} run is not resumed"]
    if family.root.handed_to:
        return [f"drengine take-over {run} --reason TEXT   # only if nobody took it there"]
    found = [text for each in family.states for text in _of_run(family, each)]
    for each, state in family.states.items():
        if state.paused and not state.status.is_over:
            found.append(f"drengine continue {each}")
    if family.owner is None:
        found.append(resume_command(family))
    return found or [f"drengine watch {run}"]


def resume_command(family: Family) -> str:
    """Return the command that goes on with a run, and what it takes where a step is stuck."""
    states = [state for state in family.states.values() if not state.status.is_over]
    steps = [step for state in states for step in state.steps.values()]
    then = ""
    if family.rolls_back:
        refused = any(step.undo is UndoStatus.REFUSED for step in steps)
        then = "   # once it is mended; it goes on undoing" if refused else ""
    elif any(step.status in (S.REFUSED, S.FAILED) for step in steps):
        then = "   # once it is mended; a wrong input takes: drengine cancel, and a new plan"
    return f"{bare_resume(family)}{then}"


def bare_resume(family: Family) -> str:
    """Return the command that goes on with a run, and nothing else."""
    root, elsewhere = family.root, ""
    if root.run_class is RunClass.INCIDENT and not root.copies_to:
        # Who drove it without a copy has said so, and is not asked again.
        elsewhere = " --no-copy" if root.openings else " --copy-to FOLDER"
    return f"drengine resume {family.root_run}{elsewhere}"


def _of_run(family: Family, run: RunId) -> Iterator[str]:
    state = family.states[run]
    if state.status.is_over:
        return
    for step in state.steps.values():
        if _is_answered(family, run, step):
            continue
        if step.status.is_waiting and family.rolls_back:
            continue  # nothing is begun any more, whatever is answered
        if step.status is S.AWAITING_APPROVAL:
            first = _first(family, run, step)
            yield f"drengine approve {run} {step.id}{_as(step)}{_key(family)}{first}"
        elif step.status is S.AWAITING_DELIVERY:
            yield f"drengine request {run} {step.id} --out FOLDER   # for the custodians"
            yield f"drengine deliver {run} {step.id} FILE"
        elif step.status is S.UNKNOWN:
            saw = "# and what you saw: --found or --absent"
            yield f"drengine resolve {run} {step.id} --reason TEXT   {saw}"


def _first(family: Family, run: RunId, step: StepState) -> str:
    """Return what comes before a decision against which a rule speaks: its command is no advice."""
    found = family.requests.get((run, step.id), {}).get("findings", ())
    if not any(each["severity"] == "block" for each in found):
        return ""
    return "   # read the ✗ first; a wrong input takes: drengine cancel, and a new plan"


def _key(family: Family) -> str:
    return " --key FILE" if family.root.genesis.get("approvers") else ""


def _as(step: StepState) -> str:
    roles = step.gate.roles if step.gate else ()
    return f" --as NAME --role {shlex.quote(roles[0])}" if roles else ""


def _is_answered(family: Family, run: RunId, step: StepState) -> bool:
    """Whether what was handed in will do, so that the next command is the one that takes it in."""
    # What was done by hand answers an unknown outcome too; of a gate it would not count.
    more = ("mark",) if step.status is S.UNKNOWN else ()
    sent = family.handed_in(run, step.id, *ANSWERS, *more)
    if family.owner is not None or not sent:
        return False
    if any(signal.kind != "approve" for signal in sent):
        return True
    have = {signal.actor for signal in sent} | set(step.gate.approvers if step.gate else ())
    return len(have) >= int(family.requests[run, step.id].get("approvals", 1))


def follow_up(family: Family) -> str:
    """Return what follows a word to a run: a look at it where it is driven, else its resume."""
    return f"drengine status {family.root_run}" if family.owner else resume_command(family)


def after_word(family: Family) -> str:
    """Return what follows a word that answers what the run was stuck on."""
    return f"drengine status {family.root_run}" if family.owner else bare_resume(family)
