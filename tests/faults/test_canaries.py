"""No secret leaves the process: 40 canaries in six encodings over a faulted, resumed run."""

from __future__ import annotations

import base64
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import parse_qs, quote

import pytest
from faultlab.host import host_in, wait_for
from faultlab.stage import AUTH
from faultlab.trial import Fault

from drengine.evidence.folder import write_evidence
from drengine.journal.sqlite import SqliteStore

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]


def _encodings(secret: str) -> dict[str, bytes]:
    data = secret.encode()
    return {
        "raw": data,
        "base64": base64.b64encode(data).rstrip(b"=")[:-1],
        "base64url": base64.urlsafe_b64encode(data).rstrip(b"=")[:-1],
        "hex": data.hex().encode(),
        "percent": quote(secret, safe="").encode(),
        "reversed": data[::-1],
    }


def _canaries(host, sas: str) -> list[str]:
    """Return 40 secrets: the operator's, the custodians', the HSM's and the session's."""
    signature = parse_qs(sas)["sig"][0]
    found = [host.environment["AZURE_CLIENT_SECRET"], signature, quote(signature, safe="")]
    for key in host.stage.status["security_domain"]["keys"]:
        lines = Path(key).read_text().splitlines()[1:-1]
        found += lines[3:13]
    exchange = host.stage.key.read_text()
    found += [exchange[at : at + 64] for at in (200, 600, 1000, 1400)]
    bearers = (host.folder / "bearers").read_text().split("\n")
    found += [line.split(" ", 1)[1][-60:] for line in bearers if line.startswith("Bearer ")][:3]
    return found


def _scanned(folder: Path) -> list[Path]:
    skipped = {folder / "bearers"}
    files = [path for path in folder.rglob("*") if path.is_file() and path not in skipped]
    lab = folder / "lab"
    return [p for p in files if lab not in p.parents or (lab / "drengine") in p.parents]


def _hits(canaries: list[str], texts: dict[str, bytes]) -> list[str]:
    return [
        f"canary {number} ({how}) in {where}"
        for number, secret in enumerate(canaries)
        for how, pattern in _encodings(secret).items()
        for where, text in texts.items()
        if pattern in text
    ]


def test_no_canary_is_found_after_a_faulted_run(quick_stage, zygote, tmp_path):
    fault = Fault(proxy=("garbage", "change", 4))
    folder = tmp_path / "host"
    with host_in(quick_stage, zygote, folder, fault) as host:
        sas = str(quick_stage.status["storage"]["sas"])
        host.plan_with_sas(tmp_path, sas)
        codes = [host.finish(point="journal.after_sync:30:kill")]
        while codes[-1] not in (0, 10) and len(codes) < 8:
            codes.append(host.finish())
            if codes[-1] == 12:
                pytest.fail(host.log())
        assert codes[0] == -signal.SIGKILL
        assert codes[-1] in (0, 10), host.log()
        with SqliteStore(host.home) as store:
            write_evidence(store, host.run, folder / "evidence")
        canaries = _canaries(host, sas)
        assert len(canaries) == 40
        assert all(len(secret) >= 30 for secret in canaries)
        texts = {str(path): path.read_bytes() for path in _scanned(folder)}
        assert len(texts) > 20
        assert any("drengine.db" in name for name in texts)
        # The search finds what is there: the same secrets in the file that we leave out.
        assert _hits(canaries, {"bearers": (folder / "bearers").read_bytes()})
        assert _hits(canaries, texts) == []


_ALONE = """
import os, sys
CHILDREN = ("subprocess.Popen", "os.system", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec")
def watch(event, arguments):
    if event in CHILDREN:
        os.write(1, f"started a child: {event} {arguments[:2]}".encode())
        os._exit(77)
sys.addaudithook(watch)
from drengine.cli.main import main
main()
"""


def _engine_process(host, **options) -> subprocess.Popen:
    """Start an engine that ends with 77 as soon as it starts a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", _ALONE, "run", str(host.stage.plan), "--wait", *AUTH],
        env={**host.environment, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **options,
    )


def _family(pid: int) -> list[int]:
    found = [pid]
    for each in found:
        try:
            children = Path(f"/proc/{each}/task/{each}/children").read_text().split()
        except OSError:
            continue
        found += [int(child) for child in children]
    return found


def test_a_run_starts_no_process_and_no_canary_stands_on_its_command_line(
    quick_stage, zygote, tmp_path
):
    with host_in(quick_stage, zygote, tmp_path / "host") as host:
        secret = host.environment["AZURE_CLIENT_SECRET"]
        hits, looks, stop = [], [], threading.Event()
        process = _engine_process(host)

        def look() -> None:
            while not stop.wait(0.01):
                for pid in _family(process.pid):
                    # Its own environment is where the operator put the secret, by name.
                    names = ("cmdline",) if pid == process.pid else ("cmdline", "environ")
                    for name in names:
                        try:
                            text = Path(f"/proc/{pid}/{name}").read_bytes()
                        except OSError:
                            continue
                        looks.append(pid)
                        hits.extend(_hits([secret], {f"{pid}/{name}": text}))

        thread = threading.Thread(target=look)
        thread.start()
        try:
            wait_for(lambda: host.waits() or process.poll() is not None, 60)
        finally:
            stop.set()
            thread.join()
            process.kill()
            words = process.communicate()[0]
        assert process.returncode == -signal.SIGKILL, words
        assert len(looks) > 10
        assert set(looks) == {process.pid}, "the run had children"
        assert hits == []


def test_a_crash_of_the_engine_leaves_no_core_file(quick_stage, zygote, tmp_path):
    def allow_cores() -> None:
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))

    with host_in(quick_stage, zygote, tmp_path / "host") as host:
        place = tmp_path / "here"
        place.mkdir()
        process = _engine_process(host, cwd=place, preexec_fn=allow_cores)
        wait_for(host.waits, 60)
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        (line,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
        os.kill(process.pid, signal.SIGSEGV)
        process.communicate()
        assert process.returncode == -signal.SIGSEGV
        assert line.split()[4:6] == ["0", "0"]
        assert list(place.iterdir()) == []
