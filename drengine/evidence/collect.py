"""Journals and plan -> `EvidenceFacts`: the one place where evidence comes from.

Pure: no clock, no file, no store. The same records and plan give the same facts on
every machine, in whatever portions the records arrive. It does not check hashes; the
codec has done so for whoever reads a chain.

Example:
    facts = collect(plan_document, {run: list(store.read(run)) for run in runs})
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from drengine.errors import InputError
from drengine.evidence.continuity import custody_of, looks_of, source_location_of
from drengine.evidence.limits import limits_of
from drengine.evidence.proofs import (
    DATABASES,
    KEYS,
    ROLES,
    databases_of,
    inventory_of,
    keys_of,
    proofs_of,
    roles_of,
)
from drengine.evidence.reading import flag, mapping, text
from drengine.evidence.trace import Trace
from drengine.evidence.verdict import (
    criteria_of,
    data_age,
    is_recovery,
    recovery_time,
    shown_objectives,
    verdict_of,
)
from drengine.model.canonical import JsonObject
from drengine.model.facts import EvidenceFacts, RunFacts
from drengine.model.plan import Plan
from drengine.model.records import Record


def collect(
    plan: Plan | Mapping[str, Any],
    journals: Mapping[str, Iterable[Record]],
    register: JsonObject | None = None,
) -> EvidenceFacts:
    """Return the facts of one run and its children.

    Parameters:
        plan: the plan or its document.
        journals: run id -> its records from record 0 on; one root and its children.
        register: of the approvers, as the run keeps it; one that record 0 does not name by its
            digest is not looked at.

    Raises:
        InputError: `plan` is not a plan or does not fit the journals.
        JournalDamaged: the lifecycle has no place for one of the records.
    """
    gathering = Gathering(plan, register)
    for records in journals.values():
        gathering.take(records)
    return gathering.facts()


class Gathering:
    """Takes records in portions, from any of the chains, and says what they amount to."""

    def __init__(self, plan: Plan | Mapping[str, Any], register: JsonObject | None = None) -> None:
        self._register = register
        self._plan = plan if isinstance(plan, Plan) else read_plan(plan)
        self._traces: dict[str, Trace] = {}

    def take(self, records: Iterable[Record]) -> None:
        """Take in the next records; those of one chain must come in order."""
        for record in records:
            self.take_one(record)

    def take_one(self, record: Record) -> None:
        """Take in the next record of one of the chains."""
        trace = self._traces.get(record.run)
        if trace is None:
            trace = self._traces[record.run] = Trace(self._plan, self._register)
        trace.take(record)

    def facts(self) -> EvidenceFacts:
        """Return the facts of everything taken so far.

        Raises:
            InputError: there is not exactly one root run among the chains.
        """
        traces = self._in_order()
        root, runs = traces[0], self._runs(traces)
        gates = tuple(g for t in traces for g in t.people.gates)
        deliveries = tuple(d for t in traces for d in t.people.deliveries)
        points = tuple(p for t in traces for p in t.people.points)
        keys, databases = proofs_of(KEYS, traces), proofs_of(DATABASES, traces)
        rto, rpo = recovery_time(root, traces), data_age(root, traces, self._plan)
        criteria = criteria_of(runs, traces, points)
        verdict, reasons = verdict_of(runs[0], criteria, (rto, rpo), recovers=is_recovery(traces))
        rto, rpo = shown_objectives(verdict, reasons, rto, rpo)
        genesis, top = root.state.genesis, runs[0]
        is_lab = flag(mapping(genesis.get("cloud")).get("lab")) is True
        return EvidenceFacts(
            run=top.run,
            run_class=str(root.state.run_class),
            is_lab=is_lab,
            title=top.title,
            plan_digest=text(genesis.get("plan")),
            plan_created_at=self._plan.created_at,
            initiator=text(genesis.get("initiator")),
            tool=mapping(genesis.get("tool")),
            cloud=mapping(genesis.get("cloud")),
            inputs=mapping(genesis.get("inputs")),
            status=top.status,
            created=top.created,
            finished=top.finished,
            last=max((run.last for run in runs), key=lambda moment: moment.at_ms),
            verdict=verdict,
            verdict_reasons=reasons,
            rto=rto,
            rpo=rpo,
            criteria=criteria,
            runs=runs,
            gates=gates,
            deliveries=deliveries,
            points_of_no_return=points,
            keys=keys_of(keys),
            key_inventory=inventory_of(keys),
            roles=roles_of(proofs_of(ROLES, traces)),
            databases=databases_of(databases),
            deviations=tuple(
                sorted(
                    (d for t in traces for d in t.deviations.found),
                    key=lambda d: (d.at.at_ms, d.run, d.seq),
                )
            ),
            limits=limits_of(
                run_class=str(root.state.run_class),
                is_lab=is_lab,
                gates=gates,
                deliveries=deliveries,
                keys=keys_of(keys),
                databases=databases_of(databases),
            ),
            approvers=text(genesis.get("approvers")),
            custody=custody_of(self._plan, traces),
            database_looks=looks_of(traces),
            source_location=source_location_of(self._plan),
        )

    def _in_order(self) -> list[Trace]:
        roots = [run for run in self._traces if "/" not in run]
        if len(roots) != 1:
            raise InputError(
                f"collecting evidence: found {len(roots)} root runs among"
                f" {len(self._traces)} journals, expected one"
            )
        return sorted(self._traces.values(), key=lambda t: (t.state.created_ms, t.state.run))

    def _runs(self, traces: Sequence[Trace]) -> tuple[RunFacts, ...]:
        said = {
            str(child.run): str(child.status)
            for trace in traces
            for step in trace.state.steps.values()
            for child in step.children.values()
        }
        return tuple(
            replace(run, named_by_parent=said.get(run.run, ""))
            for run in (trace.facts() for trace in traces)
        )


def read_plan(doc: Mapping[str, Any]) -> Plan:
    """Return the plan that a document describes, its own digest checked.

    Raises:
        InputError: it is not a plan.
    """
    try:
        return Plan.from_json(doc)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"reading the plan: {type(error).__name__}: {error}") from error
