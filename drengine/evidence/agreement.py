"""Whether a chain agrees with its plan and with what people were shown in it.

Pure. The codec has checked the hashes and the fold the lifecycle; this is what neither
of them knows: plan, runbook, inputs, and the digests that approvals are bound to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from drengine.evidence.words import cut
from drengine.model.canonical import canonical, digest, sha256_hex
from drengine.model.ids import child_id, root_of, run_id_of
from drengine.model.plan import Plan, PlanPart
from drengine.model.records import Record
from drengine.model.records import RecordType as R

_MOST: Final = 20
_LONG: Final = 60
_NOT_APPROVED: Final = ("digest", "exchanges")


JUDGED: Final = frozenset({R.RUN_CREATED, R.GATE_REQUESTED, R.GATE_APPROVED, R.GATE_REJECTED})
"""The types of records that plan and chain can disagree about."""


class Agreement:
    """Compares one chain with its plan, record by record."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._shown: dict[int, tuple[object, object]] = {}

    def take(self, record: Record) -> Iterator[str]:
        """Yield everything in which the next record disagrees with plan or chain."""
        body = record.body
        if record.seq == 0:
            yield from _genesis_problems(record, self._plan)
        elif record.type is R.GATE_REQUESTED:
            self._shown[record.seq] = (body.get("step"), body.get("digest"))
            rest = {name: value for name, value in body.items() if name not in _NOT_APPROVED}
            if body.get("digest") != digest(rest):
                yield f"record {record.seq}: the digest of what the gate shows is not its own"
        elif record.type in (R.GATE_APPROVED, R.GATE_REJECTED):
            step, shown = self._shown.get(body.get("request_seq", -1), (None, None))
            if step is None or step != body.get("step"):
                yield f"record {record.seq} decides on a request that is not before it"
            elif shown != body.get("digest"):
                yield f"record {record.seq} decides on other facts than were shown"


def _genesis_problems(record: Record, plan: Plan) -> Iterator[str]:
    body = record.body
    if body.get("plan") != plan.digest:
        yield f"record 0 names plan {_shown(body.get('plan'))}, but the plan is {plan.digest}"
    if body.get("class") != str(plan.run_class):
        yield f"record 0 says {_shown(body.get('class'))}, the plan is for a {plan.run_class}"
    if body.get("cloud") != plan.cloud.to_json():
        yield "record 0 names another cloud than the plan"
    if body.get("inputs_digest") != digest(body.get("inputs")):
        yield "record 0: the digest of the inputs is not theirs"
    path = body.get("path")
    steps = [str(step) for step in path] if isinstance(path, list) else []
    yield from _place_problems(record, plan, steps)
    part = _part(plan, steps)
    if part is None:
        yield f"the plan has no sub-runbook at {'/'.join(steps)!r}"
        return
    if part.runbook_sha256 != sha256_hex(part.runbook_text.encode()):
        yield f"the plan's runbook {part.runbook_name!r} does not have the digest it names"
    if body.get("runbook") != {"name": part.runbook_name, "sha256": part.runbook_sha256}:
        yield "record 0 names another runbook than the plan"
    if not steps and body.get("inputs") != dict(part.inputs):
        yield "record 0 has other inputs than the plan"


def _place_problems(record: Record, plan: Plan, steps: Sequence[str]) -> Iterator[str]:
    body, run = record.body, record.run
    root = run_id_of(plan.digest)
    if root_of(run) != root:
        yield f"the plan starts run {root}"
    if not steps:
        if "/" in run or body.get("parent") is not None:
            yield "record 0 is a root's, the run's id is a child's"
        return
    parent = str(body.get("parent"))
    under = child_id(type(run)(parent), steps[-1])
    if run != under and not run.startswith(f"{under}/"):
        yield f"record 0 places it under {_shown(under)}"


def _part(plan: Plan, steps: Sequence[str]) -> PlanPart | None:
    part: PlanPart | None = plan.root
    for step in steps:
        part = part.children.get(step) if part else None
    return part


def differences(said: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return where two JSON objects differ, at most 20 places."""
    out = []
    for where, left, right in _compared("", said, found):
        out.append(f"{where}: says {_shown(left)}, found {_shown(right)}")
        if len(out) == _MOST:
            return [*out, "and more"]
    return out


def _compared(where: str, left: Any, right: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        for key in sorted(left.keys() | right.keys(), key=str):
            inside = f"{where}.{key}" if where else str(key)
            yield from _compared(inside, left.get(key, _NOTHING), right.get(key, _NOTHING))
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for place, (one, other) in enumerate(zip(left, right, strict=True)):
            yield from _compared(f"{where}[{place}]", one, other)
    elif left is _NOTHING or right is _NOTHING or _form(left) != _form(right):
        yield where, left, right


class _Nothing:
    """Stands for a value that is not there."""

    def __repr__(self) -> str:
        return "nothing"


_NOTHING: Final = _Nothing()


def _form(value: Any) -> object:
    try:
        return canonical(value)
    except ValueError:
        return repr(value)


def _shown(value: object) -> str:
    return cut(repr(value), _LONG)
