"""What combining leaves behind: in the memory of its parents, and on the disk after a crash."""

from __future__ import annotations

import json
import resource
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from memorysearch import inverted

from drengine.ceremony import combine as combine_module
from drengine.ceremony import spawn
from drengine.ceremony.combine import KeySource, combine
from drengine.ceremony.contributing import ContributeOrder
from drengine.ceremony.contributing import perform as contribute
from drengine.ceremony.joining import JoinOrder
from drengine.ceremony.messages import encode_bytes
from drengine.ceremony.opening import Occasion, make_request
from drengine.ceremony.register import Register
from drengine.errors import CeremonyError

ROOT = Path(__file__).parents[4]
NOW = 1_790_000_000_000
TOOL = {"version": "0", "files_sha256": "0" * 64}
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, kills with SEGV")

START = """
import json, sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/tests"]
from memorysearch import count
"""

ONE_MACHINE = f"""{START}from pathlib import Path
from drengine.ceremony.combine import KeySource, combine
folder = Path(sys.argv[2])
keys = [KeySource(folder / "keys" / name) for name in ("1.key", "2.key")]
combine(folder / "sd.json", folder / "exchange.cer", keys, folder / "blob.json")
print(flush=True)
if sys.argv[3:]:
    kept = Path(sys.argv[3]).read_bytes()
print(json.dumps(count(sys.stdin.readline())))
"""

CONTRIBUTIONS = f"""{START}from pathlib import Path
from drengine.ceremony.joining import JoinOrder
from drengine.ceremony.keeper import Keeper
from drengine.ceremony.messages import encode_bytes
keeper = Keeper()
print(encode_bytes(keeper.public_key), flush=True)
order = JoinOrder.from_json(json.loads(sys.stdin.readline()))
blob, *_ = keeper.combine(order, "0" * 64)
Path(sys.argv[2], "blob.json").write_bytes(blob)
print(flush=True)
if sys.argv[3:]:
    kept = Path(sys.argv[3]).read_bytes()
print(json.dumps(count(sys.stdin.readline())))
"""


def order_of(folder, domain, exchange, public):
    """An attempt by custodians 1 and 2, sealed to a combiner's public key."""
    request = make_request(
        Occasion("drill", "probe", "target", "Olga", (), 3_600_000),
        domain=domain.data,
        exchange_certificate=exchange.certificate_pem,
        register=Register(),
        combiner_key=public,
        combiner_signs=bytes(32),
        host="host 1",
        now_ms=NOW,
        tool=TOOL,
    ).to_bytes()
    shares = []
    for number in (1, 2):
        key = KeySource(folder / "keys" / f"{number}.key")
        words = (None, f"custodian {number}", "host 2", NOW, "0", "0" * 64)
        shares.append(contribute(ContributeOrder(request, domain.data, key, *words)).to_bytes())
    return JoinOrder(request, domain.data, exchange.certificate_pem, shares, NOW)


def copies(probe, folder, needles, *, orders=None, planted=()):
    """Run a parent that combines, then count the needles in all of its memory."""
    with subprocess.Popen(
        [sys.executable, "-c", probe, ROOT, folder, *planted],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        if orders is not None:
            order = orders(parent.stdout.readline().strip())
            print(json.dumps(order.to_json()), file=parent.stdin, flush=True)
        assert parent.stdout.readline() == "\n"
        said, _ = parent.communicate(inverted(needles) + "\n")
    assert parent.returncode == 0
    return json.loads(said)


@pytest.fixture(params=["one machine", "contributions"])
def count(request, tmp_path, domain, exchange, ceremony_files):
    """Counts needles in the parent of each of the two ways to a blob."""
    from drengine.ceremony.messages import decode_bytes

    def orders(public):
        return order_of(ceremony_files, domain, exchange, decode_bytes(public))

    def run(needles, planted=()):
        apart = request.param == "contributions"
        probe = CONTRIBUTIONS if apart else ONE_MACHINE
        found = copies(probe, tmp_path, needles, orders=orders if apart else None, planted=planted)
        assert (tmp_path / "blob.json").exists()
        return found

    return run


def secrets_of(domain, writer):
    shares = [writer.share_words(domain.polynomials, x) for x in (1, 2)]
    return [domain.master, *shares, *(part[:32] for part in domain.parts.values())]


def test_the_parent_of_combining_keeps_no_copy_of_key_share_or_part(count, domain, writer):
    """A random needle says how many copies the search itself makes; a secret has no more."""
    *found, control = count([*secrets_of(domain, writer), secrets.token_bytes(32)])
    assert found == [control] * len(found)


def test_the_search_finds_a_copy_that_is_kept(count, domain, tmp_path):
    kept = tmp_path / "kept"
    kept.write_bytes(domain.master)
    found, control = count([domain.master, secrets.token_bytes(32)], (str(kept),))
    assert found == control + 1


def cores_allowed(monkeypatch, folder):
    """Work in a folder where a crash leaves a core file, or skip."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    crash = [sys.executable, "-I", "-c", "import os; os.kill(os.getpid(), 11)"]
    subprocess.run(crash, check=False)
    left = list(folder.iterdir())
    for path in left:
        path.unlink()
    if not left:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
        pytest.skip("this machine writes no core files into the working folder anyway")
    return soft, hard


def crashing(module):
    """A child that dies when the keys, shares and parts are all in its memory."""
    return (
        f"{spawn.start_line(f'drengine.ceremony.{module}').removesuffix('main()')}"
        f"import os; from drengine.ceremony import {module} as one; "
        "one.make_restore_blob = lambda *_: os.kill(os.getpid(), 11); one.main()"
    )


@pytest.fixture
def cores(monkeypatch, tmp_path):
    limits = cores_allowed(monkeypatch, tmp_path / "cores")
    yield tmp_path / "cores"
    resource.setrlimit(resource.RLIMIT_CORE, limits)


def test_a_crash_of_the_child_that_opens_keys_leaves_no_core_file(
    cores, ceremony_files, monkeypatch
):
    monkeypatch.setattr(combine_module, "_START", crashing("child"))
    keys = [KeySource(ceremony_files / "keys" / name) for name in ("1.key", "2.key")]
    blob = ceremony_files / "blob.json"
    with pytest.raises(CeremonyError, match="was ended by SIGSEGV"):
        combine(ceremony_files / "sd.json", ceremony_files / "exchange.cer", keys, blob)
    assert list(cores.iterdir()) == []
    assert not blob.exists()


def test_a_crash_of_the_child_that_joins_shares_leaves_no_core_file(
    cores, ceremony_files, domain, exchange
):
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 3072)
    public = key.public_key().public_bytes(
        form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo
    )
    private = key.private_bytes(form.Encoding.DER, form.PrivateFormat.PKCS8, form.NoEncryption())
    order = order_of(ceremony_files, domain, exchange, public)
    complete = json.dumps({**order.to_json(), "key": encode_bytes(private)}).encode()
    with pytest.raises(CeremonyError, match="was ended by SIGSEGV"):
        spawn.ask_child(crashing("joining"), complete)
    assert list(cores.iterdir()) == []
