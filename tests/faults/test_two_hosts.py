"""A run that moves to another host: handed over, or taken from a host that seems dead.

Two homes and one lab; judged by the lab's own call log.
"""

from __future__ import annotations

import os
import shutil
import signal

import pytest
from faultlab.host import host_in, stopped_before_the_restore, waiting_for_the_restore
from faultlab.judge import judge

from drengine.engine.fold import fold
from drengine.errors import HandedOver, JournalError
from drengine.journal.sqlite import SqliteStore
from drengine.journal.verify import verify_run
from drengine.lab import commands
from drengine.model.records import RecordType as R

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]

ELSEWHERE, UNKNOWN, DAMAGED = HandedOver.exit_code, 12, JournalError.exit_code
ONCE = ("hsm.create", "hsm.domain.upload", "hsm.restore")


def test_a_host_that_handed_its_run_over_sends_nothing_more(quick_stage, zygote, tmp_path):
    run = quick_stage.run
    with host_in(quick_stage, zygote, tmp_path / "host") as host:
        with SqliteStore(host.home) as store:
            waiting_for_the_restore(host, store)
        out, other = tmp_path / "run.tar", tmp_path / "other-host"
        give = ("journal", "export", run, "--hand-over", "--to", "beta", "--out", str(out))
        assert host.do(*give) == 0, host.log()
        before = len(commands.log(host.lab))
        for refused in (
            ("resume", run),
            ("run", str(quick_stage.plan)),
            ("pause", run),
            ("cancel", run, "--reason", "no"),
            ("journal", "export", run, "--hand-over", "--out", str(tmp_path / "again.tar")),
        ):
            assert host.do(*refused) == ELSEWHERE, host.log()
            assert "handed over to beta" in host.log()
        assert len(commands.log(host.lab)) == before, "the old host talked to the cloud"
        assert host.do("journal", "import", str(out), home=other) == 0, host.log()
        assert host.finish(other) in (0, 10), host.log()
        assert [host.effects().count(effect) for effect in ONCE] == [1, 1, 1]
        with SqliteStore(other) as store:
            assert verify_run(store, run) == []
            kinds = [record.type for record in store.read(run)]
            moved = kinds.index(R.RUN_HANDED_OVER)
            assert kinds[moved + 1] is R.RUN_IMPORTED


def test_a_dead_host_that_comes_back_is_stopped_by_the_tag_before_its_send(
    quick_stage, zygote, tmp_path
):
    run = quick_stage.run
    with host_in(quick_stage, zygote, tmp_path / "host") as host:
        zombie = stopped_before_the_restore(host)
        out, other = tmp_path / "run.tar", tmp_path / "other-host"
        assert host.do("journal", "export", run, "--out", str(out)) == 0, host.log()
        take = ("journal", "import", str(out))
        assert host.do(*take, home=other) == ELSEWHERE, host.log()
        assert host.do(*take, "--take-over", "alpha burned", home=other) == 0, host.log()
        # What the old host may have sent cannot be told: a person looks, nothing is resent.
        assert host.do("resume", run, "--wait", home=other) == UNKNOWN, host.log()
        assert host.effects().count("hsm.restore") == 0
        looked = ("resolve", run, "restore", "--absent", "--reason", "looked at the HSM")
        assert host.do(*looked, home=other) == 0, host.log()
        assert host.finish(other) in (0, 10), host.log()
        os.kill(zombie, signal.SIGCONT)
        assert host.end(zombie) == ELSEWHERE
        before = host.effects()
        assert host.do("resume", run) == ELSEWHERE, host.log()
        assert "drengine-holder" in host.log() or "holder tag" in host.log()
        assert host.effects() == [*before, "entra.token"] or host.effects() == before
        assert [host.effects().count(effect) for effect in ONCE] == [1, 1, 1]
        # What came back later from the old host is not taken in: the chains have parted.
        again = tmp_path / "again.tar"
        assert host.do("journal", "export", run, "--out", str(again)) == 0
        assert host.do("journal", "import", str(again), "--take-over", "x", home=other) == 14
        with SqliteStore(other) as store:
            assert verify_run(store, run) == []
            assert fold(store.read(run)).holder.startswith("1.")


def test_a_dead_host_is_taken_over_from_the_copy_that_it_kept_elsewhere(
    quick_stage, zygote, tmp_path
):
    run = quick_stage.run
    with host_in(quick_stage, zygote, tmp_path / "host") as host:
        share, other = tmp_path / "share", tmp_path / "other-host"
        zombie = stopped_before_the_restore(host, "--copy-to", str(share))
        take = ("journal", "import", str(share / run), "--take-over", "alpha is gone")
        assert host.do(*take, home=other) == 0, host.log()
        # The copy ends before the intent, so nothing can have been sent: it goes on alone.
        assert host.finish(other) in (0, 10), host.log()
        os.kill(zombie, signal.SIGCONT)
        assert host.end(zombie) == ELSEWHERE
        assert [host.effects().count(effect) for effect in ONCE] == [1, 1, 1]


def test_a_home_put_back_from_a_backup_goes_on_only_with_what_the_copy_has(
    quick_stage, zygote, tmp_path
):
    run = quick_stage.run
    with host_in(quick_stage, zygote, tmp_path / "host") as host:
        share, backup = tmp_path / "share", tmp_path / "backup"
        with SqliteStore(host.home) as store:
            waiting_for_the_restore(host, store, "--copy-to", str(share))
        shutil.copytree(host.home, backup)
        assert host.finish() in (0, 10), host.log()
        journal = share / run / "journals" / f"{run}.jsonl"
        before, first_life = host.effects(), journal.read_bytes()
        shutil.rmtree(host.home)
        shutil.copytree(backup, host.home)
        for words in (
            ("resume", run),
            ("resume", run, "--no-copy"),
            ("resume", run, "--copy-to", str(tmp_path / "another")),
            ("run", str(quick_stage.plan), "--copy-to", str(share)),
        ):
            assert host.do(*words) == DAMAGED, host.log()
            assert f"drengine journal import {share / run} --take-over" in host.log()
        assert journal.read_bytes() == first_life
        take = ("journal", "import", str(share / run), "--take-over", "the home was put back")
        assert host.do(*take) == 0, host.log()
        assert host.do("resume", run) in (0, 10), host.log()
        assert host.effects() == before, "nothing was sent again"
        with SqliteStore(host.home) as store:
            assert b"".join(store.lines(run)).startswith(first_life)
            assert verify_run(store, run) == []


def test_a_hand_over_that_nobody_took_is_taken_back(quick_stage, zygote, tmp_path):
    run = quick_stage.run
    with host_in(quick_stage, zygote, tmp_path / "host") as host:
        with SqliteStore(host.home) as store:
            waiting_for_the_restore(host, store)
        give = ("journal", "export", run, "--hand-over", "--out", str(tmp_path / "run.tar"))
        assert host.do(*give) == 0, host.log()
        assert host.do("resume", run) == ELSEWHERE, host.log()
        assert host.do("take-over", run, "--reason", "beta never came up") == 0, host.log()
        assert host.finish() in (0, 10), host.log()
        verdict = judge(host.trial.ended, run, with_evidence=True)
        assert verdict.is_good, verdict
