"""What the ceremony's commands ask a person: passphrases, PINs, the request code.

Rules:
- Secrets come from a prompt or a descriptor, never from arguments or environment.
- A file named `-` is standard input or output.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from drengine.cli import output
from drengine.errors import DrError, UsageError

MAX_SECRET_BYTES: Final = 64 * 1024
STANDARD: Final = Path("-")
FILE: Final = click.Path(path_type=Path)


def options(*wanted: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Put several options on a command, in the order in which they are shown."""

    def put(command: Any) -> Any:
        for option in reversed(wanted):
            command = option(command)
        return command

    return put


holder_options = options(
    click.option("--key", type=FILE, help="Your private key (PEM)."),
    click.option("--cert", type=FILE, help="Your certificate; by default the one beside the key."),
    click.option("--module", type=FILE, help="A PKCS#11 module, for a key in a token."),
    click.option("--token-label", default="", help="The token's label."),
    click.option("--token-serial", default="", help="The token's serial, where labels repeat."),
    click.option("--key-label", default="", help="The key's label in the token."),
    click.option("--signing-key", type=FILE, help="Your Ed25519 signing key (PEM)."),
    click.option(
        "--passphrase-fd",
        type=click.IntRange(min=0),
        help="Read passphrases from this descriptor: a line for --key, a line for --signing-key.",
    ),
    click.option("--pin-fd", type=click.IntRange(min=0), help="Read the PIN from this descriptor."),
    click.option(
        "--accept-open-permissions",
        is_flag=True,
        help="Read key files that belong to others or that others may read.",
    ),
)


class_option = click.option(
    "--class",
    "run_class",
    type=click.Choice(["drill", "incident"]),
    help="What it is for; by default drill in a lab, incident elsewhere.",
)


def chosen_class(given: str | None) -> str:
    """Return the class: what was given, or what the place suggests."""
    # As `places.lab_folder` reads it; that module loads more than a key needs to wait for.
    return given or ("drill" if os.environ.get("DRENGINE_LAB") else "incident")


def memory_sentence(*, locked: bool, swap: bool) -> str:
    """Say whether memory that held a secret may have been written to a swap device."""
    if locked:
        return "Its memory was locked and could not be swapped out; core dumps were off."
    if swap:
        return (
            "⚠ Its memory could NOT be locked and this machine has swap: parts of it may be "
            "on the swap device. Core dumps were off."
        )
    return "Its memory could not be locked, but no swap is active; core dumps were off."


def read_lines(descriptor: int, expected: int, what: str) -> list[bytes | None]:
    """Read secrets from a descriptor, a line each; an empty line is none.

    Raises:
        UsageError: it cannot be read, or gives another number of lines.
    """
    try:
        with os.fdopen(descriptor, "rb") as stream:
            content = stream.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"reading {what} from descriptor {descriptor}: {error.strerror}",
            hint="Open it in the shell: '--passphrase-fd 3 3<FILE'.",
        ) from None
    lines = content.removesuffix(b"\n").split(b"\n")
    if len(content) > MAX_SECRET_BYTES or len(lines) != expected:
        raise UsageError(
            f"descriptor {descriptor} gave {len(lines)} lines of {what}, not {expected}"
        )
    return [line.removesuffix(b"\r") or None for line in lines]


def ask_secret(words: str) -> bytes | None:
    """Ask on the terminal, without showing it; None where there is no terminal."""
    if not sys.stdin.isatty():
        return None
    answer: str = click.prompt(words, hide_input=True, default="", show_default=False, err=True)
    return os.fsencode(answer) or None


def ask_code(given: str | None) -> str:
    """Return the request code as it was typed.

    Raises:
        UsageError: it was neither given nor can it be asked for.
    """
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise UsageError(
            "the request code must be typed, and there is no terminal",
            hint="Give what the combiner read aloud with --code.",
        )
    words = "Type the code that the combiner reads aloud (digits or words)"
    answer: str = click.prompt(words, err=True)
    return answer


def read_message(path: Path, what: str, most: int) -> bytes:
    """Read a message from a file, or from standard input where it is `-`.

    Raises:
        InputFileError: it cannot be read, or is too large.
    """
    from drengine.ceremony.files import read_input  # noqa: PLC0415 - lazy for --help
    from drengine.errors import InputFileError  # noqa: PLC0415 - lazy for --help

    if path != STANDARD:
        return read_input(path, what, max_bytes=most)
    content = sys.stdin.buffer.read(most + 1)
    if len(content) > most:
        raise InputFileError(f"reading {what} from standard input: more than {most} bytes")
    return content


def add_contributions(session: Path, files: Sequence[Path]) -> dict[str, Any]:
    """Hand contributions to an open ceremony, one by one; return how far it is then.

    Raises:
        InputFileError: a file cannot be read.
        CeremonyError: a contribution is refused; the message names its file.
    """
    from drengine.ceremony.contribution import MAX_SHARE_BYTES  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.messages import encode_bytes  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.wire import ask_session  # noqa: PLC0415 - lazy for --help

    found: dict[str, Any] = {}
    for path in files:
        message = read_message(path, "a contribution", MAX_SHARE_BYTES)
        try:
            found = ask_session(session, {"do": "add", "contribution": encode_bytes(message)})
        except DrError as error:
            # One of several files: which one is what the person needs first.
            raise type(error)(f"{path}: {error.message}", hint=error.hint) from None
        if again := found.pop("again", ""):
            output.talk(f"· {path}: the contribution of {again} was there already; it counts once")
    return found


def write_message(path: Path, content: bytes, what: str) -> None:
    """Write a message to a new file, or to standard output where it is `-`.

    Raises:
        InputFileError: the name is taken, or the disk refuses.
    """
    from drengine.ceremony.files import write_new  # noqa: PLC0415 - lazy for --help

    if path == STANDARD:
        sys.stdout.buffer.write(content + b"\n")
        sys.stdout.buffer.flush()
        return
    write_new(path, content, what)


def warn_of_tracing() -> None:
    """Say on stderr where other programs could look into the processes of a ceremony."""
    from drengine.ceremony.hardening import may_be_traced  # noqa: PLC0415 - lazy for --help

    if may_be_traced():
        output.talk(
            "⚠ programs of your user may trace each other on this machine. Better, before a "
            "ceremony: sysctl kernel.yama.ptrace_scope=1"
        )


def require_codes(so_far: str) -> None:
    """Refuse to go on where no QR code can be made.

    Parameters:
        so_far: what is certain at this point, for the message.

    Raises:
        UsageError: the library is not installed.
    """
    try:
        from drengine.ceremony import qr  # noqa: F401, PLC0415 - an optional extra
    except ModuleNotFoundError:
        raise UsageError(
            f"showing a QR code: the Python package 'segno' is not installed; {so_far}",
            hint="pip install 'drengine[qr]'",
        ) from None


def print_code(content: bytes, picture: Path | None, *, terminal: bool) -> None:
    """Show a message as a QR code, on the terminal (stderr) or as a PNG."""
    if not terminal and picture is None:
        return
    require_codes("the message itself is written")
    from drengine.ceremony import qr  # noqa: PLC0415 - an optional extra

    if terminal:
        click.echo(qr.terminal_code(content), err=True)
    if picture is not None:
        from drengine.ceremony.files import write_new  # noqa: PLC0415 - lazy for --help

        write_new(picture, qr.png_code(content), "the QR code")
