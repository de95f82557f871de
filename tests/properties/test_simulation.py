"""Recoveries by seed: whatever dies or gets lost, nothing is doubled and nothing forgotten.

`make simulate` runs many more. A failure prints the line that replays it.
"""

from __future__ import annotations

import os

import pytest
from sim.verdict import judge
from sim.world import simulate

SEEDS = int(os.environ.get("DRENGINE_SEEDS", "2000"))
CHUNK = 50


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_no_seed_doubles_or_loses_anything(first):
    problems = [
        f"{problem}   replay: python -m sim --seed {seed}"
        for seed in range(first, first + CHUNK)
        for problem in judge(simulate(seed))
    ]
    assert problems == []
