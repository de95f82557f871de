"""A story line by line: what stood in the chains and what was sent, for who replays a seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sim.cloud import EPOCH_MS
from sim.trace import Asked, Changed, Request, Trace, Written


def told(trace: Trace) -> Iterator[str]:
    """Return one line for each entry: seconds, home, run, and what happened."""
    for entry in trace.entries:
        if isinstance(entry, Written):
            yield _line(entry.true_ms, entry.home, entry.record.run, _written(entry))
        elif isinstance(entry, Request):
            yield _line(entry.sent_ms, entry.home, entry.run, _sent(entry))
        else:
            yield _line(entry.true_ms, "-", "", _other(entry))


def _line(at_ms: int, home: str, run: str, what: str) -> str:
    return f"{_seconds(at_ms)} {home} {run.partition('/')[2]:24} {what}"


def _seconds(at_ms: int | None) -> str:
    return f"{'-':>10}" if at_ms is None else f"{(at_ms - EPOCH_MS) / 1000:10.1f}"


def _written(entry: Written) -> str:
    body: Any = entry.record.body
    why = body.get("why") or (body.get("error") or {}).get("message") or body.get("reason") or ""
    skew_s = (entry.record.at_ms - entry.true_ms) // 1000
    clock = f"[clock {skew_s:+d} s] " if skew_s else ""
    record = entry.record
    return f"#{record.seq:<4} {record.type:20} {body.get('step', ''):18} {clock}{str(why)[:100]}"


def _sent(request: Request) -> str:
    became = "lost" if request.lost else f"arrives {_seconds(request.arrived_ms).strip()}"
    seen = f", to be seen {_seconds(request.seen_ms).strip()}" if request.seen_ms else ""
    refused = ", refused" if request.refused else ""
    met = f", meets {', '.join(request.open_others)}" if request.open_others else ""
    return f"----> {request.name} ({became}{seen}{refused}{met})"


def _other(entry: Changed | Asked) -> str:
    if isinstance(entry, Asked):
        return f"----- {entry.process} is asked to end"
    return f"----- the target's network rules are now: bypass {entry.bypass}"
