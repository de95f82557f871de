"""What stands below the board of a run: what was found, undone, handed in, or did not count.

Pure, as the board is. Every line that quotes text from outside is one line: nothing that
somebody wrote must look like a line of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from drengine.cli.family import Family, step_name
from drengine.cli.output import shorten, styled
from drengine.model.ids import RunId
from drengine.model.records import Signal
from drengine.model.run import RunState, RunStatus, StepState, UndoStatus
from drengine.model.run import StepStatus as S


def stays(family: Family) -> Iterator[tuple[RunId, StepState]]:
    """Yield what a rollback leaves as it is; its reason is the step's detail."""
    yield from _undo_in(family.states.values(), UndoStatus.KEPT)


def undone(family: Family) -> Iterator[tuple[RunId, StepState]]:
    """Yield what a rollback has taken away, as it was read back."""
    yield from _undo_in(family.states.values(), UndoStatus.DONE)


def _undo_in(states: Iterable[RunState], *wanted: UndoStatus) -> Iterator[tuple[RunId, StepState]]:
    for state in states:
        for step in state.steps.values():
            if step.undo in wanted:
                yield state.run, step


def rollback_word(family: Family) -> str:
    """Return how far the undoing of a run is; empty where nobody asked for it."""
    state = family.root
    if state.status is RunStatus.ROLLED_BACK:
        return "rolled back"
    if not state.rolling_back:
        return ""
    if family.is_alone:
        return "rollback left alone"
    words = {RunStatus.ROLLING_BACK: "rolling back", RunStatus.CANCELLED: "rollback given up"}
    return words.get(state.status, f"rollback {state.status}")


def undone_lines(family: Family) -> list[str]:
    """Return what a rollback has taken away, and what stays and why."""
    if not (word := rollback_word(family)):
        return []
    head = f"↶ {word}: {undone_text(family.states.values())}"
    left = [
        f"⚠ {step_name(run, step.id)} stays: {shorten(step.detail, 400)}"
        for run, step in stays(family)
    ]
    return [head, *(styled(line, fg="yellow") for line in left)]


def undone_text(states: Iterable[RunState]) -> str:
    """Return what was undone, what is being undone and what stays, by the names of the steps."""
    states = list(states)
    told = []
    for word, wanted in _UNDO_WORDS.items():
        if names := [step_name(run, step.id) for run, step in _undo_in(states, *wanted)]:
            told.append(f"{word}: {', '.join(names)}")
    is_over = states[0].status.is_over
    return "; ".join(told) or ("nothing was undone" if is_over else "nothing is undone yet")


_UNDO_WORDS: Final = {
    "undone": (UndoStatus.DONE,),
    "being undone": (UndoStatus.SENDING, UndoStatus.RUNNING, UndoStatus.CHECKING),
    "undo refused": (UndoStatus.REFUSED,),
    "stays": (UndoStatus.KEPT,),
}


def against_lines(family: Family) -> list[str]:
    """Return what rules found against the decisions that are waited for."""
    return [
        styled(f"✗ {step_name(run, step)}: {against}", fg="red")
        for (run, step), request in family.requests.items()
        if family.asks(run, step) and family.states[run].steps[step].status is S.AWAITING_APPROVAL
        for against in findings_against(request)
    ]


def findings_against(request: Mapping[str, Any]) -> list[str]:
    """Return what speaks against a decision, each on one line: its texts come from outside."""
    return [
        shorten(f"{found['rule']}: {found['message']}. {found.get('advice', '')}", 400)
        for found in request.get("findings", ())
        if found["severity"] == "block"
    ]


def uncounted(family: Family) -> list[tuple[RunId, str, str]]:
    """Return run, step and reason of words that did not count, where one is still needed."""
    return [
        (run, step, why)
        for (run, step), why in family.uncounted.items()
        if family.asks(run, step) or _is_stuck(family, run, step)
    ]


def _is_stuck(family: Family, run: RunId, step: str) -> bool:
    state = family.states[run]
    over = family.root.status.is_over or state.status.is_over
    return not over and step in state.steps and state.steps[step].status.is_stuck


def uncounted_lines(family: Family) -> list[str]:
    """Return why words of people did not count, for the steps that still wait or are stuck."""
    return [
        styled(f"⚠ {step_name(run, step)}: {shorten(why, 400)}", fg="yellow")
        for run, step, why in uncounted(family)
    ]


def handed_in_lines(family: Family) -> list[str]:
    """Return what people have sent and no process has taken in yet."""
    waiting = () if family.root.status.is_over else family.inbox
    return [f"· handed in: {handed_in_text(signal)}" for signal in waiting]


def handed_in_text(signal: Signal) -> str:
    """Return what somebody has sent on one line: text from outside must not look like ours."""
    step = str(signal.body.get("step") or "")
    what = step_name(signal.run, step) if step else signal.run
    return shorten(f"{signal.kind} of {what} by {signal.actor}", 200)


_IN_FLIGHT: Final = {
    S.SENDING: "a request may have left; the resume looks for its effect, it does not repeat it",
    S.IN_DOUBT: "its answer was lost; the resume goes on looking for its effect",
    S.RUNNING: "Azure goes on with it; the resume follows it, nothing is sent again",
}


_UNDO_IN_FLIGHT: Final = {
    UndoStatus.SENDING: "a request to undo it may have left; the resume looks whether it is gone,"
    " before anything is sent again",
    UndoStatus.RUNNING: "Azure goes on undoing it; the resume follows it, nothing is sent again",
    UndoStatus.CHECKING: "it was asked to go; the resume reads back whether it is gone",
}


def in_flight(family: Family) -> list[tuple[RunId, str, str]]:
    """Return run, step and what is certain of each request that a process left in the middle.

    None while a process drives the run: that one sees to them.
    """
    if family.owner is not None or family.root.status.is_over:
        return []
    return [
        (run, step.id, told)
        for run, state in family.states.items()
        if not state.status.is_over
        for step in state.steps.values()
        if (told := _UNDO_IN_FLIGHT.get(step.undo) or _IN_FLIGHT.get(step.status, ""))
    ]


def in_flight_lines(family: Family) -> list[str]:
    """Return what is certain of the requests that a process left in the middle, a line each."""
    return [f"{step_name(run, step)}: {told}" for run, step, told in in_flight(family)]


def noted_json(family: Family) -> dict[str, Any]:
    """Return what the lines below the board say, as `status` and `run-ended` give it in JSON."""
    return {
        "handed_to": family.root.handed_to or None,
        "undone": [{"run": str(run), "step": step.id} for run, step in undone(family)],
        "stays": [
            {"run": str(run), "step": step.id, "why": step.detail} for run, step in stays(family)
        ],
        "in_flight": [
            {"run": str(run), "step": step, "why": why} for run, step, why in in_flight(family)
        ],
        "uncounted": [
            {"run": str(run), "step": step, "why": why} for run, step, why in uncounted(family)
        ],
        "handed_in": [signal_json(signal) for signal in family.inbox],
    }


def signal_json(signal: Signal) -> dict[str, Any]:
    """Return what somebody has sent as JSON gives it."""
    facts = {"run": str(signal.run), "kind": signal.kind, "actor": signal.actor}
    return {**facts, "step": signal.body.get("step")}
