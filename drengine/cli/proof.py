"""`drengine report` and `drengine verify`: a run's evidence, and whether it holds."""

from __future__ import annotations

from pathlib import Path

import click

from drengine.cli import output
from drengine.cli.stores import find_run, open_store, run_or_latest
from drengine.errors import VerificationError


@click.command("report")
@run_or_latest
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The folder to write; new."
)
@output.output_option
def report_command(*, run: str, out: Path, output_format: str) -> int:
    """Write RUN's evidence into a folder: journals, plan, facts, a page to read, checksums.

    It can be written at any time; for a run that has not ended it says so. The folder
    needs neither this store nor this program to be checked by hand: see its README.txt.
    """
    from drengine.evidence.folder import write_evidence  # noqa: PLC0415 - loads the templates

    with open_store() as store:
        found = find_run(store, run)
        folder = write_evidence(store, found, out)
    page = folder / "report.html"
    if output_format == "json":
        facts = {"run": found, "folder": str(folder), "report": str(page)}
        output.emit("drengine/evidence-written/v1", {**facts, "next": f"drengine verify {folder}"})
        return 0
    output.say(f"✓ {page}")
    output.say(f"Next: drengine verify {folder}")
    return 0


@click.command("verify")
@click.argument("folder", type=click.Path(path_type=Path))
@output.output_option
def verify_command(*, folder: Path, output_format: str) -> int:
    """Check an evidence FOLDER: every chain, every checksum, and the verdict computed anew.

    Exits 0 where everything agrees, 9 where anything does not. It reads only FOLDER.
    """
    from drengine.evidence.verify import verify_folder  # noqa: PLC0415 - loads the evidence rules

    report = verify_folder(folder)
    problems = [str(problem) for problem in report.problems]
    code = VerificationError.exit_code if problems else 0
    if output_format == "json":
        verdict = str(report.facts.verdict) if report.facts else None
        result = {"folder": str(folder), "problems": problems, "verdict": verdict}
        output.emit("drengine/verification/v1", {**result, "exit_code": code})
        return code
    for problem in problems:
        output.say(f"✗ {problem}")
    if problems:
        output.say(f"{folder} does not verify: {len(problems)} problem(s). Do not rely on it.")
        return code
    facts = report.facts
    output.say(f"✓ {folder}: chains, checksums, plan and facts agree")
    if facts:
        words = output.banner(facts.run_class, lab=facts.is_lab)
        output.say(f"{words}  {facts.run}  {facts.verdict}")
        for run in facts.runs:
            output.say(f"  {run.run}: record {run.head_seq}, {run.head_sha256}")
    return code
