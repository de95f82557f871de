"""The JavaScript SDKs and curl on a lab, in the environment that `lab exec` makes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from drengine.lab import commands

SESSION = Path(__file__).with_name("sdk_session.mjs")
HSM = "https://contoso--hsm.managedhsm.azure.net"


def run(lab: Any, arguments: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {**commands.env(lab.home), "PATH": os.environ["PATH"]}
    return subprocess.run(
        arguments, env=env, cwd=cwd, capture_output=True, text=True, check=False, timeout=100
    )


def test_the_javascript_sdks(lab: Any, javascript: Path, record: Any) -> None:
    node = shutil.which("node")
    assert node is not None
    # Node adds NODE_EXTRA_CA_CERTS to its own authorities; with OpenSSL's only ours counts.
    # Node 20 does not read the proxy from the environment; the SDKs do.
    script = javascript / "session.mjs"
    script.write_text(SESSION.read_text())
    status, before = lab.status, lab.last_seq()
    storage = status["storage"]
    done = run(
        lab,
        [
            node,
            "--use-openssl-ca",
            str(script),
            "contoso--hsm",
            storage["account"],
            storage["container"],
            storage["sas"],
        ],
        javascript,
    )
    assert done.returncode == 0, done.stderr[-1500:]
    found = json.loads(done.stdout)
    assert {"sqlmi-tde", "app-wrap"} <= set(found.pop("keys"))
    assert any(name.endswith("/complete") for name in found.pop("blobs"))
    assert found == {
        "rotated": True,
        "unwrapped": "0123456789abcdef",
        "backup": True,
        "deleted": "from-javascript",
        "appendRefused": "AppendPositionConditionNotMet",
        "text": "one",
        "deleteRefused": "LeaseIdMissing",
    }
    record("javascript", "identity, keyvault-keys, storage-blob: one session", before)


@pytest.fixture
def curl() -> str:
    found = shutil.which("curl")
    if found is None:
        pytest.skip("curl is not installed")
    return found


def test_curl_gets_a_token_and_a_challenge(
    lab: Any, curl: str, tmp_path: Path, record: Any
) -> None:
    before, env = lab.last_seq(), commands.env(lab.home)
    answer = run(lab, [curl, "-sS", "-i", f"{HSM}/keys?api-version=7.5"], tmp_path).stdout
    assert "HTTP/1.1 401" in answer
    assert 'resource="https://managedhsm.azure.net"' in answer
    assert "x-drengine-lab: 1" in answer
    form = {
        "grant_type": "client_credentials",
        "client_id": env["AZURE_CLIENT_ID"],
        "client_secret": env["AZURE_CLIENT_SECRET"],
        "scope": "https://managedhsm.azure.net/.default",
    }
    words = [part for name, text in form.items() for part in ("--data-urlencode", f"{name}={text}")]
    url = f"https://login.microsoftonline.com/{env['AZURE_TENANT_ID']}/oauth2/v2.0/token"
    token = json.loads(run(lab, [curl, "-sS", *words, url], tmp_path).stdout)["access_token"]
    header = f"Authorization: Bearer {token}"
    listed = run(lab, [curl, "-sS", "-H", header, f"{HSM}/keys?api-version=7.5"], tmp_path).stdout
    assert json.loads(listed)["value"]
    record("curl", "curl: challenge, token, keys", before)


def test_curl_reads_a_blob_with_a_sas_and_is_kept_from_the_rest(
    lab: Any, curl: str, tmp_path: Path, record: Any
) -> None:
    before, found = lab.last_seq(), lab.status
    storage = found["storage"]
    base = f"https://{storage['account']}.blob.core.windows.net/{storage['container']}"
    url = f"{base}/{found['backup']['folder']}/complete?{storage['sas']}"
    assert len(run(lab, [curl, "-sS", "-f", url], tmp_path).stdout) == 64
    refused = run(lab, [curl, "-sS", "https://example.org/"], tmp_path)
    assert refused.returncode != 0
    assert "403" in refused.stderr
    record("curl", "curl: a blob with a SAS; another host", before)
