"""What people stopped stays stopped: judged from the chains and what was sent, in one order.

V1 nothing is sent whose intent stands behind a pause, a cancel, a rollback, or the
withdrawal of its gate; nor behind facts or approvals that no longer hold, nor by a process
that had been asked to end. A request whose intent stood before is in the air. A child obeys
the stops of the runs above it as soon as it can have heard of them.
V2 what has ended is not gone on with: behind the end stand notes, and behind a cancel what
still comes in; a rollback never becomes a forward run.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from drengine.model.ids import RunId
from drengine.model.records import RecordType as R
from sim.scene import RUNBOOKS, runbook_of
from sim.trace import Asked, Changed, Request, Trace, Written

LOOKED_MS = 30_000
"""So long after a fact's change, or an expiry, what was looked at before may still be sent."""

HEARD_MS = 60_000
"""So long it may take until a stop has come down through two inboxes (see `fate.Temper`)."""

_FORWARD = frozenset({R.INTENT, R.STEP_BEGUN, R.FANOUT_BEGUN, R.CHILD_STARTED, R.RUN_FINISHED})
_AFTER_CANCEL = frozenset(
    {
        *(R.RUN_OPENED, R.RUN_CONTINUED, R.RUN_PAUSED, R.RUN_ROLLBACK),
        *(R.RUN_ROLLED_BACK, R.RUN_WAITING),
    }
)
_ENDS = {R.RUN_CANCELLED, R.RUN_ROLLED_BACK, R.RUN_FINISHED}


@dataclass
class _Gate:
    """One gate: whether it is passed, what was shown of the target, and until when it holds."""

    passed: bool = False
    why_not: str = "was never passed"
    bypass: str | None = None
    expires_ms: int | None = None


@dataclass
class _Chain:
    """One chain so far: what stops it, since when, and what stood against each last intent.

    `at_ms`: each step's last record, by its process's clock; `told`: whether a problem with its
    end was told, where one leads to the next; `opener`: the process that took the run last.
    """

    paused: bool = False
    ended: str = ""
    since_ms: int = 0
    gates: dict[str, _Gate] = field(default_factory=lambda: defaultdict(_Gate))
    against: dict[str, str] = field(default_factory=dict)
    at_ms: dict[str, int] = field(default_factory=dict)
    told: bool = False
    opener: str = ""

    @property
    def stop(self) -> str:
        return self.ended or ("run.paused" if self.paused else "")


@cache
def _gates_of_steps() -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the gates that a step needs itself, by runbook and step."""
    names = ("mhsm-full-recovery", "sqlmi-repoint", "sqlmi-repoint-group")
    books = [runbook_of((RUNBOOKS / f"{name}.yaml").read_text()) for name in names]
    gates = {(book.name, step.id) for book in books for step in book.steps if step.gate}
    return {
        (book.name, step.id): tuple(n for n in step.needs if (book.name, n) in gates)
        for book in books
        for step in book.steps
    }


def _book_of(run: RunId) -> str:
    deep = ("mhsm-full-recovery", "sqlmi-repoint", "sqlmi-repoint-group")
    return deep[min(run.count("/"), 2)]


def _above(run: str) -> list[tuple[RunId, str]]:
    """Return the runs above a run, each with the step in it that the run belongs to."""
    root, *path = run.split("/")
    # A child is `PARENT/STEP`, or `PARENT/STEP/ITEM` where the step fans out.
    chain = [(RunId(root), path[0])] if path else []
    return [*chain, (RunId(f"{root}/{path[0]}"), path[1])] if len(path) > 1 else chain


class Stops:
    """Walks through a trace once; `problems` and `late` are what it found.

    `late` counts requests that left behind a stop, their intent before it: in the air.
    """

    def __init__(self, trace: Trace) -> None:
        self.problems: list[str] = []
        self.late = 0
        self._changes: list[Changed] = []
        self._ending: set[str] = set()
        self._chains: dict[tuple[str, str], _Chain] = defaultdict(_Chain)
        for entry in trace.entries:
            if isinstance(entry, Written):
                self._wrote(entry)
            elif isinstance(entry, Request):
                self._sent(entry)
            elif isinstance(entry, Asked):
                self._ending.add(entry.process)
            else:
                self._changes.append(entry)

    def _sent(self, request: Request) -> None:
        if request.name in ("delete", "mark"):
            return
        chain = self._chains[request.home, request.run]
        if why := chain.against.get(request.step, ""):
            self.problems.append(f"V1: {request.name} was sent although {why}")
        elif chain.stop:
            self.late += 1

    def _wrote(self, entry: Written) -> None:
        record, kind = entry.record, entry.record.type
        chain = self._chains[entry.home, record.run]
        self._judge_end(chain, entry)
        if kind is R.INTENT:
            chain.against[str(record.body["step"])] = self._against(entry)
        elif kind is R.RUN_PAUSED:
            chain.paused, chain.since_ms = True, entry.true_ms
        elif kind is R.RUN_CONTINUED:
            chain.paused = False
        elif kind is R.RUN_OPENED:
            chain.opener = entry.process
        elif kind is R.RUN_ROLLBACK or kind in _ENDS:
            chain.ended, chain.since_ms = str(kind), entry.true_ms
        elif "step" in record.body or kind is R.GENERATION_ENDED:
            _follow_gate(chain, entry)
        if "step" in record.body:
            chain.at_ms[str(record.body["step"])] = record.at_ms

    def _judge_end(self, chain: _Chain, entry: Written) -> None:
        kind, ended = entry.record.type, chain.ended
        over = ended in (R.RUN_ROLLED_BACK, R.RUN_FINISHED)
        wrong = (
            (over and kind is not R.NOTE)
            or (ended and kind in _FORWARD)
            or (ended == R.RUN_CANCELLED and kind in _AFTER_CANCEL)
        )
        if wrong and not chain.told:
            chain.told = True
            self.problems.append(f"V2: `{kind}` stands behind `{ended}`")

    def _against(self, entry: Written) -> str:
        """Return what stands against an intent, empty where nothing does."""
        record, home = entry.record, entry.home
        own = self._chains[home, record.run]
        if own.stop:
            return f"`{own.stop}` stood in the chain"
        if entry.process in self._ending:
            return "its process had been asked to end"
        step = str(record.body["step"])
        # A clock may have jumped since the look: what it said at the record before counts too.
        at_ms = min(record.at_ms, own.at_ms.get(step, record.at_ms))
        if why := self._gates_against(own, (_book_of(record.run), step), entry.true_ms, at_ms):
            return why
        for run, parents_step in _above(record.run):
            above = self._chains[home, run]
            if above.opener != entry.process:
                return ""  # it was taken away from this process, which cannot know of it yet
            if above.stop and entry.true_ms > above.since_ms + HEARD_MS:
                return f"`{above.stop}` stood in the chain above for long ({run.count('/')} up)"
            place = (_book_of(run), parents_step)
            if why := self._gates_against(above, place, entry.true_ms, at_ms):
                return f"{why}, in the run above"
        return ""

    def _gates_against(
        self, chain: _Chain, place: tuple[str, str], true_ms: int, at_ms: int
    ) -> str:
        for name in _gates_of_steps()[place]:
            gate = chain.gates[name]
            if not gate.passed:
                return f"gate {name} {gate.why_not}"
            if gate.expires_ms is not None and at_ms > gate.expires_ms + LOOKED_MS:
                return f"the approval of {name} had expired"
            if gate.bypass is not None and gate.bypass not in self._bypasses(true_ms):
                return f"the facts of {name} had changed since"
        return ""

    def _bypasses(self, now_ms: int) -> set[str]:
        """Return what the target's rules were while a look before an intent may have been made."""
        before = [each for each in self._changes if each.true_ms < now_ms - LOOKED_MS]
        within = self._changes[len(before) :]
        return {each.bypass for each in (*(before[-1:] or [_AT_CREATION]), *within)}


_AT_CREATION = Changed(0, "AzureServices")


def _follow_gate(chain: _Chain, entry: Written) -> None:
    body: Any = entry.record.body
    kind = entry.record.type
    if kind is R.GATE_REQUESTED:
        bypass = body["facts"].get("target-hsm", {}).get("bypass")
        chain.gates[body["step"]] = _Gate(bypass=bypass)
    elif kind is R.GATE_APPROVED and (ends := body.get("expires")) is not None:
        gate = chain.gates[body["step"]]
        gate.expires_ms = min(ends, gate.expires_ms or ends)
    elif kind is R.STEP_SUCCEEDED:
        chain.gates[body["step"]].passed = True
    elif kind in (R.GATE_VOIDED, R.GENERATION_ENDED):
        for step in body["steps"] if kind is R.GENERATION_ENDED else [body["step"]]:
            chain.gates[step] = _Gate(why_not=f"was void: {body.get('why', '')}")
