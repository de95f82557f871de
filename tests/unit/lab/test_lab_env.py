"""What `eval "$(drengine lab env)"` does to the shell that it is called in."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from drengine.cli.labs import lab
from drengine.lab import commands

OURS = {
    "HTTPS_PROXY": "http://127.0.0.1:7",
    "https_proxy": "http://127.0.0.1:7",
    "AZURE_CLIENT_ID": "of-the-lab",
    "DRENGINE_LAB": "/a lab",
}
CALLERS = {
    "NO_PROXY": ".microsoftonline.com",
    "no_proxy": "*",
    "AZURE_AUTHORITY_HOST": "login.example",
    "AZURE_CLIENT_ID": "of-the-caller",
    "AZURE_CLIENT_CERTIFICATE_PATH": "of-the-caller",
    "EDITOR": "of-the-caller",
}


@pytest.fixture
def callers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    for name, value in CALLERS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(commands, "env", lambda _: dict(OURS))


@pytest.mark.usefixtures("callers")
def test_what_would_lead_past_the_lab_is_unset(tmp_path: Path) -> None:
    printed = CliRunner().invoke(lab, ["env", "--home", str(tmp_path)], catch_exceptions=False)
    shell = ["/bin/sh", "-c", 'eval "$1" && exec env', "sh", printed.stdout]
    done = subprocess.run(shell, capture_output=True, text=True, check=True)
    found = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    kept = {name: found[name] for name in (*OURS, *CALLERS) if name in found}
    assert kept == {**OURS, "EDITOR": "of-the-caller"}


@pytest.mark.usefixtures("callers")
def test_what_is_to_be_unset_is_named_in_json_too(tmp_path: Path) -> None:
    arguments = ["env", "--home", str(tmp_path), "-o", "json"]
    printed = CliRunner().invoke(lab, arguments, catch_exceptions=False)
    found = json.loads(printed.stdout)
    assert found["unset"] == [
        "AZURE_AUTHORITY_HOST",
        "AZURE_CLIENT_CERTIFICATE_PATH",
        "NO_PROXY",
        "no_proxy",
    ]
