"""Signing in, each way in a process of its own: azure-cli-core keeps state per process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import drengine
from drengine.lab import commands

SCRIPT = """
import asyncio, json, sys
from drengine.azure.auth import session_of
from drengine.azure.cloud import AzureCloud
from drengine.errors import DrError

async def main():
    async with AzureCloud(await session_of(sys.argv[1], True)) as cloud:
        found = await cloud.identity.whoami()
        assert await cloud.hsms.find("contoso--hsm")
        assert await cloud.hsm("https://contoso--hsm.managedhsm.azure.net").key_names()
        print(json.dumps(found.to_json()))

try:
    asyncio.run(main())
except DrError as error:
    print(json.dumps(error.to_json()))
"""


def run(lab, auth, **environ):
    root = str(Path(drengine.__file__).parents[1])
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT, auth],
        env={**commands.env(lab.home), "PYTHONPATH": root, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def test_the_account_of_the_azure_cli_is_used_and_stdout_stays_clean(lab):
    found = run(lab, "azure-cli")
    assert found["principal"] == lab.status["object_id"]
    assert found["tenant"] == lab.status["tenant"]
    assert (found["name"], found["lab"]) == ("AzureCloud", True)
    assert (found["hsm_suffix"], found["storage_suffix"]) == (
        "managedhsm.azure.net",
        "core.windows.net",
    )


def test_the_service_principal_of_the_environment_is_used(lab):
    assert run(lab, "environment")["principal"] == lab.status["object_id"]


def test_nobody_signed_in_to_the_azure_cli_says_az_login(lab, tmp_path):
    found = run(lab, "azure-cli", AZURE_CONFIG_DIR=str(tmp_path))
    assert (found["kind"], found["hint"]) == ("NotAuthorized", "az login")


def test_a_wrong_secret_is_not_authorized_and_is_not_shown(lab):
    found = run(lab, "environment", AZURE_CLIENT_SECRET="hunter2-is-wrong")
    assert found["kind"] == "NotAuthorized"
    assert "hunter2" not in json.dumps(found)


def test_a_lab_session_without_the_labs_proxy_is_refused(lab):
    for proxy in ("", "http://proxy.example.com:3128"):
        found = run(lab, "environment", HTTPS_PROXY=proxy, https_proxy=proxy)
        assert (found["kind"], found["exit_code"]) == ("LabMismatch", 8)
