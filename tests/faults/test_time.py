"""Clocks that jump, tokens that end in the middle, a SAS that is over when it is needed."""

from __future__ import annotations

import json
import os
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
from drengine.lab.blob.domain import make_sas
from drengine.lab.clock import LabClock
from drengine.lab.home import LabHome
from drengine.lab.store import Store
from drengine.model.canonical import digest
from drengine.model.secret import USER_DELEGATION

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]

HOUR, DAY = 3600, 86_400
WAITING, REFUSED, OBJECTIVE_MISSED = 5, 8, 10


LONG = bool(os.environ.get("DRENGINE_FAULTS_LONG"))
JUMPS = (-HOUR, DAY, HOUR, -DAY) if LONG else (-HOUR, DAY)
REFUSED_SENDS = (2, 3, 6) if LONG else (3,)


@pytest.mark.parametrize("seconds", JUMPS, ids=str)
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


@pytest.mark.parametrize("number", REFUSED_SENDS)
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


def through_eight_days(host, stage, zygote) -> int:
    """Play the people of a run, eight days passing at the gate before the restore; its code."""
    with SqliteStore(host.home) as store:
        people, follower = People(stage, store, host.folder), Follower(store, host.run)
        pid, jumped = host.begin("run", str(host.plan), "--wait"), False
        while (code := zygote.poll(pid)) is None:
            if follower.advance():
                if follower.family.root.steps["approve-restore"].gate and not jumped:
                    jumped = True
                    commands.set_clock(host.lab, advance_seconds=8 * DAY)
                people.answer(follower.family)
            time.sleep(0.012)
    assert jumped, host.log()
    return int(code)


def test_a_sas_that_ends_in_the_middle_is_waited_for_and_a_new_one_goes_on(
    quick_stage, zygote, tmp_path
):
    with host_in(quick_stage, zygote, tmp_path / "host") as host:
        host.plan_with_sas(tmp_path, str(quick_stage.status["storage"]["sas"]))
        assert through_eight_days(host, quick_stage, zygote) == WAITING, host.log()
        assert "the SAS env:STORAGE_SAS expired at" in host.log()
        assert f"Next: drengine resume {host.run}" in host.log()
        before = len(host.effects())
        assert host.finish() == WAITING, "the same SAS again changes nothing"
        assert "hsm.restore" not in host.effects()[before:]
        host.environment["STORAGE_SAS"] = _new_sas(host)
        assert host.finish() in (0, 10), host.log()
        for once in ("hsm.create", "hsm.domain.upload", "hsm.restore"):
            assert host.effects().count(once) == 1
        assert "sig=" not in host.log()


def test_a_sas_that_the_operators_sign_in_makes_is_made_anew_and_never_waited_for(
    quick_stage, zygote, tmp_path
):
    with host_in(quick_stage, zygote, tmp_path / "host") as host:
        host.plan_with_reference(tmp_path, USER_DELEGATION)
        code = through_eight_days(host, quick_stage, zygote)
        assert code == OBJECTIVE_MISSED, host.log()  # by the days
        with SqliteStore(host.home) as store:
            out = write_evidence(store, host.run, tmp_path / "evidence")
        for once in ("hsm.create", "hsm.domain.upload", "hsm.restore"):
            assert host.effects().count(once) == 1
        asked = [
            row
            for row in commands.log(host.lab)
            if (row["method"], row["path"]) == ("POST", "/") and ".blob." in row["host"]
        ]
        assert len(asked) == 3, "for the plan, for the run, and after the days between"
        assert "sig=" not in host.log()
        texts = [file.read_text() for file in out.rglob("*") if file.is_file()]
        assert not [text for text in texts if "sig=" in text or "skoid" in text]
        assert verify_folder(out).holds


def _new_sas(host) -> str:
    """Return a SAS of the lab's account that lives ten days from the lab's time on."""
    clock = LabClock(host.lab / "clock.json")
    store = Store(LabHome(host.lab).database, clock.now_ms)
    storage = host.stage.status["storage"]
    try:
        with store.transaction() as tx:
            return make_sas(
                tx, storage["account"], storage["container"], expiry_ms=tx.now_ms + 10 * DAY * 1000
            )
    finally:
        store.close()


def test_a_resume_without_the_secret_waits_before_it_talks_to_anybody(
    quick_stage, zygote, tmp_path
):
    with host_in(quick_stage, zygote, tmp_path / "host") as host:
        host.plan_with_sas(tmp_path, str(quick_stage.status["storage"]["sas"]))
        assert host.do("run", str(host.plan)) == WAITING, host.log()
        before = len(commands.log(host.lab))
        del host.environment["STORAGE_SAS"]
        assert host.do("resume", host.run) == WAITING
        assert "the secret env:STORAGE_SAS is not set" in host.log()
        assert "export STORAGE_SAS=" in host.log()
        assert len(commands.log(host.lab)) == before


FOREIGN = {
    "tenant": "00000000-0000-4000-8000-0000000000ff",
    "subscription": "00000000-0000-4000-8000-0000000000ff",
    "name": "AzureChinaCloud",
    "hsm_suffix": "managedhsm.azure.cn",
    "lab": False,
}


def test_a_plan_for_another_place_is_refused_before_the_first_call(quick_stage, zygote, tmp_path):
    with host_in(quick_stage, zygote, tmp_path / "host") as host:
        doc = json.loads(quick_stage.plan.read_bytes())
        del doc["digest"]
        for field, foreign in FOREIGN.items():
            other = {**doc, "cloud": {**doc["cloud"], field: foreign}}
            plan = tmp_path / f"foreign-{field}.json"
            plan.write_text(json.dumps({**other, "digest": digest(other)}))
            before = len(commands.log(host.lab))
            assert host.do("run", str(plan)) == REFUSED, host.log()
            assert "nothing was sent" in host.log()
            calls = commands.log(host.lab)[before:]
            assert {call["effect"] for call in calls} <= {None, "", "entra.token"}
        with SqliteStore(host.home) as store:
            assert store.runs() == [], "no run was begun"
