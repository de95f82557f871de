"""Measured figures, each in one run: `make bench`.

Start-up is a ratio against an interpreter that imports click, run in turn so that a
busy machine slows both. The drill is one whole drill, lab included; the engine's peak
memory is read from the operating system while it runs. Where azure-cli is installed, a
ceremony's combining is measured beside its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from ceremony_bench import ceremony

FORBIDDEN = ("azure", "aiohttp", "cryptography", "msal", "requests")
GOALS = {"startup_ratio": 2.0, "drill_seconds": 25.0, "engine_peak_mb": 300.0, "combine_ratio": 0.5}


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def startup(rounds: int) -> dict[str, float]:
    ours = [sys.executable, "-m", "drengine", "--version"]
    other = [sys.executable, "-c", "import click"]
    seconds(ours), seconds(other)  # warm the caches
    pairs = [(seconds(ours), seconds(other)) for _ in range(rounds)]
    return {
        "startup_ms": 1000 * statistics.median(a for a, _ in pairs),
        "click_ms": 1000 * statistics.median(b for _, b in pairs),
        "startup_ratio": statistics.median(a / b for a, b in pairs),
    }


def heavy_imports() -> list[str]:
    code = (
        "import sys, contextlib, io\n"
        "from drengine.cli.main import run\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        "    run(['--version'])\n"
        f"print(sorted({{m.partition('.')[0] for m in sys.modules}} & set({FORBIDDEN!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return list(json.loads(done.stdout.strip().splitlines()[-1].replace("'", '"')))


def drill() -> dict[str, float]:
    peaks: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "drengine", "drill", "--out", str(Path(folder) / "e")]
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            note_peaks(process.pid, peaks)
            time.sleep(0.1)
        wall = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"the drill ended with {process.returncode}")
    return {"drill_seconds": wall, **peaks}


def note_peaks(pid: int, peaks: dict[str, float]) -> None:
    """Keep the highest resident size of each kind of process."""
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        try:
            line, size = " ".join(process.cmdline()), process.memory_info().rss / 1e6
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        is_engine = "drills.worker" in line or " drengine run" in line
        kind = "drill_peak_mb" if process.pid == pid else "other_peak_mb"
        kind = "engine_peak_mb" if is_engine else kind
        peaks[kind] = max(peaks.get(kind, 0.0), size)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    figures: dict[str, float] = {**startup(asked.rounds), **drill(), **ceremony()}
    heavy = heavy_imports()
    if asked.json:
        print(json.dumps({**figures, "heavy_imports": heavy}, indent=2))
        return 0
    for name, value in figures.items():
        goal = f"   goal <= {GOALS[name]:g}" if name in GOALS else ""
        print(f"{name:21} {value:9.2f}{goal}")
    print(f"heavy imports at --version: {', '.join(heavy) or 'none'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
