"""Looking at a ceremony, proving its transcript, and attaching it to a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from drengine.cli import output
from drengine.cli.quorum.asking import FILE
from drengine.cli.quorum.registers import say_remarks
from drengine.cli.stores import find_step, open_store, run_argument, user_name
from drengine.errors import CeremonyError, DrError, InputFileError

if TYPE_CHECKING:
    from drengine.ceremony.proving import Proven

_MAX_BYTES: Final = 1024 * 1024
_STATUS_SECONDS: Final = 20.0


@click.command("status")
@click.option("--session", type=FILE, required=True, help="The ceremony's folder.")
@output.output_option
def status_command(*, session: Path, output_format: str) -> int:
    """Show a ceremony: who contributed, what was refused, whether it is still open."""
    from drengine.ceremony.files import read_input  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.proving import prove  # noqa: PLC0415 - lazy for --help

    data = read_input(session / "transcript.json", "the transcript", max_bytes=_MAX_BYTES)
    proven = prove(data)
    alive, error = _look_at(session) if proven.outcome == "open" else (False, None)
    if output_format == "json":
        said = "" if error is None else error.message
        facts = {**proven.to_json(), "alive": alive, "session_says": said}
        output.emit("drengine/ceremony-status/v1", facts)
        return 0
    _print(proven)
    if error is not None:
        output.say(f"⚠ {error.message}")
        output.say(f"Next: {error.hint}")
    elif proven.outcome == "open" and not alive:
        output.say("⚠ its session is gone, and the one-time key with it")
        output.say("Next: drengine ceremony open --session NEW_FOLDER …, with a new request")
    return 0


def _look_at(session: Path) -> tuple[bool | None, DrError | None]:
    """Tell whether a ceremony's session is there, None where that is not known, and what it says.

    Only where nobody listens it is gone. One of another user's, or one that is stopped, is not.
    """
    from drengine.ceremony.wire import ask_session, is_listening  # noqa: PLC0415 - lazy

    try:
        if not is_listening(session):
            return False, None
        ask_session(session, {"do": "status"}, seconds=_STATUS_SECONDS)
    except DrError as error:
        return None, error
    return True, None


@click.command("verify")
@click.argument("transcript", type=FILE)
@click.option("--blob", type=FILE, help="The restore blob that it must speak of.")
@click.option("--register", type=FILE, help="The register that must have enrolled all signers.")
@output.output_option
def verify_command(
    *, transcript: Path, blob: Path | None, register: Path | None, output_format: str
) -> int:
    """Prove a transcript: chain, roles, quorum, signatures, blob. Needs no key."""
    from drengine.ceremony.files import read_input  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.proving import prove  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.registry import read_register  # noqa: PLC0415 - lazy for --help

    known = None if register is None else read_register(register)
    proven = prove(
        read_input(transcript, "the transcript", max_bytes=_MAX_BYTES),
        blob=None if blob is None else read_input(blob, "the restore blob", max_bytes=_MAX_BYTES),
        register=known,
    )
    if output_format == "json":
        output.emit("drengine/ceremony-proof-of-transcript/v1", proven.to_json())
    else:
        output.say("✓ the transcript holds")
        _print(proven)
    say_remarks(known)
    return 0


def _print(proven: Proven) -> None:
    if proven.request is not None:
        output.say(f"Ceremony:   {proven.request.ceremony} ({proven.run_class}): {proven.outcome}")
        output.say(f"Target:     {proven.request.target}")
        output.say(f"Code:       {proven.request.code}")
    else:
        output.say(f"ALL KEYS MET ON ONE MACHINE ({proven.run_class}): {proven.outcome}")
    output.say(f"Exchange:   x5t#S256 {proven.exchange_x5t_256}")
    output.say(f"Domain:     SHA-256 {proven.domain_sha256}")
    for attestation in proven.attestations:
        statement = attestation.statement
        signed = "signed" if attestation.is_signed else "NOT SIGNED"
        output.say(
            f"  ✓ {statement.custodian}  {statement.x5t_256}  {statement.holder.kind} {signed}"
        )
    if proven.request is not None:
        output.say(f"Quorum:     {len(proven.attestations)} of {proven.required} contributed")
        for x5t_256 in proven.request.unenrolled:
            output.say(f"  ⚠ invited though not enrolled, under any name and unsigned: {x5t_256}")
    for dropped in proven.dropped:
        output.say(f"  ⚠ dropped {dropped}")
    for refusal in proven.refused:
        output.say(f"  ✗ refused {refusal}")
    for remark in proven.remarks:
        output.say(f"  ⚠ {remark}")
    if proven.blob_sha256:
        output.say(f"Blob:       SHA-256 {proven.blob_sha256}")
        output.say(f"Plain for:  {proven.plain_ms} ms")
    output.say(f"Head:       {proven.head}")


@click.command("attach")
@run_argument
@click.argument("step")
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option("--as", "name", help="Who attaches; by default the user here.")
@output.output_option
def attach_command(
    *, run: str, step: str, files: tuple[Path, ...], name: str | None, output_format: str
) -> int:
    """Attach attestations and the transcript to delivery STEP of RUN, before the blob.

    The run then shows how far the custodians are, and its evidence how the blob was made.
    """
    with open_store() as store:
        found, step = find_step(store, run, step)
        kept = [_attach(store, found, step, path, name or user_name()) for path in files]
    if output_format == "json":
        output.emit("drengine/attached/v1", {"run": str(found), "step": step, "attached": kept})
        return 0
    for one in kept:
        output.say(f"✓ {one['file']}: {one['says']}")
    output.say(
        f"Next: drengine deliver {found} {step} BLOB   # after a resume, status shows how far"
    )
    return 0


@click.command("keep")
@run_argument
@click.argument("step")
@click.option("--out", type=FILE, required=True, help="The security-domain file; must be new.")
def keep_command(*, run: str, step: str, out: Path) -> int:
    """Write the security domain that STEP of RUN downloaded into a file, to be kept offline."""
    from drengine.ceremony.domain import parse_security_domain  # noqa: PLC0415 - lazy
    from drengine.ceremony.files import write_new  # noqa: PLC0415 - lazy for --help
    from drengine.cli.family import read_family  # noqa: PLC0415 - lazy for --help

    with open_store() as store:
        found, step = find_step(store, run, step)
        state = read_family(store, found).states[found]
        outputs = state.outputs().get(step, {})
        if "sha256" not in outputs or "custodians" not in outputs:
            raise InputFileError(f"step {step} of {found} has downloaded no security domain")
        data = store.get_object(str(outputs["sha256"]))
    domain = parse_security_domain(data)
    write_new(out, data, "the security domain")
    output.say(f"✓ {out}: {domain.required} of {len(domain.custodians)} custodians")
    output.say(f"  SHA-256 {domain.sha256}   (on the safe's card)")
    return 0


def _attach(store: Any, run: Any, step: str, path: Path, name: str) -> dict[str, str]:
    from drengine.actions.registry import KIT  # noqa: PLC0415 - only to check a document
    from drengine.ceremony.files import read_input  # noqa: PLC0415 - lazy for --help
    from drengine.cli.family import read_family  # noqa: PLC0415 - lazy for --help
    from drengine.cli.people import Person, send, waiting_step  # noqa: PLC0415 - lazy for --help
    from drengine.model.run import StepStatus  # noqa: PLC0415 - lazy for --help

    family = read_family(store, run)
    state = family.states[run]
    waiting = waiting_step(family, run, step, StepStatus.AWAITING_DELIVERY)
    data = read_input(path, "the document", max_bytes=_MAX_BYTES)
    kind = _kind_of(data, path)
    found = KIT.attachments[kind](data, waiting.expects, state.run_class)
    wrong = [finding for finding in found.findings if not finding.holds]
    if wrong:
        raise CeremonyError(
            f"{path} does not belong to step {step}: {wrong[0].message}; it was not kept",
            hint=wrong[0].advice,
        )
    body = {"step": step, "kind": kind, "sha256": store.put_object(data)}
    signal = send(store, run, "attach", Person(name).actor("operator"), body)
    said = "; ".join(finding.message for finding in found.findings)
    return {"file": str(path), "kind": kind, "signal": signal, "says": said}


def _kind_of(data: bytes, path: Path) -> str:
    from drengine.ceremony.contribution import parse_attestation  # noqa: PLC0415 - lazy
    from drengine.ceremony.transcript import read_transcript  # noqa: PLC0415 - lazy

    readers = {"ceremony_attestation": parse_attestation, "ceremony_transcript": read_transcript}
    for kind, read in readers.items():
        try:
            read(data)
        except DrError:
            continue
        return kind
    raise InputFileError(
        f"{path} is neither an attestation nor a transcript of a ceremony",
        hint="Attestations are in the session's folder 'attestations', beside transcript.json.",
    )
