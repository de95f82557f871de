"""What a run's facts show, as named predicates that controls are mapped to.

Pure. A predicate gives the facts that bear it out, or says what is missing. A tabletop
supports nothing that needs a recovery.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from drengine.evidence.followup import FollowUp, real_deviations
from drengine.evidence.reading import text
from drengine.evidence.words import duration, short
from drengine.model.facts import EvidenceFacts, Holds, Reached
from drengine.model.ids import region_key

_FOUR_HOURS: Final = 4 * 3_600_000
_TWO: Final = 2


@dataclass(frozen=True, slots=True)
class Shown:
    """Whether facts bear something out, and which, or what is missing."""

    holds: bool
    told: str


def _yes(told: str) -> Shown:
    return Shown(True, told)


def _no(told: str) -> Shown:
    return Shown(False, told)


def _criterion(name: str) -> Callable[[EvidenceFacts], Shown]:
    def predicate(facts: EvidenceFacts) -> Shown:
        for each in facts.criteria:
            if each.id == name:
                said = f"{each.id} {each.holds}: {each.detail}"
                return _yes(said) if each.holds is Holds.YES else _no(said)
        return _no(f"criterion {name} is not part of this run")

    return predicate


def _finished(facts: EvidenceFacts) -> Shown:
    if facts.run_class == "tabletop":
        return _no("a tabletop recovers nothing")
    if facts.status != "finished":
        return _no(f"the run is {facts.status}")
    return _yes(f"run {facts.run} finished with verdict {facts.verdict}")


def _criteria(facts: EvidenceFacts) -> Shown:
    bad = [each.id for each in facts.criteria if each.holds.counts_against]
    if bad:
        return _no(f"criteria not borne out: {', '.join(bad)}")
    return _yes(f"{len(facts.criteria)} criteria judged from the journal")


def _frozen(facts: EvidenceFacts) -> Shown:
    return _yes(f"plan {short(facts.plan_digest)} of {facts.plan_created_at}, frozen and hashed")


def _objectives(facts: EvidenceFacts) -> Shown:
    if facts.rto.target_ms is None or facts.rpo.target_ms is None:
        return _no("the runbook sets no RTO or no RPO")
    told = f"RTO {duration(facts.rto.target_ms)}, RPO {duration(facts.rpo.target_ms)}"
    return _yes(told)


def _rto(facts: EvidenceFacts) -> Shown:
    simulated = " in simulated time" if facts.rto.is_simulated else ""
    told = f"RTO {facts.rto.reached}: {facts.rto.why or duration(facts.rto.actual_ms) + simulated}"
    return _yes(told) if facts.rto.reached is Reached.MET else _no(told)


def _four_hours(facts: EvidenceFacts) -> Shown:
    actual = facts.rto.actual_ms
    if actual is None:
        return _no(f"no recovery time is shown: {facts.rto.why or 'service was not seen back'}")
    told = f"recovered in {duration(actual)}; critical systems have four hours"
    return _yes(told) if 0 <= actual <= _FOUR_HOURS else _no(told)


def _backup(facts: EvidenceFacts) -> Shown:
    for run in facts.runs:
        for step in run.steps:
            if step.action == "hsm.restore" and step.status == "succeeded":
                return _yes(f"{run.run} {step.id}: restored and read back")
    return _no("no restore succeeded in this run")


def _age(facts: EvidenceFacts) -> Shown:
    told = f"RPO {facts.rpo.reached}: {facts.rpo.why or duration(facts.rpo.actual_ms)}"
    return _yes(told) if facts.rpo.reached is Reached.MET else _no(told)


def _approved(facts: EvidenceFacts) -> Shown:
    if not facts.gates:
        return _no("the run asked for no approval")
    open_ = [gate.step for gate in facts.gates if gate.outcome == "open"]
    if open_:
        return _no(f"gates without a decision: {', '.join(open_)}")
    glass = sum(each.break_glass for gate in facts.gates for each in gate.decisions)
    urgent = f", {glass} of the approvals by break-glass" if glass else ""
    return _yes(f"{len(facts.gates)} gates decided{urgent}")


def _signed(facts: EvidenceFacts) -> Shown:
    decisions = [each for gate in facts.gates for each in gate.decisions]
    bare = [each for each in decisions if not each.signer]
    if not decisions or bare:
        return _no(f"{len(bare)} of {len(decisions)} decisions are not signed")
    return _yes(f"{len(decisions)} decisions signed, each over its request in the chain")


def _two(facts: EvidenceFacts) -> Shown:
    for gate in facts.gates:
        people = {each.actor for each in gate.decisions if each.said == "approved"}
        if gate.outcome == "approved" and len(people) < gate.required:
            return _no(f"gate {gate.step} asks for {gate.required} people; {len(people)} decided")
    for gate in facts.gates:
        people = {each.actor for each in gate.decisions if each.said == "approved"}
        if gate.outcome == "approved" and len(people) >= _TWO:
            return _yes(f"gate {gate.step}: {len(people)} people")
    return _no("no gate was approved by two people")


def _separate(facts: EvidenceFacts) -> Shown:
    approvals = [(g, d) for g in facts.gates for d in g.decisions if d.said == "approved"]
    glass = sorted({f"{gate.step} by {each.actor}" for gate, each in approvals if each.break_glass})
    same = sorted({each.actor for _, each in approvals if each.by_initiator})
    bare = sorted({each.actor for _, each in approvals if each.by_initiator is None})
    if not approvals:
        return _no("no approvals")
    if same:
        return _no(f"approved by who began the run: {', '.join(same)}")
    if glass:
        return _no(f"break-glass asks nobody else: {', '.join(glass)}")
    if bare:
        told = "no register of accounts tells whether they began the run"
        return _no(f"{told}: {', '.join(bare)}")
    people = {each.actor for _, each in approvals}
    return _yes(
        f"{len(people)} people approved; {facts.initiator}, who began the run, is none of them by"
        " the accounts in the register"
    )


def _quorum(facts: EvidenceFacts) -> Shown:
    made = {each.ceremony for each in facts.deliveries if each.accepted is not None}
    if made == {"contribute"}:
        return _yes("each custodian opened only their own share")
    return _no("the blob was not shown to be made of contributions; keys may have met")


def _acknowledged(facts: EvidenceFacts) -> Shown:
    del facts
    return _no("no journal holds the custodians' written acknowledgements; show the originals")


def _custody(facts: EvidenceFacts) -> Shown:
    found = facts.custody
    if found is None:
        return _no("the plan did not look at a security domain")
    told = f"{found.required} of {len(found.custodians)} custodians, domain {short(found.sha256)}"
    return _yes(told)


def _journal(facts: EvidenceFacts) -> Shown:
    records = sum(run.records for run in facts.runs)
    return _yes(f"{records} records in {len(facts.runs)} hash chains")


def _clock(facts: EvidenceFacts) -> Shown:
    back = [each for each in facts.deviations if each.kind == "clock went back"]
    return _no(f"the clock went back {len(back)} times") if back else _yes("no clock went back")


def _deviations(facts: EvidenceFacts) -> Shown:
    return _yes(f"{len(facts.deviations)} deviations recorded with what became of them")


def _elsewhere(facts: EvidenceFacts) -> Shown:
    here, there = text(facts.inputs.get("source_hsm")), text(facts.inputs.get("target_hsm"))
    place, was = text(facts.inputs.get("location")), facts.source_location
    if not there or here == there or not place:
        return _no("the inputs do not say that recovery was elsewhere")
    if not was:
        return _no("the plan does not say in which region the source was")
    if region_key(was) == region_key(place):
        return _no(f"{here or 'the source'} and {there} both lie in {place}")
    return _yes(f"{here or 'the source'} of {was}, target {there} in {place}")


def _apart(facts: EvidenceFacts) -> Shown:
    del facts
    return _no("the region of the storage account that holds the backup is not recorded")


def _automated(facts: EvidenceFacts) -> Shown:
    steps = [step for run in facts.runs for step in run.steps if step.action]
    return _yes(f"{len(steps)} steps driven by drengine {text(facts.tool.get('version'))}")


PREDICATES: Final[Mapping[str, Callable[[EvidenceFacts], Shown]]] = {
    "run-finished": _finished,
    "criteria-shown": _criteria,
    "plan-frozen": _frozen,
    "objectives-set": _objectives,
    "rto-met": _rto,
    "four-hours": _four_hours,
    "backup-restored": _backup,
    "backup-age": _age,
    "keys-proved": _criterion("K1"),
    "roles-proved": _criterion("R1"),
    "databases-online": _criterion("D1"),
    "rows-read": _criterion("D2"),
    "gates-approved": _approved,
    "decisions-signed": _signed,
    "two-people": _two,
    "approver-not-initiator": _separate,
    "quorum-apart": _quorum,
    "custody-recorded": _custody,
    "custodians-acknowledged": _acknowledged,
    "journal-whole": _journal,
    "clock-steady": _clock,
    "deviations-recorded": _deviations,
    "other-place": _elsewhere,
    "backup-apart": _apart,
    "automated": _automated,
}


def _tracked(facts: EvidenceFacts, after: FollowUp) -> Shown:
    if after.overdue:
        late = ", ".join(f"{each.id} of {each.owner}" for each in after.overdue)
        return _no(f"corrective actions are overdue: {late}")
    if after.of_run:
        left = sum(not each.is_done for each in after.of_run)
        return _yes(f"{len(after.of_run)} corrective actions of this run tracked, {left} open")
    found = real_deviations(facts)
    if found:
        return _no(f"{found} deviations call for corrective action; none is tracked")
    if after.review is not None:
        return _yes(f"no deviation; {after.review.by} recorded that no action is needed")
    return _no("no deviation, and nobody recorded that no action is needed")


FOLLOWING: Final[Mapping[str, Callable[[EvidenceFacts, FollowUp], Shown]]] = {
    "actions-tracked": _tracked,
}
"""Predicates that ask what people did after the run, too."""
