"""What the roles' processes really do: files they open, memory they leave, words they leak."""

from __future__ import annotations

import base64
import json
import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from memorysearch import inverted

ROOT = Path(__file__).parents[4]
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


def keys_opened(trace, folder):
    """Private keys below a folder that any traced process opened."""
    found = set()
    for line in trace.read_text(errors="replace").splitlines():
        if "ENOENT" in line:
            continue
        for path in re.findall(r'open(?:at)?\([^"]*"([^"]+)"', line):
            if path.startswith(str(folder)) and path.endswith(".key"):
                found.add(Path(path).name)
    return found


def traced(ceremony, trace, *words):
    command = [sys.executable, "-m", "drengine", "ceremony", *map(str, words)]
    done = subprocess.run(
        ["strace", "-f", "-qq", "-e", "trace=open,openat", "-o", trace, *command],
        env=ceremony.environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done


@needs_strace
def test_contribute_opens_one_key_and_combine_none(opened):
    trace = opened.folder / "trace"
    out = opened.folder / "share.json"
    traced(
        opened,
        trace,
        *("contribute", "--request", opened.request, "--sd-file", opened.folder / "sd.json"),
        *("--name", "Ada", "--code", opened.code(), "--out", out),
        *("--key", opened.folder / "keys" / "1.key"),
    )
    assert keys_opened(trace, opened.folder) == {"1.key"}
    shares = opened.shares(2)
    words = ("--contribution", out, *shares, "--out", opened.folder / "blob.json")
    traced(opened, trace, "combine", "--session", opened.session, *words)
    assert keys_opened(trace, opened.folder) == set()


@needs_strace
def test_the_session_its_keeper_and_its_children_open_no_key(ceremony, plain):
    trace = ceremony.folder / "trace"
    wrapped = ["strace", "-f", "-qq", "-e", "trace=open,openat", "-o", str(trace)]
    running = subprocess.Popen(
        [
            *wrapped,
            *(sys.executable, "-m", "drengine", "ceremony", "open", "--class", "drill"),
            *("--session", ceremony.session, "--sd-file", ceremony.folder / "sd.json"),
            *("--exchange-cert", ceremony.folder / "exchange.cer", "--target", "t"),
            *("--combiner", "Olga", "--purpose", "p"),
        ],
        env=ceremony.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    for line in running.stdout:
        ceremony.printed.append(line.decode())
        if line.startswith(b"Then:"):
            break
    made = ceremony.combine(*ceremony.shares(1, 2))
    assert made.returncode == 0, plain(made.stderr)
    running.communicate(timeout=30)
    assert keys_opened(trace, ceremony.folder) == set()
    # The one-time key touched no disk either: nothing was written but these.
    written = {path.name for path in ceremony.session.rglob("*") if path.is_file()}
    assert {"request.json", "transcript.json"} < written
    assert not any("PRIVATE" in p.read_text() for p in ceremony.session.rglob("*.json"))


def forms_of(secret):
    """A secret in every form in which it could stand somewhere."""
    decimal = ", ".join(map(str, secret))
    return {
        secret,
        secret.hex().encode(),
        base64.b64encode(secret).rstrip(b"="),
        base64.urlsafe_b64encode(secret).rstrip(b"="),
        decimal.encode(),
        decimal.replace(" ", "").encode(),
    }


def test_no_secret_stands_in_any_file_or_output(opened, domain, writer):
    """Canaries: master key, shares, plain parts, a passphrase."""
    words = [domain.master, *(writer.share_words(domain.polynomials, x) for x in (1, 2, 3))]
    canaries = {form for word in words for form in forms_of(word)}
    canaries |= {part[:32] for part in domain.parts.values()}
    canaries.add(b"canary-passphrase")
    key = opened.folder / "keys" / "1.key"
    key.write_bytes(domain.people[0].key_pem(b"canary-passphrase"))
    one, out = opened.contribute(1, secret=b"canary-passphrase\n")
    assert one.returncode == 0
    two, other = opened.contribute(2)
    made = opened.combine("--contribution", out, "--contribution", other)
    assert made.returncode == 0
    said, told = opened.running.communicate(timeout=20)
    texts = [one.stdout, one.stderr, two.stderr, made.stdout, made.stderr, said, told]
    texts += ["".join(opened.printed).encode()]
    for path in opened.folder.rglob("*"):
        if path.is_file() and path.suffix != ".key":
            texts.append(path.read_bytes())
    hits = [form[:12] for text in texts for form in canaries if form in text]
    assert hits == []


PROBE = """
import json, os, sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/tests"]
from pathlib import Path
from memorysearch import count
from drengine.ceremony.contributing import ContributeOrder
from drengine.ceremony.contribute import contribute
from drengine.ceremony.messages import KeySource
folder = Path(sys.argv[2])
order = ContributeOrder(
    (folder / "session/request.json").read_bytes(), (folder / "sd.json").read_bytes(),
    KeySource(folder / "keys/1.key"), None, "Ada", "host", int(sys.argv[3]), "0", "0" * 64)
(folder / "probe.json").write_bytes(contribute(order).contribution.to_bytes())
print(json.dumps(count(sys.stdin.read())))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_parent_keeps_no_copy_of_the_share(opened, domain, writer):
    """Needles cross inverted, and only one live object holds each: the count must be that one."""
    share = writer.share_words(domain.polynomials, 1)
    request = json.loads(opened.request.read_bytes())
    # Two needles: the share, and a control that is nowhere else either.
    control = secrets.token_bytes(64)
    done = subprocess.run(
        [sys.executable, "-c", PROBE, ROOT, opened.folder, str(request["opened_ms"] + 1000)],
        input=inverted((share, control)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found, expected = json.loads(done.stdout)
    assert found == expected
