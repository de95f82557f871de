"""Runs az commands, one after another, in one process of az's own environment.

It is started with the Python of that environment and the environment variables of a lab.
Each line of standard input is a JSON array of arguments; each answer is a JSON line with
the exit code, what az printed, and what it wrote to standard error. The command line is
az's own entry point, unmodified; only the start of a new process is saved.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
from typing import TextIO


def run(arguments: list[str]) -> dict[str, object]:
    from azure.cli.core import get_default_cli  # type: ignore[import-not-found]

    out = io.StringIO()
    code = 0
    # az keeps the standard error that it found first, so what it writes goes to a file
    os.ftruncate(2, 0)
    os.lseek(2, 0, os.SEEK_SET)
    with contextlib.redirect_stdout(out):
        try:
            code = int(get_default_cli().invoke(arguments, out_file=out) or 0)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    sys.stderr.flush()
    size = os.fstat(2).st_size
    return {"code": code, "out": out.getvalue(), "err": os.pread(2, size, 0).decode()}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with tempfile.TemporaryFile() as errors:
        os.dup2(errors.fileno(), 2)
        os.set_inheritable(2, True)
        answer_all(answers)


def answer_all(answers: TextIO) -> None:
    for line in sys.stdin:
        answers.write(json.dumps(run(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
