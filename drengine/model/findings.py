"""Findings: what a rule or a verification says about observed facts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from drengine.model.canonical import JsonObject


class Severity(StrEnum):
    """How much a finding weighs."""

    OK = "ok"
    INFO = "info"
    WARN = "warn"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class Finding:
    """One statement of a rule or verification.

    Attributes:
        rule: the rule's stable id (`K09`) or the verification's name (`hsm-provisioned`).
        severity: `block` means it does not hold and the step may not go on.
        message: what was found against what was expected.
        advice: what to do; empty where nothing has to be done.
        facts: the small facts it rests on, for the evidence.
    """

    rule: str
    severity: Severity
    message: str
    advice: str = ""
    facts: JsonObject | None = None

    @property
    def holds(self) -> bool:
        """Whether a step may go on in the face of this finding."""
        return self.severity is not Severity.BLOCK

    def to_json(self) -> dict[str, object]:
        """Return the finding as it stands in the journal."""
        out: dict[str, object] = {
            "rule": self.rule,
            "severity": str(self.severity),
            "message": self.message,
        }
        if self.advice:
            out["advice"] = self.advice
        if self.facts:
            out["facts"] = self.facts
        return out


Findings = tuple[Finding, ...]


def ok(rule: str, message: str, **facts: object) -> Finding:
    """Return a finding that holds."""
    return Finding(rule, Severity.OK, message, facts=facts or None)


def warn(rule: str, message: str, advice: str = "", **facts: object) -> Finding:
    """Return a finding that holds but should be read."""
    return Finding(rule, Severity.WARN, message, advice, facts or None)


def block(rule: str, message: str, advice: str = "", **facts: object) -> Finding:
    """Return a finding that does not hold."""
    return Finding(rule, Severity.BLOCK, message, advice, facts or None)


def all_hold(findings: Findings) -> bool:
    """Whether none of `findings` blocks."""
    return all(finding.holds for finding in findings)
