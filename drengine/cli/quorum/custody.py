"""The custodian's command: contribute one share, on the custodian's own machine.

Not here: any key. A child opens it; this asks, shows and writes.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drengine.cli import output
from drengine.cli.places import lab_folder, open_clock
from drengine.cli.quorum.asking import (
    FILE,
    STANDARD,
    ask_code,
    ask_secret,
    holder_options,
    memory_sentence,
    print_code,
    read_lines,
    read_message,
    warn_of_tracing,
    write_message,
)
from drengine.errors import UsageError

if TYPE_CHECKING:
    from drengine.ceremony.contribute import Contributed
    from drengine.ceremony.messages import KeySource, TokenSource
    from drengine.ceremony.request import CeremonyRequest


def sources_of(given: dict[str, Any]) -> tuple[KeySource | TokenSource, KeySource | None]:
    """Return holder and signing key from the command line, with passphrases and PIN asked for.

    Raises:
        UsageError: the options do not name exactly one holder.
    """
    from drengine.ceremony.messages import KeySource, TokenSource  # noqa: PLC0415 - lazy

    key, module, signing = given["key"], given["module"], given["signing_key"]
    if (key is None) == (module is None):
        raise UsageError("give either --key, or --module with --token-label")
    if module is not None and (given["cert"] is None or not given["token_label"]):
        raise UsageError("a token needs --token-label, and --cert with the certificate of its key")
    if key is not None and given["pin_fd"] is not None:
        raise UsageError("--pin-fd is for tokens")
    files = [path for path in (key, signing) if path is not None]
    phrases = _passphrases(files, given["passphrase_fd"])
    signed = None if signing is None else KeySource(signing, None, phrases.pop())
    if key is not None:
        return KeySource(key, given["cert"], phrases.pop()), signed
    token = TokenSource(
        module=module,
        token_label=given["token_label"],
        certificate=given["cert"],
        key_label=given["key_label"],
        token_serial=given["token_serial"],
        pin=_pin(given["pin_fd"], given["token_label"]),
    )
    return token, signed


def _passphrases(files: list[Path], descriptor: int | None) -> list[bytes | None]:
    if not files:
        return []
    if descriptor is not None:
        return read_lines(descriptor, len(files), "passphrases")
    return [ask_secret(f"Passphrase of {path} (empty when it has none)") for path in files]


def _pin(descriptor: int | None, label: str) -> bytes:
    pin = (
        read_lines(descriptor, 1, "the PIN")[0]
        if descriptor is not None
        else ask_secret(f"PIN of the token {label!r} (one try)")
    )
    if not pin:
        raise UsageError("a token needs its PIN", hint="Type it when asked, or give --pin-fd.")
    return pin


@click.command("contribute")
@click.option("--request", type=FILE, required=True, help="The request; '-' is standard input.")
@click.option("--sd-file", type=FILE, required=True, help="Your copy of the security-domain file.")
@click.option("--name", required=True, help="Your name, as it is enrolled.")
@click.option("--code", help="The request code as it was read to you; asked for otherwise.")
@click.option("--out", type=FILE, required=True, help="The contribution; '-' is standard output.")
@holder_options
@click.option(
    "--accept-plain-key", is_flag=True, help="In an incident, use a key without a passphrase."
)
@click.option("--qr", is_flag=True, help="Show the contribution as a QR code.")
@click.option("--qr-png", type=FILE, help="Write the contribution's QR code as a picture.")
@output.output_option
def contribute_command(
    *,
    request: Path,
    sd_file: Path,
    name: str,
    code: str | None,
    out: Path,
    accept_plain_key: bool,
    qr: bool,
    qr_png: Path | None,
    output_format: str,
    **holder: Any,
) -> int:
    """Open your own share and seal it to one ceremony's combiner.

    Shows what the request asks, has its code typed in, then opens your share in a
    short-lived process and seals it at once. The contribution may travel any way.
    """
    from drengine.ceremony.contribute import (  # noqa: PLC0415 - lazy for --help
        contribute,
        host_name,
        look_at,
        require_code,
    )
    from drengine.ceremony.contributing import ContributeOrder  # noqa: PLC0415 - lazy
    from drengine.ceremony.domain import MAX_DOMAIN_BYTES  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.files import read_input, require_new  # noqa: PLC0415 - lazy
    from drengine.ceremony.request import MAX_REQUEST_BYTES  # noqa: PLC0415 - lazy for --help
    from drengine.installed import tool_facts  # noqa: PLC0415 - lazy for --help

    if out != STANDARD:
        require_new(out, "the contribution")
    elif output_format == "json":
        raise UsageError("--out - puts the contribution on standard output; give -o json a file")
    if qr_png is not None:
        require_new(qr_png, "the QR code", option="--qr-png")
    asked = read_message(request, "the ceremony request", MAX_REQUEST_BYTES).removesuffix(b"\n")
    domain = read_input(sd_file, "the security-domain file", max_bytes=MAX_DOMAIN_BYTES)
    now_ms = open_clock().now_ms()
    found = look_at(asked, domain, now_ms=now_ms)
    _show(found)
    warn_of_tracing()
    require_code(found, ask_code(code))
    opener, signing = sources_of(holder)
    tool = tool_facts()
    made = contribute(
        ContributeOrder(
            request=asked,
            domain=domain,
            holder=opener,
            signing=signing,
            custodian=name,
            host=host_name(),
            at_ms=now_ms,
            tool_version=tool["version"],
            tool_sha256=tool["files_sha256"],
            accept_open_permissions=holder["accept_open_permissions"],
            accept_plain_key=accept_plain_key,
        )
    )
    content = made.contribution.to_bytes()
    write_message(out, content, "the contribution")
    print_code(content, qr_png, terminal=qr)
    if output_format == "json":
        output.emit("drengine/ceremony-contributed/v1", _facts(made, out))
    else:
        _report(made, out)
    return 0


def _facts(made: Contributed, out: Path) -> dict[str, Any]:
    """Return what was contributed, without the share."""
    return {
        "out": str(out),
        "attestation": made.contribution.attestation.to_json(),
        "plain_ms": made.plain_milliseconds,
        "memory_locked": made.memory_locked,
        "swap_active": made.swap_active,
    }


def _show(request: CeremonyRequest) -> None:
    """Show a person what they are asked for; on stderr, since the result may be on stdout."""
    lab = lab_folder() is not None
    expires = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(request.expires_ms / 1000))
    for line in (
        f"{output.banner(request.run_class, lab=lab)}  ceremony {request.ceremony}",
        f"Purpose:   {request.purpose}",
        f"Target:    {request.target}, {request.exchange_subject}",
        f"  x5t#S256 {request.exchange_x5t_256}",
        f"Combiner:  {request.combiner} on {request.combiner_host}",
        f"Witnesses: {', '.join(request.witnesses) or 'NONE'}",
        f"Quorum:    {request.required} of {len(request.custodians)} custodians",
        f"Valid to:  {expires}",
    ):
        output.talk(line)


def _report(made: Contributed, out: Path) -> None:
    statement = made.contribution.statement
    holder = statement.holder
    where = f"token {holder.token_label!r}" if holder.kind == "pkcs11" else "PEM file"
    signed = "signed" if statement.key else "NOT SIGNED: no signing key was given"
    shown = "standard output" if out == STANDARD else str(out)
    output.talk(f"✓ contribution of {statement.custodian} ({where}, {signed}): {shown}")
    output.talk(
        f"  Your share was plain in one process for {made.plain_milliseconds} ms at most; it is"
        " gone. Carry the file to the combiner in any way: only the combiner can open it."
    )
    output.talk(f"  {memory_sentence(locked=made.memory_locked, swap=made.swap_active)}")
