"""A lab without a server: state, clock and settings in a temporary folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drengine.lab.clock import LabClock
from drengine.lab.store import Store


@pytest.fixture
def clock(tmp_path: Path) -> LabClock:
    return LabClock(tmp_path / "clock.json")


@pytest.fixture
def store(tmp_path: Path, clock: LabClock) -> Iterator[Store]:
    opened = Store(tmp_path / "lab.db", clock.now_ms)
    yield opened
    opened.close()
