"""What people decided and brought: gates, deliveries and points of no return.

Pure. A gate's facts are those of its request record, since those are what was
approved; a step that asks again makes a new entry and leaves the old one standing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from drengine.engine.scope import gates_of, is_irreversible, scope_of
from drengine.errors import ExpressionError
from drengine.evidence.deciders import Deciders
from drengine.evidence.outline import Outline
from drengine.evidence.reading import count, findings, is_simulated, mapping, moment, text, texts
from drengine.model.facts import DecisionFacts, DeliveryFacts, GateFacts, PointOfNoReturn
from drengine.model.records import Record
from drengine.model.records import RecordType as R
from drengine.model.run import RunState, StepStatus
from drengine.model.runbook import Step


@dataclass(slots=True)
class PeopleLog:
    """Gates, deliveries and points of no return of one chain."""

    outline: Outline
    deciders: Deciders
    gates: list[GateFacts] = field(default_factory=list)
    deliveries: list[DeliveryFacts] = field(default_factory=list)
    points: list[PointOfNoReturn] = field(default_factory=list)

    def take(self, before: RunState | None, record: Record) -> None:
        """Take in the next record; `before` is the state it found."""
        if take := _TAKES.get(record.type):
            take(self, record)
        if before is not None and record.type in (R.INTENT, R.FANOUT_BEGUN):
            self._sent(before, record)

    def gate_requested(self, record: Record) -> None:
        """Begin a new gate."""
        body = record.body
        gate = GateFacts(
            run=str(record.run),
            step=text(body.get("step")),
            ask=text(body.get("ask")),
            seq=record.seq,
            digest=text(body.get("digest")),
            generation=count(body.get("generation")),
            required=count(body.get("approvals")),
            roles=texts(body.get("roles")),
            requested=moment(record),
            facts=mapping(body.get("facts")),
            findings=findings(body, "gate"),
            decisions=(),
            outcome="open",
            decided=None,
            why="",
        )
        self.gates.append(gate)

    def decided(self, record: Record) -> None:
        """Add what a person said to the gate that it was said about."""
        body = record.body
        sent = body.get("sent_at")
        decision = DecisionFacts(
            actor=record.actor,
            is_simulated=is_simulated(record.actor),
            said="approved" if record.type is R.GATE_APPROVED else "rejected",
            role=text(body.get("role")),
            reason=text(body.get("reason")),
            at=moment(record),
            sent_ms=sent if isinstance(sent, int) else None,
            seq=record.seq,
            signer=text(body.get("signer")),
            break_glass=body.get("break_glass") is True,
            by_initiator=self.deciders.began(record),
        )
        self._change_gate(record, lambda g: replace(g, decisions=(*g.decisions, decision)))
        if record.type is R.GATE_REJECTED:
            self._end_gate(record, "rejected", decision.reason)

    def succeeded(self, record: Record) -> None:
        """Note that the gate of this step stands approved, if it is one."""
        self._end_gate(record, "approved", "")

    def voided(self, record: Record) -> None:
        """Note that what was approved counts no more."""
        why = text(record.body.get("why"))
        for step in texts(record.body.get("steps")) or (text(record.body.get("step")),):
            self._end_gate(record, "voided", why, step)
            self._change_delivery(step, lambda d: replace(d, outcome="voided"))

    def delivery_requested(self, record: Record) -> None:
        """Begin a new delivery."""
        body = record.body
        delivery = DeliveryFacts(
            run=str(record.run),
            step=text(body.get("step")),
            kind=text(body.get("kind")),
            ask=text(body.get("ask")),
            seq=record.seq,
            expects=mapping(body.get("expects")),
            requested=moment(record),
            accepted=None,
            outcome="open",
            actor="",
            is_simulated=False,
            sha256="",
            size_bytes=0,
            ceremony="",
            findings=(),
        )
        self.deliveries.append(delivery)

    def delivered(self, record: Record) -> None:
        """Complete the newest delivery of the step."""
        outputs = mapping(record.body.get("outputs"))
        made = text(outputs.get("ceremony") or record.body.get("ceremony"))
        self._change_delivery(
            text(record.body.get("step")),
            lambda d: replace(
                d,
                accepted=moment(record),
                outcome="accepted",
                actor=record.actor,
                is_simulated=is_simulated(record.actor),
                sha256=text(outputs.get("sha256")),
                size_bytes=count(outputs.get("size")),
                ceremony=made,
                findings=findings(record.body, "delivery"),
            ),
        )

    def _change_delivery(self, step: str, change: Callable[[DeliveryFacts], DeliveryFacts]) -> None:
        for place in reversed(range(len(self.deliveries))):
            if self.deliveries[place].step == step:
                self.deliveries[place] = change(self.deliveries[place])
                return

    def _end_gate(self, record: Record, outcome: str, why: str, step: str = "") -> None:
        ended = moment(record)
        self._change_gate(
            record, lambda g: replace(g, outcome=outcome, decided=ended, why=why), step
        )

    def _change_gate(
        self, record: Record, change: Callable[[GateFacts], GateFacts], step: str = ""
    ) -> None:
        wanted = step or text(record.body.get("step"))
        for place in reversed(range(len(self.gates))):
            if self.gates[place].step == wanted:
                self.gates[place] = change(self.gates[place])
                return

    def _sent(self, before: RunState, record: Record) -> None:
        step = self.outline.runbook.step(text(record.body.get("step")))
        if not is_point_of_no_return(step, before, self.outline):
            return
        needed = gates_of(step, self.outline.runbook)
        point = PointOfNoReturn(
            run=str(record.run),
            step=step.id,
            seq=record.seq,
            sent=moment(record),
            gates=tuple(gate.id for gate in needed),
            approved=bool(needed) and all(_is_approved(gate, before) for gate in needed),
        )
        self.points.append(point)


def is_point_of_no_return(step: Step, state: RunState, outline: Outline) -> bool:
    """Whether the step cannot be undone in this run; what cannot be told counts as yes."""
    try:
        return is_irreversible(step, scope_of(state, outline.part))
    except ExpressionError:
        return True


def _is_approved(gate: Step, state: RunState) -> bool:
    st = state.steps[gate.id]
    required = gate.gate.approvals if gate.gate else 1
    enough = st.gate is not None and st.gate.suffices(required)
    return st.status is StepStatus.SUCCEEDED and enough


_TAKES: Final[Mapping[R, Callable[[PeopleLog, Record], None]]] = {
    R.GATE_REQUESTED: PeopleLog.gate_requested,
    R.GATE_APPROVED: PeopleLog.decided,
    R.GATE_REJECTED: PeopleLog.decided,
    R.STEP_SUCCEEDED: PeopleLog.succeeded,
    R.GATE_VOIDED: PeopleLog.voided,
    R.GENERATION_ENDED: PeopleLog.voided,
    R.DELIVERY_REQUESTED: PeopleLog.delivery_requested,
    R.DELIVERY_ACCEPTED: PeopleLog.delivered,
}
