"""Measured figures, section by section: `make bench`, or `python tests/benchmarks/bench.py NAME`.

Every section prints its figures, its goals and whether they were met, with the machine's load
beside its name: a goal that is missed on a busy machine says little. Where two programs are
compared they run in turn, so that a busy machine slows both.

- start: start-up against an interpreter that imports click; what `--version` must not load.
- drill: one whole drill, lab included, with the highest memory of its processes.
- ceremony, journal, lab, evidence, side: see the modules of those names.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import ceremony_bench
import evidence_bench
import journal_bench
import lab_bench
import psutil
import side_by_side
from reporting import Figure, show


@dataclass(frozen=True, slots=True)
class Drilled:
    """One drill: where its evidence lies, how long it took, the memory of its processes."""

    folder: tempfile.TemporaryDirectory[str]
    out: Path
    seconds: float
    peaks: dict[str, float]


FORBIDDEN = ("azure", "aiohttp", "cryptography", "msal", "requests")
ROUNDS = 15


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def startup() -> list[Figure]:
    ours = [sys.executable, "-m", "drengine", "--version"]
    other = [sys.executable, "-c", "import click"]
    seconds(ours), seconds(other)  # warm the caches
    pairs = [(seconds(ours), seconds(other)) for _ in range(ROUNDS)]
    return [
        Figure("drengine --version", 1000 * statistics.median(a for a, _ in pairs), "ms"),
        Figure("an interpreter with click", 1000 * statistics.median(b for _, b in pairs), "ms"),
        Figure("ratio", statistics.median(a / b for a, b in pairs), at_most=2.0),
        Figure("heavy imports at --version", len(heavy_imports()), at_most=0),
    ]


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


@cache
def drilled() -> Drilled:
    """Hold one drill; its folder stays for the section about evidence."""
    peaks: dict[str, float] = {}
    folder = tempfile.TemporaryDirectory(prefix="bench-drill-")
    out = Path(folder.name) / "e"
    command = [sys.executable, "-m", "drengine", "drill", "--out", str(out)]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        note_peaks(process.pid, peaks)
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"the drill ended with {process.returncode}")
    return Drilled(folder, out, time.perf_counter() - began, peaks)


def drill() -> list[Figure]:
    found = drilled()
    return [
        Figure("one drill", found.seconds, "s", at_most=25),
        Figure("engine, peak memory", found.peaks.get("engine", 0.0), "MB", at_most=300),
        Figure("drill process, peak memory", found.peaks.get("drill", 0.0), "MB"),
        Figure("others, peak memory", found.peaks.get("other", 0.0), "MB"),
    ]


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
        kind = "engine" if is_engine else "drill" if process.pid == pid else "other"
        peaks[kind] = max(peaks.get(kind, 0.0), size)


def from_goals(figures: Mapping[str, float], goals: Mapping[str, float]) -> list[Figure]:
    """Return the figures of a section that keeps its goals, all upper bounds, by name."""
    return [
        Figure(name.replace("_", " "), value, at_most=goals.get(name))
        for name, value in figures.items()
    ]


def ceremony() -> list[Figure]:
    return from_goals(ceremony_bench.ceremony(), {"combine_ratio": 0.5})


def evidence() -> list[Figure]:
    return from_goals(evidence_bench.evidence(drilled().out), evidence_bench.GOALS)


SECTIONS: Final[Mapping[str, tuple[str, Callable[[], list[Figure]]]]] = {
    "start": ("Start-up", startup),
    "drill": ("Drill", drill),
    "ceremony": ("Ceremony: combining 3 of 10, beside azure-cli", ceremony),
    "journal": ("Journal", journal_bench.measure),
    "lab": ("Lab", lab_bench.measure),
    "evidence": ("Evidence", evidence),
    "side": ("Side by side: the official procedure by az and by drengine", side_by_side.measure),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if odd := set(asked.sections) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(odd))}")
    found: dict[str, list[Figure]] = {}
    for name in asked.sections or SECTIONS:
        title, measure = SECTIONS[name]
        found[name] = measure()
        if not asked.json:
            show(title, found[name])
    if asked.json:
        shown = {name: [figure.to_json() for figure in found[name]] for name in found}
        print(json.dumps(shown, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
