"""A child runs the code of the process that started it, whatever else is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import drengine

ASK = """
import json
import drengine
from drengine.ceremony import spawn

answer, _ = spawn.ask_child(spawn.start_line("drengine.ceremony.telling"), b"who?")
print(json.dumps([drengine.__file__, answer.decode()]))
"""
TELL = """
import sys
import drengine

def main():
    sys.stdout.write(sys.stdin.read() + drengine.__file__ + " " + sys.path[-1])
"""


def test_a_child_is_of_the_same_checkout_as_its_parent(tmp_path: Path) -> None:
    """In this process drengine is installed too; a checkout elsewhere must not meet it."""
    checkout = tmp_path / "checkout"
    shutil.copytree(
        Path(drengine.__file__).parent,
        checkout / "drengine",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (checkout / "drengine" / "ceremony" / "telling.py").write_text(TELL)
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env={"PYTHONPATH": str(checkout)},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    parent, said = json.loads(done.stdout)
    own = str(checkout / "drengine" / "__init__.py")
    assert parent == own
    child, _, last = said.partition(" ")
    assert child == f"who?{own}"
    assert last != str(checkout), "nothing else of the folder is to be found by name"
