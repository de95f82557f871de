"""Objectives, criteria and the verdict: the few sentences that everything else supports.

Pure. The rules:
- RTO runs from the incident (`inputs.incident_at`), or from record 0 where none is named,
  to the checkpoint of the last step that proves databases Online, or to `run.finished`
  where no step does.
- RPO is the incident's time less the time of the backup that was restored
  (`taken_at` of the plan's discovery `backup`).
- A backup counts as restored only where a restore of the run succeeded.
- A run that did not recover shows neither: a time to a cancel is no recovery time.
- An objective with a target that was not measured or shown counts as missed.
- A proof that the runbook asks for and the journal does not have counts against recovery.
- Only where no runbook of the run does more than `_RECOVERING_NOTHING` is no proof asked for;
  such a run is "finished", never "recovered".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from drengine.evidence.proofs import (
    DATABASES,
    KEYS,
    ROLES,
    database_criteria,
    databases_of,
    key_criteria,
    proofs_of,
    role_criteria,
)
from drengine.evidence.reading import flag, mapping
from drengine.evidence.trace import Trace
from drengine.model.facts import (
    Criterion,
    Holds,
    Moment,
    ObjectiveFacts,
    PointOfNoReturn,
    Reached,
    RunFacts,
    Verdict,
)
from drengine.model.plan import Plan
from drengine.model.run import RunStatus, StepStatus
from drengine.model.times import instant_ms

_RECOVERING_NOTHING: Final = frozenset(
    {"securitydomain.download", "securitydomain.exchange_key", "hsm.backup", "hsm.restore_check"}
)
"""A list of what is known: an action that it does not name is taken for part of a recovery."""


_RESTORE: Final = "hsm.restore"


def recovery_time(root: Trace, traces: Sequence[Trace]) -> ObjectiveFacts:
    """Return the RTO as it was reached."""
    genesis, facts = root.state.genesis, root.facts()
    incident = instant_ms(mapping(genesis.get("inputs")).get("incident_at"))
    start = facts.created.at_ms if incident is None else incident
    to_what, end = _service_back(root, traces)
    actual = None if end is None else end.at_ms - start
    target = _target(root, "rto_ms")
    return ObjectiveFacts(
        name="RTO",
        target_ms=target,
        actual_ms=actual,
        actual_wall_ms=None if end is None else end.wall_ms - facts.created.wall_ms,
        from_what="the run's record 0" if incident is None else "the incident (inputs.incident_at)",
        from_ms=start,
        to_what=to_what,
        to_ms=None if end is None else end.at_ms,
        reached=_not_yet(root, _reached(target, actual)),
        is_simulated=_is_lab(root),
    )


def _service_back(root: Trace, traces: Sequence[Trace]) -> tuple[str, Moment | None]:
    proofs = proofs_of(DATABASES, traces)
    asked = [proof for proof in proofs if not proof.is_left_out]
    if not asked:
        return "the end of the run", root.facts().finished
    what = "the last proof that databases are Online, its watch included"
    down = any(database.status != "Online" for database in databases_of(asked))
    if down or any(proof.status is not StepStatus.SUCCEEDED for proof in asked):
        return what, None
    done = [proof.trace.done for proof in asked if proof.trace.done is not None]
    return what, max(done, key=lambda moment: moment.at_ms, default=None)


def data_age(root: Trace, traces: Sequence[Trace], plan: Plan) -> ObjectiveFacts:
    """Return the RPO as it was reached."""
    genesis, created = root.state.genesis, root.facts().created
    incident = instant_ms(mapping(genesis.get("inputs")).get("incident_at"))
    end = created.at_ms if incident is None else incident
    taken = instant_ms(mapping(plan.root.discovery.get("backup")).get("taken_at"))
    actual = None if taken is None else end - taken
    target = _target(root, "rpo_ms")
    is_restored = _is_restored(traces)
    objective = ObjectiveFacts(
        name="RPO",
        target_ms=target,
        actual_ms=actual,
        actual_wall_ms=None,
        from_what=f"the backup that {'was restored' if is_restored else 'the plan names'}"
        " (plan discovery backup.taken_at)",
        from_ms=taken,
        to_what="the run's record 0" if incident is None else "the incident (inputs.incident_at)",
        to_ms=end,
        # Before the end nothing says that this backup is what was restored.
        reached=_not_yet(root, _reached(target, actual)),
        is_simulated=_is_lab(root),
    )
    if root.state.status.is_over and is_restored is False:
        return _unshown(objective, "no restore succeeded in this run")
    return objective


def _is_restored(traces: Iterable[Trace]) -> bool | None:
    """Whether a restore succeeded; None where no runbook of the run has one."""
    found = [
        trace.state.steps[step.id].status is StepStatus.SUCCEEDED
        for trace in traces
        for step in trace.outline.runbook.steps
        if step.action == _RESTORE
    ]
    return any(found) if found else None


def shown_objectives(
    verdict: Verdict, reasons: Sequence[str], *objectives: ObjectiveFacts
) -> tuple[ObjectiveFacts, ...]:
    """Return the objectives as a run of this verdict shows them; not recovered, it shows none."""
    if verdict is not Verdict.NOT_RECOVERED:
        return tuple(objectives)
    first = reasons[0] if reasons else "it did not recover"
    return tuple(
        each if each.why else _unshown(each, f"the run did not recover: {first}")
        for each in objectives
    )


def _unshown(objective: ObjectiveFacts, why: str) -> ObjectiveFacts:
    """Return an objective without a measurement: its later end was never reached."""
    begins_with_data = objective.name == "RPO"
    return replace(
        objective,
        actual_ms=None,
        actual_wall_ms=None,
        from_ms=None if begins_with_data else objective.from_ms,
        to_ms=objective.to_ms if begins_with_data else None,
        from_what="a backup that was restored" if begins_with_data else objective.from_what,
        to_what=objective.to_what if begins_with_data else "service that is back",
        reached=Reached.NO_TARGET if objective.target_ms is None else Reached.NOT_SHOWN,
        why=why,
    )


def _not_yet(root: Trace, reached: Reached) -> Reached:
    is_open = not root.state.status.is_over and reached is not Reached.NO_TARGET
    return Reached.NOT_YET if is_open else reached


def _target(root: Trace, name: str) -> int | None:
    found = mapping(root.state.genesis.get("objectives")).get(name)
    return found if isinstance(found, int) else None


def _is_lab(root: Trace) -> bool:
    return flag(mapping(root.state.genesis.get("cloud")).get("lab")) is True


def _reached(target: int | None, actual: int | None) -> Reached:
    if target is None:
        return Reached.NO_TARGET
    # A negative time means that the two ends are not what they are said to be.
    if actual is None or actual < 0:
        return Reached.NOT_MEASURED
    return Reached.MET if actual <= target else Reached.MISSED


def criteria_of(
    runs: Sequence[RunFacts], traces: Sequence[Trace], points: Sequence[PointOfNoReturn]
) -> tuple[Criterion, ...]:
    """Return every criterion of recovery with what can be said of it."""
    keys, roles = proofs_of(KEYS, traces), proofs_of(ROLES, traces)
    databases = proofs_of(DATABASES, traces)
    asked = (*key_criteria(keys), *role_criteria(roles), *database_criteria(databases))
    proved = [criterion for criterion in asked if criterion.holds is Holds.YES]
    said = f"{len(proved)} kinds of proof" if proved else "no proof in the journal holds"
    unproved = Holds.NOT_SHOWN
    if not is_recovery(traces):
        unproved, said = Holds.NOT_ASKED, "the runbook recovers nothing"
    return (
        _finished(runs, _named(traces)),
        Criterion(
            "P1",
            "Recovery was proved by reading back, not only reported",
            Holds.YES if proved else unproved,
            said,
        ),
        *asked,
        _approved(points),
    )


def is_recovery(traces: Iterable[Trace]) -> bool:
    """Whether any runbook of the run may do what a recovery does."""
    return any(
        step.irreversible is not None
        or step.runbook != ""
        or step.delivery is not None
        or (step.action != "" and step.action not in _RECOVERING_NOTHING)
        for trace in traces
        for step in trace.outline.runbook.steps
    )


def _named(traces: Sequence[Trace]) -> frozenset[str]:
    """Return every child run that a chain says it started."""
    return frozenset(
        str(child.run)
        for trace in traces
        for step in trace.state.steps.values()
        for child in step.children.values()
    )


def _finished(runs: Sequence[RunFacts], named: frozenset[str]) -> Criterion:
    statement = ("F1", "The run and every child run came to their end")
    finished = str(RunStatus.FINISHED)
    every = {run.run for run in runs} | named
    ended = {
        run.run
        for run in runs
        if run.status == finished and (not run.parent or run.named_by_parent == finished)
    }
    wanting = sorted(every - ended)
    detail = f"{len(ended)} of {len(every)} chains"
    if wanting:
        detail += f"; not at their end: {', '.join(wanting[:5])}"
    return Criterion(*statement, Holds.NO if wanting else Holds.YES, detail)


def _approved(points: Sequence[PointOfNoReturn]) -> Criterion:
    statement = ("G1", "Every point of no return was approved before anything was sent")
    if not points:
        return Criterion(*statement, Holds.NOT_ASKED, "none was reached")
    bad = [f"{point.run} {point.step}" for point in points if not point.approved]
    detail = f"{len(points) - len(bad)} of {len(points)}"
    if bad:
        detail += f"; without approval: {', '.join(bad[:5])}"
    return Criterion(*statement, Holds.NO if bad else Holds.YES, detail)


_GIVEN_UP: Final = {
    RunStatus.CANCELLED: "the run was cancelled",
    RunStatus.ROLLED_BACK: "the run was rolled back",
}
_COUNTS_AS_MISSED: Final = (Reached.MISSED, Reached.NOT_MEASURED, Reached.NOT_SHOWN)


def verdict_of(
    root: RunFacts,
    criteria: Iterable[Criterion],
    objectives: Sequence[ObjectiveFacts],
    *,
    recovers: bool = True,
) -> tuple[Verdict, tuple[str, ...]]:
    """Return the verdict and the reasons that make it what it is.

    Parameters:
        recovers: whether the run is a recovery at all, see `is_recovery`.
    """
    failing = [c for c in criteria if c.holds.counts_against]
    because = tuple(f"{c.id} {c.holds}: {c.statement} ({c.detail})" for c in failing)
    if root.status in _GIVEN_UP:
        return Verdict.NOT_RECOVERED, (_GIVEN_UP[RunStatus(root.status)], *because)
    if root.status != RunStatus.FINISHED:
        return Verdict.NOT_FINISHED, (f"the run is {root.status}", *root.waiting_for)
    if failing:
        return Verdict.NOT_RECOVERED, because
    missed = [o for o in objectives if o.reached in _COUNTS_AS_MISSED]
    if missed:
        late = Verdict.OBJECTIVE_MISSED if recovers else Verdict.FINISHED_LATE
        return late, tuple(
            f"{o.name} {o.reached}" + (f": {o.why}" if o.why else "") for o in missed
        )
    return Verdict.RECOVERED if recovers else Verdict.FINISHED, ()
