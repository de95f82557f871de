"""Three more drawings as geometry: burn-down, key continuity, database states over time.

Pure. As in `chart`, whose frame and scale they share: this says where things stand, templates
say how they look, and nothing is told by colour alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from drengine.evidence.chart import LABELS, RIGHT, WIDTH, Scale
from drengine.evidence.words import clock, cut, duration
from drengine.model.facts import DatabaseLook, EvidenceFacts, KeyFacts

HEIGHT: Final = 230
_TOP: Final = 34
_FLOOR: Final = HEIGHT - 30
_ROW: Final = 22
_MOST_ROWS: Final = 60
_FAR: Final = 1.6
_LABEL: Final = 38


@dataclass(frozen=True, slots=True)
class Upright:
    """A vertical line with words."""

    x: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class BurnDown:
    """How many steps were left, from the incident on.

    Attributes:
        path: the SVG path of the step curve; window: width of the auto-heal window, 0 for none.
    """

    path: str
    left: float
    right: float
    floor: float
    top: float
    most: int
    window: float
    uprights: tuple[Upright, ...]
    times: tuple[Upright, ...]


@dataclass(frozen=True, slots=True)
class Stroke:
    """One state of one database, from x for a width."""

    x: float
    width: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class StateRow:
    """One database over time, or one key before and after."""

    y: float
    label: str
    strokes: tuple[Stroke, ...]
    verdict: str
    kind: str


@dataclass(frozen=True, slots=True)
class Rows:
    """A drawing made of rows; `left_out` says how many did not fit."""

    height: float
    rows: tuple[StateRow, ...]
    left_out: int


def _start(facts: EvidenceFacts) -> int:
    return facts.created.at_ms if facts.rto.from_ms is None else facts.rto.from_ms


def _span(facts: EvidenceFacts) -> Scale:
    start, end = _start(facts), facts.last.at_ms
    target = facts.rto.target_ms
    if target is not None and start + target <= start + (end - start) * _FAR:
        end = max(end, start + target)
    return Scale(start, end)


def burn_down(facts: EvidenceFacts) -> BurnDown:
    """Return the curve of the steps that were left."""
    ends = sorted(
        step.ended.at_ms for run in facts.runs for step in run.steps if step.ended is not None
    )
    total = sum(len(run.steps) for run in facts.runs)
    span = _span(facts)

    def y(left: int) -> float:
        return round(_FLOOR - (_FLOOR - _TOP) * left / max(total, 1), 1)

    path = [f"M{span.inside(span.from_ms)} {y(total)}"]
    for done, ms in enumerate(ends, 1):
        path.append(f"H{span.inside(ms)} V{y(total - done)}")
    path.append(f"H{span.inside(facts.last.at_ms)}")
    window = autoheal_ms(facts)
    return BurnDown(
        path=" ".join(path),
        left=LABELS,
        right=WIDTH - RIGHT,
        floor=_FLOOR,
        top=_TOP,
        most=total,
        window=0.0 if window is None else span.inside(span.from_ms + window) - LABELS,
        uprights=tuple(_uprights(facts, span, window)),
        times=tuple(
            Upright(span.inside(ms), "time", clock(ms))
            for n in range(5)
            for ms in (span.from_ms + (span.to_ms - span.from_ms) * n // 4,)
        ),
    )


def autoheal_ms(facts: EvidenceFacts) -> int | None:
    """Return how long databases heal by themselves once the key is back, where inputs say so."""
    found = facts.inputs.get("autoheal_window")
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def _uprights(facts: EvidenceFacts, span: Scale, window: int | None) -> Iterable[Upright]:
    target = facts.rto.target_ms
    if target is not None and span.from_ms + target <= span.to_ms:
        yield Upright(
            span.inside(span.from_ms + target), "target", f"RTO target {duration(target)}"
        )
    # Every second one's words stand a line higher: the target's and these are often close.
    if facts.rto.to_ms is not None:
        words = f"service back, {duration(facts.rto.actual_ms)}"
        yield Upright(span.inside(facts.rto.to_ms), "back", words)
    if window is not None and span.from_ms + window <= span.to_ms:
        words = f"auto-heal window ends, {duration(window)}"
        yield Upright(span.inside(span.from_ms + window), "heal", words)


_GOOD: Final = "Online"


def database_rows(facts: EvidenceFacts) -> Rows:
    """Return a row for each database with the states that it was seen in."""
    span = _span(facts)
    seen: dict[tuple[str, str], list[DatabaseLook]] = {}
    for look in facts.database_looks:
        seen.setdefault((look.instance, look.name), []).append(look)
    rows = []
    for number, (name, looks) in enumerate(sorted(seen.items())[:_MOST_ROWS]):
        strokes = []
        for look, after in zip(looks, [*looks[1:], None], strict=True):
            begin = span.inside(span.from_ms if look.at is None else look.at.at_ms)
            stop = after.at.at_ms if after is not None and after.at else facts.last.at_ms
            kind = "good" if look.status == _GOOD else "bad"
            width = max(round(span.inside(stop) - begin, 1), 1.5)
            strokes.append(Stroke(begin, width, kind, look.status))
        last = looks[-1].status
        kind = "good" if last == _GOOD else "bad"
        label = cut(f"{name[0]} / {name[1]}", _LABEL)
        rows.append(StateRow(number * _ROW + 8.0, label, tuple(strokes), last, kind))
    return Rows(len(rows) * _ROW + 12.0, tuple(rows), max(len(seen) - _MOST_ROWS, 0))


def key_rows(facts: EvidenceFacts) -> Rows:
    """Return a row for each key version: before, after, and how they compare."""
    rows = []
    for number, key in enumerate(facts.keys[:_MOST_ROWS]):
        kind, verdict = _compared(key)
        label = cut(f"{key.name} / {key.version[:12]}", _LABEL)
        link = Stroke(LABELS + 120, 190, kind, verdict)
        rows.append(StateRow(number * _ROW + 28.0, label, (link,), key.canary, kind))
    return Rows(len(rows) * _ROW + 32.0, tuple(rows), max(len(facts.keys) - _MOST_ROWS, 0))


def _compared(key: KeyFacts) -> tuple[str, str]:
    if key.status != "present":
        return "bad", key.status
    if key.public_key_equal is None:
        return "open", "no public part to compare"
    return ("good", "same public key") if key.public_key_equal else ("bad", "another public key")
