"""The interpreter's own SQLite on calls that fail (LD_PRELOAD) and on a full file system."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from journalfire import story

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[2]
EVERY = int(os.environ.get("DRENGINE_DISK_EVERY", "9"))

WRITER = """
import sys
from pathlib import Path
from drengine.errors import DrError
from drengine.journal.schema import connect_file
from journalfire import story

class Told(list):
    def append(self, head):
        print(head.seq, head.sha256, flush=True)
        super().append(head)

try:
    story.write(Path(sys.argv[1]), connect_file, Told())
except DrError as error:
    print("failed", error.code, flush=True)
"""


def _write(home: Path, **environment: str) -> list[str]:
    paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": os.environ["PATH"]}
    command = [sys.executable, "-c", WRITER, str(home)]
    return subprocess.run(
        command, env={**paths, **environment}, capture_output=True, text=True, check=True
    ).stdout.splitlines()


def _told(lines: list[str]) -> list[story.Head]:
    words = [line.split() for line in lines if line[0].isdigit()]
    return [story.Head(int(seq), sha256) for seq, sha256 in words]


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler or not sys.platform.startswith("linux"):
        pytest.skip("no C compiler for Linux here: nothing can be preloaded")
    out = tmp_path_factory.mktemp("preload") / "preload.so"
    source = ROOT / "tests" / "journalfire" / "preload.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", out, source, "-ldl"], check=True)
    return out


@pytest.mark.parametrize(("call", "error"), [("pwrite", 5), ("pwrite", 28), ("fdatasync", 5)])
def test_a_call_of_the_operating_system_that_fails_loses_nothing(tmp_path, library, call, error):
    failed = 0
    for number in range(1, 75, EVERY):
        home = tmp_path / f"{call}-{number}"
        lines = _write(
            home,
            LD_PRELOAD=str(library),
            FAIL_CALL=call,
            FAIL_AT=str(number),
            FAIL_ERRNO=str(error),
        )
        failed += lines[-1].startswith("failed")
        problem = story.check(home, _told(lines)) if (home / "drengine.db").exists() else ""
        assert problem == "", f"{call} {number} errno {error}: {problem}"
    assert failed >= 3, "no call failed: the library is not in force"


def test_a_full_file_system_loses_nothing(tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k,mode=0700", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system cannot be mounted without root")
    try:
        lines = _write(place / "home")
        assert lines[-1].startswith("failed")
        told = _told(lines)
        assert len(told) > 3
        larger = ["mount", "-o", "remount,size=4m", str(place)]
        subprocess.run(larger, capture_output=True, check=True)
        assert story.check(place / "home", told) == ""
    finally:
        subprocess.run(["umount", str(place)], check=True)
