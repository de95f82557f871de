"""The machine's clock: what is set in the middle of a run moves nothing but what is told of it."""

from __future__ import annotations

import asyncio
import time

import pytest

from drengine.clock import SystemClock

HOUR_MS = 3_600_000


@pytest.fixture
def set_by(monkeypatch):
    """Return a function that sets the machine's clock by so many milliseconds."""
    real = time.time_ns

    def set_clock(ms: int) -> None:
        monkeypatch.setattr(time, "time_ns", lambda: real() + ms * 1_000_000)

    return set_clock


@pytest.mark.parametrize("by_ms", [HOUR_MS, -24 * HOUR_MS])
def test_a_clock_that_is_set_does_not_move_the_run(set_by, by_ms):
    clock = SystemClock()
    before, wall = clock.now_ms(), clock.wall_ms()
    set_by(by_ms)
    assert 0 <= clock.now_ms() - before < 5_000
    assert wall is None
    told = clock.wall_ms()
    assert told is not None, "what it was set to stands in the records"
    assert abs(told - before - by_ms) < 5_000


def test_the_next_process_takes_the_clock_as_it_finds_it(set_by):
    set_by(HOUR_MS)
    clock = SystemClock()
    assert clock.wall_ms() is None
    assert abs(clock.now_ms() - time.time_ns() // 1_000_000) < 1_000


def test_a_sleep_is_as_long_as_it_was_asked_for(set_by):
    clock = SystemClock()
    set_by(-HOUR_MS)
    began = time.monotonic()
    asyncio.run(clock.sleep_until(clock.now_ms() + 30))
    assert 0.02 < time.monotonic() - began < 5
