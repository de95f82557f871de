"""The driver in a simulated world: what a person would see, and what the cloud saw."""

from __future__ import annotations

import dataclasses

import pytest
from sim.fate import Fate
from sim.world import simulate

from drengine.model.run import RunStatus, StepStatus

ONCE = ["create", "upload", "role", "backup", "check", "restore"]


def test_an_undisturbed_recovery_sends_each_request_once():
    story = simulate(0, Fate(0))
    assert story.cloud.ledger == ONCE
    assert story.state.status is RunStatus.FINISHED
    assert story.rests == ["waiting"] * 4 + ["done"]


def test_a_crash_after_each_effect_repeats_nothing():
    points = simulate(0, Fate(0)).fate.points
    for name in ("create", "upload", "backup", "restore"):
        story = _crash_at(f"{name}:after", points)
        assert [n for n in story.cloud.ledger if n == name] == [name], story.rests
        assert story.state.status is RunStatus.FINISHED


def _crash_at(name: str, points: int):
    """Find the point of that name by trying, and crash there."""
    for number in range(points):
        probe = Fate(0, crash_at=frozenset({number}))
        probe.point = _named(probe, name)  # type: ignore[method-assign]
        return simulate(0, probe)
    raise AssertionError(name)


def _named(fate: Fate, wanted: str):
    original = Fate.point
    done = []

    def point(name: str) -> None:
        fate.crash_at = frozenset()
        if name == wanted and not done:
            done.append(name)
            fate.crash_at = frozenset({fate.points})
        original(fate, name)

    return point


@pytest.mark.parametrize("name", ["create", "upload", "backup"])
def test_a_lost_answer_of_what_can_be_found_needs_no_person(name):
    story = simulate(1, _losing(name, "answer"))
    assert story.count(name) == 1
    assert story.resolved == 0
    assert story.state.status is RunStatus.FINISHED


@pytest.mark.parametrize("name", ["create", "upload", "backup"])
def test_a_lost_request_is_sent_again_after_two_looks(name):
    story = simulate(1, _losing(name, "request"))
    assert story.count(name) == 1
    assert story.resolved == 0
    assert story.state.status is RunStatus.FINISHED


def test_a_restore_that_never_arrived_is_an_unknown_outcome_until_a_person_looked():
    story = simulate(1, _losing("restore", "request"))
    assert story.resolved == 1
    assert "unknown outcome" in story.rests
    assert story.count("restore") == 1


def test_a_restore_whose_answer_was_lost_is_found_by_the_keys():
    story = simulate(1, _losing("restore", "answer"))
    assert story.count("restore") == 1
    assert story.state.steps["restore"].status is StepStatus.SUCCEEDED


@pytest.mark.parametrize("late_ms", [1_000, 30_000, 59_000])
def test_a_late_effect_is_not_taken_for_an_absent_one(late_ms):
    fate = dataclasses.replace(_losing("create", "answer"), late_ms=late_ms)
    fate.happens = _once("create", "answer", fate)  # type: ignore[method-assign]
    story = simulate(1, fate)
    assert story.count("create") == 1


def _losing(name: str, what: str) -> Fate:
    fate = Fate(1, lose_answer=0.5, lose_request=0.25)
    fate.happens = _once(name, what, fate)  # type: ignore[method-assign]
    return fate


def _once(name: str, what: str, fate: Fate):
    """Lose the first request or answer of that name, and nothing else."""
    seen: list[str] = []
    original = fate.point

    def point(at: str) -> None:
        seen.append(at)
        original(at)

    fate.point = point  # type: ignore[method-assign]
    lost: list[bool] = []

    def happens(chance: float) -> bool:
        wanted = {"request": 0.25, "answer": 0.5}[what]
        if lost or chance != wanted or not seen[-1].startswith(f"{name}:"):
            return False
        lost.append(True)
        return True

    return happens


@pytest.mark.parametrize("seed", range(12))
def test_a_service_that_shows_a_new_exchange_key_at_each_read_needs_one_ceremony(seed):
    fate = Fate(0) if seed == 0 else None
    story = simulate(seed, fate, new_key_at_each_read=True)
    assert story.rests[-1] == "done"
    assert story.count("upload") == 1
    if seed == 0:
        assert story.state.steps["upload-domain"].generation == 0
        assert story.rests == ["waiting"] * 4 + ["done"]


def test_a_foreign_tag_seen_while_in_doubt_is_an_unknown_outcome_and_no_failure():
    # The look itself is refused then; a failed step could be sent again, a doubt may not.
    fate = _losing("upload", "answer")
    fate.late_ms = 50_000
    original = fate.point

    def point(name: str) -> None:
        if name == "append answer.lost:after":
            fate.alien_at = frozenset({fate.points})
        original(name)

    fate.point = point  # type: ignore[method-assign]
    story = simulate(1, fate)

    assert "unknown outcome" in story.rests
    assert story.count("upload") == 1
    assert story.state.status is RunStatus.FINISHED
