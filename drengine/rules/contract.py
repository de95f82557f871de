"""The contract of a rule: observed facts in, findings out, nothing else touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from drengine.model.canonical import JsonObject
from drengine.model.findings import Findings
from drengine.model.ids import RunId
from drengine.model.plan import CloudIdentity
from drengine.model.runbook import RunClass


class RuleCheck(Protocol):
    """A pure function from observed facts to findings."""

    def __call__(self, facts: JsonObject, ctx: RuleContext) -> Findings:
        """Return what the rule says about `facts` (observation name -> facts)."""
        ...


@dataclass(frozen=True, slots=True)
class RuleContext:
    """What a rule may know besides the observed facts; nothing that could reach outside."""

    run_class: RunClass
    root: RunId
    step: str
    now_ms: int
    where: CloudIdentity
    inputs: JsonObject
    plan: JsonObject
    outputs: Mapping[str, JsonObject]
    values: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rule:
    """A named check from the catalogue.

    Attributes:
        id: stable; stands in runbooks and evidence.
        needs: observations that are read before `check` is called.
        source: where the rule comes from.
        advice: what to do when it does not hold.
    """

    id: str
    title: str
    needs: tuple[str, ...]
    source: str
    advice: str
    check: RuleCheck


def rule_of(rule: str, title: str, needs: tuple[str, ...], source: str, check: RuleCheck) -> Rule:
    """Return a rule whose advice is what its check says of itself."""
    return Rule(rule, title, needs, source, str(check.__doc__), check)
