"""Checking a folder's journals in a process of its own, while they are read for something else.

A long journal takes a processor seconds to check, and whoever makes facts of it as long again.
A short one is checked where it is asked for: to start a process takes longer than that. So is
one whose process could not be started, is of another drengine, or gives no answer in time.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import drengine
from drengine.journal.verify import Checked, Problem, verify_folder
from drengine.model.ids import RunId
from drengine.model.records import Head

LONG_BYTES: Final = 8 << 20
ANSWER_SECONDS: Final = 600.0
_START: Final = (
    "import sys; sys.path.append(sys.argv[1]); from drengine.journal.beside import main; main()"
)


@contextmanager
def checking(folder: Path) -> Iterator[Callable[[], Checked]]:
    """Begin to check the journals of a folder; what is given returns what was found.

    Raises:
        OSError: the folder cannot be read.
    """
    child = _started(folder) if _journal_bytes(folder) >= LONG_BYTES else None
    try:
        yield lambda: (_answer(child) if child else None) or verify_folder(folder)
    finally:
        if child is not None:
            child.kill()
            with child:  # closes the pipe, and waits
                pass


def _journal_bytes(folder: Path) -> int:
    return sum(file.lstat().st_size for file in (folder / "journals").glob("*.jsonl"))


def _started(folder: Path) -> subprocess.Popen[bytes] | None:
    # -I: nothing of the current folder and of PYTHON* variables is imported; the package's own
    # folder is put last, for a source checkout.
    try:
        return subprocess.Popen(  # noqa: S603 - own interpreter, fixed words, no shell
            [sys.executable, "-I", "-c", _START, _package(), str(folder.absolute())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return None


def _package() -> str:
    return str(Path(drengine.__file__).parent.parent.absolute())


def _answer(child: subprocess.Popen[bytes]) -> Checked | None:
    try:
        said, _ = child.communicate(timeout=ANSWER_SECONDS)
        return None if child.returncode else _read(json.loads(said))
    except (ValueError, KeyError, TypeError, subprocess.TimeoutExpired):
        return None


def _read(doc: Any) -> Checked:
    problems = tuple(Problem(place, reason) for place, reason in doc["problems"])
    return Checked(problems, {RunId(run): Head(*head) for run, head in doc["heads"].items()})


def main() -> None:
    """Be the process: check the folder that the last argument names, and print what was found."""
    if _package() != sys.argv[1]:
        sys.exit("this is another drengine than the one that asks")
    found = verify_folder(Path(sys.argv[-1]))
    problems = [(problem.place, problem.reason) for problem in found.problems]
    heads = {run: (head.seq, head.sha256) for run, head in found.heads.items()}
    sys.stdout.write(json.dumps({"problems": problems, "heads": heads}))
