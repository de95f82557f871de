"""Live progress of a run: a board that redraws on a terminal, plain lines elsewhere.

Drawing only: nothing in here decides, and an error of drawing must not end a run.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from drengine.cli import output
from drengine.cli.board import screen
from drengine.cli.effects import limits_of
from drengine.cli.family import Family
from drengine.cli.notices import findings_against, undone_text
from drengine.cli.onward import next_commands
from drengine.cli.places import open_clock
from drengine.clock import Clock
from drengine.model.ids import RunId
from drengine.model.plan import Plan
from drengine.model.records import Record
from drengine.model.records import RecordType as R
from drengine.model.run import RunState, RunStatus, StepState, StepStatus, UndoStatus
from drengine.model.times import instant_ms

if TYPE_CHECKING:
    from rich.text import Text


class Progress(Protocol):
    """What is told of each record."""

    def listen(self, state: RunState, record: Record) -> None:
        """Show a record."""
        ...


class Silent:
    """Shows nothing."""

    def listen(self, state: RunState, record: Record) -> None:
        """Do nothing."""


_WORDS: Final[Mapping[R, tuple[str, str]]] = {
    R.RUN_CREATED: ("●", "run created"),
    R.RUN_OPENED: ("●", "run opened"),
    R.RUN_WAITING: ("⏸", "waiting"),
    R.RUN_STOPPED: ("✗", "stopped"),
    R.RUN_PAUSED: ("⏸", "paused"),
    R.RUN_CONTINUED: ("●", "continued"),
    R.RUN_CANCELLED: ("✗", "cancelled"),
    R.RUN_FINISHED: ("✓", "finished"),
    R.STEP_BEGUN: ("●", "begun"),
    R.STEP_SKIPPED: ("○", "skipped"),
    R.STEP_HELD: ("⚠", "held back"),
    R.GUARDS_REFUSED: ("✗", "refused by a guard"),
    R.PROBE_PRESENT: ("●", "found done already"),
    R.PROBE_IN_PROGRESS: ("●", "found under way"),
    R.PROBE_UNDECIDABLE: ("✗", "needs a person"),
    R.INTENT: ("●", "sending"),
    R.ANSWER_OPERATION: ("●", "accepted; running"),
    R.ANSWER_REFUSED: ("✗", "refused by the service"),
    R.ANSWER_LOST: ("⚠", "answer lost; looking"),
    R.OPERATION_FAILED: ("✗", "operation failed"),
    R.OPERATION_LOST: ("⚠", "status gone; reading the resource"),
    R.DOUBT_RAISED: ("⚠", "may have been done and is not seen; looking"),
    R.OPERATION_POLLED: ("●", "still running"),
    R.VERIFY_MISSED: ("●", "still looking"),
    R.PART_DONE: ("●", "one part done, the next follows"),
    R.STEP_SUCCEEDED: ("✓", "done"),
    R.STEP_FAILED: ("✗", "failed"),
    R.OUTCOME_UNKNOWN: ("⚠", "unknown outcome"),
    R.OUTCOME_FOUND: ("●", "a person says: it happened"),
    R.STEP_MARKED: ("●", "done by hand; reading back"),
    R.STEP_ATTESTED: ("✓", "attested by a second person"),
    R.OUTCOME_ABSENT: ("●", "a person says: it did not"),
    R.GATE_REQUESTED: ("⏸", "approval asked"),
    R.GATE_APPROVED: ("✓", "approved"),
    R.GATE_REJECTED: ("✗", "rejected"),
    R.GATE_VOIDED: ("⚠", "approval void"),
    R.DELIVERY_REQUESTED: ("⏸", "delivery asked"),
    R.DELIVERY_ACCEPTED: ("✓", "delivered"),
    R.GENERATION_ENDED: ("⚠", "begins anew"),
    R.PROBE_BUSY: ("⏳", "cannot be told yet"),
    R.DOUBT_CLEARED: ("●", "not there"),
    R.RUN_ROLLBACK: ("↶", "to be rolled back"),
    R.RUN_ROLLED_BACK: ("↶", "rolled back"),
    R.UNDO_INTENT: ("↶", "undoing"),
    R.UNDO_ANSWERED: ("↶", "asked to go; looking whether it is gone"),
    R.UNDO_POLLED: ("↶", "still there or going; looking"),
    R.UNDO_DONE: ("✓", "undone, and read back"),
    R.UNDO_KEPT: ("⚠", "stays"),
    R.UNDO_REFUSED: ("✗", "could not be undone"),
    R.CHILD_STARTED: ("●", "child run started"),
    R.CHILD_FINISHED: ("✓", "child run ended"),
}


_REPEATED: Final = (R.OPERATION_POLLED, R.VERIFY_MISSED, R.UNDO_POLLED)
_LOOKS: Final = (*_REPEATED, R.PROBE_BUSY)
_SILENCE_MS: Final = 5 * 60_000
"""After so long without a line of a step, one of its many looks is told."""

_CHANGING: Final = re.compile(r"[0-9a-f-]{8,}|\d+")
"""What differs between two answers that say the same: times, counts and ids of requests."""

_Limit = Callable[[RunState, str], int | None]
"""Says until when a step's looks may go on in vain; None where that is not known."""


class Lines:
    """One line per event, for pipes, CI and screen readers.

    Of the looks at what takes long one is told now and then: whoever waits sees that it lives.
    Of those that could not tell the first is told, too, and each whose reason is a new one.

    Parameters:
        since_ms: when the run's clock began; None takes the first record's time.
        until_ms: until when looks may go on in vain.
    """

    def __init__(self, since_ms: int | None = None, until_ms: _Limit = lambda *_: None) -> None:
        self._since_ms = since_ms
        self._until_ms = until_ms
        self._told: dict[tuple[RunId, str], int] = {}
        self._why: dict[tuple[RunId, str], str] = {}

    def listen(self, state: RunState, record: Record) -> None:
        """Print a line where the record says something to a person."""
        if self._since_ms is None:
            self._since_ms = record.at_ms
        shown = _WORDS.get(record.type)
        step = str(record.body.get("step") or " ".join(record.body.get("steps", ()))) or "run"
        if shown is None or not self._is_told(record, step):
            return
        symbol, word = shown
        where = record.run.partition("/")[2]
        if record.type is R.RUN_CREATED:
            step = f"run {record.run.partition('/')[0]}"
        name = f"{where}/{step}" if where else step
        label = output.banner(str(state.run_class), lab=bool(state.genesis["cloud"]["lab"]))
        at = output.clock_ms(record.at_ms - self._since_ms)
        since = _since(state, step, record) if record.type in _LOOKS else ""
        told = self._looking_on(state, step, record) if record.type is R.PROBE_BUSY else ""
        text = f"{label} {at} {symbol} {name}: {word}{since}{_detail(state, record)}{told}"
        output.say(output.shorten(text, 400) if "\n" in text else text)

    def _is_told(self, record: Record, step: str) -> bool:
        place = (record.run, step)
        last_ms = self._told.setdefault(place, record.at_ms)
        why = _CHANGING.sub("", str(record.body.get("why", "")))
        why = why if record.type is R.PROBE_BUSY else ""
        is_news = record.type not in _LOOKS or (why != "" and why != self._why.get(place))
        if not is_news and record.at_ms - last_ms < _SILENCE_MS:
            return False
        self._why[place] = why
        self._told[place] = record.at_ms
        return True

    def _looking_on(self, state: RunState, step: str, record: Record) -> str:
        until_ms = self._until_ms(state, step)
        if until_ms is None or self._since_ms is None:
            return "; it looks again"
        left = output.spell_ms(until_ms - record.at_ms)
        at = output.clock_ms(until_ms - self._since_ms)
        return f"; it looks again, until {at} at most (for {left})"


def _since(state: RunState, step: str, record: Record) -> str:
    st = state.steps[step]
    since_ms = st.in_doubt_since_ms if st.status is StepStatus.IN_DOUBT else st.entered_ms
    if record.type is R.UNDO_POLLED or since_ms is None or since_ms >= record.at_ms:
        return ""
    return f" after {output.spell_ms(record.at_ms - since_ms)}"


def _detail(state: RunState, record: Record) -> str:
    body: Mapping[str, Any] = record.body
    if error := body.get("error"):
        message = str(error["message"])
        stop = "" if message.rstrip().endswith((".", "!", "?")) else "."
        return f": {message}{stop} {error['hint']}" if error.get("hint") else f": {message}"
    match record.type:
        case R.GATE_APPROVED | R.GATE_REJECTED:
            return f" by {record.actor}{', BREAK-GLASS' if body.get('break_glass') else ''}"
        case R.GATE_REQUESTED | R.DELIVERY_REQUESTED:
            against = "".join(f" ✗ {found}" for found in findings_against(body))
            return f": {body.get('ask', '')}{against}"
        case R.RUN_WAITING | R.RUN_STOPPED:
            reasons = "; ".join(str(reason) for reason in body.get("for", ()))
            return f": {reasons or body.get('why') or 'asked to'}"
        case R.STEP_SKIPPED:
            return f": {body.get('reason', '')}"
        case R.OPERATION_POLLED:
            return f": {body['detail']}" if body.get("detail") else ""
        case R.VERIFY_MISSED:
            return _missing(body)
        case R.CHILD_STARTED | R.CHILD_FINISHED:
            return f": {body['name']} {body.get('status', '')}".rstrip()
        case _:
            return _why(state, record)


def _why(state: RunState, record: Record) -> str:
    body: Mapping[str, Any] = record.body
    match record.type:
        case R.DOUBT_CLEARED:
            return _cleared(state.steps[str(body["step"])], record)
        case R.RUN_ROLLBACK:
            return f": {body['reason']}" if body.get("reason") else ""
        case R.UNDO_DONE:
            found = "; ".join(str(each["message"]) for each in body.get("findings", ()))
            return f": {found}" if found else ""
        case R.RUN_ROLLED_BACK:
            return _undone(state)
        case _:
            return f": {body['why']}" if record.type in _WHY and body.get("why") else ""


def _undone(state: RunState) -> str:
    """Return what a run has undone of its own; its children said theirs."""
    has_children = any(step.children for step in state.steps.values())
    is_silent = all(step.undo is UndoStatus.NONE for step in state.steps.values())
    return "" if has_children and is_silent else f": {undone_text([state])}"


_WHY: Final = (
    *(R.STEP_HELD, R.GATE_VOIDED, R.ANSWER_LOST, R.GENERATION_ENDED, R.PROBE_PRESENT),
    *(R.PROBE_BUSY, R.DOUBT_RAISED, R.UNDO_KEPT, R.UNDO_POLLED, R.UNDO_ANSWERED),
)


def _cleared(st: StepState, record: Record) -> str:
    """Return why the same thing is sent once more: nobody should have to wonder."""
    since_ms = st.in_doubt_since_ms
    over = "" if since_ms is None else f" over {output.spell_ms(record.at_ms - since_ms)}"
    looks = int(record.body.get("looks", st.looks))
    times = "once" if looks == 1 else f"{looks} times"
    then = "sent again" if st.sends else "sent"
    return f": looked {times}{over} for what came of it; it is checked and {then}"


def _missing(body: Mapping[str, Any]) -> str:
    """Return what a look found that is not yet as it must be."""
    found = [each["message"] for each in body.get("findings", ()) if each["severity"] == "block"]
    return f": {'; '.join(found)}" if found else ""


class Live:
    """The board, redrawn on a terminal."""

    def __init__(self, family: Family, clock: Clock) -> None:
        self._family = family
        self._clock = clock
        self._stream = sys.stdout  # rich puts a stand-in there while it draws
        self.is_over = False  # whoever drew says what comes next; the last frame does not

    def listen(self, state: RunState, record: Record) -> None:
        """Note the record; the screen redraws by itself."""
        self._family.owner = "this process"
        self._family.take(state, record)

    def __rich__(self) -> Text:
        """Return the screen as it is now."""
        from rich.text import Text  # noqa: PLC0415 - only on a terminal

        try:
            lines = self._lines()
        except Exception as error:  # noqa: BLE001 - what cannot be drawn must not stop a recovery
            lines = [f"The screen cannot be drawn ({error!r}); see 'drengine status'."]
        return Text.from_ansi(
            output.fitted(output.shown("\n".join(lines)), self._stream), no_wrap=True
        )

    def _lines(self) -> list[str]:
        if self._family.root_run not in self._family.states:
            return ["…"]
        columns, rows = shutil.get_terminal_size()
        now_ms = self._clock.now_ms()
        if self.is_over:
            return screen(self._family, now_ms, columns)
        follow = []
        if self._family.root.status in (RunStatus.WAITING, RunStatus.PAUSED):
            follow = ["", *(f"Next: {text}" for text in next_commands(self._family))]
        # What is cut off below the last row would be what matters: the step that waits.
        return [*screen(self._family, now_ms, columns, rows - len(follow)), *follow]


@contextmanager
def progress_for(plan: Plan, family: Family | None, *, quiet: bool) -> Iterator[Progress]:
    """Return how this process shows a run: a board, lines, or nothing for `-o json`."""
    if quiet:
        yield Silent()
        return
    if output.is_plain(sys.stdout):
        named = plan.root.inputs.get("incident_at")
        yield Lines(family.started_ms() if family else instant_ms(named), limits_of(plan))
        return
    with live_board(family or Family(plan.run_id), open_clock()) as live:
        yield live


@contextmanager
def live_board(family: Family, clock: Clock) -> Iterator[Live]:
    """Redraw the board four times a second while the block runs."""
    from rich.console import Console  # noqa: PLC0415 - only on a terminal
    from rich.live import Live as Screen  # noqa: PLC0415 - only on a terminal

    live = Live(family, clock)
    with Screen(live, console=Console(), refresh_per_second=4, vertical_overflow="crop"):
        try:
            yield live
        finally:
            live.is_over = True
