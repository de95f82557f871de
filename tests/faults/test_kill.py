"""kill -9 at random moments of the real recovery, over HTTPS, on a real lab.

Judged by the lab's own call log: create, domain upload and restore each took effect
exactly once, and every database is Online. The suite plays one seed with a few kills, as
processes that load from the start and run by the clock; `make kills` plays more of both,
and the campaign (`test_sampled`, `make faults`) kills at every point by number.
"""

from __future__ import annotations

import os

import pytest

from drengine.drills.databases import silent_databases
from drengine.lab import commands

KILLS = int(os.environ.get("DRENGINE_KILLS", "5"))
SEEDS = [int(seed) for seed in os.environ.get("DRENGINE_KILL_SEEDS", "11").split(",")]


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
def test_kills_at_random_moments_double_nothing_and_lose_nothing(stage, seed):
    recovery = stage(seed)
    code = recovery.recover(KILLS)
    effects = recovery.effects()
    replay = f"replay: DRENGINE_KILL_SEEDS={seed} DRENGINE_KILLS={KILLS} pytest {__file__}"
    print(f"{recovery.kills} kills, {recovery.resolved} resolved by a person; {replay}")
    assert code in (0, 10), replay
    assert recovery.kills >= KILLS * 2 // 3, (
        "too few kills to show anything; slow the lab's clock down"
    )
    for once in ("hsm.create", "hsm.domain.upload", "hsm.restore"):
        assert effects.count(once) == 1, f"{once}: {effects.count(once)}; {replay}"
    inventory = recovery.folder / "inventory.json"
    assert silent_databases(commands.status(recovery.home), inventory) == [], replay
