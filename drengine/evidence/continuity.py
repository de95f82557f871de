"""Key custody and what databases were seen in, over time. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from drengine.evidence.reading import count, mapping, objects, text, texts
from drengine.evidence.trace import Trace
from drengine.model.facts import CustodyFacts, DatabaseLook, Moment
from drengine.model.plan import Plan


def custody_of(plan: Plan, traces: Sequence[Trace]) -> CustodyFacts | None:
    """Return what the plan found in the security-domain file, None where it did not look."""
    for answer in plan.root.discovery.values():
        found = mapping(answer)
        if found.keys() >= {"custodians", "required", "sha256"}:
            return CustodyFacts(
                sha256=text(found["sha256"]),
                required=count(found["required"]),
                custodians=texts(found["custodians"]),
                transcripts=tuple(seen for trace in traces for seen in trace.transcripts),
            )
    return None


def source_location_of(plan: Plan) -> str:
    """Return the region of what was lost, by the inventory that the plan looked at."""
    for answer in plan.root.discovery.values():
        found = mapping(answer)
        if found.keys() >= {"taken_at", "keys", "location"}:
            return text(found["location"])
    return ""


def looks_of(traces: Sequence[Trace]) -> tuple[DatabaseLook, ...]:
    """Return every change of state in which a database was seen, in the order of time."""
    looks = sorted(
        (look for trace in traces for look in trace.looks), key=lambda look: look[0].at_ms
    )
    last: dict[tuple[str, str], str] = {}
    out: list[DatabaseLook] = []

    def see(instance: str, name: str, at: Moment | None, status: str) -> None:
        if status and last.get((instance, name)) != status:
            last[instance, name] = status
            out.append(DatabaseLook(instance, name, at, status))

    for at, evidence in looks:
        for row in objects(evidence.get("databases")):
            instance, name = text(row.get("instance")), text(row.get("name"))
            if (instance, name) not in last:
                see(instance, name, None, text(row.get("before")))
            see(instance, name, at, text(row.get("status")))
    return tuple(out)
