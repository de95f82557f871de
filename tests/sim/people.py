"""Who is asked: they approve, deliver, look at the cloud by hand, and say what they saw."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from drengine.engine.fold import fold
from drengine.journal.memory import MemoryDisk, MemoryStore
from drengine.model.ids import RunId
from drengine.model.records import Signal
from drengine.model.run import RunState, RunStatus, StepState, StepStatus
from drengine.trust.approval import Approval, Judged, Terms
from sim.cloud import EPOCH_MS, SimCloud
from sim.fate import Fate
from sim.scene import restore_blob

APPROVER, FIRST, SECOND = "approver:sim", "operator:one", "operator:two"


@dataclass
class Home:
    """One host's home: its disk, the states of its runs as its processes left them, its looks.

    Attributes:
        looks: what somebody saw of a step's effect some time ago, by run and step.
        over: whether nobody starts a process here any more.
        stuck: how often in a row the run came to rest in the same need of somebody else;
            `given_up`: that was too often.
    """

    name: str
    boot_ms: int = 0
    disk: MemoryDisk = field(default_factory=MemoryDisk)
    latest: dict[RunId, RunState] = field(default_factory=dict)
    looks: dict[tuple[RunId, str], bool] = field(default_factory=dict)
    over: bool = False
    stuck: int = 0
    given_up: bool = False
    said: int = 0

    @property
    def store(self) -> MemoryStore:
        return MemoryStore(self.disk)

    def tell(self, run: RunId, kind: str, actor: str, body: dict[str, Any]) -> None:
        """Put a signal into the inbox of a run."""
        self.said += 1
        nonce = f"{kind}-{self.said}"
        if kind in ("approve", "withdraw"):
            cover = {"role": "", "reason": body.get("reason", "")}
            envelope = {**cover, "decision": kind, "by": actor, "nonce": nonce}
            body = {**body, **cover, "envelope": envelope}
        said = Signal(nonce, run, kind, actor, body, EPOCH_MS)
        if run in self.disk.runs:
            self.store.put_signal(said)


def is_by_hand(step: StepState) -> bool:
    """Whether people took a step on themselves: left out, or said to be done."""
    return step.status is StepStatus.SKIPPED or bool(step.marked_by)


def shows(cloud: SimCloud, run: RunId, step: str) -> bool:
    """Whether somebody who looks now sees that a request of the step took effect."""
    now = cloud.now()
    return any(
        each.took_effect and (each.can_be_seen(now) or each.name == "restore")
        for each in cloud.trace.requests()
        if (each.run, each.step) == (run, step)
    )


@dataclass
class People:
    """The people of one home between two processes."""

    home: Home
    cloud: SimCloud
    fate: Fate
    roll_back_at: str

    def act(self, root: RunState) -> int:
        """Do what the run and its children wait for; return how many unknown outcomes ended."""
        asked = root.steps.get(self.roll_back_at)
        if asked is not None and asked.status is StepStatus.AWAITING_APPROVAL:
            self.home.tell(root.run, "rollback", FIRST, {"reason": "enough"})
            return 0
        return sum(self._serve(state) for state in (root, *self._children(root)))

    def _children(self, root: RunState) -> list[RunState]:
        runs = [run for run in self.home.disk.runs if run != root.run]
        return [fold(self.home.store.read(run)) for run in runs]

    def _serve(self, state: RunState) -> int:
        if state.status is RunStatus.PAUSED:
            self.home.tell(state.run, "continue", FIRST, {"reason": "go on"})
        return sum(self._serve_step(state, step) for step in state.steps.values())

    def _serve_step(self, state: RunState, step: StepState) -> bool:
        body: dict[str, Any] = {"step": step.id}
        if step.status is StepStatus.AWAITING_APPROVAL and step.gate:
            facts = {"request_seq": step.gate.seq, "digest": step.gate.digest}
            self.home.tell(state.run, "approve", APPROVER, body | facts)
        elif step.status is StepStatus.AWAITING_DELIVERY:
            sha256 = self.home.store.put_object(restore_blob(str(step.expects["exchange"])))
            what = {"kind": "restore_blob", "sha256": sha256}
            self.home.tell(state.run, "deliver", APPROVER, body | what)
        elif step.status is StepStatus.UNKNOWN:
            self._resolve(state.run, step)
            return True
        elif step.status in (StepStatus.FAILED, StepStatus.REFUSED):
            self._see_to(state.run, step)
        return False

    def _resolve(self, run: RunId, step: StepState) -> None:
        found = shows(self.cloud, run, step.id)
        if self.fate.happens(self.fate.temper.stale):
            found = self.home.looks.get((run, step.id), found)
        if found and self.fate.happens(self.fate.temper.by_hand):
            self._say_done(run, step, FIRST)
            return
        body: dict[str, Any] = {"step": step.id, "found": found, "reason": "looked"}
        if (seq := getattr(step, "unknown_seq", None)) is not None:  # which request is meant
            body["unknown_seq"] = seq
        self.home.tell(run, "resolve", FIRST, body)

    def _see_to(self, run: RunId, step: StepState) -> None:
        """Leave a failed step out, or say that it is done by hand where its effect can be seen.

        Where the engine can only be told so, that is what people do; and they link a key by
        hand where they are told that its link was left out.
        """
        hint = str((step.error or {}).get("hint", ""))
        if "az sql mi key create" in hint:
            self.cloud.sql.link_by_hand()
            return
        asked = "mark-done" in hint
        if self.fate.happens(self.fate.temper.leaves_out):
            self.home.tell(run, "skip", FIRST, {"step": step.id, "reason": "by hand, later"})
        elif (asked or self.fate.happens(self.fate.temper.by_hand)) and shows(
            self.cloud, run, step.id
        ):
            self._say_done(run, step, SECOND if step.marked_by == FIRST else FIRST)

    def _say_done(self, run: RunId, step: StepState, who: str) -> None:
        evidence = self.home.store.put_object(f"a picture of {step.id}".encode())
        self.home.tell(run, "mark", who, {"step": step.id, "evidence": evidence, "reason": "seen"})


def judging(expires_ms: int):
    """Return a judge of decisions whose approvals are good for so long."""

    def judge(envelope: object, terms: Terms) -> Judged:
        said: Any = envelope
        approval = Approval(
            asked=terms.asked,
            decision=said["decision"],
            by=said["by"],
            role=said["role"],
            reason=said["reason"],
            issued_ms=terms.at_ms,
            expires_ms=terms.at_ms + expires_ms,
            nonce=said["nonce"],
        )
        return Judged(approval=approval, person=_Person(said["by"]), keyid="k")  # type: ignore[arg-type]

    return judge


@dataclass(frozen=True)
class _Person:
    actor: str


__all__ = ["APPROVER", "FIRST", "SECOND", "Home", "People", "is_by_hand", "judging", "shows"]
