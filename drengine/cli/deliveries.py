"""`drengine request` and `drengine deliver`: what a run asks of its custodians, and their answer.

Rules:
- A request is written into a folder that can be carried away: public things only.
- A delivered file is checked before it is kept: size, kind, and whether it was made for
  this run's exchange key. The engine checks it again when it records the delivery.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from drengine.cli import output
from drengine.cli.family import Family, read_family
from drengine.cli.onward import follow_up
from drengine.cli.people import Person, send, waiting_step
from drengine.cli.stores import find_step, open_store, run_argument, user_name
from drengine.cli.writing import read_bounded, write_private
from drengine.errors import CeremonyError, InputError, InputFileError
from drengine.journal.port import JournalStore
from drengine.model.ids import RunId
from drengine.model.run import StepStatus as S
from drengine.model.runbook import RunClass

MAX_DELIVERY_BYTES: Final = 16 * 1024 * 1024
_PEM_LINE: Final = 64


@click.command("request")
@run_argument
@click.argument("step")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The folder to write; it may exist.",
)
@output.output_option
def request_command(*, run: str, step: str, out: Path, output_format: str) -> int:
    """Write what delivery STEP of RUN needs, for the custodians to carry away.

    For a restore blob that is the new HSM's exchange certificate, its thumbprint to
    compare by voice, and the two ways to the blob: the ceremony in which keys stay
    apart, and the command for keys in one place. Nothing in it is secret.
    """
    with open_store() as store:
        found, step = find_step(store, run, step)
        facts = write_request(store, found, step, out)
    if output_format == "json":
        output.emit("drengine/delivery-request/v1", facts)
        return 0
    output.say(f"{facts['ask']}")
    for name, value in facts["expects"].items():
        output.say(f"  {name}: {value}")
    for file in facts["files"]:
        output.say(f"Wrote {file}")
    if facts["command"]:
        output.say("Custodians who keep their keys apart; the combiner begins with:")
        output.say(f"  {facts['open']}")
        output.say("Where all keys are in one place anyway:")
        output.say(f"  {facts['command']}")
    output.say(f"Next: drengine deliver {found} {step} FILE")
    return 0


def write_request(store: JournalStore, run: RunId, step: str, out: Path) -> dict[str, Any]:
    """Write the folder of a delivery request and return what is in it.

    Raises:
        InputError: the step waits for no delivery.
        InputFileError: the folder cannot be written.
    """
    family = read_family(store, run)
    waiting_step(family, run, step, S.AWAITING_DELIVERY)
    request = family.requests[run, step]
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputFileError(f"making the folder {out}: {error.strerror}") from None
    files, command, opening = [], "", ""
    if certificate := _exchange_certificate(store, family, run, request):
        path = out / "exchange.cer"
        write_private(path, _pem(certificate), "the exchange certificate")
        files.append(str(path))
        public = f"--sd-file {_domain_path(family)} --exchange-cert {shlex.quote(str(path))}"
        target = str(family.root.genesis["inputs"].get("target_hsm", "NEW_HSM"))
        opening = (
            f"drengine ceremony open --session SESSION {public} --target {shlex.quote(target)} "
            f"--combiner NAME --witness NAME --purpose {run}{_class(family)} --register REGISTER"
        )
        command = (
            f"drengine ceremony combine {public} --key KEY1 --key KEY2 {_manner(family)}"
            f" --out {shlex.quote(str(out / 'restore-blob.json'))}"
        )
    return {
        "run": str(run),
        "step": step,
        "kind": request["kind"],
        "ask": request["ask"],
        "expects": dict(request["expects"]),
        "files": files,
        "open": opening,
        "command": command,
    }


def _manner(family: Family) -> str:
    """Return what the ceremony must be told of the run: it knows files only."""
    is_drill = family.root.run_class is RunClass.DRILL
    return "--class drill" if is_drill else "--class incident --keys-on-one-machine"


def _class(family: Family) -> str:
    """Return for what a ceremony is opened; it knows drills and incidents, and no tabletop."""
    run_class = family.root.run_class
    return "" if run_class is RunClass.TABLETOP else f" --class {run_class}"


def _domain_path(family: Family) -> str:
    domain = family.root.genesis["inputs"].get("sd_file") or {}
    return shlex.quote(str(domain.get("path", "SD_FILE")))


def _exchange_certificate(
    store: JournalStore, family: Family, run: RunId, request: Mapping[str, Any]
) -> bytes | None:
    """Return the certificate whose thumbprint the delivery must fit, where a step kept one."""
    wanted = request["expects"].get("exchange")
    for outputs in family.states[run].outputs().values():
        if wanted and outputs.get("x5t_256") == wanted and outputs.get("certificate"):
            return store.get_object(str(outputs["certificate"]))
    return None


def _pem(der: bytes) -> bytes:
    text = base64.b64encode(der).decode()
    lines = [text[at : at + _PEM_LINE] for at in range(0, len(text), _PEM_LINE)]
    body = "\n".join(lines)
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n".encode()


@click.command("deliver")
@run_argument
@click.argument("step")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--as", "name", help="Who delivers; by default the user here.")
@click.option(
    "--ceremony",
    type=click.Choice(["combine"]),
    help="How a restore blob was made, for the evidence: combine means that all keys were "
    "opened in one process.",
)
@output.output_option
def deliver_command(
    *,
    run: str,
    step: str,
    file: Path,
    name: str | None,
    ceremony: str | None,
    output_format: str,
) -> int:
    """Hand in FILE for delivery STEP of RUN.

    The file is checked first (size, kind, made for this run's exchange key), kept by
    its SHA-256 beside the journal, and named to the run. What does not fit is refused
    and not kept; the custodians' keys never come near this command.
    """
    with open_store() as store:
        found, step = find_step(store, run, step)
        person = Person(name or user_name())
        facts = hand_in(store, found, step, file, person, ceremony=ceremony or "")
    if output_format == "json":
        output.emit("drengine/delivered/v1", facts)
        return 0
    output.say(f"✓ {file} fits: {'; '.join(facts['findings'])}")
    output.say(f"  SHA-256 {facts['sha256']}   (the same as on the paper of the ceremony?)")
    for warning in facts["warnings"]:
        output.say(f"⚠ {warning}")
    output.say(f"Next: {facts['next']}")
    return 0


def hand_in(
    store: JournalStore, run: RunId, step: str, file: Path, person: Person, *, ceremony: str = ""
) -> dict[str, Any]:
    """Check a file, keep it, and tell the run.

    Raises:
        InputError: the step waits for no delivery.
        InputFileError: the file cannot be read.
        CeremonyError: it is not what is waited for; nothing was kept.
    """
    from drengine.actions.registry import KIT  # noqa: PLC0415 - only to check a file
    from drengine.engine.inbox import unproven  # noqa: PLC0415 - as above

    family = read_family(store, run)
    waiting_step(family, run, step, S.AWAITING_DELIVERY)
    request = family.requests[run, step]
    kind = str(request["kind"])
    if kind not in KIT.deliveries:
        raise InputError(f"step {step} waits for a {kind!r}, which this version cannot check")
    data = read_bounded(file, "the delivery", MAX_DELIVERY_BYTES)
    findings = KIT.deliveries[kind](data, request["expects"])
    wrong = [finding for finding in findings if not finding.holds]
    if wrong:
        raise CeremonyError(
            f"{file} is not what step {step} waits for: "
            + "; ".join(finding.message for finding in wrong)
            + "; it was not kept, and nothing was sent",
            hint=" ".join(finding.advice for finding in wrong if finding.advice)
            or f"drengine request {run} {step} --out FOLDER",
        )
    _refuse_second(family, run, step, file)
    sha256 = store.put_object(data)
    body = {"step": step, "kind": kind, "sha256": sha256, "size": len(data)}
    if ceremony:
        body["ceremony"] = ceremony
    signal = send(store, run, "deliver", person.actor("custodian"), body)
    return {
        "run": str(run),
        "step": step,
        "sha256": sha256,
        "size": len(data),
        "signal": signal,
        "findings": [finding.message for finding in findings],
        "warnings": [each.message for each in unproven(family.states[run].steps[step], sha256)],
        "next": follow_up(family),
    }


def _refuse_second(family: Family, run: RunId, step: str, file: Path) -> None:
    """Refuse a delivery behind one that is not taken in yet: the run takes the first."""
    for signal in family.handed_in(run, step, "deliver"):
        raise InputError(
            f"a file for step {step} is handed in already, by {signal.actor} (SHA-256"
            f" {str(signal.body.get('sha256'))[:12]}…), and the run takes the first; {file} was"
            " not kept",
            hint=follow_up(family),
        )
