"""Turn a document of the right shape into the model's values. It checks nothing.

The one rule it adds: a step without `needs` depends on the step before it.
"""

from __future__ import annotations

from typing import Final

from drengine.model.canonical import sha256_hex
from drengine.model.runbook import (
    Delivery,
    Discovery,
    Foreach,
    Gate,
    InputSpec,
    Objectives,
    RetryPolicy,
    Runbook,
    Step,
    StepKind,
)
from drengine.runbook.document import (
    DeliveryDoc,
    ForeachDoc,
    GateDoc,
    InputDoc,
    RetryDoc,
    RunbookDoc,
    StepDoc,
)
from drengine.runbook.problems import Problems

KINDS: Final = tuple(str(kind) for kind in StepKind)


def build_runbook(doc: RunbookDoc, problems: Problems) -> Runbook:
    """Return the runbook that `doc` describes; each step names exactly one kind."""
    return Runbook(
        name=doc.name,
        title=doc.title,
        description=doc.description,
        objectives=Objectives(doc.objectives.rto, doc.objectives.rpo),
        inputs={name: _input(name, item, problems) for name, item in doc.inputs.items()},
        discovery=tuple(
            Discovery(
                name=name,
                source=item.source,
                with_=item.with_,
                when=item.when,
                position=problems.position(("discovery", name)),
            )
            for name, item in doc.discovery.items()
        ),
        steps=tuple(_step(doc, index, problems) for index in range(len(doc.steps))),
        sha256=sha256_hex(problems.tree.text.encode()),
        text=problems.tree.text,
        file=problems.tree.file,
    )


def kinds_of(doc: StepDoc) -> list[str]:
    """Return which of action, gate, delivery and runbook a step names."""
    return [kind for kind in KINDS if getattr(doc, kind) is not None]


def _input(name: str, doc: InputDoc, problems: Problems) -> InputSpec:
    return InputSpec(
        name=name,
        type=doc.type,
        description=doc.description,
        optional=doc.optional,
        default=doc.default,
        has_default="default" in doc.model_fields_set,
        choices=tuple(doc.choices),
        position=problems.position(("inputs", name)),
    )


def _step(runbook: RunbookDoc, index: int, problems: Problems) -> Step:
    doc = runbook.steps[index]
    before = (runbook.steps[index - 1].id,) if index else ()
    return Step(
        id=doc.id,
        kind=StepKind(kinds_of(doc)[0]),
        title=doc.title,
        action=doc.action or "",
        runbook=doc.runbook or "",
        gate=_gate(doc.gate) if doc.gate else None,
        delivery=_delivery(doc.delivery) if doc.delivery else None,
        foreach=_foreach(doc.foreach) if doc.foreach else None,
        with_=doc.with_,
        needs=before if doc.needs is None else tuple(doc.needs),
        when=doc.when,
        group=doc.group,
        guards_before=tuple(doc.guards.before),
        guards_after=tuple(doc.guards.after),
        irreversible=doc.irreversible,
        rollback=doc.rollback,
        retry=_retry(doc.retry),
        timeout_ms=doc.timeout,
        expected_ms=doc.expected.duration if doc.expected else None,
        expected_source=doc.expected.source if doc.expected else "",
        position=problems.position(("steps", index)),
    )


def _gate(doc: GateDoc) -> Gate:
    return Gate(
        approvals=doc.approvals,
        roles=tuple(doc.roles),
        facts=tuple(doc.facts),
        rules=tuple(doc.rules),
        ask=doc.ask,
        break_glass=doc.break_glass,
    )


def _delivery(doc: DeliveryDoc) -> Delivery:
    return Delivery(kind=doc.kind, expects=doc.expects, ask=doc.ask)


def _foreach(doc: ForeachDoc) -> Foreach:
    return Foreach(
        items=doc.in_,
        variable=doc.as_,
        parallel=doc.parallel,
        stop_after_failures=doc.stop_after_failures,
        canary=doc.canary,
    )


def _retry(doc: RetryDoc) -> RetryPolicy:
    return RetryPolicy(
        attempts=doc.attempts, first_wait_ms=doc.first_wait, max_wait_ms=doc.max_wait
    )
