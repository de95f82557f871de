"""The seeded bugs can still be planted, and each names tests that exist."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATCHES = sorted((ROOT / "tests" / "mutants").glob("*.patch"))


def test_there_are_at_least_20_seeded_bugs():
    assert len(PATCHES) >= 20


@pytest.mark.parametrize("patch", PATCHES, ids=lambda path: path.stem)
def test_a_seeded_bug_applies_and_its_tests_exist(patch):
    done = subprocess.run(
        ["git", "apply", "--check", str(patch)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stderr}Make the patch anew: the code around it changed."
    heading = patch.read_text().partition("\n---")[0].splitlines()
    listed = next(line for line in heading if line.startswith("First: ")).split()[1:]
    for test in listed:
        file, _, name = test.partition("::")
        text = (ROOT / file).read_text()
        assert not name or f"def {name}(" in text, test
