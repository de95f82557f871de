"""Combining a 3-of-10 domain, beside azure-cli: `python tests/benchmarks/ceremony_bench.py`.

Three ways, whole processes, in turn, so that a busy machine slows all: a quorum's keys on
one machine, the contributions of an open ceremony, and `az ... restore-blob`. Without
azure-cli (build/azure-cli or .venv-az) there is nothing to compare, and nothing is measured.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
QUORUM, CUSTODIANS = 3, 10
ROUNDS = 3


def az_command() -> Path | None:
    for place in ("build/azure-cli", ".venv-az"):
        found = ROOT / place / "bin" / "az"
        if found.exists():
            return found
    return None


def domain_writer() -> Any:
    """The tests' own writer of security domains."""
    place = ROOT / "tests" / "unit" / "ceremony" / "domain_writer.py"
    spec = importlib.util.spec_from_file_location("ceremony_domain_writer", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def write_ceremony(folder: Path) -> list[Path]:
    """Write a domain, an exchange certificate and a quorum's keys; return the keys' paths."""
    writer = domain_writer()
    people = [writer.person(number) for number in range(1, CUSTODIANS + 1)]
    (folder / "sd.json").write_bytes(writer.write_domain(people, QUORUM).data)
    (folder / "exchange.cer").write_bytes(writer.person(99).certificate_pem)
    paths = [folder / f"{number}.key" for number in range(1, QUORUM + 1)]
    for path, one in zip(paths, people, strict=False):
        path.write_bytes(one.key_pem())
        path.chmod(0o600)
        path.with_suffix(".cer").write_bytes(one.certificate_pem)
    return paths


def spent(command: list[Any], env: dict[str, str]) -> tuple[float, float]:
    """Run a command; return its wall and processor seconds, children included."""
    began, before = time.perf_counter(), os.times()
    subprocess.run([*map(str, command)], env=env, check=True, capture_output=True)
    wall, after = time.perf_counter() - began, os.times()
    used = after.children_user + after.children_system
    return wall, used - before.children_user - before.children_system


def by_contributions(ours: list[Any], folder: Path, keys: list[Path], env: dict[str, str]) -> Any:
    """Hold a ceremony, and return what its last command took."""
    session, public = folder / "session", ["--sd-file", folder / "sd.json"]
    opening = [*ours, "open", "--session", session, *public, "--class", "drill"]
    opening += ["--exchange-cert", folder / "exchange.cer", "--target", "t", "--purpose", "bench"]
    with subprocess.Popen(
        [*map(str, opening), "--combiner", "Olga"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as running:
        assert running.stdout is not None
        code = ""
        for line in running.stdout:
            if line.startswith("Request code:"):
                code = line.removeprefix("Request code:").strip()
            if line.startswith("Then:"):
                break
        try:
            shares = [contribution(ours, session, public, key, code, env) for key in keys]
            words = [word for share in shares for word in ("--contribution", share)]
            out = folder / "apart.json"
            return spent([*ours, "combine", "--session", session, *words, "--out", out], env)
        finally:
            running.send_signal(signal.SIGTERM)


def contribution(
    ours: list[Any], session: Path, public: list[Any], key: Path, code: str, env: dict[str, str]
) -> Path:
    share = key.with_suffix(".share")
    words = [*ours, "contribute", "--request", session / "request.json", *public]
    words += ["--name", key.stem, "--code", code, "--key", key, "--out", share]
    subprocess.run([*map(str, words)], env=env, check=True, capture_output=True)
    return share


def ceremony() -> dict[str, float]:
    """Return the best seconds of each way, and ours over azure-cli's; nothing without az."""
    az = az_command()
    if az is None:
        return {}
    taken: dict[str, list[tuple[float, float]]] = {"one_machine": [], "az": []}
    ours = [sys.executable, "-m", "drengine", "ceremony"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = write_ceremony(folder)
        env = {"PATH": os.environ["PATH"], "HOME": name, "AZURE_CONFIG_DIR": name}
        mine = {**env, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
        files = ["--sd-file", folder / "sd.json"]
        for number in range(ROUNDS):
            out = folder / f"{number}.json"
            one = [*ours, "combine", "--class", "drill", *files, "--out", out]
            one += ["--exchange-cert", folder / "exchange.cer"]
            one += [word for key in keys for word in ("--key", key)]
            taken["one_machine"].append(spent(one, mine))
            other = [az, "keyvault", "security-domain", "restore-blob", *files]
            other += ["--sd-exchange-key", folder / "exchange.cer", "--sd-wrapping-keys", *keys]
            other += ["--sd-file-restore-blob", folder / f"az-{number}.json"]
            taken["az"].append(spent(other, env))
        taken["contributions"] = [by_contributions(ours, folder, keys, mine)]
    best = {way: (min(w for w, _ in all_), min(c for _, c in all_)) for way, all_ in taken.items()}
    figures = {f"{way}_seconds": wall for way, (wall, _) in best.items()}
    return {
        **figures,
        "combine_ratio": best["one_machine"][0] / best["az"][0],
        "combine_cpu_ratio": best["one_machine"][1] / best["az"][1],
    }


if __name__ == "__main__":
    measured = ceremony()
    for figure, value in measured.items():
        print(f"{figure:22} {value:9.2f}")
    if not measured:
        print("azure-cli is not installed under build/azure-cli or .venv-az: nothing to compare")
