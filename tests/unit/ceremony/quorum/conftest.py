"""Fixtures of the quorum ceremony: an open session, custodians with homes of their own."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ROOT = Path(__file__).parents[4]
NAMES = ["Ada", "Ben", "Cleo", "Dora"]


def load_writer():
    name = "ceremony_domain_writer"
    if name not in sys.modules:
        place = Path(__file__).parents[1] / "domain_writer.py"
        spec = importlib.util.spec_from_file_location(name, place)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@dataclass
class Ceremony:
    """An open ceremony as a separate process, and commands as separate processes beside it."""

    folder: Path
    environment: dict
    running: subprocess.Popen = None
    printed: list = field(default_factory=list)

    @property
    def session(self):
        return self.folder / "session"

    @property
    def request(self):
        return self.session / "request.json"

    @property
    def transcript(self):
        return self.session / "transcript.json"

    def command(self, *words, **options):
        options.setdefault("env", self.environment)
        return subprocess.run(
            [sys.executable, "-m", "drengine", "ceremony", *map(str, words)],
            capture_output=True,
            timeout=110,
            check=False,
            **options,
        )

    def open(self, *words, domain="sd.json", exchange="exchange.cer", session="session"):
        # Where the tests run, swap may be active and memory not to be locked.
        words = (*words, "--accept-swap") if "incident" in words else words
        if "incident" in words and "--register" not in words:
            words = (*words, "--accept-unenrolled")
        # Under nohup the tests ignore it, and with them what they start.
        ignored = signal.signal(signal.SIGHUP, signal.SIG_DFL)
        self.running = subprocess.Popen(
            [
                *(sys.executable, "-m", "drengine", "ceremony", "open"),
                *("--session", self.folder / session, "--sd-file", self.folder / domain),
                *("--exchange-cert", self.folder / exchange, "--target", "contoso-dr"),
                *("--combiner", "Olga", "--purpose", "drill 7", *words),
            ],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        signal.signal(signal.SIGHUP, ignored)
        for line in self.running.stdout:
            self.printed.append(line.decode())
            if line.startswith(b"Then:"):
                return self
        raise AssertionError(self.running.stderr.read().decode())

    def code(self, which="Request code:"):
        return next(x for x in self.printed if x.startswith(which))[len(which) :].strip()

    def contribute(self, number, *words, out=None, secret=None, **options):
        home = self.folder / f"home{number}"
        home.mkdir(exist_ok=True)
        out = out or home / "share.json"
        if secret is not None:
            read_end, write_end = os.pipe()
            os.write(write_end, secret)
            os.close(write_end)
            words = (*words, "--passphrase-fd", read_end)
            options["pass_fds"] = (read_end,)
        given = dict(zip(words[::2], words[1::2], strict=False))
        defaults = {
            "--request": self.request,
            "--sd-file": self.folder / "sd.json",
            "--name": NAMES[number - 1],
            "--code": self.code() if self.printed else "",
            "--out": out,
        }
        if "--module" not in given:
            defaults["--key"] = self.folder / "keys" / f"{number}.key"
        extra = [
            word for name, value in defaults.items() if name not in given for word in (name, value)
        ]
        return self.command("contribute", *extra, *words, **options), out

    def shares(self, *numbers):
        made = []
        for number in numbers:
            result, out = self.contribute(number)
            assert result.returncode == 0, result.stderr.decode()
            made += ["--contribution", out]
        return made

    def combine(self, *words, out="blob.json"):
        return self.command(
            "combine", "--session", self.session, *words, "--out", self.folder / out
        )

    def entries(self):
        return json.loads(self.transcript.read_bytes())["entries"]

    def end(self):
        if self.running is not None and self.running.poll() is None:
            self.running.send_signal(signal.SIGTERM)
        if self.running is not None:
            self.running.communicate(timeout=20)


@pytest.fixture(scope="session")
def writer():
    return load_writer()


@pytest.fixture
def ceremony(tmp_path, domain, exchange, key_folder):
    """Files of a 2-of-3 domain; nothing is open yet."""
    (tmp_path / "sd.json").write_bytes(domain.data)
    (tmp_path / "exchange.cer").write_bytes(exchange.certificate_pem)
    assert key_folder.parent == tmp_path
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "200",
    }
    made = Ceremony(tmp_path, environment)
    yield made
    made.end()


@pytest.fixture
def opened(ceremony):
    """An open drill."""
    return ceremony.open("--class", "drill")


@pytest.fixture(scope="session")
def plain():
    """A reader of error output: no colours, one line."""
    return lambda data: re.sub(r"\x1b\[[0-9;]*m", "", data.decode())


@pytest.fixture(scope="session")
def one_time_key():
    """A ceremony's key pair, the public half as DER: making one takes longer than most tests."""
    key = rsa.generate_private_key(65537, 3072)
    return key, key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
