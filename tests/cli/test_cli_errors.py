"""Bad input: a clear message, its exit code, a next step, and nothing done."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from drengine import engine
from drengine.cli import main as entry
from drengine.cli import taking
from drengine.cli.explanations import CODES, EXIT_CODES
from drengine.errors import DrError, InputError
from drengine.journal.sqlite import SqliteStore

RUNBOOK = """\
apiVersion: drengine/v1
kind: Runbook
name: tiny
title: Tiny
inputs: {name: {type: string}}
steps:
  - id: only
    action: %s
"""


@pytest.fixture
def runbook(tmp_path):
    def write(text=RUNBOOK % "proof.roles"):
        path = tmp_path / "tiny.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_an_unknown_runbook_is_refused_with_the_known_ones(command):
    ended = command("validate", "mhsm-ful-recovery")
    assert ended.code == 3
    assert "did you mean 'mhsm-full-recovery'" in ended.err.lower()
    assert "sqlmi-repoint" in ended.err


def test_an_unknown_action_is_refused_with_its_place(command, runbook):
    ended = command("validate", runbook(RUNBOOK % "hsm.craete"))
    assert ended.code == 3
    assert "tiny.yaml:8:" in ended.out
    assert "hsm.create" in ended.out


@pytest.mark.parametrize(
    "text",
    ["a: &x 1\nb: *x\n", "a: 1\na: 2\n", "!!python/object:os.system {}\n", "\x00", "[" * 500, ""],
    ids=["anchor", "duplicate key", "tag", "NUL", "deep", "empty"],
)
def test_hostile_yaml_is_refused_with_line_and_column(command, runbook, text):
    ended = command("validate", runbook(text), "-o", "json")
    assert ended.code == 3
    (problem,) = ended.document["problems"][:1]
    assert problem["message"]


def test_every_problem_of_a_runbook_is_told_at_once(command, runbook):
    text = RUNBOOK % "hsm.craete" + "  - id: Only\n    action: nothing.here\n"
    ended = command("validate", runbook(text))
    assert ended.code == 3
    assert len([line for line in ended.out.splitlines() if line.startswith("✗")]) >= 1


def test_a_plan_that_is_not_one_is_refused(command, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text("{}")
    ended = command("run", path)
    assert ended.code == 3
    assert "not a plan" in ended.err
    assert not (tmp_path / "home").exists()


def test_a_plan_that_was_changed_is_stale(command, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({"schema": "drengine/plan/v1", "digest": "0" * 64}))
    ended = command("run", path)
    assert ended.code == 6
    assert "nothing was started" in ended.err
    assert not (tmp_path / "home").exists()


def test_a_missing_plan_is_refused(command, tmp_path):
    ended = command("run", tmp_path / "none.json")
    assert ended.code == 3
    assert "none.json" in ended.err


def test_a_home_that_is_no_folder_is_refused(command, home):
    home.write_text("not a folder")
    ended = command("status", "--all")
    assert ended.code == 0  # there is no store in it: nothing to read, nothing made
    ended = command("journal", "verify", "r-0")
    assert ended.code == 14
    assert str(home) in ended.err


def test_a_home_that_cannot_be_written_is_refused(command, monkeypatch):
    monkeypatch.setenv("DRENGINE_HOME", "/proc/drengine-home")  # not even the superuser can
    ended = command("journal", "verify", "r-0")
    assert ended.code == 14
    assert "/proc/drengine-home" in ended.err


def test_evidence_that_is_not_there_is_not_called_false(command, tmp_path):
    ended = command("verify", tmp_path / "evidenc", "--trust", tmp_path / "trust")
    assert (ended.code, "there is none; nothing was checked" in ended.err) == (3, True)
    assert "Do not rely" not in ended.out


def test_an_unknown_run_is_refused_with_where_it_was_looked_for(command, home):
    ended = command("resume", "r-123")
    assert ended.code == 3
    assert str(home) in ended.err


def test_a_lab_that_is_not_there_is_refused(command, monkeypatch, tmp_path):
    monkeypatch.setenv("DRENGINE_LAB", str(tmp_path / "nolab"))
    ended = command("plan", "sqlmi-repoint", "--class", "drill", "--auth", "environment")
    assert ended.code == 3
    assert "drengine lab up" in ended.err


def test_nobody_signed_in_by_the_environment_is_exit_13(command, monkeypatch):
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    ended = command("plan", "sqlmi-repoint", "--class", "drill", "--auth", "environment")
    assert ended.code == 13
    assert "AZURE_CLIENT_ID" in ended.err


def test_nobody_signed_in_by_the_cli_is_exit_13(tmp_path):
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AZURE_CONFIG_DIR": str(tmp_path / "azure"),
        "DRENGINE_HOME": str(tmp_path / "home"),
        # azure-cli looks for its newest version where a profile is new; nothing listens there
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "drengine",
            "plan",
            "sqlmi-repoint",
            "--class",
            "drill",
            "-o",
            "json",
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 13, done.stderr
    error = json.loads(done.stdout)
    assert error["schema"] == "drengine/error/v1"
    assert error["hint"] == "az login"


def test_an_error_is_json_where_json_was_asked_for(command):
    ended = command("resume", "r-123", "-o", "json")
    assert ended.err == ""
    assert ended.document["schema"] == "drengine/error/v1"
    assert ended.document["exit_code"] == 3
    ended = command("status", "--nonsense", "--output=json")
    assert ended.code == 2
    assert ended.document["code"] == "DR-U001"


def test_what_nobody_expected_goes_into_a_private_file_without_secrets(command, home, monkeypatch):
    def explode(*_arguments, **_named):
        raise RuntimeError("https://a.b/c?sv=1&sig=verysecret Bearer abcdefgh.ijkl")

    monkeypatch.setattr(entry.cli, "main", explode)
    ended = command("status")
    assert ended.code == 1
    (file,) = (home / "crashes").iterdir()
    assert str(file) in ended.err
    assert file.stat().st_mode & 0o777 == 0o600
    text = file.read_text()
    assert "RuntimeError" in text
    assert "verysecret" not in text
    assert "abcdefgh" not in text


def test_an_interrupt_is_exit_130(command, monkeypatch):
    def interrupt(*_arguments, **_named):
        raise KeyboardInterrupt

    monkeypatch.setattr(entry.cli, "main", interrupt)
    assert command("status").code == 130


def test_a_reader_that_goes_away_is_no_error():
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m drengine explain exit-codes | head -1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""


def test_a_stream_without_symbols_gets_ascii(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "DRENGINE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "drengine", "validate", "sqlmi-repoint"],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.startswith(b"+ ")


def test_every_error_class_and_exit_code_is_explained(command):
    for kind in DrError.kinds.values():
        assert kind.code in CODES, kind
        assert str(kind.exit_code) in EXIT_CODES, kind
        assert command("explain", kind.code).code == 0
    assert command("explain", "DR-Z999").code == 3


def test_every_code_that_the_engine_records_is_explained():
    sources = [path.read_text() for path in Path(engine.__file__).parent.glob("*.py")]
    recorded = {code for text in sources for code in re.findall(r'"(DR-[A-Z]\d{3})"', text)}
    assert "DR-S005" in recorded
    assert recorded <= set(CODES)


def test_an_inventory_is_not_written_over_another(command, tmp_path):
    known = tmp_path / "inventory.json"
    known.write_text("what a recovery is proved against")
    ended = command("inventory", "--hsm", "contoso-hsm", "--out", known)
    assert ended.code == 3
    assert "nothing was asked" in ended.err
    assert "--replace" in ended.err
    assert known.read_text() == "what a recovery is proved against"


@pytest.mark.parametrize("url", ["backups", "http://a.b/c", "https://a.b/c?sig=x", "https://"])
def test_a_container_that_is_no_url_is_refused_before_anything_is_asked(command, tmp_path, url):
    out = tmp_path / "inventory.json"
    ended = command("inventory", "--hsm", "contoso-hsm", "--out", out, "--container-url", url)
    assert (ended.code, "nothing was asked" in ended.err) == (3, True), ended.err
    assert "Next: It looks like https://" in ended.err
    assert not out.exists()


def test_what_looks_on_behind_an_error_of_an_inventory_is_ended(monkeypatch):
    told = []

    async def slow():
        try:
            await asyncio.sleep(60)
        finally:
            told.append("ended")

    async def failing():
        await asyncio.sleep(0)
        raise InputError("no")

    async def looks(*_arguments, **_named):
        await asyncio.gather(slow(), failing())

    @asynccontextmanager
    async def closing(_auth):
        try:
            yield SimpleNamespace(cloud=None, where=None)
        finally:
            told.append("closed")

    monkeypatch.setattr(taking, "signed_in", closing)
    monkeypatch.setattr(taking, "take_inventory", looks)
    with pytest.raises(InputError):
        asyncio.run(taking._take("hsm", None, "", "environment", []))
    assert told == ["ended", "closed"]


def test_a_home_without_runs_is_no_error_and_says_what_names_another(command, home):
    before, named = command("status"), command("status", "r-123")
    home.mkdir()
    SqliteStore(home).close()
    for ended in (named, command("status", "r-123")):
        assert (ended.code, "there is no run 'r-123'" in ended.err) == (3, True)
    for ended in (before, command("status"), command("status", "--all")):
        assert ended.code == 0
        assert "DRENGINE_HOME names another home" in ended.out
        assert "Next: drengine plan RUNBOOK --class incident --out plan.json" in ended.out
    ended = command("resume", "@latest")
    assert ended.code == 3
    assert "DRENGINE_HOME" in ended.err
