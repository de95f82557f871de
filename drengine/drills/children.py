"""The drill's child processes: drengine itself, as a client of the lab.

Rules: a child gets the lab's environment and nothing else; its words go to a file, whose
end is shown where it fails.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from drengine.errors import StepFailed

_PACKAGE: Final = str(Path(__file__).resolve().parents[2])
_TAIL: Final = 12


class Child:
    """One running `drengine …`.

    Parameters:
        log: where its output goes.
    """

    def __init__(self, arguments: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.what = f"drengine {' '.join(arguments[:2])}"
        self.log = log
        with log.open("wb") as stream:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and package
                [sys.executable, "-P", "-m", "drengine", *arguments],
                env={**environment, "PYTHONPATH": _PACKAGE},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )

    def code(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self._process.poll()

    def wait(self, seconds: float) -> int:
        """Wait for its end.

        Raises:
            StepFailed: it takes longer; it was ended.
        """
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.end()
            raise StepFailed(f"{self.what}: did not end within {seconds:.0f} s") from None

    def must_end_well(self, seconds: float) -> None:
        """Wait for its end, which must be exit code 0.

        Raises:
            StepFailed: it ended otherwise; the message has its last words.
        """
        if code := self.wait(seconds):
            raise StepFailed(f"{self.what} ended with {code}: {self.last_words()}")

    def last_words(self) -> str:
        """Return the end of its output."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return "\n  ".join(lines[-_TAIL:])

    def end(self) -> None:
        """Ask it to stop; a run stops cleanly and can be resumed."""
        if self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
