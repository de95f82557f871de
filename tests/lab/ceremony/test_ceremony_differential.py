"""Ours against azure-cli's own code: the same domains, the same keys, the same contents.

azure-cli lives in an environment of its own (build/azure-cli, where the conformance suite
installs it, else .venv-az; or AZ_PYTHON names its interpreter); without it these tests skip
with that reason.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import random
import secrets
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drengine.ceremony import keyfile
from drengine.ceremony.child import perform as combine_on_one_machine
from drengine.ceremony.contributing import ContributeOrder
from drengine.ceremony.contributing import perform as contribute
from drengine.ceremony.hardening import Hardening
from drengine.ceremony.joining import JoinOrder
from drengine.ceremony.joining import perform as join
from drengine.ceremony.messages import CombineRequest, KeySource, decode_bytes
from drengine.ceremony.opening import Occasion, make_request
from drengine.ceremony.register import Register
from drengine.lab import commands

ROOT = Path(__file__).parents[3]
DOMAINS = int(os.environ.get("DIFFERENTIAL_DOMAINS", "200"))
NOW = 1_790_000_000_000
TOOL = {"version": "0", "files_sha256": "0" * 64}
TARGET = "contoso--az"


def az_python():
    named = os.environ.get("AZ_PYTHON")
    places = [Path(named).parents[1]] if named else [ROOT / "build/azure-cli", ROOT / ".venv-az"]
    for place in places:
        # Its `az` too: an environment that is still being installed has an interpreter only.
        if (place / "bin" / "az").exists():
            return place / "bin" / "python"
    pytest.skip(f"azure-cli is not installed: no bin/az in {' or '.join(map(str, places))}")


@pytest.fixture(scope="module")
def writer():
    name = "ceremony_domain_writer"
    if name not in sys.modules:
        place = ROOT / "tests" / "unit" / "ceremony" / "domain_writer.py"
        spec = importlib.util.spec_from_file_location(name, place)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="module")
def oracle():
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "AZURE_CONFIG_DIR": "/tmp"}
    with subprocess.Popen(
        [az_python(), Path(__file__).with_name("az_oracle.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as running:

        def ask(*job):
            running.stdin.write(json.dumps(job).encode() + b"\n")
            running.stdin.flush()
            return json.loads(running.stdout.readline())

        yield ask
        running.stdin.close()


@pytest.fixture(scope="module")
def one_time_key():
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = rsa.generate_private_key(65537, 3072)
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return key, public


def key_files(folder, people):
    paths = []
    for number, one in enumerate(people, start=1):
        path = folder / f"{number}.key"
        path.write_bytes(one.key_pem())
        path.chmod(0o600)
        path.with_suffix(".cer").write_bytes(one.certificate_pem)
        paths.append(path)
    return paths


def ours_by_contributions(domain, exchange, paths, one_time_key):
    key, public = one_time_key
    occasion = Occasion("drill", "differential", "target", "Olga", (), 3_600_000)
    request = make_request(
        occasion,
        domain=domain.data,
        exchange_certificate=exchange.certificate_pem,
        register=Register(),
        combiner_key=public,
        combiner_signs=bytes(32),
        host="host 1",
        now_ms=NOW,
        tool=TOOL,
    ).to_bytes()
    shares = [
        contribute(
            ContributeOrder(
                request, domain.data, KeySource(path), None, path.name, "host 2", NOW, "0", "0" * 64
            )
        ).to_bytes()
        for path in paths
    ]
    order = JoinOrder(request, domain.data, exchange.certificate_pem, shares, NOW)
    return decode_bytes(join(order, key)["blob"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_200_random_domains_give_the_same_contents_as_azure_cli(
    tmp_path, writer, oracle, one_time_key, monkeypatch
):
    # The check of an RSA key takes most of the time; the same ten keys come again and again.
    cached = functools.cache(keyfile.load_pem_private_key)
    monkeypatch.setattr(keyfile, "load_pem_private_key", cached)
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    people = [writer.person(number) for number in range(1, 11)]
    exchange = writer.person(99)
    paths = key_files(tmp_path, people)
    (tmp_path / "exchange.cer").write_bytes(exchange.certificate_pem)
    hardening = Hardening(
        core_dumps_off=True, not_dumpable=True, memory_locked=False, swap_active=False
    )
    differences = 0
    for _ in range(DOMAINS):
        chosen = draw.sample(range(10), draw.randint(3, 10))
        required = draw.randint(2, len(chosen))
        parts = {tag: draw.randbytes(draw.randint(0, 3000)) for tag in writer.PARTS}
        domain = writer.write_domain([people[at] for at in chosen], required, parts)
        sd_file = tmp_path / "sd.json"
        sd_file.write_bytes(domain.data)
        quorum = [paths[at] for at in draw.sample(chosen, required)]
        theirs = oracle(str(sd_file), str(tmp_path / "exchange.cer"), [str(p) for p in quorum])
        assert "blob" in theirs, theirs
        keys = tuple(KeySource(path) for path in quorum)
        request = CombineRequest(domain.data, exchange.certificate_pem, keys, False)
        one_machine = combine_on_one_machine(request, hardening).blob
        apart = ours_by_contributions(domain, exchange, quorum, one_time_key)
        opened = [
            writer.open_blob(blob, exchange)
            for blob in (theirs["blob"].encode(), one_machine, apart)
        ]
        differences += opened != [parts, parts, parts]
    assert differences == 0


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_azs_own_upload_accepts_a_blob_from_contributions(lost, one_time_key):
    """The HSM is recovered with `az`: only the blob is ours."""
    az = az_python().with_name("az")
    if not az.exists():
        pytest.skip(f"azure-cli is not installed: no {az}")
    env = {
        **commands.env(lost.folder / "lab"),
        "PATH": os.environ["PATH"],
        "HOME": str(lost.folder),
    }

    def run_az(*words):
        done = subprocess.run(
            [az, *map(str, words)], env=env, capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    group, admin = lost.lab["resource_group"], lost.lab["object_id"]
    run_az(
        *("keyvault", "create", "--hsm-name", TARGET, "-g", group, "-l", "northeurope"),
        *("--administrators", admin, "--retention-days", "7"),
    )
    exchange_file = lost.folder / "az-exchange.cer"
    run_az(
        *("keyvault", "security-domain", "init-recovery", "--hsm-name", TARGET),
        *("--sd-exchange-key", exchange_file),
    )
    found = lost.lab["security_domain"]

    class Domain:
        data = Path(found["file"]).read_bytes()

    class Exchange:
        certificate_pem = exchange_file.read_bytes()

    keys = [Path(found["keys"][at]) for at in (0, 2)]
    for key in keys:
        key.chmod(0o600)
    blob = lost.folder / "blob.json"
    blob.write_bytes(ours_by_contributions(Domain, Exchange, keys, one_time_key))
    said = run_az(
        *("keyvault", "security-domain", "upload", "--hsm-name", TARGET),
        *("--sd-file", blob, "--restore-blob"),
    )
    assert json.loads(said)["status"] == "Success"


def spent(command, env):
    """Run a command; return its wall and processor seconds, children included."""
    began, before = time.perf_counter(), os.times()
    done = subprocess.run(command, env=env, capture_output=True, check=False)
    wall, after = time.perf_counter() - began, os.times()
    assert done.returncode == 0, done.stderr
    used = after.children_user + after.children_system
    return wall, used - before.children_user - before.children_system
