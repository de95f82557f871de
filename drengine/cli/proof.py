"""`drengine report` and `drengine verify`: a run's evidence, and whether it holds."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from drengine.cli import output
from drengine.cli.places import home_folder
from drengine.cli.stores import find_run, open_store, run_or_latest
from drengine.errors import InputFileError, UsageError, VerificationError
from drengine.journal.verify import Problem

if TYPE_CHECKING:
    from drengine.model.facts import EvidenceFacts


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
    from drengine.evidence.actions import actions_document  # noqa: PLC0415 - loads the evidence
    from drengine.evidence.folder import write_evidence  # noqa: PLC0415 - loads the templates

    with open_store() as store:
        found = find_run(store, run)
        actions = actions_document(store, found, home_folder())
        folder = write_evidence(store, found, out, actions=actions)
    page, follow = folder / "report.html", f"drengine verify {shlex.quote(str(folder))}"
    if output_format == "json":
        facts = {"run": found, "folder": str(folder), "report": str(page)}
        output.emit("drengine/evidence-written/v1", {**facts, "next": follow})
        return 0
    output.say(f"✓ {page}")
    output.say(f"Next: {follow}")
    return 0


@click.command("verify")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--trust",
    type=click.Path(path_type=Path, file_okay=False),
    help="Your folder of trusted keys; a sealed bundle cannot be verified without it.",
)
@click.option(
    "--history",
    type=click.Path(path_type=Path, file_okay=False),
    multiple=True,
    help="A bundle from before, to check the chain of bundles; repeatable.",
)
@click.option(
    "--unsigned-decisions",
    is_flag=True,
    help="Take a run that was held without --approvers, though the trust folder names people.",
)
@output.output_option
def verify_command(
    *,
    folder: Path,
    trust: Path | None,
    history: tuple[Path, ...],
    unsigned_decisions: bool,
    output_format: str,
) -> int:
    """Check an evidence FOLDER: every chain, every checksum, and the verdict computed anew.

    Of a sealed bundle also the seal, the signatures of approvers and time stamps, by the
    keys of --trust alone. Exits 0 where everything agrees, 9 where anything does not.
    """
    from drengine.evidence.sealed import (  # noqa: PLC0415 - loads the evidence rules
        is_bundle,
        verify_bundle,
    )
    from drengine.evidence.verify import verify_folder  # noqa: PLC0415 - as above

    if not folder.exists():
        raise InputFileError(
            f"looking for the evidence folder {folder}: there is none; nothing was checked",
            hint="Check the path: 'drengine evidence seal' and 'report' say what they wrote.",
        )
    if not is_bundle(folder):
        report = verify_folder(folder)
        if trust is not None:
            report = replace(report, problems=(*report.problems, Problem(str(folder), _UNSEALED)))
        sums = {"sums_sha256": report.sums_sha256}
        return _tell(folder, report.problems, report.notes, report.facts, sums, output_format)
    if trust is None:
        raise UsageError(
            f"{folder} is a sealed bundle: whose keys count is yours to say, never the bundle's",
            hint=f"drengine verify {folder} --trust FOLDER",
        )
    from drengine.trust.register import read_trust  # noqa: PLC0415 - loads cryptography

    sealed = verify_bundle(folder, read_trust(trust), history, takes_unsigned=unsigned_decisions)
    more: dict[str, Any] = {
        "sealed_by": sealed.sealed_by or None,
        "signers": [
            {"name": name, "run": run, "gate": gate, "decision": decision}
            for name, run, gate, decision in sealed.signers
        ],
        "stamps": [{"file": file, "time": time} for file, time in sealed.stamps],
        "unanchored": list(sealed.unanchored),
        "manifest_sha256": sealed.manifest_sha256,
        "sums_sha256": sealed.sums_sha256,
        "hsm_key": sealed.hsm_key or None,
    }
    return _tell(folder, sealed.problems, sealed.notes, sealed.facts, more, output_format)


_UNSEALED: Final = "is not sealed: there is nothing that the trust folder could be asked about"


def _tell(
    folder: Path,
    problems: Sequence[Problem],
    notes: Sequence[str],
    facts: EvidenceFacts | None,
    more: Mapping[str, Any],
    output_format: str,
) -> int:
    told = [str(problem) for problem in problems]
    code = VerificationError.exit_code if told else 0
    if output_format == "json":
        result = {
            "folder": str(folder),
            "problems": told,
            "notes": list(notes),
            "verdict": str(facts.verdict) if facts else None,
            "break_glass": _broken(facts) if facts else [],
            **more,
        }
        output.emit("drengine/verification/v1", {**result, "exit_code": code})
        return code
    for text in told:
        output.say(f"✗ {text}")
    if told:
        _tell_rest(notes, more)
        output.say(f"{folder} does not verify: {len(told)} problem(s). Do not rely on it.")
        return code
    _tell_good(folder, facts, more)
    _tell_rest(notes, more)
    return code


def _tell_good(folder: Path, facts: EvidenceFacts | None, more: Mapping[str, Any]) -> None:
    output.say(f"✓ {folder}: chains, checksums, plan and facts agree")
    if facts:
        words = output.banner(facts.run_class, lab=facts.is_lab)
        output.say(f"{words}  {facts.run}  {facts.verdict}")
        for line in _glass_lines(_broken(facts)):
            output.say(line)
        for run in facts.runs:
            output.say(f"  {run.run}: record {run.head_seq}, {run.head_sha256}")
    if more.get("sealed_by"):
        output.say(f"Sealed by {more['sealed_by']}")
    if more.get("hsm_key"):
        output.say(f"Signed by the recovered HSM with the key from before, {more['hsm_key']}")
    for row in more.get("signers", ()):
        output.say(f"  {row['name']} signed: {row['decision']}, at {row['gate']} of {row['run']}")
    for row in more.get("stamps", ()):
        output.say(f"  {row['file']}: stamped {row['time']}")


def _broken(facts: EvidenceFacts) -> list[dict[str, Any]]:
    """Return every gate that somebody passed alone."""
    return [
        {
            "run": gate.run,
            "gate": gate.step,
            "actor": decision.actor,
            "reason": decision.reason,
            "by_initiator": decision.by_initiator,
            "asked": gate.required,
            "roles": list(gate.roles),
        }
        for gate in facts.gates
        for decision in gate.decisions
        if decision.break_glass
    ]


def _glass_lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what nobody may overlook in evidence that holds."""
    if not rows:
        return
    times = "once" if len(rows) == 1 else f"{len(rows)} times"
    yield output.styled(f"⚠ BREAK-GLASS was used {times}: one person decided for all", bold=True)
    for row in rows:
        roles = f" of {' or '.join(row['roles'])}" if row["roles"] else ""
        began = ", who began the run," if row["by_initiator"] else ""
        yield (
            f"⚠   gate {row['gate']} of {row['run']}: {row['actor']}{began} for"
            f" {row['asked']} approval(s){roles}: {row['reason']}"
        )


def _tell_rest(notes: Sequence[str], more: Mapping[str, Any]) -> None:
    """Say what nothing anchors, what was not checked, and the sums to compare elsewhere."""
    for span in more.get("unanchored", ()):
        output.say(f"  no approver's signature or time stamp covers {span}")
    for name in ("sums_sha256", "manifest_sha256"):
        if more.get(name):
            file = {"sums_sha256": "SHA256SUMS", "manifest_sha256": "manifest.json"}[name]
            output.say(f"  {file}: {more[name]}")
    for note in notes:
        output.say(f"· {note}")
