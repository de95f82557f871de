"""The lab is killed, stopped, started twice: what was answered for is there."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from drengine.errors import InputError, InputFileError, StepFailed
from drengine.lab import commands, spec
from drengine.lab.home import LabHome

URL = "https://contoso--hsm.managedhsm.azure.net"


def kill(lab: Any) -> None:
    pid = lab.status["pid"]
    os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + 10
    while LabHome(lab.home).is_running():
        assert time.monotonic() < until
        time.sleep(0.01)


def create_key(lab: Any, name: str) -> int:
    url = f"{URL}/keys/{name}/create?api-version=7.5"
    return int(lab.call("POST", url, {"kty": "EC", "crv": "P-256"})[0])


def names(lab: Any) -> set[str]:
    found: set[str] = set()
    url = f"{URL}/keys?api-version=7.5"
    while url:
        page = lab.call("GET", url)[2]
        found |= {one["kid"].rsplit("/", 1)[1] for one in page["value"]}
        url = page.get("nextLink", "")
    return found


@pytest.mark.faults
def test_a_killed_lab_comes_back_with_its_state_port_and_profile(own_lab: Any) -> None:
    assert create_key(own_lab, "before") == 200
    before, profile = own_lab.status, own_lab.home / "azure" / "azureProfile.json"
    written = profile.stat().st_mtime_ns
    kill(own_lab)
    after_kill = commands.status(own_lab.home)
    assert (after_kill["running"], after_kill["pid"]) == (False, None)
    commands.up(own_lab.home)
    again = own_lab.status
    for same in ("proxy", "tenant", "client_id", "source_hsm", "storage", "backup", "instances"):
        assert again[same] == before[same]
    assert (again["running"], again["pid"] != before["pid"]) == (True, True)
    assert profile.stat().st_mtime_ns == written
    assert "before" in names(own_lab)


@pytest.mark.faults
def test_every_effect_in_the_log_is_there_and_every_answered_one_is_in_the_log(
    own_lab: Any,
) -> None:
    """Kill in the middle of a stream of requests; compare answers, effects and log."""
    answered: list[str] = []
    failed = threading.Event()

    def stream() -> None:
        for number in range(2000):
            try:
                if create_key(own_lab, f"k{number}") == 200:
                    answered.append(f"k{number}")
            except OSError:
                failed.set()
                return

    worker = threading.Thread(target=stream)
    worker.start()
    until = time.monotonic() + 20
    while len(answered) < 40:
        assert time.monotonic() < until
        time.sleep(0.005)
    kill(own_lab)
    worker.join(20)
    assert failed.is_set()
    commands.up(own_lab.home)
    logged = {
        row["target"].split("/")[1]
        for row in commands.log(own_lab.home)
        if row["effect"] == "hsm.key.create" and row["status"] == 200
    }
    present = {name for name in names(own_lab) if name.startswith("k")}
    assert present == logged
    assert set(answered) <= present
    # one request may have been under way: its effect without its answer is no contradiction
    assert len(present) <= len(answered) + 1


@pytest.mark.faults
def test_a_job_that_was_due_while_the_lab_was_dead_runs_afterwards(own_lab: Any) -> None:
    found = own_lab.status
    commands.set_clock(own_lab.home, speed=1.0)
    container = f"https://{found['storage']['account']}.blob.core.windows.net/hsm-backups"
    body = {"storageResourceUri": container, "useManagedIdentity": True}
    status, headers, job = own_lab.call("POST", f"{URL}/backup?api-version=7.5", body)
    assert (status, job["status"]) == (202, "InProgress")
    kill(own_lab)
    commands.set_clock(own_lab.home, advance_seconds=60)
    commands.up(own_lab.home)
    until = time.monotonic() + 20
    while job["status"] == "InProgress":
        assert time.monotonic() < until
        job = own_lab.call("GET", headers["azure-asyncoperation"])[2]
    assert job["status"] == "Succeeded"
    assert own_lab.effects().count("hsm.backup.done") == 2  # the estate's own and this one


def test_up_on_a_running_lab_changes_nothing(lab: Any) -> None:
    pid = lab.status["pid"]
    assert commands.up(lab.home)["pid"] == pid


def test_a_stopped_lab_says_so_and_keeps_its_state(own_lab: Any) -> None:
    assert create_key(own_lab, "kept") == 200
    assert commands.down(own_lab.home) is True
    assert commands.down(own_lab.home) is False
    assert commands.status(own_lab.home)["running"] is False
    with pytest.raises(StepFailed, match="does not answer"):
        commands.disaster(own_lab.home)
    commands.up(own_lab.home)
    assert "kept" in names(own_lab)


def test_a_disaster_happens_once(own_lab: Any) -> None:
    with pytest.raises(InputError, match="kind must be one of"):
        commands.disaster(own_lab.home, "flood")
    assert commands.disaster(own_lab.home, "soft-delete") == {
        "kind": "soft-delete",
        "hsm": "contoso--hsm",
    }
    assert own_lab.call("GET", f"{URL}/keys?api-version=7.5")[0] == 404
    assert commands.disaster(own_lab.home, "purge")["kind"] == "purge"
    with pytest.raises(InputError, match="gone already"):
        commands.disaster(own_lab.home, "purge")


def test_a_folder_without_a_lab_is_named(tmp_path: Path) -> None:
    for command in (commands.status, commands.env, commands.down, commands.log):
        with pytest.raises(InputFileError, match="there is none"):
            command(tmp_path)


def test_an_unknown_setting_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown lab settings: no_such"):
        commands.up(tmp_path / "home", settings={"no_such": 1})
    assert not LabHome(tmp_path / "home").is_running()


def test_a_server_that_cannot_start_is_reported_with_its_reason(tmp_path: Path) -> None:
    home = LabHome(tmp_path / "home")
    home.make()
    home.estate.write_text('{"no_such_part": 1}')
    with pytest.raises(StepFailed, match="no_such_part"):
        commands.up(home.root)
    assert not home.is_running()


def test_an_estate_is_built_as_specified(tmp_path: Path) -> None:
    wanted = spec.EstateSpec(
        source_hsm="small--hsm",
        keys=(spec.KeySpec("only"),),
        groups=(),
        standalone=(spec.InstanceSpec("sqlmi-x", "westeurope", ("one",), "only"),),
    )
    home = tmp_path / "home"
    try:
        found = commands.up(home, estate=wanted, fast=True, settings={"backup": 3})
        assert found["source_hsm"]["name"] == "small--hsm"
        assert [one["name"] for one in found["instances"]] == ["sqlmi-x"]
        assert found["failover_groups"] == []
    finally:
        commands.down(home)


def test_commands_run_inside_the_lab_and_a_missing_one_is_named(lab: Any) -> None:
    assert commands.exec_(lab.home, ["sh", "-c", 'test -n "$DRENGINE_LAB"']) == 0
    assert commands.exec_(lab.home, ["sh", "-c", "exit 3"]) == 3
    with pytest.raises(InputError, match="no such command"):
        commands.exec_(lab.home, ["no-such-command-here"])
