"""`drengine ceremony`: combine a quorum's keys into a restore blob, inspect a domain.

Not here: any of the work, and any key: this process prompts, prints and passes on.

Rules:
- Passphrases come from a prompt or a descriptor, never from arguments or environment.
- The work is imported inside the commands, so that `--help` loads no cryptography.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from drengine.errors import UsageError

if TYPE_CHECKING:
    from drengine.ceremony.combine import CombineReport
    from drengine.ceremony.domain import SecurityDomain

_MAX_PASSPHRASE_BYTES: Final = 64 * 1024
_FILE: Final = click.Path(path_type=Path)
_output = click.option(
    "-o",
    "--output",
    "output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to print the result.",
)


@click.group("ceremony")
def ceremony() -> None:
    """Open a security domain with a quorum of its custodians' keys."""


@ceremony.command("combine")
@click.option("--sd-file", type=_FILE, required=True, help="The security-domain file.")
@click.option(
    "--exchange-cert", type=_FILE, required=True, help="The new HSM's exchange certificate."
)
@click.option(
    "--key",
    "keys",
    type=_FILE,
    required=True,
    multiple=True,
    help="A custodian's private key (PEM); once per custodian.",
)
@click.option(
    "--cert",
    "certificates",
    type=_FILE,
    multiple=True,
    help="A custodian's certificate, in the order of --key; without it, the one beside the key.",
)
@click.option("--out", type=_FILE, required=True, help="The restore blob to write; must be new.")
@click.option(
    "--passphrase-fd",
    type=click.IntRange(min=0),
    help="Read passphrases from this descriptor: a line per --key, empty for a plain key.",
)
@click.option(
    "--accept-open-permissions",
    is_flag=True,
    help="Read key files that belong to others or that others may read.",
)
@_output
def combine_command(
    *,
    sd_file: Path,
    exchange_cert: Path,
    keys: tuple[Path, ...],
    certificates: tuple[Path, ...],
    out: Path,
    passphrase_fd: int | None,
    accept_open_permissions: bool,
    output: str,
) -> None:
    """Make a restore blob from a quorum of key files, all on this machine.

    All keys are opened in one short-lived process here. Nothing is sent anywhere.
    """
    from drengine.ceremony.combine import KeySource, combine  # noqa: PLC0415 - lazy for --help

    if certificates and len(certificates) != len(keys):
        raise UsageError(
            f"{len(keys)} --key and {len(certificates)} --cert were given; the n-th --cert "
            "belongs to the n-th --key",
            hint="Give a --cert for each --key, or none.",
        )
    passphrases = _passphrases(keys, passphrase_fd)
    sources = [
        KeySource(path, certificates[number] if certificates else None, passphrases[number])
        for number, path in enumerate(keys)
    ]
    report = combine(
        sd_file, exchange_cert, sources, out, accept_open_permissions=accept_open_permissions
    )
    click.echo(json.dumps(report.to_json(), indent=2) if output == "json" else _report_text(report))


@ceremony.command("inspect")
@click.option("--sd-file", type=_FILE, required=True, help="The security-domain file.")
@_output
def inspect_command(*, sd_file: Path, output: str) -> None:
    """Show what a security-domain file says of itself; opens nothing."""
    from drengine.ceremony.domain import (  # noqa: PLC0415 - only this command needs it
        MAX_DOMAIN_BYTES,
        parse_security_domain,
    )
    from drengine.ceremony.files import read_input  # noqa: PLC0415 - only this command needs it

    domain = parse_security_domain(
        read_input(sd_file, "the security-domain file", max_bytes=MAX_DOMAIN_BYTES)
    )
    if output == "json":
        click.echo(json.dumps(_domain_json(domain), indent=2))
    else:
        click.echo(_domain_text(domain))


def _passphrases(keys: tuple[Path, ...], descriptor: int | None) -> list[bytes | None]:
    if descriptor is not None:
        return _passphrases_from(descriptor, len(keys))
    if not sys.stdin.isatty():
        return [None] * len(keys)
    return [_ask(path) for path in keys]


def _ask(path: Path) -> bytes | None:
    words = f"Passphrase of {path} (empty when it is not encrypted)"
    answer: str = click.prompt(words, hide_input=True, default="", show_default=False, err=True)
    return os.fsencode(answer) or None


def _passphrases_from(descriptor: int, expected: int) -> list[bytes | None]:
    try:
        with os.fdopen(descriptor, "rb") as stream:
            content = stream.read(_MAX_PASSPHRASE_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"reading passphrases from descriptor {descriptor}: {error.strerror}",
            hint="Open it in the shell: '--passphrase-fd 3 3<FILE'.",
        ) from None
    lines = content.removesuffix(b"\n").split(b"\n")
    if len(content) > _MAX_PASSPHRASE_BYTES or len(lines) != expected:
        raise UsageError(
            f"descriptor {descriptor} gave {len(lines)} lines of passphrases for {expected} keys",
            hint="Give a line for each --key, in their order; an empty line for a plain key.",
        )
    return [line.removesuffix(b"\r") or None for line in lines]


def _report_text(report: CombineReport) -> str:
    count = len(report.custodians)
    lines = [
        f"Restore blob:  {report.out} ({report.blob_size_bytes} bytes)",
        f"  SHA-256      {report.blob_sha256}",
        f"Made for:      {report.exchange_subject}",
        f"  x5t#S256     {report.exchange_x5t_256}",
        f"From domain:   SHA-256 {report.domain_sha256}",
        f"Custodians:    {count} keys given, {report.required} needed",
    ]
    for used in report.custodians:
        encrypted = "encrypted" if used.key_encrypted else "NOT encrypted"
        trial = ", found by trying it on every share" if used.matched_by == "trial" else ""
        lines.append(f"  {used.x5t_256}  {used.key_file} (PEM, {encrypted}{trial})")
    lines += [
        "",
        f"All {count} private keys were opened in one process on this machine, and the plain",
        f"security domain was in its memory for {report.plain_milliseconds} ms. It is gone now.",
        _memory_sentence(report),
        "Compare the x5t#S256 of 'Made for' with the new HSM's before the blob is delivered.",
    ]
    return "\n".join(lines)


def _memory_sentence(report: CombineReport) -> str:
    if report.memory_locked:
        return "Its memory was locked and could not be swapped out; core dumps were off."
    if report.swap_active:
        return (
            "Its memory could NOT be locked and this machine has swap: parts of it may be "
            "on the swap device. Core dumps were off."
        )
    return "Its memory could not be locked, but no swap is active; core dumps were off."


def _domain_json(domain: SecurityDomain) -> dict[str, object]:
    return {
        "schema": "drengine/ceremony-domain/v1",
        "sha256": domain.sha256,
        "size_bytes": domain.size_bytes,
        "required": domain.required,
        "custodians": list(domain.custodians),
        "parts": list(domain.tags),
    }


def _domain_text(domain: SecurityDomain) -> str:
    return "\n".join(
        [
            f"Security domain: {domain.size_bytes} bytes, SHA-256 {domain.sha256}",
            f"Quorum:          {domain.required} of {len(domain.custodians)} custodians",
            "Custodians (x5t#S256 of their certificates):",
            *(f"  {x5t_256}" for x5t_256 in domain.custodians),
            f"Parts:           {', '.join(domain.tags)}",
            "This is what the file says of itself. Only a quorum can tell that it is true.",
        ]
    )
