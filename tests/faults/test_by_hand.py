"""The operator's verbs on a real run: take-over, mark-done, skip, rollback."""

from __future__ import annotations

import signal
import time
from contextlib import closing

import pytest

from drengine.cli.family import Follower
from drengine.drills.people import PlayedPeople
from drengine.engine.fold import fold
from drengine.journal.sqlite import SqliteStore
from drengine.lab import commands
from drengine.model.run import RunStatus, StepStatus, UndoStatus

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(240)]


def drengine(stage, *arguments: str, name: str) -> tuple[int, str]:
    child = stage.process(list(arguments), f"{name}.log")
    code = child.popen.wait(60)
    return code, child.last_words()


def run_until(stage, store, step: str, status: StepStatus):
    """Run with played people until a step has come that far; return the living process."""
    commands.set_clock(stage.home, speed=600.0)
    child = stage.start(0, store)
    follower = Follower(store, stage.run)
    until = time.monotonic() + 120
    with closing(PlayedPeople(store, stage.lab, stage.environment, stage.folder)) as people:
        while time.monotonic() < until:
            list(follower.advance())
            state = follower.family.states.get(stage.run)
            if state is not None and state.steps[step].status is status:
                return child
            assert child.popen.poll() is None, child.last_words()
            if state is not None:
                people.answer(follower.family)
            time.sleep(0.03)
    raise AssertionError(f"{step} never was {status}: {child.last_words()}")


def test_a_stopped_process_is_taken_over_and_writes_nothing_any_more(stage):
    recovery = stage(5)
    with SqliteStore(recovery.home / "drengine") as store:
        zombie = run_until(recovery, store, "create-hsm", StepStatus.RUNNING)
        zombie.popen.send_signal(signal.SIGSTOP)
        code, words = drengine(recovery, "resume", "@latest", name="second")
        assert code == 7, words
        code, words = drengine(
            recovery, "take-over", "@latest", "--reason", "it hangs", name="take-over"
        )
        assert code == 0, words
        assert zombie.popen.wait(10) == -signal.SIGKILL
        notes = [r.body for r in store.read(recovery.run) if "take_over" in r.body]
        assert notes[0]["reason"] == "it hangs"
    assert recovery.recover(0) in (0, 10)
    effects = recovery.effects()
    assert [effects.count(e) for e in ("hsm.create", "hsm.domain.upload", "hsm.restore")] == [1] * 3


def test_a_rollback_deletes_the_hsm_that_the_run_created_and_ends_with_11(stage):
    recovery = stage(6)
    with SqliteStore(recovery.home / "drengine") as store:
        child = run_until(recovery, store, "exchange-key", StepStatus.SUCCEEDED)
        child.popen.send_signal(signal.SIGTERM)
        assert child.popen.wait(20) == 143
        assert "drengine resume" in child.last_words()
        code, words = drengine(
            recovery, "rollback", "@latest", "--reason", "wrong region", name="rollback"
        )
        assert code == 0, words
        code, words = drengine(recovery, "resume", "@latest", name="resume")
        assert code == 11, words
        state = fold(store.read(recovery.run))
    assert state.status is RunStatus.ROLLED_BACK
    assert state.steps["create-hsm"].undo is UndoStatus.DONE
    effects = recovery.effects()
    assert effects.count("hsm.create") == 1
    assert "hsm.domain.upload" not in effects
    assert any("delete" in effect for effect in effects)


def test_a_gate_is_never_skipped_and_a_refusal_leaves_a_note(stage):
    recovery = stage(7)
    with SqliteStore(recovery.home / "drengine") as store:
        child = run_until(recovery, store, "declare", StepStatus.AWAITING_APPROVAL)
        code, words = drengine(
            recovery, "skip", "@latest", "declare", "--reason", "in a hurry", name="skip"
        )
        assert code == 3, words
        code, words = drengine(
            recovery, "skip", "@latest", "approve-restore", "--reason", "hurry", name="skip-2"
        )
        assert code == 0, words
        until = time.monotonic() + 20
        while store.peek_signals(recovery.run) and time.monotonic() < until:
            time.sleep(0.05)
        child.popen.send_signal(signal.SIGTERM)
        assert child.popen.wait(20) == 143
        state = fold(store.read(recovery.run))
        notes = [r.body for r in store.read(recovery.run) if r.body.get("ignored") == "skip"]
    assert state.steps["approve-restore"].status is StepStatus.PENDING
    assert "neither skipped" in notes[0]["why"]
