"""The screen of a run: header, one line per step, what is waited for, what to do next.

Pure: it makes text of a `Family`; `status`, `watch` and the live view of `run` print
the same lines. Every state has a symbol and a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from drengine.cli.family import Family, step_name
from drengine.cli.notices import (
    against_lines,
    handed_in_lines,
    in_flight_lines,
    rollback_word,
    uncounted_lines,
    undone_lines,
)
from drengine.cli.onward import next_commands
from drengine.cli.output import banner, clock_ms, shorten, spell_ms, styled
from drengine.model.canonical import JsonObject
from drengine.model.ids import RunId
from drengine.model.run import RunState, RunStatus, StepState, UndoStatus
from drengine.model.run import StepStatus as S

_SYMBOLS: Final = {
    S.PENDING: ("·", "pending", ""),
    S.CHECKING: ("●", "checking guards", "cyan"),
    S.PROBING: ("●", "looking", "cyan"),
    S.CLEARED: ("●", "cleared", "cyan"),
    S.SENDING: ("●", "sending", "cyan"),
    S.IN_DOUBT: ("⚠", "in doubt", "yellow"),
    S.RUNNING: ("●", "running", "cyan"),
    S.VERIFYING: ("●", "verifying", "cyan"),
    S.AWAITING_APPROVAL: ("⏸", "awaits approval", "yellow"),
    S.AWAITING_DELIVERY: ("⏸", "awaits delivery", "yellow"),
    S.FANNING_OUT: ("●", "children", "cyan"),
    S.SUCCEEDED: ("✓", "done", "green"),
    S.SKIPPED: ("○", "skipped", ""),
    S.FAILED: ("✗", "failed", "red"),
    S.REFUSED: ("✗", "refused", "red"),
    S.UNKNOWN: ("⚠", "unknown outcome", "red"),
}
_RUN_WORDS: Final = {
    RunStatus.RUNNING: ("●", "running", "cyan"),
    RunStatus.WAITING: ("⏸", "waiting", "yellow"),
    RunStatus.STOPPED: ("✗", "stopped", "red"),
    RunStatus.PAUSED: ("⏸", "paused", "yellow"),
    RunStatus.CANCELLED: ("✗", "cancelled", "red"),
    RunStatus.FINISHED: ("✓", "finished", "green"),
    RunStatus.ROLLING_BACK: ("↶", "rolling back", "yellow"),
    RunStatus.ROLLED_BACK: ("↶", "rolled back", "yellow"),
}
_UNDO: Final = {
    UndoStatus.SENDING: ("↶", "undoing", "cyan"),
    UndoStatus.RUNNING: ("↶", "undoing", "cyan"),
    UndoStatus.CHECKING: ("↶", "undoing", "cyan"),
    UndoStatus.DONE: ("↶", "undone", "green"),
    UndoStatus.KEPT: ("⚠", "stays", "yellow"),
    UndoStatus.REFUSED: ("✗", "undo refused", "red"),
}
_BAR: Final = 10
_NAME_WIDTH: Final = 30


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the board: a step or a child run."""

    depth: int
    name: str
    symbol: str
    word: str
    colour: str
    took: str
    note: str


def symbol_of(status: S) -> tuple[str, str, str]:
    """Return symbol, word and colour of a step's status."""
    return _SYMBOLS[status]


def render(family: Family, now_ms: int, width: int) -> list[str]:
    """Return the whole screen with the commands that come next."""
    return [*screen(family, now_ms, width), "", *ending(family)]


def ending(family: Family) -> list[str]:
    """Return what stands below the board: why steps are stuck, in full, and what comes next."""
    told = (
        *_stuck(family),
        *against_lines(family),
        *undone_lines(family),
        *in_flight_lines(family),
        *uncounted_lines(family),
        *handed_in_lines(family),
    )
    return [*told, *(f"Next: {text}" for text in next_commands(family))]


def screen(family: Family, now_ms: int, width: int, height: int | None = None) -> list[str]:
    """Return the header and a line for each step.

    Parameters:
        width: in columns.
        height: lines at hand; where the steps need more, those of least news share one.
    """
    head = [*_header(family, now_ms), ""]
    lines = list(board(family, now_ms))
    if height is not None:
        lines = folded(lines, height - len(head))
    return head + [_text(line, width) for line in lines]


def folded(lines: list[Line], most: int) -> list[Line]:
    """Return at most so many lines where it can be: what is done, then what is to come, as one.

    What is under way, waits or went wrong keeps its line whatever the height.
    """
    for symbols, word in (("✓○", "done"), ("·", "to come")):
        alike = [place for place, line in enumerate(lines) if line.symbol in symbols]
        if len(lines) > most and len(alike) > 1:
            one = Line(0, f"({len(alike)} {word})", symbols[0], "", "", "", "")
            kept = [line for line in lines if line.symbol not in symbols]
            lines = [*kept[: alike[0]], one, *kept[alike[0] :]]
    return lines


def _header(family: Family, now_ms: int) -> tuple[str, str]:
    state = family.root
    symbol, word, colour = _run_word(family)
    end = state.finished_ms or now_ms
    elapsed = end - family.started_ms()
    words = banner(str(state.run_class), lab=family.lab)
    virtual = " virtual" if family.lab else ""
    parts = [
        styled(f"{symbol} {word}", fg=colour, bold=True),
        f"{clock_ms(elapsed)}{virtual}",
        _objective(state.genesis["objectives"].get("rto_ms"), elapsed),
    ]
    head = f"{words}  {state.run}  {state.genesis['title']}"
    return head, "  ".join(part for part in parts if part)


def _run_word(family: Family) -> tuple[str, str, str]:
    status = family.root.status
    if family.root.handed_to:
        return "⇢", f"handed over to {family.root.handed_to}", "yellow"
    if family.is_alone:
        word = rollback_word(family) or "left alone"
        return "⚠", f"{word}: no process drives it", "yellow"
    symbol, word, colour = _RUN_WORDS[status]
    return symbol, rollback_word(family) or word, colour


def _objective(rto_ms: int | None, elapsed_ms: int) -> str:
    if not rto_ms:
        return ""
    used = max(elapsed_ms, 0) * 100 // rto_ms
    full = min(_BAR, max(0, used * _BAR // 100))
    bar = "▓" * full + "░" * (_BAR - full)
    over = styled(" MISSED", fg="red", bold=True) if elapsed_ms > rto_ms else ""
    return f"RTO {spell_ms(rto_ms)} {bar} {used}%{over}"


def board(family: Family, now_ms: int) -> Iterator[Line]:
    """Yield a line for each step, and for the children of a step behind it."""
    yield from _lines(family, family.root_run, now_ms, 0)


def _lines(family: Family, run: RunId, now_ms: int, depth: int) -> Iterator[Line]:
    state = family.states[run]
    for step in state.steps.values():
        yield _step_line(family, run, step, now_ms, depth)
        for name, child in family.children_of(run, step.id):
            yield _child_line(name, child, now_ms, depth + 1)
            if not child.status.is_over:
                open_lines = _lines(family, child.run, now_ms, depth + 2)
                yield from (line for line in open_lines if line.symbol not in "·✓○")


def _step_line(family: Family, run: RunId, step: StepState, now_ms: int, depth: int) -> Line:
    over_ms = family.states[run].finished_ms or family.root.finished_ms
    now_ms = over_ms or now_ms
    symbol, word, colour = _UNDO.get(step.undo, _SYMBOLS[step.status])
    if (over_ms or family.rolls_back) and step.status.is_waiting:
        # Nobody is waited for any more.
        return Line(depth, step.id, "⏸", "left undecided", "", "", "")
    request = family.requests.get((run, step.id), {})
    took = ""
    if step.began_ms is not None and step.status is not S.PENDING:
        end = step.ended_ms if step.status.is_done and step.ended_ms else now_ms
        end = step.entered_ms if step.status.is_stuck else end
        took = spell_ms(end - step.began_ms)
    return Line(depth, step.id, symbol, word, colour, took, _note(step, request))


def _note(step: StepState, request: Any) -> str:
    if step.undo is not UndoStatus.NONE:
        return str((step.error or {}).get("message", "")) or step.detail
    match step.status:
        case S.AWAITING_APPROVAL:
            have = len(step.gate.approvers) if step.gate else 0
            return f"{have} of {request.get('approvals', 1)} approvals. {request.get('ask', '')}"
        case S.AWAITING_DELIVERY:
            so_far = f"{step.progress}. " if step.progress else ""
            return so_far + str(request.get("ask") or request.get("kind", ""))
        case S.FAILED | S.REFUSED | S.UNKNOWN:
            return str((step.error or {}).get("message", ""))
        case S.SUCCEEDED if step.attempt > 1:
            return f"attempt {step.attempt}"
        case S.SUCCEEDED | S.PENDING:
            return ""
        case _:
            attempt = f"attempt {step.attempt}; " if step.attempt > 1 else ""
            return f"{attempt}{step.detail}"


def _child_line(name: str, child: RunState, now_ms: int, depth: int) -> Line:
    symbol, word, colour = _RUN_WORDS[child.status]
    done = sum(step.status.is_done for step in child.steps.values())
    took = spell_ms((child.finished_ms or now_ms) - child.created_ms)
    return Line(depth, name, symbol, word, colour, took, f"{done} of {len(child.steps)} steps")


def _text(line: Line, width: int) -> str:
    indent = "  " * line.depth
    name = f"{indent}{line.name}".ljust(_NAME_WIDTH)
    word = styled(line.word.ljust(16), fg=line.colour or None)
    symbol = styled(line.symbol, fg=line.colour or None)
    head = f" {symbol} {name} {word} {line.took:>7}"
    space = width - (_NAME_WIDTH + 30)
    return f"{head}  {shorten(line.note, max(space, 20))}".rstrip()


def _stuck(family: Family) -> Iterator[str]:
    for state in family.states.values():
        for step in state.steps.values():
            if (step.status.is_stuck or step.undo is UndoStatus.REFUSED) and step.error:
                yield from _whole_error(state.run, step, step.error)
                if skipped := _skipped_before(state, step.id):
                    yield f"    → skipped before it: {', '.join(skipped)}"
                yield ""


def _skipped_before(state: RunState, step: str) -> list[str]:
    """Return what was left out before a step: what it lacks may be what they would have made."""
    names = list(state.steps)
    before = names[: names.index(step)]
    return [name for name in before if state.steps[name].status is S.SKIPPED]


def _whole_error(run: RunId, step: StepState, error: JsonObject) -> Iterator[str]:
    symbol, word, colour = _UNDO.get(step.undo, _SYMBOLS[step.status])
    yield styled(f"{symbol} {step_name(run, step.id)}: {word}", fg=colour, bold=True)
    # Indented line by line: text from outside must not look like a line of ours.
    yield from (f"    {text}" for text in str(error.get("message", "")).splitlines())
    yield from (f"    → {text}" for text in str(error.get("hint", "")).splitlines())
    if code := error.get("code"):
        yield f"    {code} · drengine explain {code}"
