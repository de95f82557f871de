"""The screen of a run: header, one line per step, what is waited for, what to do next.

Pure: it makes text of a `Family`; `status`, `watch` and the live view of `run` print
the same lines. Every state has a symbol and a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from drengine.cli.family import Family
from drengine.cli.output import banner, clock_ms, shorten, spell_ms, styled
from drengine.model.canonical import JsonObject
from drengine.model.ids import RunId
from drengine.model.records import Signal
from drengine.model.run import RunState, RunStatus, StepState, UndoStatus
from drengine.model.run import StepStatus as S
from drengine.model.runbook import RunClass

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
        *uncounted_lines(family),
        *handed_in_lines(family),
    )
    return [*told, *(f"Next: {text}" for text in next_commands(family))]


def stays(family: Family) -> Iterator[tuple[RunId, StepState]]:
    """Yield what a rollback leaves as it is; its reason is the step's detail."""
    for run, state in family.states.items():
        for step in state.steps.values():
            if step.undo is UndoStatus.KEPT:
                yield run, step


def undone_lines(family: Family) -> list[str]:
    """Return what a rollback has taken away, and what stays and why."""
    state = family.root
    if state.status not in (RunStatus.ROLLING_BACK, RunStatus.ROLLED_BACK):
        return []
    head = f"↶ {_RUN_WORDS[state.status][1]}: {undone_text(state)}"
    # On one line each: text from outside must not look like a line of ours.
    left = [f"⚠ {step.id} stays: {shorten(step.detail, 400)}" for _, step in stays(family)]
    return [head, *(styled(line, fg="yellow") for line in left)]


def undone_text(state: RunState) -> str:
    """Return what was undone and what stays, by the names of the steps."""
    steps = state.steps.values()
    gone = [step.id for step in steps if step.undo is UndoStatus.DONE]
    kept = [step.id for step in steps if step.undo is UndoStatus.KEPT]
    told = [f"undone: {', '.join(gone)}"] if gone else []
    told += [f"stays: {', '.join(kept)}"] if kept else []
    return "; ".join(told) or "nothing was undone"


def against_lines(family: Family) -> list[str]:
    """Return what rules found against the decisions that are waited for."""
    return [
        styled(f"✗ {step}: {against}", fg="red")
        for (run, step), request in family.requests.items()
        if not family.root.status.is_over
        and (found := family.states[run].steps.get(step))
        and found.status is S.AWAITING_APPROVAL
        for against in findings_against(request)
    ]


def findings_against(request: Mapping[str, Any]) -> list[str]:
    """Return what speaks against a decision, each on one line: its texts come from outside."""
    return [
        shorten(f"{found['rule']}: {found['message']}. {found.get('advice', '')}", 400)
        for found in request.get("findings", ())
        if found["severity"] == "block"
    ]


def uncounted_lines(family: Family) -> list[str]:
    """Return why decisions and deliveries did not count, for the steps that still wait."""
    return [
        # On one line: text from outside must not look like a line of ours.
        styled(f"⚠ {step}: {shorten(why, 400)}", fg="yellow")
        for (run, step), why in family.uncounted.items()
        if not family.root.status.is_over
        and (found := family.states[run].steps.get(step))
        and found.status.is_waiting
    ]


ANSWERS: Final = ("approve", "reject", "deliver", "resolve")
"""Kinds of signals that answer what a step waits for."""


def handed_in_lines(family: Family) -> list[str]:
    """Return what people have sent and no process has taken in yet."""
    waiting = () if family.root.status.is_over else family.inbox
    return [f"· handed in: {handed_in_text(signal)}" for signal in waiting]


def handed_in_text(signal: Signal) -> str:
    """Return what somebody has sent on one line: text from outside must not look like ours."""
    what = signal.body.get("step") or signal.run
    return shorten(f"{signal.kind} of {what} by {signal.actor}", 200)


def _is_answered(family: Family, run: RunId, step: StepState) -> bool:
    """Whether what was handed in will do, so that the next command is the one that takes it in."""
    sent = family.handed_in(run, step.id, *ANSWERS)
    if family.owner is not None or not sent:
        return False
    if any(signal.kind != "approve" for signal in sent):
        return True
    have = {signal.actor for signal in sent} | set(step.gate.approvers if step.gate else ())
    return len(have) >= int(family.requests[run, step.id].get("approvals", 1))


_IN_FLIGHT: Final = {
    S.SENDING: "a request may have left; the resume looks for its effect, it does not repeat it",
    S.IN_DOUBT: "its answer was lost; the resume goes on looking for its effect",
    S.RUNNING: "Azure goes on with it; the resume follows it, nothing is sent again",
}


def in_flight_lines(family: Family) -> list[str]:
    """Return what is certain of the steps that a process left in the middle of a request."""
    return [
        f"{'' if run == family.root_run else f'{run} '}{step.id}: {_IN_FLIGHT[step.status]}"
        for run, state in family.states.items()
        for step in state.steps.values()
        if step.status in _IN_FLIGHT
    ]


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
    if status is RunStatus.RUNNING and family.owner is None:
        return "⚠", "left alone: no process drives it", "yellow"
    return _RUN_WORDS[status]


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
    if over_ms and step.status.is_waiting:
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
    name = "/".join(part for part in (run.partition("/")[2], step.id) if part)
    yield styled(f"{symbol} {name}: {word}", fg=colour, bold=True)
    # Indented line by line: text from outside must not look like a line of ours.
    yield from (f"    {text}" for text in str(error.get("message", "")).splitlines())
    yield from (f"    → {text}" for text in str(error.get("hint", "")).splitlines())
    if code := error.get("code"):
        yield f"    {code} · drengine explain {code}"


def next_commands(family: Family) -> list[str]:
    """Return the commands that move the run on, the most urgent first.

    What is no part of a command stands behind `#`: the line can be pasted into a shell.
    """
    status, run = family.root.status, family.root_run
    if status is RunStatus.FINISHED:
        return [f"drengine report {run} --out evidence-{run}"]
    if status in (RunStatus.CANCELLED, RunStatus.ROLLED_BACK):
        return [f"drengine report {run} --out evidence-{run}   # a {status} run is not resumed"]
    if family.root.handed_to:
        return [f"drengine take-over {run} --reason TEXT   # only if nobody took it there"]
    found = [text for each in family.states for text in _of_run(family, each)]
    for each, state in family.states.items():
        if state.paused and not state.status.is_over:
            found.append(f"drengine continue {each}")
    if family.owner is None:
        found.append(resume_command(family))
    return found or [f"drengine watch {run}"]


def resume_command(family: Family) -> str:
    """Return the command that goes on with a run, and what it takes where a step is stuck."""
    steps = [step for state in family.states.values() for step in state.steps.values()]
    then = ""
    if any(step.status in (S.REFUSED, S.FAILED) for step in steps):
        then = "   # once it is mended; a wrong input takes: drengine cancel, and a new plan"
    return f"{bare_resume(family)}{then}"


def bare_resume(family: Family) -> str:
    """Return the command that goes on with a run, and nothing else."""
    root, elsewhere = family.root, ""
    if root.run_class is RunClass.INCIDENT and not root.copies_to:
        # Who drove it without a copy has said so, and is not asked again.
        elsewhere = " --no-copy" if root.openings else " --copy-to FOLDER"
    return f"drengine resume {family.root_run}{elsewhere}"


def _of_run(family: Family, run: RunId) -> Iterator[str]:
    for step in family.states[run].steps.values():
        if _is_answered(family, run, step):
            continue
        if step.status is S.AWAITING_APPROVAL:
            yield f"drengine approve {run} {step.id}{_as(step)}{_key(family)}"
        elif step.status is S.AWAITING_DELIVERY:
            yield f"drengine request {run} {step.id} --out FOLDER   # for the custodians"
            yield f"drengine deliver {run} {step.id} FILE"
        elif step.status is S.UNKNOWN:
            saw = "# and what you saw: --found or --absent"
            yield f"drengine resolve {run} {step.id} --reason TEXT   {saw}"


def _key(family: Family) -> str:
    return " --key FILE" if family.root.genesis.get("approvers") else ""


def _as(step: StepState) -> str:
    roles = step.gate.roles if step.gate else ()
    return f" --as NAME --role {roles[0]}" if roles else ""
