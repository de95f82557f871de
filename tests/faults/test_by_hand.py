"""The operator's verbs on a real run: pause, continue, skip, mark-done, rollback, cancel, watch.

Taking a run over is in `test_operators`, moving it to another host in `test_two_hosts`.
"""

from __future__ import annotations

import os
import signal
import time

import pytest
from faultlab.host import Host, host_in, wait_for
from faultlab.people import People

from drengine.cli.family import Follower
from drengine.engine.fold import fold
from drengine.journal.sqlite import SqliteStore
from drengine.lab import commands
from drengine.model.records import RecordType as R
from drengine.model.run import RunState, RunStatus, StepStatus, UndoStatus

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(240)]

INPUT, WAITING, REFUSED, ROLLED_BACK, TERMINATED = 3, 5, 8, 11, 143


def state_of(host: Host) -> RunState:
    with SqliteStore(host.home) as store:
        return fold(store.read(host.run))


def run_until(host: Host, step: str, status: StepStatus) -> int:
    """Run with played people until a step has come that far; return the living process."""
    with SqliteStore(host.home) as store:
        people, follower = People(host.stage, store, host.folder), Follower(store, host.run)
        pid = host.begin("run", str(host.stage.plan), "--wait")
        while True:
            assert host.zygote.poll(pid) is None, host.log()
            if follower.advance():
                if follower.family.root.steps[step].status is status:
                    return pid
                people.answer(follower.family)
            time.sleep(0.012)


def stop(host: Host, pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    assert host.end(pid) == TERMINATED


def test_a_rollback_deletes_the_hsm_that_the_run_created_and_ends_with_11(
    quick_stage, zygote, tmp_path
):
    with host_in(quick_stage, zygote, tmp_path / "host") as host:
        stop(host, run_until(host, "exchange-key", StepStatus.SUCCEEDED))
        assert host.do("rollback", host.run, "--reason", "wrong region") == 0, host.log()
        assert host.do("resume", host.run) == ROLLED_BACK, host.log()
        state = state_of(host)
        assert state.status is RunStatus.ROLLED_BACK
        assert state.steps["create-hsm"].undo is UndoStatus.DONE
        effects = host.effects()
        assert effects.count("hsm.create") == 1
        assert "hsm.domain.upload" not in effects
        assert any("delete" in effect for effect in effects)
        assert host.do("resume", host.run) == ROLLED_BACK, "and it stays so"


def test_a_gate_is_never_skipped_and_a_refusal_leaves_a_note(quick_stage, zygote, tmp_path):
    with host_in(quick_stage, zygote, tmp_path / "host") as host:
        pid = host.begin("run", str(quick_stage.plan), "--wait")
        wait_for(host.waits)
        assert host.do("skip", host.run, "declare", "--reason", "in a hurry") == INPUT
        assert host.do("skip", host.run, "approve-restore", "--reason", "hurry") == REFUSED
        wait_for(lambda: _notes(host, "skip"))
        evidence = tmp_path / "shot.txt"
        evidence.write_text("it was done, see here")
        marked = ("mark-done", host.run, "approve-restore", "--evidence", str(evidence))
        assert host.do(*marked) == REFUSED, host.log()
        wait_for(lambda: _notes(host, "mark"))
        stop(host, pid)
        assert state_of(host).steps["approve-restore"].status is StepStatus.PENDING
        assert "neither skipped" in _notes(host, "skip")[0]["why"]


def _notes(host: Host, kind: str) -> list[dict]:
    with SqliteStore(host.home) as store:
        return [dict(r.body) for r in store.read(host.run) if r.body.get("ignored") == kind]


def test_a_paused_run_sends_nothing_until_it_is_continued(quick_stage, zygote, tmp_path):
    with host_in(quick_stage, zygote, tmp_path / "host") as host:
        pid = host.begin("run", str(quick_stage.plan), "--wait")
        wait_for(host.waits)
        assert host.do("pause", host.run, "--reason", "the board meets") == 0
        wait_for(lambda: state_of(host).status is RunStatus.PAUSED)
        wait_for(lambda: zygote.poll(pid) is not None)
        assert zygote.poll(pid) == WAITING, host.log(1)
        with SqliteStore(host.home) as store:
            follower = Follower(store, host.run)
            follower.advance()
            People(quick_stage, store, host.folder).answer(follower.family)
        assert host.do("resume", host.run) == WAITING, host.log()
        assert "hsm.create" not in host.effects()
        assert host.do("continue", host.run) == 0
        assert host.finish() in (0, 10), host.log()
        assert host.effects().count("hsm.restore") == 1


def test_a_run_that_nobody_drives_is_cancelled_at_once(quick_stage, zygote, tmp_path):
    with host_in(quick_stage, zygote, tmp_path / "host") as host:
        assert host.do("run", str(quick_stage.plan)) == WAITING, host.log()
        assert host.do("cancel", host.run, "--reason", "no longer needed") == 0, host.log()
        assert "is cancelled" in host.log()
        with SqliteStore(host.home) as store:
            last = list(store.read(host.run))[-1]
        assert (last.type, last.body["reason"]) == (R.RUN_CANCELLED, "no longer needed")
        before = len(commands.log(host.lab))
        assert host.do("resume", host.run) == 4
        assert len(commands.log(host.lab)) == before
        assert host.do("watch", host.run) == 4, host.log()
        assert "cancelled" in host.log()
