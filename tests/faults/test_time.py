"""Clocks that jump, tokens that end in the middle, a SAS that is over when it is needed."""

from __future__ import annotations

import json
import time

import pytest
from faultlab.host import host_in
from faultlab.people import People
from faultlab.trial import Fault

from drengine.cli.family import Follower
from drengine.evidence.folder import write_evidence
from drengine.evidence.verify import verify_folder
from drengine.journal.sqlite import SqliteStore
from drengine.lab import commands
from drengine.model.ids import run_id_of
from drengine.runbook.plan_file import read_plan

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]

HOUR, DAY = 3600, 86_400


@pytest.mark.parametrize("seconds", [-HOUR, HOUR, -DAY, DAY], ids=str)
def test_a_machine_whose_clock_jumps_goes_on_all_the_same(quick_stage, zygote, tmp_path, seconds):
    with host_in(quick_stage, zygote, tmp_path / "host") as host:
        assert host.finish(point="journal.after_sync:24:kill") == -9
        host.skew_ms = seconds * 1000
        code = host.finish()
        for _ in range(3):
            if code in (0, 10):
                break
            code = host.finish()
        assert code in (0, 10), host.log()
        effects = host.effects()
        for once in ("hsm.create", "hsm.domain.upload", "hsm.restore"):
            assert effects.count(once) == 1
        with SqliteStore(host.home) as store:
            report = verify_folder(write_evidence(store, host.run, tmp_path / "evidence"))
        assert list(report.problems) == []


def test_tokens_that_live_two_seconds_are_renewed_in_mid_poll(quick_stage, zygote, tmp_path):
    # The engine renews 300 s before the end: of 301 s, one second is left.
    with host_in(quick_stage, zygote, tmp_path / "host", token_lifetime=301) as host:
        assert host.finish() in (0, 10), host.log()
        effects = host.effects()
        assert effects.count("entra.token") >= 4
        for once in ("hsm.create", "hsm.domain.upload", "hsm.restore"):
            assert effects.count(once) == 1


@pytest.mark.parametrize("number", [2, 3, 6])
def test_a_token_refused_in_the_middle_is_known_not_to_have_acted(
    quick_stage, zygote, tmp_path, number
):
    fault = Fault(proxy=("401", "change", number))
    with host_in(quick_stage, zygote, tmp_path / "host", fault) as host:
        codes = [host.finish()]
        while codes[-1] not in (0, 10) and len(codes) < 4:
            codes.append(host.finish())
        assert codes[-1] in (0, 10), host.log()
        assert 12 not in codes, "a 401 leaves no doubt"
        for once in ("hsm.create", "hsm.domain.upload", "hsm.restore"):
            assert host.effects().count(once) == 1


def test_a_sas_that_is_over_at_the_restore_stops_the_run_without_a_doubt(
    quick_stage, zygote, tmp_path
):
    with host_in(quick_stage, zygote, tmp_path / "host") as host:
        inputs = json.loads((quick_stage.folder / "inputs.json").read_text())
        del inputs["storage_identity"]
        inputs["storage_sas"] = "env:STORAGE_SAS"
        file, plan = tmp_path / "inputs.json", tmp_path / "plan.json"
        file.write_text(json.dumps(inputs))
        host.environment["STORAGE_SAS"] = str(quick_stage.status["storage"]["sas"])
        arguments = ("--class", "drill", "--inputs", str(file), "--out", str(plan))
        assert host.do("plan", "mhsm-full-recovery", *arguments) == 0, host.log()
        run = run_id_of(read_plan(plan.read_bytes()).digest)
        with SqliteStore(host.home) as store:
            people, follower = People(quick_stage, store, host.folder), Follower(store, run)
            pid, jumped = host.begin("run", str(plan), "--wait"), False
            while (code := zygote.poll(pid)) is None:
                if follower.advance():
                    root = follower.family.root
                    if root.steps["approve-restore"].gate and not jumped:
                        jumped = True
                        commands.set_clock(host.lab, advance_seconds=8 * DAY)
                    people.answer(follower.family)
                time.sleep(0.012)
        assert jumped, host.log()
        assert code in (4, 8), host.log()
        assert host.effects().count("hsm.restore") == 0
        assert "hsm.create" in host.effects()
