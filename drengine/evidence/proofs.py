"""What was proved by reading back: keys, roles and databases.

Pure. A proof counts where its step succeeded and still stands: a step whose group was
begun anew proves nothing until it succeeds again. What a failed proof saw is shown, but
bears nothing out. A proof that the plan places in a child run is wanting while there is no
chain of that child, whoever or whatever left it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from drengine.errors import DrError
from drengine.evidence.family import planned_child, planned_items
from drengine.evidence.outline import outline_of_part
from drengine.evidence.reading import count, flag, mapping, objects, text, texts
from drengine.evidence.trace import StepTrace, Trace
from drengine.model.facts import (
    Criterion,
    DatabaseFacts,
    Holds,
    KeyFacts,
    KeyInventory,
    RoleContinuity,
)
from drengine.model.plan import PlanPart
from drengine.model.run import StepStatus
from drengine.model.runbook import Step

KEYS: Final = "proof.keys"
ROLES: Final = "proof.roles"
DATABASES: Final = "proof.databases"

PROVED_CANARIES: Final = frozenset({"unwrapped", "signature verified"})
_ENGINE: Final = "engine"


@dataclass(frozen=True, slots=True)
class Proof:
    """One proving step of one chain."""

    status: StepStatus
    trace: StepTrace

    @property
    def is_left_out(self) -> bool:
        """Whether the runbook itself, not a person, left it out."""
        return self.status is StepStatus.SKIPPED and self.trace.skipped_by == _ENGINE


def proofs_of(action: str, traces: Iterable[Trace]) -> list[Proof]:
    """Return every step of that action: in all chains, and in the children that the plan lists."""
    chains = list(traces)
    here = {str(trace.state.run) for trace in chains}
    found = [
        Proof(trace.state.steps[step.id].status, trace.steps[step.id])
        for trace in chains
        for step in trace.outline.runbook.steps
        if step.action == action
    ]
    for trace in chains:
        for step in trace.outline.runbook.steps:
            if (part := trace.outline.part.children.get(step.id)) is not None:
                lacking = sum(run not in here for run in _children(trace, step))
                if lacking:
                    found += [_wanting(trace, step)] * (lacking * _count_in(part, action))
    return found


def _children(trace: Trace, step: Step) -> list[str]:
    """Return the ids of the child runs that the plan lists for a step."""
    run = str(trace.state.run)
    try:
        items = planned_items(step, trace.outline.part)
    except DrError:
        items = [{"name": step.id}]
    return [planned_child(run, step, text(item.get("name"))) for item in items]


def _wanting(trace: Trace, step: Step) -> Proof:
    """Return the proof of a child that has no chain: left out with its step, or still to come."""
    status = trace.state.steps[step.id].status
    if status is StepStatus.SKIPPED:
        return Proof(status, trace.steps[step.id])
    return Proof(StepStatus.PENDING, StepTrace())


def _count_in(part: PlanPart, action: str) -> int:
    """Return how many steps of that action a sub-runbook and those below it have."""
    steps = outline_of_part(part).runbook.steps
    below = [part.children[step.id] for step in steps if step.id in part.children]
    mine = sum(step.action == action for step in steps)
    return mine + sum(_count_in(child, action) for child in below)


def _evidence(proofs: Sequence[Proof], name: str) -> Iterator[Mapping[str, object]]:
    """Yield what the proofs saw, those made last at the end; a failed proof saw things too."""
    made = sorted(proofs, key=lambda proof: proof.trace.evidence_ms)
    for proof in made:
        yield from objects(proof.trace.evidence.get(name))


def keys_of(proofs: Sequence[Proof]) -> tuple[KeyFacts, ...]:
    """Return the key versions as they were last seen."""
    found: dict[tuple[str, str], KeyFacts] = {}
    for doc in _evidence(proofs, "keys"):
        key = KeyFacts(
            name=text(doc.get("name")),
            version=text(doc.get("version")),
            kty=text(doc.get("kty")),
            status=text(doc.get("status")),
            public_key_equal=flag(doc.get("public_key_equal")),
            canary=text(doc.get("canary")) or "none",
            why=text(doc.get("why")),
        )
        found[key.name, key.version] = key
    return tuple(found.values())


def inventory_of(proofs: Sequence[Proof]) -> KeyInventory | None:
    """Return what the keys were compared with."""
    for proof in proofs:
        doc = mapping(proof.trace.evidence.get("inventory"))
        if doc:
            return KeyInventory(text(doc.get("sha256")), text(doc.get("taken_at")))
    return None


def roles_of(proofs: Sequence[Proof]) -> RoleContinuity | None:
    """Return the role assignments as the last proof counted them."""
    counted = [proof.trace for proof in proofs if "expected" in proof.trace.evidence]
    if not counted:
        return None
    doc = max(counted, key=lambda trace: trace.evidence_ms).evidence
    return RoleContinuity(
        expected=count(doc.get("expected")),
        found=count(doc.get("found")),
        missing=_assignments(doc.get("missing")),
        extra=_assignments(doc.get("extra")),
    )


def _assignments(value: object) -> tuple[str, ...]:
    """Return each assignment (scope, role, principal) as one text."""
    items = value if isinstance(value, (list, tuple)) else ()
    return tuple(
        " · ".join(texts(item)) if isinstance(item, (list, tuple)) else text(item) for item in items
    )


def databases_of(proofs: Sequence[Proof]) -> tuple[DatabaseFacts, ...]:
    """Return the databases as they were last seen."""
    found: dict[tuple[str, str], DatabaseFacts] = {}
    for doc in _evidence(proofs, "databases"):
        database = DatabaseFacts(
            instance=text(doc.get("instance")),
            name=text(doc.get("name")),
            before=text(doc.get("before")),
            status=text(doc.get("status")),
            canary=text(doc.get("canary")) or "not read",
            protector=text(doc.get("protector")),
            thumbprint_equal=flag(doc.get("thumbprint_equal")),
        )
        found[database.instance, database.name] = database
    return tuple(found.values())


def standing(proofs: Sequence[Proof]) -> tuple[Holds, str] | None:
    """Return why the proofs cannot be asked for their content; None where they can."""
    if not proofs:
        return Holds.NOT_ASKED, "the runbook has no such step"
    if all(proof.is_left_out for proof in proofs):
        return Holds.NOT_ASKED, "the plan's inputs leave the step out"
    wanting = [p for p in proofs if not p.is_left_out and p.status is not StepStatus.SUCCEEDED]
    if wanting:
        states = ", ".join(sorted({str(proof.status) for proof in wanting}))
        return Holds.NOT_SHOWN, f"{len(wanting)} of {len(proofs)} proving steps: {states}"
    return None


def key_criteria(proofs: Sequence[Proof]) -> tuple[Criterion, ...]:
    """Return what must hold of the keys."""
    same = ("K1", "Every key version of the inventory is there, with the same public key")
    works = ("K2", "Private keys do their work: canaries were opened or signed")
    if barred := standing(proofs):
        return Criterion(*same, *barred), Criterion(*works, *barred)
    keys = keys_of(proofs)
    if not keys:
        nothing = (Holds.NOT_SHOWN, "the proof names no key")
        return Criterion(*same, *nothing), Criterion(*works, *nothing)
    bad = [k for k in keys if k.status != "present" or k.public_key_equal is False]
    detail = _counted(keys, len(keys) - len(bad), [f"{k.name}/{k.version}" for k in bad])
    failed = [k for k in keys if k.canary == "failed"]
    proved = [k for k in keys if k.canary in PROVED_CANARIES]
    holds = Holds.YES if proved else Holds.NOT_SHOWN
    worked = _counted(keys, len(proved), [f"{k.name}: {k.canary}" for k in keys if k not in proved])
    return (
        Criterion(*same, Holds.NO if bad else Holds.YES, detail),
        Criterion(*works, Holds.NO if failed else holds, worked),
    )


def role_criteria(proofs: Sequence[Proof]) -> tuple[Criterion, ...]:
    """Return what must hold of the role assignments."""
    statement = ("R1", "Every local role assignment of the inventory is there")
    if barred := standing(proofs):
        return (Criterion(*statement, *barred),)
    roles = roles_of(proofs)
    if roles is None:
        return (Criterion(*statement, Holds.NOT_SHOWN, "the proof counts no role"),)
    detail = f"{roles.expected - len(roles.missing)} of {roles.expected}"
    if roles.missing:
        detail += f"; missing: {', '.join(roles.missing[:_NAMED])}"
    if roles.extra:
        detail += f"; {len(roles.extra)} more that the inventory does not have"
    return (Criterion(*statement, Holds.NO if roles.missing else Holds.YES, detail),)


def database_criteria(proofs: Sequence[Proof]) -> tuple[Criterion, ...]:
    """Return what must hold of the databases."""
    online = ("D1", "Every database is Online again")
    equal = ("D2", "Rows read back from databases are those written before the disaster")
    thumbs = ("D3", "Instances are protected by the key with the same thumbprint as before")
    if barred := standing(proofs):
        return tuple(Criterion(*each, *barred) for each in (online, equal, thumbs))
    found = databases_of(proofs)
    if not found:
        nothing = (Holds.NOT_SHOWN, "the proof names no database")
        return tuple(Criterion(*each, *nothing) for each in (online, equal, thumbs))
    down = [f"{d.instance}/{d.name}: {d.status}" for d in found if d.status != "Online"]
    read = [d for d in found if d.canary == "equal"]
    wrong = [f"{d.instance}/{d.name}: different" for d in found if d.canary == "different"]
    unread = [f"{d.instance}/{d.name}: {d.canary}" for d in found if d.canary != "equal"]
    other = [f"{d.instance}/{d.name}" for d in found if d.thumbprint_equal is False]
    told = [d for d in found if d.thumbprint_equal is True]
    return (
        Criterion(
            *online, Holds.NO if down else Holds.YES, _counted(found, len(found) - len(down), down)
        ),
        Criterion(*equal, _optional(wrong, read), _counted(found, len(read), unread)),
        Criterion(*thumbs, _optional(other, told), _counted(found, len(told), other)),
    )


_NAMED: Final = 5
"""A criterion's detail names so many; the tables have all."""


def _optional(bad: Sequence[object], good: Sequence[object]) -> Holds:
    if bad:
        return Holds.NO
    return Holds.YES if good else Holds.NOT_ASKED


def _counted(every: Sequence[object], good: int, others: Sequence[str]) -> str:
    named = ", ".join(others[:_NAMED])
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    return f"{good} of {len(every)}" + (f"; {named}{more}" if others else "")
