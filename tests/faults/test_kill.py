"""kill -9 at random moments of the real recovery, over HTTPS, on a real lab.

Judged by the lab's own call log: create, domain upload and restore each took effect
exactly once, and every database is Online.
"""

from __future__ import annotations

import pytest

from drengine.drills.databases import silent_databases
from drengine.lab import commands

KILLS_A_RUN = 14


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [11, 23, 42, 77])
def test_kills_at_random_moments_double_nothing_and_lose_nothing(stage, seed):
    recovery = stage(seed)
    code = recovery.recover(KILLS_A_RUN)
    effects = recovery.effects()
    replay = f"replay: pytest tests/faults/test_kill.py -k 'lose_nothing and {seed}'"
    print(f"{recovery.kills} kills, {recovery.resolved} resolved by a person; {replay}")
    assert code in (0, 10), replay
    assert recovery.kills >= 10, "too few kills to show anything; slow the lab's clock down"
    for once in ("hsm.create", "hsm.domain.upload", "hsm.restore"):
        assert effects.count(once) == 1, f"{once}: {effects.count(once)}; {replay}"
    inventory = recovery.folder / "inventory.json"
    assert silent_databases(commands.status(recovery.home), inventory) == [], replay
