"""A new HSM gets its domain, and a living one new custodians, in the lab over HTTPS."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from drengine.ceremony.domain import parse_security_domain
from drengine.lab import commands

ROOT = Path(__file__).parents[3]


@pytest.fixture
def living(prepare_home):
    """A fast lab with its HSM alive, and a way to run commands in it."""
    folder = Path(tempfile.mkdtemp(prefix="founding-"))
    try:
        prepare_home(folder / "lab")
        lab = commands.up(folder / "lab", fast=True)
        env = {**commands.env(folder / "lab"), "HOME": str(folder), "PYTHONPATH": str(ROOT)}

        def run(*words, code=0):
            done = subprocess.run(
                [sys.executable, "-m", "drengine", *map(str, words)],
                env=env,
                capture_output=True,
                text=True,
                timeout=110,
                check=False,
            )
            assert code is None or done.returncode == code, done.stdout + done.stderr
            return done.stdout + done.stderr

        yield folder, lab, run
    finally:
        if (folder / "lab" / "identity.json").exists():
            commands.down(folder / "lab")
        shutil.rmtree(folder, ignore_errors=True)


def makers(folder, run, count):
    certificates = []
    for number in range(1, count + 1):
        home = folder / f"maker{number}"
        run(
            *("ceremony", "enroll", "--name", f"Maker {number}", "--location", "l"),
            *("--contact", "c", "--acknowledge", "--register", folder / "register"),
            *("--new-keys", home, "--without-passphrase"),
        )
        certificates.append(home / "custodian.cer")
    return certificates


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_custodians_are_replaced_by_the_runbook_and_by_hand(living):
    folder, lab, run = living
    hsm = lab["source_hsm"]["name"]
    certificates = makers(folder, run, 4)
    named = [word for path in certificates for word in ("--cert", path)]
    domain = folder / "domain.json"
    words = ("ceremony", "init-domain", "--hsm", hsm, "--quorum", "3", "--out", domain)
    assert "is active already" in run(*words, *named, code=8)
    assert "quorum of 5 of 4" in run(
        *("ceremony", "init-domain", "--hsm", hsm, "--quorum", "5", "--out", domain, *named),
        code=15,
    )
    run(*words, *named, "--active-too")
    made = parse_security_domain(domain.read_bytes())
    assert (made.required, len(made.custodians)) == (3, 4)
    record = json.loads((folder / "domain.json.record.json").read_bytes())
    assert record["sha256"] == made.sha256
    assert "3 are needed (1 to spare)" in run(
        "ready", "--sd-file", domain, "--register", folder / "register"
    )

    bundle = folder / "new.pem"
    bundle.write_bytes(b"".join(path.read_bytes() for path in certificates[:3]))
    inputs = {
        "target_hsm": hsm,
        "resource_group": lab["resource_group"],
        "custodians": str(bundle),
        "quorum": 2,
    }
    (folder / "inputs.json").write_text(json.dumps(inputs))
    plan = folder / "plan.json"
    run(
        *("plan", "custodian-rekey", "--class", "drill"),
        *("--inputs", folder / "inputs.json", "--out", plan),
    )
    run("run", plan, code=5)
    for gate in ("approve-rekey", "confirm-custody", "confirm-destruction"):
        shown = run(
            "approve", "@latest", gate, "--as", "Sam", "--role", "security-officer", "--yes"
        )
        assert "Maker 1" in shown
        ended = run("resume", "@latest", code=0 if gate == "confirm-destruction" else 5)
    assert "  finished\n" in ended
    assert json.loads(run("status", "-o", "json"))["status"] == "finished"
    kept = folder / "kept.json"
    run("ceremony", "keep", "@latest", "download", "--out", kept)
    rekeyed = parse_security_domain(kept.read_bytes())
    assert (rekeyed.required, len(rekeyed.custodians)) == (2, 3)
    assert rekeyed.custodians == made.custodians[:3]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_new_hsm_is_activated_and_its_domain_kept(living):
    folder, lab, run = living
    creating = (
        "from azure.identity import EnvironmentCredential\n"
        "from azure.mgmt.keyvault import KeyVaultManagementClient\n"
        "import os, sys\n"
        "client = KeyVaultManagementClient(EnvironmentCredential(), sys.argv[1])\n"
        "client.managed_hsms.begin_create_or_update(sys.argv[2], 'contoso--fresh', {\n"
        "    'location': 'northeurope', 'sku': {'name': 'Standard_B1', 'family': 'B'},\n"
        "    'properties': {'tenantId': sys.argv[3], 'initialAdminObjectIds': [sys.argv[4]]}})"
        ".result()\n"
    )
    env = {**commands.env(folder / "lab"), "HOME": str(folder)}
    subprocess.run(
        [
            *(sys.executable, "-c", creating, lab["subscription"], lab["resource_group"]),
            *(lab["tenant"], lab["object_id"]),
        ],
        env=env,
        check=True,
        timeout=100,
        capture_output=True,
    )
    named = [word for path in makers(folder, run, 3) for word in ("--cert", path)]
    out = folder / "domain.json"
    run(
        *("ceremony", "init-domain", "--hsm", "contoso--fresh", "--quorum", "2", "--out", out),
        *named,
    )
    assert parse_security_domain(out.read_bytes()).required == 2
    effects = [row["effect"] for row in commands.log(folder / "lab")]
    assert effects.count("hsm.domain.download") == 1
