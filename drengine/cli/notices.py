"""What stands below the board of a run: what was found, undone, handed in, or did not count.

Pure, as the board is. Every line that quotes text from outside is one line: nothing that
somebody wrote must look like a line of ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from drengine.cli.family import Family
from drengine.cli.output import shorten, styled
from drengine.model.ids import RunId
from drengine.model.records import Signal
from drengine.model.run import RunState, RunStatus, StepState, UndoStatus
from drengine.model.run import StepStatus as S


def stays(family: Family) -> Iterator[tuple[RunId, StepState]]:
    """Yield what a rollback leaves as it is; its reason is the step's detail."""
    for run, state in family.states.items():
        for step in state.steps.values():
            if step.undo is UndoStatus.KEPT:
                yield run, step


def undone_lines(family: Family) -> list[str]:
    """Return what a rollback has taken away, and what stays and why."""
    state = family.root
    if state.status not in (RunStatus.ROLLING_BACK, RunStatus.ROLLED_BACK):
        return []
    head = f"↶ {state.status}: {undone_text(state)}"
    # On one line each: text from outside must not look like a line of ours.
    left = [f"⚠ {step.id} stays: {shorten(step.detail, 400)}" for _, step in stays(family)]
    return [head, *(styled(line, fg="yellow") for line in left)]


def undone_text(state: RunState) -> str:
    """Return what was undone and what stays, by the names of the steps."""
    steps = state.steps.values()
    gone = [step.id for step in steps if step.undo is UndoStatus.DONE]
    kept = [step.id for step in steps if step.undo is UndoStatus.KEPT]
    told = [f"undone: {', '.join(gone)}"] if gone else []
    told += [f"stays: {', '.join(kept)}"] if kept else []
    return "; ".join(told) or "nothing was undone"


def against_lines(family: Family) -> list[str]:
    """Return what rules found against the decisions that are waited for."""
    return [
        styled(f"✗ {step}: {against}", fg="red")
        for (run, step), request in family.requests.items()
        if not family.root.status.is_over
        and (found := family.states[run].steps.get(step))
        and found.status is S.AWAITING_APPROVAL
        for against in findings_against(request)
    ]


def findings_against(request: Mapping[str, Any]) -> list[str]:
    """Return what speaks against a decision, each on one line: its texts come from outside."""
    return [
        shorten(f"{found['rule']}: {found['message']}. {found.get('advice', '')}", 400)
        for found in request.get("findings", ())
        if found["severity"] == "block"
    ]


def uncounted_lines(family: Family) -> list[str]:
    """Return why decisions and deliveries did not count, for the steps that still wait."""
    return [
        # On one line: text from outside must not look like a line of ours.
        styled(f"⚠ {step}: {shorten(why, 400)}", fg="yellow")
        for (run, step), why in family.uncounted.items()
        if not family.root.status.is_over
        and (found := family.states[run].steps.get(step))
        and found.status.is_waiting
    ]


def handed_in_lines(family: Family) -> list[str]:
    """Return what people have sent and no process has taken in yet."""
    waiting = () if family.root.status.is_over else family.inbox
    return [f"· handed in: {handed_in_text(signal)}" for signal in waiting]


def handed_in_text(signal: Signal) -> str:
    """Return what somebody has sent on one line: text from outside must not look like ours."""
    what = signal.body.get("step") or signal.run
    return shorten(f"{signal.kind} of {what} by {signal.actor}", 200)


_IN_FLIGHT: Final = {
    S.SENDING: "a request may have left; the resume looks for its effect, it does not repeat it",
    S.IN_DOUBT: "its answer was lost; the resume goes on looking for its effect",
    S.RUNNING: "Azure goes on with it; the resume follows it, nothing is sent again",
}


def in_flight_lines(family: Family) -> list[str]:
    """Return what is certain of the steps that a process left in the middle of a request."""
    return [
        f"{'' if run == family.root_run else f'{run} '}{step.id}: {_IN_FLIGHT[step.status]}"
        for run, state in family.states.items()
        for step in state.steps.values()
        if step.status in _IN_FLIGHT
    ]
