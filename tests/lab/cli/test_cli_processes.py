"""Two processes and one run: who holds it, and how it is let go."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drengine.lab import commands

PACKAGE = str(Path(__file__).resolve().parents[3])


def start(place, *arguments):
    environment = {**commands.env(place.folder / "lab"), "PYTHONPATH": PACKAGE}
    return subprocess.Popen(
        [sys.executable, "-m", "drengine", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def until(place, run, wanted):
    """Wait until a status of the run is as wanted; a bound instead of a guess."""
    for _ in range(600):
        code, said = place.run("status", run, "-o", "json")
        if code == 0 and wanted(json.loads(said)):
            return json.loads(said)
        time.sleep(0.05)
    raise AssertionError(said)


def give_up(place, run):
    """End a run, so that its targets are free for the next test."""
    assert place.run("cancel", run, "--reason", "only a test")[0] == 0
    assert place.run("resume", run)[0] == 4


def is_waiting(status):
    return status["status"] == "waiting" and status["held_by"]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["TERM", "INT"]
)
def test_a_run_is_held_by_one_process_and_let_go_when_that_is_asked_to_stop(place, number, code):
    ended, said, path = place.plan(target_hsm=f"contoso--p{code}")
    assert ended == 0, said
    run = f"r-{json.loads(path.read_bytes())['digest'][:12]}"
    holder = start(place, "run", str(path), "--wait")
    try:
        status = until(place, run, is_waiting)
        assert f"/{holder.pid}" in status["held_by"]
        refused, said = place.run("resume", run)
        assert refused == 7
        assert str(holder.pid) in said

        os.kill(holder.pid, number)
        out, _ = holder.communicate(timeout=20)
    finally:
        holder.kill()
    assert holder.returncode == code, out
    assert out.rstrip().splitlines()[-1] == f"Next: drengine resume {run}"

    resumed, said = place.run("resume", run)
    assert resumed == 5, said
    give_up(place, run)


def test_a_killed_run_is_free_at_once(place):
    _, _, path = place.plan(target_hsm="contoso--killed")
    run = f"r-{json.loads(path.read_bytes())['digest'][:12]}"
    holder = start(place, "run", str(path), "--wait")
    try:
        until(place, run, is_waiting)
    finally:
        holder.kill()
        holder.communicate(timeout=20)
    resumed, said = place.run("resume", run)
    assert resumed == 5, said
    code, _ = place.run("journal", "verify", run)
    assert code == 0
    give_up(place, run)


def test_a_run_moves_to_another_home_and_goes_on_there(place, tmp_path):
    _, _, path = place.plan(target_hsm="contoso--moved")
    run = f"r-{json.loads(path.read_bytes())['digest'][:12]}"
    assert place.run("run", path)[0] == 5
    give = ("journal", "export", run, "--hand-over", "--out", tmp_path / "run.tar")
    assert place.run(*give)[0] == 0
    environment = {
        **commands.env(place.folder / "lab"),
        "PYTHONPATH": PACKAGE,
        "DRENGINE_HOME": str(tmp_path / "other"),
    }

    def other(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "drengine", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    assert other("journal", "import", str(tmp_path / "run.tar")).returncode == 0
    again = other("journal", "import", str(tmp_path / "run.tar"))
    assert again.returncode == 14
    resumed = other("resume", "@latest")
    assert resumed.returncode == 5, resumed.stdout + resumed.stderr
    assert f"drengine approve {run} declare" in resumed.stdout
