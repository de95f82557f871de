"""Two operators of one host, and signals of the operating system.

Played on copies of one lab with real engine processes; judged by the lab's own call log.
"""

from __future__ import annotations

import os
import signal
import time

import pytest
from faultlab.host import host_in, stopped_before_the_restore, wait_for
from faultlab.judge import judge
from faultlab.people import People

from drengine.cli.family import Follower
from drengine.engine.fold import fold
from drengine.errors import Locked
from drengine.journal.sqlite import SqliteStore
from drengine.journal.verify import verify_run
from drengine.lab import commands
from drengine.model.records import RecordType as R
from drengine.model.run import StepStatus

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]

ROUNDS = int(os.environ.get("DRENGINE_RACE_ROUNDS", "3"))
LOCKED, WAITING, UNKNOWN = Locked.exit_code, 5, 12


@pytest.mark.timeout(120 + 30 * ROUNDS)
def test_of_8_processes_started_together_exactly_one_proceeds(quick_stage, zygote, tmp_path):
    with host_in(quick_stage, zygote, tmp_path / "host") as host:
        for played in range(ROUNDS):
            pids = [host.begin("run", str(quick_stage.plan), "--wait") for _ in range(8)]
            wait_for(lambda pids=pids: sum(zygote.poll(pid) is not None for pid in pids) == 7)
            codes = sorted(str(zygote.poll(pid)) for pid in pids)
            assert codes == [str(LOCKED)] * 7 + ["None"]
            wait_for(host.waits)
            (winner,) = (pid for pid in pids if zygote.poll(pid) is None)
            os.kill(winner, signal.SIGKILL)
            host.end(winner)
            print(f"{played + 1} of {ROUNDS} rounds: exactly one proceeded", flush=True)
        with SqliteStore(host.home) as store:
            assert verify_run(store, quick_stage.run) == []
            opened = [r for r in store.read(quick_stage.run) if r.type is R.RUN_OPENED]
            assert len(opened) == ROUNDS


def test_the_second_plan_for_one_target_is_refused_before_its_first_send(
    quick_stage,
    zygote,
    tmp_path,
):
    with host_in(quick_stage, zygote, tmp_path / "host") as host:
        first = host.begin("run", str(quick_stage.plan), "--wait")
        wait_for(host.waits)
        other = tmp_path / "other.json"
        inputs = str(quick_stage.folder / "inputs.json")
        arguments = ("--class", "drill", "--inputs", inputs, "--input", "soak=25m")
        assert host.do("plan", "mhsm-full-recovery", *arguments, "--out", str(other)) == 0, (
            host.log()
        )
        before = len(commands.log(host.lab))
        assert host.do("run", str(other)) == LOCKED, host.log()
        assert quick_stage.run in host.log()
        sent = [
            c for c in commands.log(host.lab)[before:] if c["effect"] not in (None, "entra.token")
        ]
        assert sent == []
        assert zygote.poll(first) is None


def test_a_zombie_is_fenced_and_its_open_intent_is_never_sent_again(
    quick_stage,
    zygote,
    tmp_path,
):
    run = quick_stage.run
    with host_in(quick_stage, zygote, tmp_path / "host") as host:
        zombie = stopped_before_the_restore(host)
        # The lock is lost without the zombie noticing, as when a home is copied while it sleeps.
        (host.home / "locks" / f"{run}.lock").unlink()
        assert host.do("resume", run, "--wait") == UNKNOWN, host.log()
        with SqliteStore(host.home) as store:
            assert fold(store.read(run)).steps["restore"].status is StepStatus.UNKNOWN
            head = store.head(run)
            os.kill(zombie, signal.SIGCONT)
            assert host.end(zombie) != 0
            assert store.head(run) == head, "the zombie appended something"
        sent = host.effects().count("hsm.restore")
        assert sent <= 1
        found = "--found" if sent else "--absent"
        assert host.do("resolve", run, "restore", found, "--reason", "looked at the HSM") == 0
        assert host.finish() in (0, 10)
        verdict = judge(host.trial.ended, run, with_evidence=True)
        assert verdict.is_good, verdict


def test_a_take_over_ends_the_frozen_process_first(quick_stage, zygote, tmp_path):
    run = quick_stage.run
    with host_in(quick_stage, zygote, tmp_path / "host") as host:
        zombie = stopped_before_the_restore(host)
        assert host.do("resume", run) == LOCKED
        assert host.do("take-over", run, "--reason", "it hangs") == 0, host.log()
        assert host.end(zombie) == -signal.SIGKILL
        assert host.do("resume", run, "--wait") == UNKNOWN, host.log()
        assert host.do("resolve", run, "restore", "--absent", "--reason", "looked") == 0
        assert host.finish() in (0, 10)
        verdict = judge(host.trial.ended, run, with_evidence=True)
        assert verdict.is_good, verdict
        with SqliteStore(host.home) as store:
            notes = [r.body for r in store.read(run) if r.type is R.NOTE]
        assert any(note.get("reason") == "it hangs" for note in notes)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", [0.0, 0.15, 0.4])
def test_a_signal_ends_it_within_two_seconds_and_says_how_to_go_on(
    quick_stage,
    zygote,
    tmp_path,
    number,
    moment,
):
    with host_in(quick_stage, zygote, tmp_path / "host") as host:
        pid = host.begin("run", str(quick_stage.plan), "--wait")
        wait_for(host.waits)
        with SqliteStore(host.home) as store:
            follower = Follower(store, quick_stage.run)
            follower.advance()
            People(quick_stage, store, host.folder).answer(follower.family)
        time.sleep(moment)
        began = time.monotonic()
        os.kill(pid, number)
        code = host.end(pid)
        took = time.monotonic() - began
        assert code == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
        assert f"Next: drengine resume {quick_stage.run}" in host.log()
        assert took < 2.0, f"{took:.1f} s"
        with SqliteStore(host.home) as store:
            assert verify_run(store, quick_stage.run) == []
