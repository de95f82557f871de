"""`drengine ceremony combine`: the blob from contributions, or from keys in one place.

Not here: any of the work, and any key: this process prompts, prints and passes on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drengine.cli import output
from drengine.cli.quorum.asking import (
    FILE,
    chosen_class,
    class_option,
    memory_sentence,
)
from drengine.cli.quorum.fetching import combine_in_session, joined_text
from drengine.errors import GuardError, UsageError

if TYPE_CHECKING:
    from drengine.ceremony.combine import CombineReport

_MAX_PASSPHRASE_BYTES = 64 * 1024


@click.command("combine")
@click.option("--session", type=FILE, help="The folder of the open ceremony.")
@click.option(
    "--contribution",
    "contributions",
    type=FILE,
    multiple=True,
    help="A custodian's contribution; once per custodian.",
)
@click.option("--sd-file", type=FILE, help="With --key: the security-domain file.")
@click.option("--exchange-cert", type=FILE, help="With --key: the new HSM's certificate.")
@click.option(
    "--key",
    "keys",
    type=FILE,
    multiple=True,
    help="All keys on this machine: a custodian's private key (PEM); once per custodian.",
)
@click.option(
    "--cert",
    "certificates",
    type=FILE,
    multiple=True,
    help="A custodian's certificate, in the order of --key; without it, the one beside the key.",
)
@click.option("--out", type=FILE, required=True, help="The restore blob to write; must be new.")
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
@class_option
@click.option(
    "--keys-on-one-machine",
    is_flag=True,
    help="With --key, in an incident: accept that all keys meet here; the evidence says so.",
)
@click.option("--transcript", type=FILE, help="With --key: write what happened, for evidence.")
@output.output_option
def combine_command(
    *,
    session: Path | None,
    contributions: tuple[Path, ...],
    out: Path,
    output_format: str,
    **one_machine: Any,
) -> int:
    """Make the restore blob, from contributions or from a quorum of key files.

    With --session, the open ceremony opens the sealed shares in a fresh process that ends
    at once. With --key, all keys are opened in one short-lived process on this machine.
    """
    if (session is None) == (not one_machine["keys"]):
        raise UsageError(
            "give either --session with contributions, or all the keys with --key",
            hint="drengine ceremony combine --session FOLDER --contribution FILE ... --out BLOB",
        )
    if session is not None:
        found = combine_in_session(session, contributions, out)
        facts = {"form": "contribute", **found}
        _tell("drengine/ceremony-combined/v1", facts, joined_text(found), output_format)
        return 0
    if contributions or one_machine["sd_file"] is None or one_machine["exchange_cert"] is None:
        raise UsageError("--key needs --sd-file and --exchange-cert, and no --contribution")
    report = _on_one_machine(out=out, **one_machine)
    facts = report.to_json()
    _tell(str(facts["schema"]), facts, _report_text(report), output_format)
    return 0


def _tell(schema: str, facts: Mapping[str, Any], words: str, output_format: str) -> None:
    if output_format == "json":
        output.emit(schema, facts)
    else:
        output.say(words)


def _on_one_machine(
    *,
    sd_file: Path,
    exchange_cert: Path,
    keys: tuple[Path, ...],
    certificates: tuple[Path, ...],
    out: Path,
    passphrase_fd: int | None,
    accept_open_permissions: bool,
    run_class: str | None,
    keys_on_one_machine: bool,
    transcript: Path | None,
) -> CombineReport:
    from drengine.ceremony.combine import KeySource, combine  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.files import require_new, write_new  # noqa: PLC0415 - lazy for --help

    chosen = chosen_class(run_class)
    if chosen == "incident" and not keys_on_one_machine:
        raise GuardError(
            "this would open the keys of a whole quorum in one place, in an incident; no key was "
            "opened",
            hint="Let custodians contribute ('drengine ceremony open'), add --keys-on-one-machine "
            "to accept it, or say --class drill.",
        )
    if certificates and len(certificates) != len(keys):
        raise UsageError(
            f"{len(keys)} --key and {len(certificates)} --cert were given; the n-th --cert "
            "belongs to the n-th --key",
            hint="Give a --cert for each --key, or none.",
        )
    if transcript is not None:
        require_new(transcript, "the transcript")
    passphrases = _passphrases(keys, passphrase_fd)
    sources = [
        KeySource(path, certificates[number] if certificates else None, passphrases[number])
        for number, path in enumerate(keys)
    ]
    report = combine(
        sd_file, exchange_cert, sources, out, accept_open_permissions=accept_open_permissions
    )
    if transcript is not None:
        write_new(transcript, _transcript_of(report, chosen), "the transcript")
    return report


def _transcript_of(report: CombineReport, run_class: str) -> bytes:
    from drengine.ceremony.contribute import host_name  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.transcript import Transcript  # noqa: PLC0415 - lazy for --help
    from drengine.cli.places import open_clock  # noqa: PLC0415 - only for a transcript
    from drengine.cli.stores import user_name  # noqa: PLC0415 - only for a transcript

    body = {
        "class": run_class,
        "blob_sha256": report.blob_sha256,
        "domain_sha256": report.domain_sha256,
        "exchange_x5t_256": report.exchange_x5t_256,
        "required": report.required,
        "custodians": [used.x5t_256 for used in report.custodians],
        "host": host_name(),
        "plain_ms": report.plain_milliseconds,
        "sentence": f"The private keys of {len(report.custodians)} custodians met in one process.",
    }
    written = Transcript()
    written.append("combined_on_one_machine", user_name(), body, open_clock().now_ms())
    return written.to_bytes()


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
        memory_sentence(locked=report.memory_locked, swap=report.swap_active),
        "Compare the x5t#S256 of 'Made for' with the new HSM's before the blob is delivered.",
    ]
    return "\n".join(lines)
