"""The drill's child processes: drengine itself, as a client of the lab.

Rules: a child gets the lab's environment and nothing else; its words go to a file, whose
end is shown where it fails.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from drengine.errors import StepFailed

_PACKAGE: Final = str(Path(__file__).resolve().parents[2])
_TAIL: Final = 12
_END_SECONDS: Final = 10


def _start(
    module: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path, *, talks: bool
) -> subprocess.Popen[str]:
    # -P: nothing that happens to lie in the current folder is imported.
    with log.open("wb") as stream:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and package
            [sys.executable, "-P", "-m", module, *arguments],
            env={**environment, "PYTHONPATH": _PACKAGE},
            stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
            stdout=subprocess.PIPE if talks else stream,
            stderr=stream,
            text=True,
            start_new_session=True,
        )


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return "\n  ".join(lines[-_TAIL:])


def _end(process: subprocess.Popen[str]) -> None:
    """Ask a process to stop, then make it."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Child:
    """One running `drengine …`.

    Parameters:
        log: where its output goes.
    """

    def __init__(self, arguments: list[str], environment: Mapping[str, str], log: Path) -> None:
        self._what = f"drengine {' '.join(arguments[:2])}"
        self._log = log
        self._process = _start("drengine", arguments, environment, log, talks=False)

    def has_ended_well(self) -> bool:
        """Whether it has ended, with exit code 0.

        Raises:
            StepFailed: it ended otherwise; the message has its last words.
        """
        code = self._process.poll()
        if code:
            raise StepFailed(f"{self._what} ended with {code}: {_last_words(self._log)}")
        return code == 0

    def close(self) -> None:
        """End it."""
        _end(self._process)


class Engine:
    """The process that carries out the drill's commands; see `drengine.drills.worker`.

    Parameters:
        log: where everything that the commands print goes.
    """

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        self._what = ""
        self._code: int | None = None
        self._process = _start("drengine.drills.worker", (), environment, log, talks=True)

    def begin(self, *arguments: str) -> None:
        """Begin one command; the one before must have ended."""
        self._what, self._code = f"drengine {arguments[0]}", None
        if self._process.stdin is None:
            raise TypeError("the engine has no input")
        try:
            self._process.stdin.write(json.dumps(arguments) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self.failure("did not begin") from None

    def code(self, seconds: float = 0) -> int | None:
        """Return the command's exit code, None where it still runs after `seconds`.

        Raises:
            StepFailed: the process ended without one.
        """
        if self._code is None and self._process.stdout is not None:
            ready, _, _ = select.select([self._process.stdout], [], [], seconds)
            if ready:
                line = self._process.stdout.readline()
                if not line:
                    raise self.failure("ended in the middle of its work")
                self._code = int(line)
        return self._code

    def do(self, *arguments: str, seconds: float) -> None:
        """Carry out one command to its end.

        Raises:
            StepFailed: it did not end with exit code 0, or not in time.
        """
        self.begin(*arguments)
        code = self.code(seconds)
        if code is None:
            raise self.failure(f"did not end within {seconds:.0f} s")
        if code:
            raise self.failure(f"ended with {code}")

    def failure(self, how: str) -> StepFailed:
        """Return the error for a command that did not do what it should."""
        return StepFailed(f"{self._what} {how}: {_last_words(self._log)}")

    def close(self) -> None:
        """End the process; a run under way stops cleanly."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._code is None:
            self._process.terminate()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            _end(self._process)
        if self._process.stdout is not None:
            self._process.stdout.close()
