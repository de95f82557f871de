"""The facts in forms that other programs read: OSCAL assessment results and JUnit XML.

Pure. OSCAL's status is `satisfied` or `not-satisfied` of one objective; what it means here
is "supported by this run", said in a property, and never "compliant".
"""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any, Final
from xml.etree import ElementTree as ET

from drengine.evidence.controls import Support, supports_of
from drengine.evidence.followup import FollowUp, follow_up_of
from drengine.evidence.words import duration, visible
from drengine.model.canonical import JsonObject
from drengine.model.facts import Criterion, EvidenceFacts, Holds, ObjectiveFacts, Reached
from drengine.model.times import utc_text

OSCAL_VERSION: Final = "1.1.3"
_NAMESPACE: Final = "urn:drengine:oscal"
_CONTROL: Final = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 0x7F], " ")


def oscal_of(facts: EvidenceFacts, actions: JsonObject | None = None) -> bytes:
    """Return OSCAL assessment results; the same facts give the same bytes and ids."""
    doc = {"assessment-results": _results(facts, follow_up_of(actions, facts))}
    return f"{json.dumps(doc, indent=2, sort_keys=True, ensure_ascii=False)}\n".encode()


def _id(facts: EvidenceFacts, name: str) -> str:
    """Return an id made of the evidence: version 4 in form, not random in content."""
    seed = hashlib.sha256(f"{facts.run}/{facts.runs[0].head_sha256}/{name}".encode()).digest()
    return str(uuid.UUID(bytes=seed[:16], version=4))


def _results(facts: EvidenceFacts, after: FollowUp) -> dict[str, Any]:
    last = utc_text(facts.last.at_ms)
    return {
        "uuid": _id(facts, "results"),
        "metadata": {
            "title": _line(f"{_kind(facts)} {facts.run}"),
            "last-modified": last,
            "version": facts.runs[0].head_sha256[:16],
            "oscal-version": OSCAL_VERSION,
        },
        "import-ap": {"href": "../inputs/plan.json"},
        "results": [_result(facts, last, after)],
    }


def _result(facts: EvidenceFacts, last: str, after: FollowUp) -> dict[str, Any]:
    supports = supports_of(facts, after)
    nist = [each for each in supports if each.control.framework == "nist-800-53-r5"]
    result: dict[str, Any] = {
        "uuid": _id(facts, "result"),
        "title": _line(facts.title),
        "description": f"{facts.verdict}. What this run supports; to judge it is an auditor's.",
        "start": utc_text(facts.created.at_ms),
        "end": last,
        "props": [
            _prop("class", facts.run_class),
            _prop("lab", "true" if facts.is_lab else "false"),
            _prop("verdict", str(facts.verdict)),
            _prop("break-glass-decisions", str(_broken(facts))),
        ],
        "reviewed-controls": {
            "control-selections": [
                {"include-controls": [{"control-id": each.control.oscal} for each in nist]}
            ]
        },
        "observations": [
            *(_observation(facts, criterion) for criterion in facts.criteria),
            *(_measured(facts, objective) for objective in (facts.rto, facts.rpo)),
        ],
        "findings": [_finding(facts, each) for each in nist],
    }
    return result


def _kind(facts: EvidenceFacts) -> str:
    return f"{facts.run_class.upper()}{' LAB' if facts.is_lab else ''}"


def _broken(facts: EvidenceFacts) -> int:
    return sum(each.break_glass for gate in facts.gates for each in gate.decisions)


def _prop(name: str, value: str) -> dict[str, str]:
    return {"name": name, "ns": _NAMESPACE, "value": _line(value)}


def _line(text: str) -> str:
    """Return text as OSCAL wants names and values: one line, no space around it."""
    return " ".join(visible(text).split())


def _observation(facts: EvidenceFacts, found: Criterion) -> dict[str, Any]:
    return {
        "uuid": _id(facts, f"observation-{found.id}"),
        "title": _line(f"{found.id}: {found.statement}"),
        "description": visible(f"{found.holds}: {found.detail}"),
        "methods": ["TEST"],
        "collected": utc_text(facts.last.at_ms),
    }


def _measured(facts: EvidenceFacts, found: ObjectiveFacts) -> dict[str, Any]:
    is_time = found.name == "RTO"
    asked = "service is back within the time set" if is_time else "restored data is not too old"
    return {
        "uuid": _id(facts, f"observation-{found.name}"),
        "title": _line(f"{found.name}: {asked}"),
        "description": visible(_told(found)),
        "props": [
            _prop("reached", str(found.reached)),
            _prop("simulated", "true" if found.is_simulated else "false"),
        ],
        "methods": ["TEST"],
        "collected": utc_text(facts.last.at_ms),
    }


def _told(found: ObjectiveFacts) -> str:
    """Return how an objective was reached, with target and measurement, or why it is not shown."""
    if found.target_ms is None:
        return f"{found.reached}: {duration(found.actual_ms)}"
    measured = found.why or f"{duration(found.actual_ms)} of {duration(found.target_ms)}"
    return f"{found.reached}: {measured}{', simulated' if found.is_simulated else ''}"


def _finding(facts: EvidenceFacts, support: Support) -> dict[str, Any]:
    control = support.control
    state = "satisfied" if support.is_supported else "not-satisfied"
    told = "; ".join(support.because if support.is_supported else support.missing)
    return {
        "uuid": _id(facts, f"finding-{control.id}"),
        "title": f"{control.id} {control.title}",
        "description": visible(told),
        "props": [_prop("support-level", support.level)],
        "target": {
            "type": "objective-id",
            "target-id": f"{control.oscal}_obj",
            "status": {"state": state, "remarks": "supported by this run, or not"},
        },
    }


def junit_of(facts: EvidenceFacts) -> bytes:
    """Return JUnit XML: a suite of criteria and objectives, and one for each run's steps."""
    root = ET.Element("testsuites", name=_xml(facts.title))
    suite = _suite(root, f"{_kind(facts)} criteria")
    for criterion in facts.criteria:
        case = ET.SubElement(suite, "testcase", classname="criteria", name=_xml(criterion.id))
        if criterion.holds.counts_against:
            ET.SubElement(case, "failure", message=_xml(criterion.detail))
        elif criterion.holds is Holds.NOT_ASKED:
            ET.SubElement(case, "skipped", message=_xml(criterion.detail))
    for objective in (facts.rto, facts.rpo):
        _add_objective(suite, objective)
    for run in facts.runs:
        steps = _suite(root, run.run)
        for step in run.steps:
            seconds = f"{step.spent_ms // 1000}.{step.spent_ms % 1000:03}"
            case = ET.SubElement(
                steps, "testcase", classname=_xml(run.runbook), name=_xml(step.id), time=seconds
            )
            if step.status == "skipped":
                ET.SubElement(case, "skipped")
            elif step.status != "succeeded":
                ET.SubElement(case, "failure", message=_xml(step.error or step.status))
    for each in root:
        _count(each)
    ET.indent(root)
    body: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return body + b"\n"


def _add_objective(suite: ET.Element, objective: ObjectiveFacts) -> None:
    case = ET.SubElement(suite, "testcase", classname="objectives", name=_xml(objective.name))
    if objective.reached is Reached.NO_TARGET:
        ET.SubElement(case, "skipped", message=_xml(_told(objective)))
    elif objective.reached is not Reached.MET:
        ET.SubElement(case, "failure", message=_xml(_told(objective)))


def _suite(root: ET.Element, name: str) -> ET.Element:
    return ET.SubElement(root, "testsuite", name=_xml(name))


def _count(suite: ET.Element) -> None:
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("skipped", str(len(suite.findall("testcase/skipped"))))


def _xml(text: str) -> str:
    """Return text without characters that XML cannot hold."""
    return visible(text).translate(_CONTROL)
