"""Reading facts and judging them by rules: for a run's guards and gates, and ahead of a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from drengine.actions.contract import Kit, StepContext
from drengine.actions.moment import Moment
from drengine.errors import DrError
from drengine.model.canonical import plain
from drengine.model.catalogue import Repeat
from drengine.model.findings import Findings, Severity
from drengine.model.plan import PlanPart
from drengine.model.runbook import Runbook, Step, StepKind
from drengine.model.together import together
from drengine.rules.contract import RuleContext

AGAINST: Final = (Severity.BLOCK, Severity.WARN)


async def observed(kit: Kit, ctx: StepContext, names: Iterable[str]) -> dict[str, Any]:
    """Read the named facts, all at once."""
    wanted = sorted(set(names))
    answers = await together(*(kit.observers[name](ctx) for name in wanted))
    return {name: plain(fact) for name, fact in zip(wanted, answers, strict=True)}


async def judged(kit: Kit, ctx: StepContext, rules: Iterable[str]) -> Findings:
    """Read what the rules need and return what they find."""
    chosen = [kit.rules[rule] for rule in rules]
    if not chosen:
        return ()
    facts = await observed(kit, ctx, (need for rule in chosen for need in rule.needs))
    known = RuleContext(
        run_class=ctx.run_class,
        root=ctx.root,
        step=ctx.step,
        now_ms=ctx.now_ms,
        where=ctx.where,
        inputs=ctx.inputs,
        plan=ctx.plan,
        outputs=ctx.outputs,
        values=ctx.values,
    )
    return tuple(finding for rule in chosen for finding in rule.check(facts, known))


async def foreseen(
    kit: Kit, runbook: Runbook, part: PlanPart, ctx: StepContext
) -> dict[str, Findings]:
    """Return what is against the steps that nothing but people and reads precede.

    Their guards look at inputs and at the cloud as it is: what they refuse now, or warn of,
    they would in the run, after somebody was woken up to approve. A guard that cannot be
    looked at now is left to the run.

    Parameters:
        ctx: of no step; its cloud and clock are used.
    """
    looking = replace(ctx, cloud=Moment(ctx.cloud), inputs=part.inputs, plan=part.discovery)
    found: dict[str, Findings] = {}
    for step in _first_senders(kit, runbook):
        here = replace(looking, step=step.id)
        each = await together(*(_if_seen(kit, here, rule) for rule in step.guards_before))
        findings = (finding for findings in each for finding in findings)
        if against := tuple(finding for finding in findings if finding.severity in AGAINST):
            found[step.id] = against
    return found


async def _if_seen(kit: Kit, ctx: StepContext, rule: str) -> Findings:
    try:
        return await judged(kit, ctx, (rule,))
    except DrError:
        return ()


def _first_senders(kit: Kit, runbook: Runbook) -> list[Step]:
    """Return the steps with guards before which, all the way back, nothing is sent."""
    steps = {step.id: step for step in runbook.steps}

    def follows_a_send(step: Step) -> bool:
        needed = [steps[need] for need in step.needs]
        return any(_sends(kit, each) or follows_a_send(each) for each in needed)

    return [
        step
        for step in runbook.steps
        if step.kind is StepKind.ACTION and step.guards_before and not follows_a_send(step)
    ]


def _sends(kit: Kit, step: Step) -> bool:
    if step.kind is StepKind.ACTION:
        return kit.actions[step.action].spec.repeat is not Repeat.READ
    return step.kind is StepKind.RUNBOOK
