"""The timeline as geometry: rows, bars, marks and lines in the units of the drawing.

Pure. It decides where things stand; the template decides how they look. Nothing is
told by colour alone: every kind of bar has a pattern, every mark a shape and a word.
Where a step has many children, each child run is one row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from drengine.evidence.words import clock, cut, duration, utc
from drengine.model.facts import EvidenceFacts, GateFacts, RunFacts, Share, StepFacts, Stretch

WIDTH: Final = 880
LABELS: Final = 262
ROW: Final = 23
TOP: Final = 58
RIGHT: Final = 64
_LETTER: Final = 6.3  # how wide a letter of a note is at most, on average
_BOLD: Final = 7.0  # the same for the words of a vertical line
_GAP: Final = 4
_INDENT: Final = 12
_WIDEST_LABELS: Final = 340.0
_MANY_CHILDREN: Final = 8
_NARROWEST: Final = 1.4
_MAX_TICKS: Final = 9
_MINUTE: Final = 60_000
_STEPS: Final = tuple(
    _MINUTE * n for n in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 7200, 14400)
)
_TARGET_SHOWN: Final = 1.5
"""The RTO target is drawn where it makes the drawing at most so much longer."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time."""

    x: float
    width: float
    share: str
    title: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment: `asked`, `approved`, `rejected`, `voided` or `point` (of no return)."""

    x: float
    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the drawing."""

    y: float
    label: str
    title: str
    depth: int
    kind: str
    status: str
    bars: tuple[Bar, ...]
    marks: tuple[Mark, ...]
    note: str
    note_x: float
    note_anchor: str = "start"


@dataclass(frozen=True, slots=True)
class Tick:
    """A time on the axis."""

    x: float
    text: str
    day: str


@dataclass(frozen=True, slots=True)
class Line:
    """A vertical line with a word."""

    x: float
    kind: str
    text: str
    anchor: str
    text_x: float


@dataclass(frozen=True, slots=True)
class Chart:
    """The whole drawing; `left` is where the labels end and time begins."""

    height: float
    left: float
    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Scale:
    """The stretch of time that a drawing shows, between its labels and its notes."""

    from_ms: int
    to_ms: int
    left: float = LABELS

    def x(self, at_ms: int) -> float:
        """Return where a moment stands."""
        span = max(self.to_ms - self.from_ms, 1)
        width = WIDTH - self.left - RIGHT
        return round(self.left + (at_ms - self.from_ms) / span * width, 1)

    def inside(self, at_ms: int) -> float:
        """Return where a moment stands, or the edge that is nearer to it."""
        return min(max(self.x(at_ms), self.left), WIDTH - RIGHT)


def chart_of(facts: EvidenceFacts) -> Chart:
    """Return the drawing of a run and its children."""
    rows: list[Row] = []
    _add_run(facts, facts.runs[0], _scale_of(facts, LABELS), rows, 0)
    left = _left_of(rows)
    if left != LABELS:  # drawn again with as much room for the labels as they need
        rows.clear()
        _add_run(facts, facts.runs[0], _scale_of(facts, left), rows, 0)
    scale = _scale_of(facts, left)
    lines = _lines(facts, scale)
    uprights = [line.x for line in lines]
    placed = (_placed(_labelled(row, left), uprights) for row in rows)
    height = TOP + ROW * len(rows) + 8
    return Chart(height, left, tuple(placed), _ticks(scale), lines)


def _left_of(rows: Iterable[Row]) -> float:
    needed = max((_label_width(row) for row in rows), default=0.0) + 2 * _GAP
    return round(min(max(needed, float(LABELS)), _WIDEST_LABELS), 1)


def _label_width(row: Row) -> float:
    return row.depth * _INDENT + text_width(row.label) * (1.1 if row.kind == "child" else 1.0)


def _labelled(row: Row, left: float) -> Row:
    """Return a row whose label ends before time begins, cut only where it would not."""
    label = row.label
    while len(label) > 1 and _label_width(replace(row, label=label)) > left - _GAP:
        label = cut(row.label, len(label) - 1)
    return replace(row, label=label)


def text_width(text: str) -> float:
    """Return how wide a label is at most: by the letters of a wide typeface at 11.5 px."""
    return sum(_NARROW if sign in _NARROW_SIGNS else _WIDE[sign.isupper()] for sign in text) + sum(
        _MORE for sign in text if sign in _WIDE_SIGNS
    )


_NARROW_SIGNS: Final = frozenset("iljtfrI.,:;'\u2019|!()[] ")
_WIDE_SIGNS: Final = frozenset("mwMW")
_NARROW: Final = 4.1
_WIDE: Final = (7.1, 8.0)  # small letters and digits; capitals
_MORE: Final = 3.2


def _scale_of(facts: EvidenceFacts, left: float) -> Scale:
    begin = min(facts.created.at_ms, facts.rto.from_ms or facts.created.at_ms)
    end = max(facts.last.at_ms, begin + _MINUTE)
    target = _target_ms(facts)
    if target is not None and target <= begin + (end - begin) * _TARGET_SHOWN:
        end = max(end, target)
    return Scale(begin, end, left)


def _target_ms(facts: EvidenceFacts) -> int | None:
    rto = facts.rto
    return None if rto.target_ms is None or rto.from_ms is None else rto.from_ms + rto.target_ms


def _add_run(
    facts: EvidenceFacts, run: RunFacts, scale: Scale, rows: list[Row], depth: int
) -> None:
    for step in run.steps:
        rows.append(_step_row(facts, run, step, scale, len(rows), depth))
        children = [r for r in facts.runs if _is_child(r, run, step)]
        for child in children:
            rows.append(_run_row(child, scale, len(rows), depth + 1))
            if len(children) <= _MANY_CHILDREN:
                _add_run(facts, child, scale, rows, depth + 2)


def _is_child(child: RunFacts, run: RunFacts, step: StepFacts) -> bool:
    # A child's id is longer than its parent's, so that no forged parent makes a circle.
    is_below = child.run.startswith(f"{run.run}/")
    return is_below and child.parent == run.run and child.parent_step == step.id


def _step_row(
    facts: EvidenceFacts, run: RunFacts, step: StepFacts, scale: Scale, place: int, depth: int
) -> Row:
    gates = [g for g in facts.gates if (g.run, g.step) == (run.run, step.id)]
    marks = [mark for gate in gates for mark in _gate_marks(gate, scale)]
    points = [p for p in facts.points_of_no_return if (p.run, p.step) == (run.run, step.id)]
    marks += [
        Mark(scale.x(p.sent.at_ms), "point", f"point of no return, sent {utc(p.sent.at_ms)}")
        for p in points
    ]
    note = duration(step.spent_ms) if step.stretches else step.status
    planned: tuple[Bar, ...] = ()
    if step.expected_ms and step.began is not None:
        note += f" of {duration(step.expected_ms)} planned"
        planned = (_planned(step.began.at_ms, step.expected_ms, scale),)
    row = _row(step.title, step.kind, step.status, step.stretches, marks, note, scale, place, depth)
    return replace(row, bars=(*planned, *row.bars))


def _planned(from_ms: int, expected_ms: int, scale: Scale) -> Bar:
    x = scale.x(from_ms)
    width = max(min(scale.x(from_ms + expected_ms), WIDTH - 1) - x, _NARROWEST)
    return Bar(x, round(width, 2), "planned", f"planned {duration(expected_ms)}")


def _run_row(run: RunFacts, scale: Scale, place: int, depth: int) -> Row:
    end = run.finished or run.last
    whole = (Stretch(Share.CHILDREN, run.created.at_ms, end.at_ms),)
    note = duration(end.at_ms - run.created.at_ms)
    label = f"{run.item or run.run} (child run)"
    return _row(label, "child", run.status, whole, (), note, scale, place, depth)


def _row(
    label: str,
    kind: str,
    status: str,
    stretches: Sequence[Stretch],
    marks: Iterable[Mark],
    note: str,
    scale: Scale,
    place: int,
    depth: int,
) -> Row:
    bars = tuple(_bar(stretch, scale) for stretch in stretches)
    return Row(
        y=TOP + ROW * place,
        label=label,
        title=f"{label}: {status}",
        depth=depth,
        kind=kind,
        status=status,
        bars=bars,
        marks=tuple(marks),
        note=note,
        note_x=scale.left + 5,
    )


def _placed(row: Row, uprights: Sequence[float]) -> Row:
    """Put a row's note behind its last bar, where no upright line runs through it.

    Otherwise it stands behind the line, or before the first bar; where every place is taken,
    behind the last bar or, at the end of the sheet, before the first.
    """
    ends = [bar.x + bar.width for bar in row.bars] + [mark.x + 6 for mark in row.marks]
    begins = [bar.x for bar in row.bars] + [mark.x - 6 for mark in row.marks]
    width = len(row.note) * _LETTER
    behind = max(ends, default=row.note_x - 5) + 5
    before = min(begins, default=float(WIDTH)) - 5 - width
    starts = [behind, *(x + _GAP + 1 for x in sorted(uprights) if x > behind), before]
    inside = [x for x in starts if row.note_x <= x + 5 and x + width <= WIDTH]
    free = [x for x in inside if not any(x - 2 < line < x + width for line in uprights)]
    best = (free or inside or [behind])[0]
    if best == before:
        return replace(row, note_x=round(before + width, 1), note_anchor="end")
    return replace(row, note_x=round(best, 1), note_anchor="start")


def _bar(stretch: Stretch, scale: Scale) -> Bar:
    x = scale.x(stretch.from_ms)
    spent = duration(stretch.to_ms - stretch.from_ms)
    title = f"{stretch.share}: {spent}, {utc(stretch.from_ms)} to {utc(stretch.to_ms)}"
    width = round(max(scale.x(stretch.to_ms) - x, _NARROWEST), 1)
    return Bar(x, width, stretch.share.name.lower(), title)


def _gate_marks(gate: GateFacts, scale: Scale) -> list[Mark]:
    asked = Mark(scale.x(gate.requested.at_ms), "asked", f"asked {utc(gate.requested.at_ms)}")
    if gate.decided is None:
        return [asked]
    at = gate.decided.at_ms
    return [asked, Mark(scale.x(at), gate.outcome, f"{gate.outcome} {utc(at)}")]


def _ticks(scale: Scale) -> tuple[Tick, ...]:
    span = scale.to_ms - scale.from_ms
    step = next((s for s in _STEPS if span / s <= _MAX_TICKS), _STEPS[-1] * (span // _STEPS[-1]))
    first = -(-scale.from_ms // step) * step
    ticks: list[Tick] = []
    day = ""
    for at in range(first, scale.to_ms + 1, step):
        date = utc(at)[:10]
        ticks.append(Tick(scale.x(at), clock(at), date if date != day else ""))
        day = date
    return tuple(ticks)


def _lines(facts: EvidenceFacts, scale: Scale) -> tuple[Line, ...]:
    rto, target = facts.rto, _target_ms(facts)
    lines = []
    if rto.from_ms is not None and rto.from_ms < facts.created.at_ms:
        x = scale.x(rto.from_ms)
        lines.append(Line(x, "incident", f"incident {clock(rto.from_ms)}", "start", x + _GAP))
    if rto.to_ms is not None:
        lines.append(_ending(scale.x(rto.to_ms), "back", f"proved back {clock(rto.to_ms)}"))
    if target is not None and scale.from_ms <= target <= scale.to_ms:
        lines.append(_ending(scale.x(target), "target", f"RTO target {clock(target)}"))
    return tuple(_apart(lines))


def _ending(x: float, kind: str, text: str) -> Line:
    return Line(x, kind, text, "end", x - _GAP)


def _apart(lines: list[Line]) -> list[Line]:
    """Return the lines; words that would stand in the last one's are moved before them."""
    if not lines:
        return []
    last = lines[-1]
    begin = last.text_x - len(last.text) * _BOLD

    def moved(line: Line) -> Line:
        before, after = line.text_x <= begin, line.text_x - len(line.text) * _BOLD >= last.text_x
        if line.anchor != "end" or before or after:
            return line
        return replace(line, text_x=round(begin - _GAP, 1))

    return [*map(moved, lines[:-1]), last]
