"""`python -m mutants [NAME …]`: apply each deliberate bug to a copy and run what must catch it.

A patch names the bug and, after `Caught by:`, the tests that must fail with it. A patch
that no longer applies counts as not caught: a bug that cannot be planted shows nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
_COPIED = ("drengine", "tests", "runbooks", "templates", "docs", "pyproject.toml", "README.md")
_SECONDS = 600
_SEEDS = "50"
"""So many seeds of the simulation must be enough to meet a bug."""


@dataclass(frozen=True)
class Mutant:
    """One deliberate bug."""

    path: Path
    bug: str
    tests: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Mutant:
        """Read a patch with its two lines of heading."""
        bug, tests, *_ = path.read_text().splitlines()
        listed = tests.removeprefix("Caught by: ").split()
        return cls(path, bug.removeprefix("Bug: "), tuple(dict.fromkeys(listed)))


def patched(tree: Path, mutant: Mutant, *, back: bool = False) -> bool:
    """Apply a patch to the copy, or take it back."""
    command = ["git", "apply", *(["--reverse"] if back else []), str(mutant.path)]
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tree.parent)}
    return subprocess.run(command, cwd=tree, env=environment, check=False).returncode == 0


def suite(tree: Path, tests: tuple[str, ...]) -> int:
    """Run tests in the copy and return pytest's code."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:xdist", *tests]
    environment = {**os.environ, "PYTHONPATH": str(tree), "DRENGINE_SEEDS": _SEEDS}
    # A patch may keep size and second of a file: compiled files would then be stale.
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    try:
        return subprocess.run(
            command, cwd=tree, env=environment, timeout=_SECONDS, capture_output=True, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        return 1  # a bug that makes the suite hang is caught too


def copy_tree(folder: Path) -> Path:
    """Copy what the suite needs."""
    tree = folder / "tree"
    tree.mkdir()
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, tree / name)
    return tree


def judge(tree: Path, mutant: Mutant) -> str:
    """Return how the suite took one bug."""
    if not patched(tree, mutant):
        return "NOT APPLIED"
    try:
        code = suite(tree, mutant.tests)
        return "caught" if code == 1 else f"SURVIVED ({code})"
    finally:
        patched(tree, mutant, back=True)


def main() -> int:
    """Plant every bug; return 0 where all were caught."""
    mutants = [Mutant.read(path) for path in sorted(HERE.glob("*.patch"))]
    if wanted := sys.argv[1:]:
        mutants = [m for m in mutants if any(name in m.path.name for name in wanted)]
    caught = 0
    with tempfile.TemporaryDirectory(prefix="drengine-mutants-") as folder:
        tree = copy_tree(Path(folder))
        for mutant in mutants:
            began = time.monotonic()
            outcome = judge(tree, mutant)
            caught += outcome == "caught"
            took = time.monotonic() - began
            print(f"{outcome:<12} {mutant.path.stem:<32} {took:4.0f} s  {mutant.bug}", flush=True)
    print(f"caught {caught} of {len(mutants)}")
    return 0 if caught == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
