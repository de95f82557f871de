"""Fixtures for tests that play trials: one stopped lab and one zygote for a whole worker."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from faultlab.stage import QUICK, Stage, prepare
from faultlab.zygote import Zygote

MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def quick_stage() -> Iterator[Stage]:
    """Prepare the lab that trials copy."""
    base = MEMORY if os.access(MEMORY, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="drengine-stage-", dir=base))
    try:
        yield prepare(folder, **QUICK)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """Start what forks engines, labs and proxies."""
    with closing(Zygote()) as found:
        yield found
