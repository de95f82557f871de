"""Hold one target: so many examples, each within its time; only errors of ours may leave it."""

from __future__ import annotations

import resource
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import HypothesisWarning

from drengine.errors import DrError
from fuzz.targets import TARGETS, Target

SECONDS = 2.0
"""Processor time that one document may take; the largest takes about a tenth of it."""


class TookTooLong(AssertionError):
    """A document took longer to read than any may."""


@dataclass
class Outcome:
    """What a target came to."""

    name: str
    examples: int = 0
    refused: int = 0
    read: int = 0
    slowest_ms: float = 0.0
    failure: str = ""


def hold(target: Target, examples: int, *, number: int = 1) -> Outcome:
    """Feed a target; `number` is the seed."""
    outcome = Outcome(target.name)

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(target.documents())
    def feed(document: object) -> None:
        began = time.process_time()
        outcome.examples += 1
        try:
            target.read(document)
            outcome.read += 1
        except DrError:
            outcome.refused += 1
        spent = time.process_time() - began
        outcome.slowest_ms = max(outcome.slowest_ms, spent * 1000)
        if spent > SECONDS:
            raise TookTooLong(f"{spent:.1f} s")

    try:
        feed()
    except ExceptionGroup as group:
        outcome.failure = "; ".join(map(_told, group.exceptions))
    except Exception as error:
        outcome.failure = _told(error)
    return outcome


def _told(error: Exception) -> str:
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    line = f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}" if place else ""
    notes = " ".join(" ".join(getattr(error, "__notes__", [])).split())
    return f"{type(error).__name__}: {str(error)[:200]} ({line}) {notes[:600]}"


MEMORY = 1 << 30
"""Address space that a target's process may take; beyond it `MemoryError` is a failure."""


def hold_alone(arguments: tuple[str, int, int]) -> tuple[Outcome, int, float]:
    """Hold a target in this process alone; return its peak of memory in MiB and its seconds too."""
    name, examples, number = arguments
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", HypothesisWarning)
    began = time.process_time()
    outcome = hold(next(each for each in TARGETS if each.name == name), examples, number=number)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return outcome, peak, time.process_time() - began
