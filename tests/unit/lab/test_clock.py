from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from drengine.clock import LabClock as EngineClock
from drengine.lab.clock import ClockSetting, LabClock


def test_virtual_time_is_a_line_through_the_written_point() -> None:
    setting = ClockSetting(wall_ms=1_000, virtual_ms=50_000, speed=600.0)
    assert setting.virtual(1_000) == 50_000
    assert setting.virtual(2_000) == 650_000


def test_a_new_clock_shows_wall_time(clock: LabClock) -> None:
    assert abs(clock.now_ms() - time.time() * 1000) < 2_000
    assert clock.speed == 1.0


def test_changing_the_speed_does_not_jump(clock: LabClock) -> None:
    before = clock.now_ms()
    clock.set(speed=1000.0)
    assert 0 <= clock.now_ms() - before < 1_000_000
    assert clock.speed == 1000.0
    clock.set(speed=1.0)
    assert clock.now_ms() >= before


def test_time_can_be_set_and_advanced(clock: LabClock) -> None:
    clock.set(now_ms=1_000_000)
    clock.set(advance_ms=5_000)
    assert 1_005_000 <= clock.now_ms() < 1_010_000


def test_another_reader_of_the_file_sees_a_change(tmp_path: Path, clock: LabClock) -> None:
    other = LabClock(tmp_path / "clock.json")
    clock.set(now_ms=123_000_000)
    assert abs(other.now_ms() - 123_000_000) < 5_000
    assert set(json.loads((tmp_path / "clock.json").read_text())) == {
        "wall_ms",
        "virtual_ms",
        "speed",
    }


def test_a_wait_is_shorter_the_faster_time_runs(clock: LabClock) -> None:
    clock.set(speed=100.0)
    assert 0.9 < clock.wall_delay(clock.now_ms() + 100_000) <= 1.0
    assert clock.wall_delay(clock.now_ms() - 1) == 0.0


def test_time_never_runs_backwards(clock: LabClock) -> None:
    with pytest.raises(ValueError, match="negative"):
        clock.set(speed=-1)
    assert clock.speed == 1.0


def test_a_clock_that_stands_still_moves_by_steps_only(clock: LabClock) -> None:
    clock.set(speed=0)
    before = clock.now_ms()
    assert clock.wall_delay(before + 1) > 60
    assert clock.wall_delay(before) == 0.0
    clock.set(advance_ms=500)
    assert clock.now_ms() == before + 500


def test_the_engine_sees_two_settings_of_one_moment(tmp_path: Path) -> None:
    file = tmp_path / "clock.json"
    lab, engine = LabClock(file), EngineClock(file)
    engine.now_ms()
    before = file.stat().st_mtime_ns
    lab.set(advance_ms=3_600_000)
    os.utime(file, ns=(before, before))
    assert abs(engine.now_ms() - lab.now_ms()) < 1000
