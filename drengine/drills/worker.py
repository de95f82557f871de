"""The engine of a drill: one process that carries out several commands of drengine in turn.

Starting Python with Azure's libraries takes a second and more, and a drill needs them for
the inventory, the plan and the run. Each command is what a person would type; this is
`drengine.cli.main.run`, called again and again.

Rules: a line of standard input is a command (a JSON list); a line of standard output is
its exit code. Whatever the commands print goes to standard error, which is a log file.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    """Carry out commands until the input ends."""
    from drengine.cli.main import run  # noqa: PLC0415 - after the streams are set up

    with os.fdopen(os.dup(1), "w", encoding="ascii") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            code = run([str(argument) for argument in json.loads(line)])
            answers.write(f"{code}\n")
            answers.flush()


if __name__ == "__main__":
    main()
