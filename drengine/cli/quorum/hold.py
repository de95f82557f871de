"""The combiner's commands: open a ceremony, hold it, note, cancel, look, verify.

Not here: any of the work. The session answers; this prints.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from drengine.cli import output
from drengine.cli.places import lab_folder, open_clock
from drengine.cli.quorum.asking import (
    FILE,
    STANDARD,
    add_contributions,
    chosen_class,
    class_option,
    print_code,
    read_message,
    write_message,
)
from drengine.cli.quorum.registers import say_remarks
from drengine.errors import InputFileError, UsageError

if TYPE_CHECKING:
    from types import FrameType

    from drengine.ceremony.opening import Occasion
    from drengine.ceremony.request import CeremonyRequest
    from drengine.ceremony.session import Session

_MAX_CERTIFICATE_BYTES: Final = 64 * 1024
_MAX_VALID_HOURS: Final = 168
_HOUR_MS: Final = 3_600_000
session_option = click.option(
    "--session", type=FILE, required=True, help="The folder of the open ceremony."
)


@click.command("open")
@click.option("--session", type=FILE, required=True, help="A new folder for this ceremony.")
@click.option("--sd-file", type=FILE, required=True, help="The security-domain file.")
@click.option("--exchange-cert", type=FILE, required=True, help="The new HSM's certificate.")
@click.option("--target", required=True, help="The new HSM's name.")
@click.option("--combiner", required=True, help="Your name; no custodian and no witness.")
@click.option("--witness", "witnesses", multiple=True, help="Who watches; needed for an incident.")
@click.option("--purpose", required=True, help="Why: the incident's or the drill's number.")
@class_option
@click.option("--register", type=FILE, help="The custodian register, for names and signing keys.")
@click.option(
    "--accept-unenrolled",
    is_flag=True,
    help="In an incident, invite custodians too whom the register does not know.",
)
@click.option(
    "--valid-hours",
    type=click.IntRange(1, _MAX_VALID_HOURS),
    default=8,
    show_default=True,
    help="How long custodians may contribute.",
)
@click.option("--run", "run_id", default="", help="The run that waits for the blob.")
@click.option("--step", default="", help="The step that waits for the blob.")
@click.option("--qr", is_flag=True, help="Show the request as a QR code.")
@click.option("--qr-png", type=FILE, help="Write the request's QR code as a picture.")
@output.output_option
def open_command(
    *,
    session: Path,
    sd_file: Path,
    exchange_cert: Path,
    target: str,
    combiner: str,
    witnesses: tuple[str, ...],
    purpose: str,
    run_class: str | None,
    register: Path | None,
    accept_unenrolled: bool,
    valid_hours: int,
    run_id: str,
    step: str,
    qr: bool,
    qr_png: Path | None,
    output_format: str,
) -> int:
    """Open a ceremony and hold it, with a one-time key in this machine's memory only.

    Writes the request into the session folder and stays until the blob is made,
    'ceremony cancel', Ctrl-C or the request's expiry. The key is on no disk: when this
    command ends, a new ceremony has to be opened.
    """
    from drengine.ceremony.opening import Occasion  # noqa: PLC0415 - lazy for --help

    occasion = Occasion(
        run_class=chosen_class(run_class),
        purpose=purpose,
        target=target,
        combiner=combiner,
        witnesses=witnesses,
        valid_ms=valid_hours * _HOUR_MS,
        run=run_id,
        step=step,
        accept_unenrolled=accept_unenrolled,
    )
    held = _open(occasion, session, sd_file, exchange_cert, register)
    if output_format == "json":
        output.emit("drengine/ceremony-opened/v1", _opened_facts(held.request, session))
        sys.stdout.flush()
    else:
        _show_opened(held.request, session)
    print_code(held.request.to_bytes(), qr_png, terminal=qr)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        why = held.serve()
    except KeyboardInterrupt:
        output.talk("Interrupted: the one-time key is gone; contributions to it open nothing.")
        return 130
    output.talk(f"The ceremony is {why}; the one-time key is gone.")
    return 0 if why == "combined" else 15


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


def _open(
    occasion: Occasion, folder: Path, sd_file: Path, exchange_cert: Path, register: Path | None
) -> Session:
    from drengine.ceremony.contribute import host_name  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.domain import MAX_DOMAIN_BYTES  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.files import read_input  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.keeper import Keeper  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.opening import make_request  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.register import Register  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.registry import read_register  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.session import Session  # noqa: PLC0415 - lazy for --help
    from drengine.installed import tool_facts  # noqa: PLC0415 - lazy for --help

    domain = read_input(sd_file, "the security-domain file", max_bytes=MAX_DOMAIN_BYTES)
    certificate = read_input(
        exchange_cert, "the exchange certificate", max_bytes=_MAX_CERTIFICATE_BYTES
    )
    known = Register() if register is None else read_register(register)
    say_remarks(known)
    _require_empty(folder)
    clock = open_clock()
    keeper = Keeper()
    try:
        request = make_request(
            occasion,
            domain=domain,
            exchange_certificate=certificate,
            register=known,
            combiner_key=keeper.public_key,
            host=host_name(),
            now_ms=clock.now_ms(),
            tool=tool_facts(),
        )
        _make_folder(folder)  # only now: a refused request leaves nothing behind
        return Session(
            folder,
            request,
            keeper,
            domain=domain,
            exchange_certificate=certificate,
            now_ms=clock.now_ms,
            listener=_listen,
        )
    except BaseException:
        keeper.close()
        raise


def _require_empty(folder: Path) -> None:
    try:
        is_free = not any(folder.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputFileError(
            f"opening a ceremony: {folder} cannot be its folder: {error.strerror}",
            hint="Each ceremony has a folder of its own: give a new --session.",
        ) from None
    if not is_free:
        raise InputFileError(
            f"opening a ceremony: {folder} is not empty",
            hint="Each ceremony has a folder of its own: give a new --session.",
        )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputFileError(
            f"making the ceremony's folder {folder}: {error.strerror}",
            hint="Give a --session in a folder that you may write to.",
        ) from None


def _listen(kind: str, told: str) -> None:
    if kind != "opened":
        output.talk(f"· {kind}: {told}")


def _opened_facts(request: CeremonyRequest, folder: Path) -> dict[str, Any]:
    return {
        "ceremony": request.ceremony,
        "class": request.run_class,
        "target": request.target,
        "exchange_x5t_256": request.exchange_x5t_256,
        "domain_sha256": request.domain_sha256,
        "required": request.required,
        "custodians": [{"name": one.name, "x5t_256": one.x5t_256} for one in request.custodians],
        "request": str(folder / "request.json"),
        "request_sha256": request.digest,
        "code": request.code,
        "words": request.words,
        "expires_ms": request.expires_ms,
    }


def _show_opened(request: CeremonyRequest, folder: Path) -> None:
    lab = lab_folder() is not None
    output.say(f"{output.banner(request.run_class, lab=lab)}  ceremony {request.ceremony}")
    output.say(f"Target:        {request.target}, {request.exchange_subject}")
    output.say(f"  x5t#S256     {request.exchange_x5t_256}")
    output.say(f"Domain:        SHA-256 {request.domain_sha256}")
    output.say(f"Quorum:        {request.required} of {len(request.custodians)} custodians")
    for one in request.custodians:
        output.say(f"  {one.name or 'NOT ENROLLED'}  x5t#S256 {one.x5t_256}")
    output.say(f"Request code:  {request.code}")
    output.say(f"  in words     {request.words}")
    output.say(f"Request:       {folder / 'request.json'}")
    output.say("Read the code aloud to each custodian; they type it. Keep this terminal open.")
    output.say(
        f"Then: drengine ceremony combine --session {folder} --contribution FILE … --out BLOB"
    )
    sys.stdout.flush()


@click.command("add")
@session_option
@click.argument("files", nargs=-1, required=True, type=FILE)
@output.output_option
def add_command(*, session: Path, files: tuple[Path, ...], output_format: str) -> int:
    """Hand contributions to the open ceremony as they come in; FILE may be '-'."""
    found = add_contributions(session, files)
    if output_format == "json":
        output.emit("drengine/ceremony-progress/v1", found)
    else:
        output.say(f"{len(found['contributed'])} of {found['required']} contributed")
    return 0


@click.command("cancel")
@session_option
@click.option("--reason", required=True, help="Why; it stands in the transcript.")
@click.option("--by", required=True, help="Who cancels.")
def cancel_command(*, session: Path, reason: str, by: str) -> int:
    """End the open ceremony: its one-time key is gone, its contributions open nothing."""
    from drengine.ceremony.wire import ask_session  # noqa: PLC0415 - lazy for --help

    found = ask_session(session, {"do": "cancel", "reason": reason, "by": by})
    output.say(f"✓ cancelled; transcript head {found['head']}")
    output.say("A new ceremony has a new request: drengine ceremony open --session NEW_FOLDER …")
    return 0


@click.command("deviation")
@session_option
@click.option("--text", required=True, help="What went otherwise than the script says.")
@click.option("--by", required=True, help="Who notes it.")
def deviation_command(*, session: Path, text: str, by: str) -> int:
    """Write a deviation from the script into the transcript."""
    from drengine.ceremony.wire import ask_session  # noqa: PLC0415 - lazy for --help

    found = ask_session(session, {"do": "deviation", "text": text, "by": by})
    output.say(f"✓ noted; transcript head {found['head']}")
    return 0


@click.command("show")
@click.argument("file", type=FILE)
@click.option("--png", type=FILE, help="Write the QR code as a picture instead.")
@click.option("--copy", type=FILE, help="Write the message itself; '-' is standard output.")
def show_command(*, file: Path, png: Path | None, copy: Path | None) -> int:
    """Show a request or contribution as a QR code; FILE may be '-', as a scanner types it."""
    from drengine.ceremony.contribution import MAX_SHARE_BYTES  # noqa: PLC0415 - lazy for --help

    content = read_message(file, "the message", MAX_SHARE_BYTES).strip()
    if copy is not None:
        if png is not None:
            raise UsageError("--png and --copy exclude each other")
        write_message(copy, content, "the message")
        return 0
    print_code(content, png, terminal=png is None)
    if png is not None:
        output.say(f"Wrote {'standard output' if png == STANDARD else png}")
    return 0
