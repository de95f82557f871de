"""Rolling back: only what may have had an effect, last first, read back, safe to interrupt."""

from __future__ import annotations

import pytest
from sim.fate import Fate
from sim.world import simulate

from drengine.model.run import RunStatus, UndoStatus


def test_a_rollback_before_the_restore_deletes_the_hsm_that_this_run_created():
    story = simulate(0, Fate(0), roll_back_at="approve-restore")
    assert story.state.status is RunStatus.ROLLED_BACK
    assert story.cloud.ledger[-1] == "delete"
    assert story.cloud.hsms_by_name == {}
    undone = {s.id: s.undo for s in story.state.steps.values() if s.sends}
    assert undone["create-hsm"] is UndoStatus.DONE
    assert undone["upload-domain"] is UndoStatus.KEPT
    assert "restore" not in undone


def test_a_rollback_before_anything_was_sent_sends_nothing():
    story = simulate(0, Fate(0), roll_back_at="declare")
    assert story.state.status is RunStatus.ROLLED_BACK
    assert story.cloud.ledger == []


@pytest.mark.parametrize("seed", range(40))
def test_a_rollback_survives_crashes_and_lost_answers(seed):
    story = simulate(seed, roll_back_at="approve-restore")
    assert story.rests[-1] == "rolled back", f"replay: seed {seed}"
    assert story.cloud.hsms_by_name == {}
    assert story.count("restore") == 0
