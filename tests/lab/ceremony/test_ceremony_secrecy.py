"""One whole recovery, watched: what the engine opens, and where a secret could stand.

Every secret of the ceremony is known here (shares, master key, plain parts, a passphrase,
a PIN, the keys), so each can be looked for. The operator's commands run under strace.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from drengine.ceremony.domain import parse_security_domain
from drengine.ceremony.shamir import combine
from drengine.ceremony.unseal import open_domain, open_share

STEP = "restore-blob"
MODULE = "/usr/lib/softhsm/libsofthsm2.so"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]


def base64_middles(data):
    """What of some bytes is in any base64 text that has them, wherever they begin in it."""
    for shift in range(3):
        text = base64.b64encode(bytes(shift) + data)
        whole = text[4 if shift else 0 : -4]
        yield whole
        yield whole.translate(bytes.maketrans(b"+/", b"-_"))


def forms_of(secret):
    """A secret in every form in which it could stand somewhere."""
    decimal = ", ".join(map(str, secret))
    written = {decimal.encode(), decimal.replace(" ", "").encode()}
    return (
        {secret, secret.hex().encode(), secret.hex().upper().encode()}
        | written
        | set(base64_middles(secret))
    )


class Canaries:
    """The secrets of one ceremony, and a search for all of them."""

    def __init__(self, lab, passphrase, pin):
        domain = parse_security_domain(Path(lab["file"]).read_bytes())
        keys = [
            serialization.load_pem_private_key(Path(path).read_bytes(), None)
            for path in lab["keys"]
        ]
        shares = [open_share(domain, None, key) for key in keys]
        self.named = {"passphrase": passphrase, "pin": pin, "master": combine(shares, 2)}
        for number, (share, path) in enumerate(zip(shares, lab["keys"], strict=True), start=1):
            self.named[f"share {number}"] = share.to_bytes()
            self.named[f"key {number}"] = Path(path).read_bytes().split(b"\n")[5]
        for part in open_domain(domain, shares):
            self.named[f"part {part.tag}"] = part.plaintext[-48:]
        self.forms = {form: name for name, word in self.named.items() for form in forms_of(word)}
        for number, share in enumerate(shares, start=1):
            for join in (", ", ","):
                self.forms[join.join(map(str, share.values)).encode()] = f"share {number}"

    def hits(self, texts):
        return sorted(
            {
                f"{self.forms[form]} in {where}"
                for where, text in texts.items()
                for form in self.forms
                if form in text
            }
        )


class Watch:
    """Reads the arguments and environments of all processes until it is told to stop."""

    def __init__(self):
        self.seen = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_raised):
        self._over.set()
        self._thread.join()

    def _watch(self):
        while not self._over.wait(0.02):
            for entry in os.scandir("/proc"):
                if entry.name.isdigit() and int(entry.name) != os.getpid():
                    for name in ("cmdline", "environ"):
                        self._keep(Path(entry.path) / name)

    def _keep(self, path):
        try:
            content = path.read_bytes()
        except OSError:
            return  # it has ended, or is another's
        self.seen.setdefault(content, str(path))


class Tracer:
    """Wraps a role's commands in strace, and knows what they and their children opened."""

    def __init__(self, folder):
        self.folder = folder
        self.folder.mkdir()
        self._number = itertools.count()

    def __call__(self):
        trace = self.folder / f"{next(self._number)}.trace"
        calls = "trace=open,openat,openat2"
        return ["strace", "-f", "--seccomp-bpf", "-qq", "-e", calls, "-o", str(trace)]

    def opened(self, at):
        found = set()
        for trace in self.folder.iterdir():
            for line in trace.read_text(errors="replace").splitlines():
                if match := re.search(r'open(?:at2?)?\([^"]*"([^"]+)".* = \d+', line):
                    found.add(os.path.realpath(at / match[1]))
        return found


def descriptor(content):
    read_end, write_end = os.pipe()
    os.write(write_end, content)
    os.close(write_end)
    return read_end


class Recovery:
    """The drill: custodian 1 with a token, custodian 2 with a passphrase."""

    def __init__(self, world):
        self.world = world
        self.domain = world.lab["security_domain"]
        self.pin = f"canary-pin-{secrets.token_hex(8)}"
        self.passphrase = f"canary-words-{secrets.token_hex(8)}"
        self.tokens = world.softhsm("custodian1", self.domain["keys"][0], self.pin)
        self.canaries = Canaries(self.domain, self.passphrase.encode(), self.pin.encode())
        self.key = self._locked_key()
        self.session = world.folder / "combiner" / "session"

    def _locked_key(self):
        home = self.world.folder / "custodian2"
        home.mkdir()
        key = serialization.load_pem_private_key(Path(self.domain["keys"][1]).read_bytes(), None)
        lock = serialization.BestAvailableEncryption(self.passphrase.encode())
        pkcs8 = serialization.PrivateFormat.PKCS8
        path = home / "custodian.key"
        path.write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, lock))
        path.chmod(0o600)
        shutil.copy(self.domain["certificates"][1], home / "custodian.cer")
        return path

    def custodian(self, number, *words):
        """Run a command as a custodian, with the key's holder and its secret put last."""
        if number == 1:
            secret = descriptor(self.pin.encode() + b"\n")
            holder = ("--module", MODULE, "--token-label", "custodian1")
            holder = (*holder, "--cert", self.domain["certificates"][0], "--pin-fd", secret)
        else:
            secret = descriptor(self.passphrase.encode() + b"\n\n")
            holder = ("--key", self.key, "--passphrase-fd", secret)
        env = self.tokens if number == 1 else {}
        self.world.run(f"custodian{number}", *words, *holder, env=env, pass_fds=(secret,))
        os.close(secret)

    def home(self, number):
        return self.world.folder / f"custodian{number}"

    def enroll(self, number):
        signing = self.home(number) / "signing.key"
        made = subprocess.run(
            [sys.executable, "-c", NEW_SIGNING_KEY, signing], check=False, capture_output=True
        )
        assert made.returncode == 0, made.stderr
        self.custodian(
            number,
            *("ceremony", "enroll", "--name", f"Custodian {number}", "--location", "safe"),
            *("--contact", "+49", "--acknowledge", "--register", self.world.folder / "register"),
            *("--signing-key", signing),
        )

    def contribute(self, number):
        words = ("ceremony", "status", "--session", self.session, "-o", "json")
        code = json.loads(self.world.run("combiner", *words))["request_code"]
        share = self.home(number) / "share.json"
        self.custodian(
            number,
            *("ceremony", "contribute", "--request", self.session / "request.json"),
            *("--sd-file", self.domain["file"], "--name", f"Custodian {number}"),
            *("--code", code, "--out", share, "--signing-key", self.home(number) / "signing.key"),
        )
        self.world.run("combiner", "ceremony", "add", "--session", self.session, share)

    def until(self, wanted):
        """Answer gates and resume until the run waits for `wanted` or has that status."""
        run = self.world.run
        for _ in range(30):
            found = self.world.status()
            steps = [(one["run"], step) for one in found["runs"] for step in one["steps"]]
            waiting = {step["step"] for _, step in steps if step["status"] == "awaiting delivery"}
            if found["status"] == wanted or wanted in waiting:
                return found["run"]
            for number, step in steps:
                if step["status"] == "awaiting approval" and step["request"]:
                    role = (step["request"].get("roles") or ["incident-commander"])[0]
                    words = ("--as", f"Person {role}", "--role", role, "--yes")
                    run("operator", "approve", number, step["step"], *words)
            run("operator", "resume", found["run"], code=None)
        raise AssertionError(f"the run did not get to {wanted}: {found['waiting_for']}")

    def recover(self):
        world = self.world
        for number in (1, 2):
            self.enroll(number)
        plan = world.folder / "plan.json"
        world.run(
            *("operator", "plan", "mhsm-full-recovery", "--class", "drill"),
            *("--inputs", world.inputs(), "--out", plan),
        )
        world.run("operator", "run", plan, code=None)
        run = self.until(STEP)
        request = world.folder / "operator" / "request"
        world.run("operator", "request", run, STEP, "--out", request)
        running = world.open(
            *("--session", self.session, "--sd-file", self.domain["file"], "--class", "drill"),
            *("--exchange-cert", request / "exchange.cer", "--target", "contoso--new"),
            *("--combiner", "Olga", "--purpose", "drill", "--valid-hours", "168"),
            *("--register", world.folder / "register"),
        )
        for number in (1, 2):
            self.contribute(number)
        blob = world.folder / "combiner" / "blob.json"
        world.run("combiner", "ceremony", "combine", "--session", self.session, "--out", blob)
        world.said += running.communicate(timeout=20)[:1]
        world.run("operator", "ceremony", "attach", run, STEP, self.session / "transcript.json")
        world.run("operator", "deliver", run, STEP, blob)
        self.until("finished")
        world.run("operator", "report", run, "--out", world.folder / "operator" / "evidence")
        return blob


NEW_SIGNING_KEY = """
import sys, os
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives import serialization as s
key = Ed25519PrivateKey.generate()
os.umask(0o077)
with open(sys.argv[1], "wb") as out:
    out.write(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
"""


def files_below(folder):
    """All that was written, but for the custodians' own keys and the simulated cloud's store."""
    texts = {}
    for path in folder.rglob("*"):
        inside = path.relative_to(folder).parts
        own = path.suffix == ".key" or "tokens" in inside
        cloud = inside[0] == "lab" and inside[1:2] != ("drengine",)
        if path.is_file() and not own and not cloud and not path.is_symlink():
            texts[str(path.relative_to(folder))] = path.read_bytes()
    return texts


def test_the_engine_opens_no_key_and_no_secret_stands_anywhere(lost):
    drill = Recovery(lost)
    operator, second = Tracer(lost.folder / "op.trace"), Tracer(lost.folder / "c2.trace")
    lost.wrapped = {"operator": operator, "custodian2": second}
    with Watch() as watch:
        blob = drill.recover()

    keys = {os.path.realpath(path) for path in lost.lab["security_domain"]["keys"]}
    homes = tuple(f"{lost.folder.resolve()}/custodian{number}/" for number in (1, 2))
    opened = operator.opened(lost.folder / "operator")
    assert os.path.realpath(blob) in opened  # the trace sees what the engine opens
    assert {path for path in opened if path in keys or path.startswith(homes)} == set()
    assert not [path for path in opened if path.endswith(".key") and "custodian" in path]
    # And a custodian's own commands, in the same trace, open that custodian's keys alone.
    theirs = {path for path in second.opened(drill.home(2)) if path.endswith(".key")}
    assert theirs == {str(drill.key.resolve()), str((drill.home(2) / "signing.key").resolve())}

    texts = files_below(lost.folder)
    assert {"operator", "combiner", "lab"} <= {name.split("/")[0] for name in texts}
    assert any(name.startswith("operator/evidence/") for name in texts)
    texts |= {f"output {number}": text for number, text in enumerate(lost.said)}
    texts |= {where: content for content, where in watch.seen.items()}
    assert any(b"drengine.ceremony.contributing" in content for content in watch.seen)
    assert drill.canaries.hits(texts) == []
    # The search finds what is there: the same secrets, put where nobody should put them.
    for name, secret in drill.canaries.named.items():
        planted = json.dumps({"at": base64.b64encode(b"xy" + secret).decode()}).encode()
        assert f"{name} in planted" in drill.canaries.hits({"planted": planted})
