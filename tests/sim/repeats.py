"""What must not be done twice, or taken away while it is at work: judged by what was sent.

J5 a second create, upload or restore is sent only behind a record that says that the first
did not happen, and never while the effect of the first can be seen; and a look comes last:
whatever people say, nothing is sent before it was looked for once more.
V3 nobody leaves a step out whose request may be at work.
V4 a rollback never deletes the target while another request is in the air or an instance
has a key of it; and what it says is undone is gone.
V5 of two hosts that start the same plan, one alone does what cannot be undone.
"""

from __future__ import annotations

from collections.abc import Iterator

from drengine.model.records import RecordType as R
from sim.trace import QUIET_MS, Request, Trace, Written
from sim.watch import ONCE

SHOWN_MS = 20_000
"""An effect that could be seen for so long would have been seen by a look before the send."""

IRREVERSIBLE = ("upload", "restore")
_NOT_HAPPENED = frozenset({R.ANSWER_REFUSED, R.OPERATION_FAILED, R.OUTCOME_ABSENT})


def doubled(trace: Trace) -> Iterator[str]:
    """Judge every repeat of a request that must not have two effects."""
    last: dict[tuple[str, str], Request] = {}
    for request in trace.requests(*ONCE):
        place = (request.home, request.name)
        if (first := last.get(place)) is not None:
            yield from _repeat(trace, first, request)
        last[place] = request


def _repeat(trace: Trace, first: Request, second: Request) -> Iterator[str]:
    after_s = (second.sent_ms - first.sent_ms) // 1000
    said = f"J5: {second.name} was sent again after {after_s} s"
    kinds = list(_excuses(trace, first, second))
    if not kinds:
        yield f"{said}, and nothing says that the first did not happen"
    elif kinds == [R.DOUBT_CLEARED] and after_s * 1000 < QUIET_MS[first.name]:
        yield f"{said}, within the quiet period"
    seen_ms = first.seen_ms if first.took_effect and not _deleted(trace, first, second) else None
    if seen_ms is not None and seen_ms + SHOWN_MS < second.sent_ms:
        yield f"{said}; the effect of the first could be seen by then (behind {kinds or 'nothing'})"


def _deleted(trace: Trace, first: Request, second: Request) -> bool:
    """Whether the target went in between, by a rollback of this host or of another."""
    return any(
        each.took_effect and first.sent_ms <= each.sent_ms < second.sent_ms
        for each in trace.requests("delete")
    )


def _excuses(trace: Trace, first: Request, second: Request) -> Iterator[R]:
    for entry in trace.entries[first.at : second.at]:
        if isinstance(entry, Written) and entry.place == second.place:
            kind = entry.record.type
            if kind in _NOT_HAPPENED or kind is R.DOUBT_CLEARED:
                yield kind


def unlooked(trace: Trace) -> Iterator[str]:
    """Judge every intent by whether a look said "absent" since the last word about the step."""
    looked: set[tuple[str, str, str]] = set()
    for entry in trace.entries:
        if not isinstance(entry, Written):
            continue
        kind, place = entry.record.type, entry.place
        if kind is R.INTENT and place not in looked:
            yield f"J5: {place[2]} was to be sent without a look since the last word about it"
        if kind is R.PROBE_ABSENT:
            looked.add(place)
        elif kind in (R.INTENT, R.OUTCOME_ABSENT):
            looked.discard(place)


def left_out_at_work(trace: Trace) -> Iterator[str]:
    """Judge every step that a person skipped."""
    for entry in trace.entries:
        if not isinstance(entry, Written) or entry.record.type is not R.STEP_SKIPPED:
            continue
        own = [each for each in trace.requests() if each.place == entry.place]
        if "by" in entry.record.body and any(each.works(entry.true_ms) for each in own):
            yield f"V3: {own[-1].name} was skipped while the request was at work"


def harmful_deletes(trace: Trace) -> Iterator[str]:
    """Judge every delete of the target by what it met."""
    for request in trace.requests("delete"):
        for other in request.open_others:
            yield f"V4: the target was deleted with {other}"


def two_hosts(trace: Trace) -> Iterator[str]:
    """Judge what two homes of the same plan sent."""
    sent = trace.requests(*IRREVERSIBLE)
    took = {each.home for each in sent if each.took_effect}
    if len(took) > 1:
        yield "V5: uploads and restores of two hosts took effect"
    elif len({each.home for each in sent}) > 1:
        yield "V5: a second host sent an upload or restore of the same plan"
