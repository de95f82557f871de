"""`python -m mutants [NAME …]`: apply each deliberate bug to a copy and run what must catch it.

A patch names the bug, after `First:` the few tests that should catch it within seconds, and
after `Caught by:` the wider list that is asked where those do not. A patch that no longer
applies counts as not caught: a bug that cannot be planted shows nothing. Before any bug the
few tests run once without one: a test that fails anyway catches nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
_COPIED = ("drengine", "tests", "runbooks", "templates", "docs", "pyproject.toml", "README.md")
_SECONDS = 600
_TEST_SECONDS = 40
_SEEDS = "50"
"""So many seeds of the simulation must be enough to meet a bug."""

_FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)
_CAUGHT, _CLEAN = 1, 0


@dataclass(frozen=True)
class Mutant:
    """One deliberate bug."""

    path: Path
    bug: str
    first: tuple[str, ...]
    wide: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Mutant:
        """Read a patch with its lines of heading."""
        heading, _, _ = path.read_text().partition("\n---")
        said = dict(line.split(": ", 1) for line in heading.splitlines() if ": " in line)
        return cls(
            path, said["Bug"], tuple(said["First"].split()), tuple(said["Caught by"].split())
        )


@dataclass(frozen=True)
class Outcome:
    """How the suite took one bug.

    Attributes:
        by: the test that failed first.
        wide: whether the few tests had let it pass.
    """

    word: str
    by: str = ""
    wide: bool = False

    @property
    def is_caught(self) -> bool:
        return self.word == "caught"


def patched(tree: Path, mutant: Mutant, *, back: bool = False) -> bool:
    """Apply a patch to the copy, or take it back."""
    command = ["git", "apply", *(["--reverse"] if back else []), str(mutant.path)]
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tree.parent)}
    return subprocess.run(command, cwd=tree, env=environment, check=False).returncode == 0


def suite(tree: Path, tests: Iterable[str]) -> tuple[int, str]:
    """Run tests in the copy; return pytest's code and the first test that failed."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=no", "-rfE", "-p", "no:xdist"]
    command += ["-o", f"timeout={_TEST_SECONDS}"]
    environment = {**os.environ, "PYTHONPATH": str(tree), "DRENGINE_SEEDS": _SEEDS}
    # A patch may keep size and second of a file: compiled files would then be stale.
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    try:
        ran = subprocess.run(
            [*command, *tests],
            cwd=tree,
            env=environment,
            timeout=_SECONDS,
            capture_output=True,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _CAUGHT, "it hangs"  # a bug that makes the suite hang is caught too
    found = _FAILED.search(ran.stdout)
    hangs = "Timeout" in ran.stdout + ran.stderr
    words = "a test that no longer ends" if hangs else ran.stdout.strip()[-200:]
    return ran.returncode, found.group(1) if found else words


def copy_tree(tree: Path) -> Path:
    """Copy what the suite needs."""
    tree.mkdir()
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, tree / name)
    return tree


def judge(tree: Path, mutant: Mutant) -> Outcome:
    """Return how the suite took one bug."""
    if not patched(tree, mutant):
        return Outcome("NOT APPLIED")
    try:
        code, by = suite(tree, mutant.first)
        if code != _CLEAN:
            return Outcome("caught", by) if code == _CAUGHT else Outcome(f"NOT RUN ({code})", by)
        code, by = suite(tree, mutant.wide)
        return Outcome("caught" if code == _CAUGHT else f"SURVIVED ({code})", by, wide=True)
    finally:
        patched(tree, mutant, back=True)


def play(mutants: list[Mutant], trees: list[Path]) -> int:
    """Plant every bug, one in each copy at a time; return how many were caught."""
    free: SimpleQueue[Path] = SimpleQueue()
    for tree in trees:
        free.put(tree)

    def one(mutant: Mutant) -> bool:
        tree, began = free.get(), time.monotonic()
        try:
            outcome = judge(tree, mutant)
        finally:
            free.put(tree)
        took = time.monotonic() - began
        how = f"{'  (wider list)' if outcome.wide else ''}  by {outcome.by}" if outcome.by else ""
        print(
            f"{outcome.word:<12} {mutant.path.stem:<32} {took:4.0f} s  {mutant.bug}{how}",
            flush=True,
        )
        return outcome.is_caught

    with ThreadPoolExecutor(len(trees)) as pool:
        return sum(pool.map(one, mutants))


def main() -> int:
    """Plant every bug; return 0 where all were caught."""
    parser = argparse.ArgumentParser(prog="python -m mutants")
    parser.add_argument("names", nargs="*", help="parts of the names of patches")
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    mutants = [Mutant.read(path) for path in sorted(HERE.glob("*.patch"))]
    if asked.names:
        mutants = [m for m in mutants if any(name in m.path.name for name in asked.names)]
    with tempfile.TemporaryDirectory(prefix="drengine-mutants-") as folder:
        trees = [copy_tree(Path(folder) / f"tree-{n}") for n in range(asked.jobs)]
        first = dict.fromkeys(test for mutant in mutants for test in mutant.first)
        code, by = suite(trees[0], first)
        if code != _CLEAN:
            print(f"without any bug the suite ends with {code}: {by}")
            return 1
        caught = play(mutants, trees)
    print(f"caught {caught} of {len(mutants)}")
    return 0 if caught == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
