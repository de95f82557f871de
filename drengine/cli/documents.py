"""`drengine validate`, `lint` and `schema`: runbooks as documents; nothing else is touched."""

from __future__ import annotations

import json
from typing import Any

import click

from drengine.cli import output
from drengine.errors import RunbookError

_files = click.argument("files", nargs=-1, required=True, metavar="RUNBOOK...")


def _found(error: RunbookError) -> dict[str, Any]:
    return {
        "file": error.file,
        "line": error.line,
        "column": error.column,
        "message": error.message,
        "hint": error.hint,
    }


@click.command("validate")
@_files
@output.output_option
def validate_command(*, files: tuple[str, ...], output_format: str) -> int:
    """Check each RUNBOOK (a file or a shipped name) and say everything that is wrong.

    Exits 0 where all are good, 3 where one is not. Every problem has file, line and
    column. No input, no cloud and no run is needed.
    """
    from drengine.cli.library import (  # noqa: PLC0415 - loads the document model
        catalogue,
        find_document,
    )
    from drengine.runbook.loader import check  # noqa: PLC0415 - as above

    problems: list[RunbookError] = []
    good: list[str] = []
    for named in files:
        document = find_document(named)
        wrong = check(document.text, document.file, catalogue())
        problems += wrong
        if not wrong:
            good.append(document.file)
    if output_format == "json":
        result = {"good": good, "problems": [_found(error) for error in problems]}
        output.emit("drengine/validation/v1", result)
        return RunbookError.exit_code if problems else 0
    for file in good:
        output.say(f"✓ {file}")
    for error in problems:
        output.say(f"✗ {error.message}" + (f" ({error.hint})" if error.hint else ""))
    return RunbookError.exit_code if problems else 0


@click.command("lint")
@_files
@click.option("--strict", is_flag=True, help="Exit 3 where there is advice.")
@output.output_option
def lint_command(*, files: tuple[str, ...], strict: bool, output_format: str) -> int:
    """Say what each RUNBOOK had better say: durations, facts at gates, unused inputs."""
    from drengine.cli.library import (  # noqa: PLC0415 - loads the document model
        Library,
        catalogue,
        find_document,
    )
    from drengine.runbook.lint import lint  # noqa: PLC0415 - as above

    library = Library(catalogue())
    found = {}
    for named in files:
        document = find_document(named)
        found[document.file] = [str(each) for each in lint(library.load(document), catalogue())]
    if output_format == "json":
        output.emit("drengine/lint/v1", {"advice": found})
    else:
        for file, advice in found.items():
            for line in advice or [f"✓ {file}: nothing to add"]:
                output.say(line)
    return RunbookError.exit_code if strict and any(found.values()) else 0


@click.command("schema")
def schema_command() -> int:
    """Print the runbook format as JSON Schema, for editors.

    \b
      drengine schema > drengine.schema.json
      # first line of a runbook:  # yaml-language-server: $schema=drengine.schema.json
    """
    from drengine.runbook.document import json_schema  # noqa: PLC0415 - loads the document model

    output.say(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    return 0
