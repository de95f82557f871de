from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from drengine.lab.clock import LabClock
from drengine.lab.jobs import MAX_FAILURES, JobRunner
from drengine.lab.store import Store, read_calls
from drengine.lab.world import Lab

Function = Callable[[Lab, dict[str, Any]], None]


@pytest.fixture
def world(store: Store, clock: LabClock) -> Lab:
    """As much of a lab as the runner needs."""
    return cast("Lab", SimpleNamespace(store=store, clock=clock))


def run_until(world: Lab, jobs: dict[str, Function], done: Callable[[], bool]) -> None:
    runner = JobRunner(world, jobs)
    runner.start()
    until = time.monotonic() + 10
    while not done():
        assert time.monotonic() < until
        time.sleep(0.005)
    runner.stop()


def waiting(world: Lab) -> int:
    with world.store.transaction() as tx:
        return len(tx.jobs())


def test_jobs_run_in_the_order_of_virtual_time_and_not_before(world: Lab) -> None:
    seen: list[tuple[str, bool]] = []
    world.clock.set(speed=1000.0)

    def job(lab: Lab, payload: dict[str, Any]) -> None:
        seen.append((payload["name"], lab.clock.now_ms() >= payload["due"]))

    with world.store.transaction() as tx:
        for name, seconds in (("late", 400), ("early", 100)):
            due = tx.now_ms + seconds * 1000
            tx.schedule("job", {"name": name, "due": due}, due)
    run_until(world, {"job": job}, lambda: waiting(world) == 0)
    assert seen == [("early", True), ("late", True)]


def test_a_look_for_jobs_that_fails_once_does_not_end_the_runner(
    world: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, looks = world.store.transaction, []

    def locked_once() -> Any:
        looks.append(1)
        if len(looks) == 1:
            raise sqlite3.OperationalError("database is locked")
        return real()

    with real() as tx:
        tx.schedule("job", {}, tx.now_ms)
    ran = threading.Event()
    monkeypatch.setattr(world.store, "transaction", locked_once)
    runner = JobRunner(world, {"job": lambda _lab, _payload: ran.set()})
    runner.start()
    assert ran.wait(10)
    runner.stop()


def test_a_job_scheduled_while_the_runner_sleeps_runs_at_once(world: Lab) -> None:
    ran = threading.Event()
    runner = JobRunner(world, {"job": lambda _lab, _payload: ran.set()})
    runner.start()
    with world.store.transaction() as tx:
        tx.schedule("job", {}, tx.now_ms)
    assert ran.wait(5)
    runner.stop()


def test_a_job_that_fails_is_tried_again(world: Lab, capsys: Any) -> None:
    world.clock.set(speed=1000.0)
    tries: list[int] = []

    def job(_lab: Lab, _payload: dict[str, Any]) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise RuntimeError("on purpose")

    with world.store.transaction() as tx:
        tx.schedule("job", {}, tx.now_ms)
    run_until(world, {"job": job}, lambda: waiting(world) == 0)
    assert len(tries) == 3
    assert capsys.readouterr().err.count("on purpose") >= 2


def test_a_job_that_never_succeeds_is_given_up_and_logged(
    world: Lab, tmp_path: Path, capsys: Any
) -> None:
    def job(_lab: Lab, _payload: dict[str, Any]) -> None:
        raise RuntimeError("on purpose")

    with world.store.transaction() as tx:
        number = tx.schedule("job", {"a": 1}, tx.now_ms)
        for _ in range(MAX_FAILURES - 1):
            tx.defer_job(number, tx.now_ms)
    run_until(world, {"job": job}, lambda: waiting(world) == 0)
    (row,) = read_calls(tmp_path / "lab.db")
    assert (row["effect"], row["target"], row["detail"]) == ("job.failed", "job", {"a": 1})
    assert "on purpose" in capsys.readouterr().err


def test_a_job_that_was_not_finished_runs_again_in_the_next_life(world: Lab) -> None:
    with world.store.transaction() as tx:
        tx.schedule("job", {}, tx.now_ms)
    started, release = threading.Event(), threading.Event()

    def hang(_lab: Lab, _payload: dict[str, Any]) -> None:
        started.set()
        release.wait(10)
        raise RuntimeError("this life ends here")

    first = JobRunner(world, {"job": hang})
    first.start()
    assert started.wait(5)
    assert waiting(world) == 1
    ran = threading.Event()
    run_until(world, {"job": lambda _lab, _payload: ran.set()}, ran.is_set)
    first.stop()
    release.set()
