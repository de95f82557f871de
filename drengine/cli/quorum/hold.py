"""The combiner's terminal: open a ceremony and hold it; show a message as a QR code.

Not here: any of the work, and what is said to an open ceremony (`telling`).
"""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from drengine.cli import output
from drengine.cli.places import lab_folder, open_clock
from drengine.cli.quorum.asking import (
    FILE,
    STANDARD,
    chosen_class,
    class_option,
    print_code,
    read_message,
    require_codes,
    warn_of_tracing,
    write_message,
)
from drengine.cli.quorum.registers import say_remarks
from drengine.errors import DrError, GuardError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from drengine.ceremony.keeper import Keeper
    from drengine.ceremony.opening import Occasion
    from drengine.ceremony.request import CeremonyRequest
    from drengine.ceremony.session import Session

_MAX_CERTIFICATE_BYTES: Final = 64 * 1024
_MAX_VALID_HOURS: Final = 168
_HOUR_MS: Final = 3_600_000


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
@click.option(
    "--accept-swap",
    is_flag=True,
    help="In an incident: hold it though the key's memory may be swapped out; it is noted.",
)
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
    accept_swap: bool,
    qr: bool,
    qr_png: Path | None,
    output_format: str,
) -> int:
    """Open a ceremony and hold it, with a one-time key in this machine's memory only.

    Writes the request into the session folder and stays until the blob is made,
    'ceremony cancel', Ctrl-C or the request's expiry. The key is on no disk: when this
    command ends, a new ceremony has to be opened.
    """
    from drengine.ceremony.files import require_new  # noqa: PLC0415 - lazy for --help
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
    session = session.absolute()  # it is shown to people whose terminal is elsewhere
    if qr_png is not None:
        require_new(qr_png, "the QR code", option="--qr-png")
    if qr or qr_png is not None:
        require_codes("nothing was opened")
    _catch_ends()
    held = _open(occasion, session, sd_file, exchange_cert, register, accept_swap=accept_swap)

    def announce() -> None:
        if output_format == "json":
            output.emit("drengine/ceremony-opened/v1", _opened_facts(held, session))
            sys.stdout.flush()
        else:
            _show_opened(held.request, session)
        if held.may_be_swapped:
            _warn_of_swap()
        warn_of_tracing()
        try:
            print_code(held.request.to_bytes(), qr_png, terminal=qr)
        except DrError as error:  # a code more or less: the ceremony is announced, and goes on
            output.talk(f"⚠ {error.message}. {error.hint}")

    return _hold(held, announce)


def _catch_ends() -> None:
    """Have a lost terminal end this process like Ctrl-C: the transcript then says so."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, _interrupt)


def _hold(held: Session, announce: Callable[[], None]) -> int:
    """Announce the ceremony and answer until it is closed; return the exit code."""
    try:
        held.serve(announce)
    except KeyboardInterrupt:
        held.end()
        if held.outcome != "combined":
            with suppress(OSError):
                output.talk(
                    "Interrupted: the one-time key is gone; contributions to it open nothing."
                )
            return 130
    finally:
        held.end()
    with suppress(OSError):  # the terminal may be gone; the exit code is not
        output.talk(f"The ceremony is {held.outcome}; the one-time key is gone.")
        if held.outcome == "combined":
            output.talk(f"The restore blob lies in {held.blob_path}; it is no secret.")
    return 0 if held.outcome == "combined" else 15


def _warn_of_swap() -> None:
    from drengine.ceremony.session import SWAP_TEXT  # noqa: PLC0415 - lazy for --help

    output.talk(f"⚠ {SWAP_TEXT}. Better: cancel, 'swapoff -a' or 'ulimit -l unlimited', open anew.")


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


def _open(
    occasion: Occasion,
    folder: Path,
    sd_file: Path,
    exchange_cert: Path,
    register: Path | None,
    *,
    accept_swap: bool,
) -> Session:
    from drengine.ceremony.contribute import host_name  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.domain import MAX_DOMAIN_BYTES  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.files import read_input  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.folder import require_free, take_folder  # noqa: PLC0415 - lazy
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
    require_free(folder)
    clock = open_clock()
    keeper = Keeper()
    try:
        _require_guarded(keeper, occasion.run_class, accepted=accept_swap)
        request = make_request(
            occasion,
            domain=domain,
            exchange_certificate=certificate,
            register=known,
            combiner_key=keeper.public_key,
            combiner_signs=keeper.signs,
            host=host_name(),
            now_ms=clock.now_ms(),
            tool=tool_facts(),
        )
        take_folder(folder)  # only now: a refused request leaves nothing behind
        return Session(
            folder,
            request,
            keeper,
            domain=domain,
            exchange_certificate=certificate,
            now_ms=clock.now_ms,
            listener=_listen,
            # In a lab the clock is the lab's, and nothing is said of the machine's.
            shown_ms=clock.wall_ms if lab_folder() is None else lambda: None,
            swap_accepted=accept_swap,
        )
    except BaseException:
        keeper.close()
        raise


def _require_guarded(keeper: Keeper, run_class: str, *, accepted: bool) -> None:
    """Refuse, in an incident, a one-time key that may come to lie on a disk."""
    if keeper.memory_locked or not keeper.swap_active or run_class != "incident" or accepted:
        return
    raise GuardError(
        "opening a ceremony of class incident: the memory of the one-time key could not be locked, "
        "and swap is active on this machine, so that parts of it may be written to a disk; nothing "
        "was opened",
        hint="Switch swap off ('swapoff -a'), or allow memory to be locked ('ulimit -l unlimited' "
        "or CAP_IPC_LOCK), and open again. To accept it: --accept-swap; the transcript says so.",
    )


def _listen(kind: str, told: str) -> None:
    if kind != "opened":
        output.talk(f"· {kind}: {told}")


def _opened_facts(held: Session, folder: Path) -> dict[str, Any]:
    request = held.request
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
        **held.memory,
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
