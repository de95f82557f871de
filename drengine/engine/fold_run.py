"""What a record means for the run as a whole, beside the step that it may name.

Pure; part of `fold`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from drengine.engine.machine import AFTER_OPENING
from drengine.model.canonical import JsonObject
from drengine.model.changed import changed
from drengine.model.records import Record
from drengine.model.records import RecordType as R
from drengine.model.run import Effect, RunState, RunStatus, StepState, StepStatus, UndoStatus

_DEVIATIONS: Final = 10
_QUOTED: Final = 200
Changes = dict[str, Any]
RunChange = Callable[[RunState, Mapping[str, Any], Record], Changes]


def _attached(step: StepState, body: Mapping[str, Any]) -> Changes:
    facts = body.get("facts", {})
    if body["attached"] == "ceremony_attestation":
        pair = (str(facts["request"]), str(facts["custodian"]))
        # The newest ceremony is the last one: a repeat of an old attestation moves nothing.
        attested = step.attested if pair in step.attested else (*step.attested, pair)
        return {"attested": attested, "attested_of": int(facts["required"])}
    if body["attached"] == "ceremony_transcript" and facts.get("blob"):
        return {"transcripts": {**step.transcripts, str(facts["blob"]): _made(facts, body)}}
    return {}


def _made(facts: Mapping[str, Any], body: Mapping[str, Any]) -> JsonObject:
    """Return of a transcript what whoever approves the file should see."""
    deviations = [str(text) for text in facts.get("deviations", ())]
    return {
        "form": str(facts["form"]),
        "transcript": str(body.get("sha256", "")),
        "required": facts.get("required", 0),
        "custodians": list(facts.get("custodians", ())),
        "signed": list(facts.get("signed", ())),
        "deviations": [text[:_QUOTED] for text in deviations[:_DEVIATIONS]],
        "deviation_count": len(deviations),
    }


def _handed_over(state: RunState, body: Mapping[str, Any], record: Record) -> Changes:
    del state, record
    return {"handed_to": str(body["to"])}


def _imported(state: RunState, body: Mapping[str, Any], record: Record) -> Changes:
    del body
    moves = int(state.holder.partition(".")[0]) + 1
    return {"handed_to": "", "holder": f"{moves}.{record.sha256[:12]}", "marked_ms": None}


def _noted(state: RunState, body: Mapping[str, Any], record: Record) -> Changes:
    if "holder" in body:
        return {"marked_ms": record.at_ms}
    step = state.steps.get(str(body.get("step")))
    if step is None or "attached" not in body:
        return {}
    return {"steps": {**state.steps, step.id: replace(step, **_attached(step, body))}}


def _opened(state: RunState, body: Mapping[str, Any], record: Record) -> Changes:
    steps = {name: _reopened(step, record.at_ms) for name, step in state.steps.items()}
    running = RunStatus.ROLLING_BACK if state.rolling_back else RunStatus.RUNNING
    running = RunStatus.PAUSED if state.paused else running
    status = state.status if state.status in _KEPT_AT_OPENING else running
    return {
        "steps": steps,
        "status": status,
        "openings": state.openings + 1,
        "opened_ms": record.at_ms,
        "copies_to": str(body.get("copies_to", "")),
    }


def _reopened(step: StepState, at_ms: int) -> StepState:
    quiet = {"quiet_from_ms": at_ms} if step.effect is not Effect.NONE else {}
    if step.undo is UndoStatus.REFUSED:
        return changed(step, {**quiet, "reopened": True})
    if step.status in (StepStatus.FAILED, StepStatus.REFUSED):
        return changed(step, {**quiet, "reopened": True, "failures": 0})
    status = AFTER_OPENING.get(step.status, step.status)
    if status is step.status and not (step.not_before_ms or quiet or step.looks):
        return step
    # Looks of another process were at times of another clock.
    looks = {"looks": 0} if step.status is StepStatus.IN_DOUBT else {}
    return changed(step, {**quiet, **looks, "status": status, "not_before_ms": 0})


_KEPT_AT_OPENING = (
    RunStatus.PAUSED,
    RunStatus.CANCELLED,
    RunStatus.FINISHED,
    RunStatus.ROLLING_BACK,
    RunStatus.ROLLED_BACK,
)


_LASTING: Final[Mapping[RunStatus, Changes]] = {
    RunStatus.PAUSED: {"paused": True},
    RunStatus.ROLLING_BACK: {"rolling_back": True, "paused": False},
}
"""What a person's word means for the run until another word."""


def _rests(status: RunStatus) -> RunChange:
    def change(state: RunState, body: Mapping[str, Any], record: Record) -> Changes:
        finished = record.at_ms if status.is_over else state.finished_ms
        reasons = tuple(str(reason) for reason in body.get("for", ()))
        changes = {"status": status, "waiting_for": reasons, "finished_ms": finished}
        return changes | _LASTING.get(status, {})

    return change


def _rolls_back(state: RunState, body: Mapping[str, Any], record: Record) -> Changes:
    """Let what is stuck be looked at once more: nothing is undone while it may be at work."""
    steps = {
        name: changed(step, {"reopened": True})
        if step.status in (StepStatus.FAILED, StepStatus.REFUSED)
        else step
        for name, step in state.steps.items()
    }
    return {**_rests(RunStatus.ROLLING_BACK)(state, body, record), "steps": steps}


def _continued(state: RunState, body: Mapping[str, Any], record: Record) -> Changes:
    """Go on where the pause began: a rollback goes on as one."""
    status = RunStatus.ROLLING_BACK if state.rolling_back else RunStatus.RUNNING
    return {**_rests(status)(state, body, record), "paused": False}


RUN_CHANGES: Final[Mapping[R, RunChange]] = {
    R.NOTE: _noted,
    R.RUN_OPENED: _opened,
    R.RUN_HANDED_OVER: _handed_over,
    R.RUN_IMPORTED: _imported,
    R.RUN_WAITING: _rests(RunStatus.WAITING),
    R.RUN_STOPPED: _rests(RunStatus.STOPPED),
    R.RUN_PAUSED: _rests(RunStatus.PAUSED),
    R.RUN_CONTINUED: _continued,
    R.RUN_CANCELLED: _rests(RunStatus.CANCELLED),
    R.RUN_FINISHED: _rests(RunStatus.FINISHED),
    R.RUN_ROLLBACK: _rolls_back,
    R.RUN_ROLLED_BACK: _rests(RunStatus.ROLLED_BACK),
}
