"""What did not go as the plan says, and what became of it.

Pure. Nothing is left out because it ended well: a retry that succeeded, a voided
approval that was given again and an unknown outcome that a person resolved stay in
the evidence, each with its resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from drengine.evidence.deciders import Deciders
from drengine.evidence.reading import error_text, findings, moment, text, texts
from drengine.model.canonical import JsonObject
from drengine.model.facts import DeviationFacts
from drengine.model.findings import Severity
from drengine.model.records import Record
from drengine.model.records import RecordType as R
from drengine.model.run import RunState, RunStatus

VIRTUAL: Final = "virtual time went back"
"""The kind of a deviation that only a lab's time has."""

_RUN: Final = ""
"""Stands for the step of a deviation that concerns the whole run."""


@dataclass(slots=True)
class DeviationLog:
    """The deviations of one chain, in order; each stays open until something resolves it."""

    deciders: Deciders = field(default_factory=lambda: Deciders({}, None))
    found: list[DeviationFacts] = field(default_factory=list)
    _open: dict[str, list[int]] = field(default_factory=dict)
    _warned: set[tuple[str, str]] = field(default_factory=set)
    _asked: dict[str, JsonObject] = field(default_factory=dict)

    def take(self, before: RunState | None, record: Record, last: Record | None = None) -> None:
        """Take in the next record; `before` is the state it found, `last` the record before it."""
        step = text(record.body.get("step"))
        if record.type in _RESOLVES:
            self._resolve(step, _RESOLVES[record.type](record), record)
        if record.type is R.RUN_OPENED:
            self._opened(before, record)
        elif record.type is R.GATE_REQUESTED:
            self._asked[step] = record.body
        elif record.type is R.GATE_APPROVED:
            self._approved(step, record)
        elif record.type in _KINDS:
            kind, tell = _KINDS[record.type]
            resolvable = record.type not in _ONLY_TOLD
            self._add(kind, step, record, tell(record), needs_resolution=resolvable)
        self._warnings(step, record)
        if last is not None:
            self._clocks(step, last, record)

    def _clocks(self, step: str, last: Record, record: Record) -> None:
        """Tell a clock of the host that was set back from a lab's virtual time that jumped.

        Virtual time runs hundreds of times as fast as the host's, and jumps where the lab changes
        its speed: that says nothing of any clock that somebody set.
        """
        back = moment(last).wall_ms - moment(record).wall_ms
        if back > 0:
            wording = f"{back} ms before the record that precedes it"
            self._add("clock went back", step, record, wording, needs_resolution=False)
        elif record.at_ms < last.at_ms:
            wording = (
                f"{last.at_ms - record.at_ms} ms of the lab's virtual time before the record that"
                " precedes it; the host's own clock went on"
            )
            self._add(VIRTUAL, step, record, wording, needs_resolution=False)

    def _add(
        self, kind: str, step: str, record: Record, wording: str, *, needs_resolution: bool = True
    ) -> None:
        if needs_resolution:
            for name in texts(record.body.get("steps")) or (step,):
                self._open.setdefault(name, []).append(len(self.found))
        facts = DeviationFacts(
            kind=kind,
            run=str(record.run),
            step=step or ", ".join(texts(record.body.get("steps"))),
            seq=record.seq,
            at=moment(record),
            actor=record.actor,
            text=wording,
            resolution="",
        )
        self.found.append(facts)

    def _resolve(self, step: str, resolution: str, record: Record) -> None:
        if record.type is R.STEP_BEGUN and record.body.get("attempt") == 1:
            resolution = f"begun anew in record {record.seq}"
        for place in self._open.pop(step, []):
            if not self.found[place].resolution:
                self.found[place] = replace(self.found[place], resolution=resolution)

    def _opened(self, before: RunState | None, record: Record) -> None:
        if before is None or not before.openings:
            return
        if before.status is RunStatus.RUNNING:
            wording = "the process that drove the run ended without recording a stop"
            self._add("process ended", _RUN, record, wording)
        self._resolve(_RUN, f"the run was taken up again in record {record.seq}", record)

    def _approved(self, step: str, record: Record) -> None:
        if self.deciders.began(record):
            wording = "the person who began the run also approved"
            self._add("own approval", step, record, wording, needs_resolution=False)
        if record.body.get("break_glass") is True:
            aside = self.deciders.set_aside(record, self._asked.get(step, {}))
            by = f"BREAK-GLASS by {record.actor} alone{f' ({aside})' if aside else ''}"
            wording = f"{by}: {_reason(record)}"
            self._add("break-glass", step, record, wording, needs_resolution=False)

    def _warnings(self, step: str, record: Record) -> None:
        if record.type is R.NOTE or "findings" not in record.body:
            return
        for finding in findings(record.body, ""):
            wording = f"{finding.rule}: {finding.message}"
            if finding.severity == Severity.WARN and (step, wording) not in self._warned:
                self._warned.add((step, wording))
                self._add("warning", step, record, wording, needs_resolution=False)


def _error(record: Record) -> str:
    return error_text(record.body.get("error"))


def _why(record: Record) -> str:
    return text(record.body.get("why"))


def _reason(record: Record) -> str:
    return text(record.body.get("reason"))


def _skipped(record: Record) -> str:
    by = "" if record.actor == "engine" else f"by {record.actor}: "
    return f"{by}{_reason(record)}"


def _generation(record: Record) -> str:
    return f"{_why(record)}; approvals and deliveries of these steps are void"


def _note(record: Record) -> str:
    ignored = text(record.body.get("ignored"))
    what = f"{ignored!r} from {record.actor} was ignored: " if ignored else ""
    rest = "; ".join(f"{f.rule}: {f.message}" for f in findings(record.body, ""))
    return f"{what}{_why(record)}" + (f" ({rest})" if rest else "")


def _stopped(record: Record) -> str:
    return "; ".join((_why(record), *texts(record.body.get("for"))))


def _undone(record: Record) -> str:
    rest = "; ".join(finding.message for finding in findings(record.body, ""))
    return f"its effect was taken away, and read back: {rest or 'it is gone'}"


def _rolled_back(record: Record) -> str:
    del record
    return "what could be undone was undone; each step of it, and each that stays, is listed"


def _imported(record: Record) -> str:
    chains = record.body.get("chains")
    count = len(chains) if isinstance(chains, list) else 0
    reason = text(record.body.get("reason"))
    return f"by {text(record.body.get('owner'))}, with {count} chains" + (
        f"; taken over for a reason: {reason}" if reason else ""
    )


def _handed_over(record: Record) -> str:
    return f"by {text(record.body.get('owner'))} to {text(record.body.get('to'))}"


Wording = Callable[[Record], str]

_KINDS: Final[Mapping[R, tuple[str, Wording]]] = {
    R.STEP_SKIPPED: ("step skipped", _skipped),
    R.GUARDS_REFUSED: ("guard refused", _error),
    R.PROBE_UNDECIDABLE: ("cannot be told", _error),
    R.ANSWER_REFUSED: ("attempt failed", _error),
    R.ANSWER_LOST: ("answer lost", _why),
    R.OPERATION_FAILED: ("attempt failed", _error),
    R.OPERATION_LOST: ("operation lost", _why),
    R.DOUBT_RAISED: ("not seen any more", _why),
    R.STEP_FAILED: ("attempt failed", _error),
    R.OUTCOME_UNKNOWN: ("unknown outcome", _error),
    R.GATE_REJECTED: ("gate rejected", _error),
    R.GATE_VOIDED: ("approval voided", _why),
    R.GENERATION_ENDED: ("new generation", _generation),
    R.NOTE: ("note", _note),
    R.RUN_STOPPED: ("run stopped", _stopped),
    R.RUN_PAUSED: ("run paused", _reason),
    R.RUN_CANCELLED: ("run cancelled", _reason),
    R.RUN_ROLLBACK: ("rollback asked", _reason),
    R.UNDO_DONE: ("undone", _undone),
    R.UNDO_KEPT: ("stays after the rollback", _why),
    R.UNDO_REFUSED: ("undo refused", _error),
    R.RUN_ROLLED_BACK: ("run rolled back", _rolled_back),
    R.RUN_HANDED_OVER: ("handed over", _handed_over),
    R.RUN_IMPORTED: ("taken over", _imported),
}

_ONLY_TOLD: Final = (
    R.STEP_SKIPPED,
    R.NOTE,
    R.RUN_CANCELLED,
    R.RUN_ROLLBACK,
    R.UNDO_DONE,
    R.UNDO_KEPT,
    R.UNDO_REFUSED,
    R.RUN_ROLLED_BACK,
    R.RUN_HANDED_OVER,
    R.RUN_IMPORTED,
)


def _again(record: Record) -> str:
    return f"tried again: attempt {record.body.get('attempt')} in record {record.seq}"


def _said(what: str) -> Wording:
    def wording(record: Record) -> str:
        return f"{record.actor} says {what}: {_reason(record)}"

    return wording


def _at(what: str) -> Wording:
    def wording(record: Record) -> str:
        return f"{what} in record {record.seq}"

    return wording


_RESOLVES: Final[Mapping[R, Wording]] = {
    R.STEP_BEGUN: _again,
    R.PROBE_PRESENT: _at("looking found it done"),
    R.PROBE_IN_PROGRESS: _at("looking found the operation at work"),
    R.DOUBT_CLEARED: _at("absent after the quiet period, twice; allowed again"),
    R.OUTCOME_UNKNOWN: _at("looking could not tell; became an unknown outcome"),
    R.OUTCOME_FOUND: _said("it took effect"),
    R.OUTCOME_ABSENT: _said("it took no effect"),
    R.GATE_REQUESTED: _at("asked again"),
    R.DELIVERY_REQUESTED: _at("asked again"),
    R.STEP_SUCCEEDED: _at("the step succeeded"),
    R.RUN_CONTINUED: _at("continued"),
}
