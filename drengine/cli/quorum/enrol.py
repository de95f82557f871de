"""`ceremony enroll`, `ceremony check`, `ceremony challenge`: the custodian register's commands."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drengine.cli import output
from drengine.cli.passphrases import confirm
from drengine.cli.places import open_clock
from drengine.cli.quorum.asking import FILE, ask_secret, holder_options, options, read_lines
from drengine.cli.quorum.custody import sources_of
from drengine.cli.quorum.registers import certificate_of, say_remarks
from drengine.errors import InputFileError, UsageError

if TYPE_CHECKING:
    from drengine.ceremony.enrolling import Keys
    from drengine.ceremony.messages import KeySource

_person = options(
    click.option("--name", required=True, help="Your name."),
    click.option("--location", required=True, help="Where the key is kept."),
    click.option("--contact", required=True, help="How you are reached, at night too."),
    click.option("--register", type=FILE, required=True, help="The register's folder."),
    click.option("--acknowledge", is_flag=True, help="You accept the duty that is shown."),
)


@click.command("enroll")
@_person
@click.option("--new-keys", type=FILE, help="Make a key, certificate and signing key in here.")
@click.option("--new-signing-key", type=FILE, help="Make only a signing key, for a token's key.")
@click.option(
    "--old-signing-key",
    type=FILE,
    help="The signing key enrolled before; it signs for the new one. Its passphrase is the last "
    "line of --passphrase-fd.",
)
@click.option("--without-passphrase", is_flag=True, help="Make keys without one (drills).")
@holder_options
@output.output_option
def enroll_command(
    *,
    name: str,
    location: str,
    contact: str,
    register: Path,
    acknowledge: bool,
    new_keys: Path | None,
    new_signing_key: Path | None,
    old_signing_key: Path | None,
    without_passphrase: bool,
    output_format: str,
    **holder: Any,
) -> int:
    """Enrol a custodian: certificate, holder, place, contact and acknowledged duty, signed.

    With --new-keys, keys are made first; otherwise give your own (--key or --module, and
    --signing-key). The key that opens shares is tried on a challenge, never on a share.
    Who is enrolled already brings another signing key with --old-signing-key only.
    """
    from drengine.ceremony.enrolling import enroll, public_half  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.entering import (  # noqa: PLC0415 - lazy for --help
        require_following,
        require_open,
        require_replaceable,
        time_for,
    )
    from drengine.ceremony.register import ACKNOWLEDGEMENT  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.registry import add_to_register, read_register  # noqa: PLC0415

    output.talk(ACKNOWLEDGEMENT)
    if not acknowledge:
        raise UsageError("the duty above was not acknowledged", hint="Add --acknowledge.")
    known, now_ms = read_register(register, may_be_empty=True), open_clock().now_ms()
    say_remarks(known)
    if new_keys is not None and old_signing_key is not None:
        raise UsageError("--new-keys makes a new certificate: it replaces no signing key")
    if new_keys is None:
        another = new_signing_key is not None and old_signing_key is None
        require_open(known, certificate_of(holder), now_ms, another=another)
    if new_signing_key is not None and not certificate_of(holder):
        raise UsageError(
            "the certificate of your key is not there, so nobody is known by it; no key was made",
            hint="Give your key with --key, or its token with --module, and --cert CERTIFICATE.",
        )
    holder, earlier = _take_earlier(holder, old_signing_key)
    if earlier is not None and new_signing_key is not None:
        accept = holder["accept_open_permissions"]
        replaced = public_half(earlier, accept_open_permissions=accept)
        require_replaceable(known, certificate_of(holder), replaced, now_ms)
    if new_keys is not None or new_signing_key is not None:
        holder = _make(name, new_keys, new_signing_key, holder, without=without_passphrase)
    keys, at_ms = replace(keys_of(holder), earlier=earlier), time_for(known, now_ms)
    enrolment, proof = enroll(keys, name=name, location=location, contact=contact, at_ms=at_ms)
    require_following(known, enrolment)
    if not known.enrolments:
        output.talk(f"· the first entry of a new register: {register}")
    path = add_to_register(register, enrolment)
    add_to_register(register, proof)
    if output_format == "json":
        facts = {"name": name, "x5t_256": enrolment.x5t_256, "enrolment": str(path)}
        output.emit(
            "drengine/ceremony-enrolled/v1", {**facts, "holder": enrolment.holder.to_json()}
        )
        return 0
    output.say(f"✓ {name} is enrolled: {path}")
    output.say(f"  certificate x5t#S256  {enrolment.x5t_256}")
    output.say(f"  holder                {enrolment.holder.kind} {enrolment.holder.token_serial}")
    return 0


def _take_earlier(
    holder: dict[str, Any], path: Path | None
) -> tuple[dict[str, Any], KeySource | None]:
    """Return the holder's options without the earlier signing key's line, and that key's source."""
    from drengine.ceremony.messages import KeySource  # noqa: PLC0415 - lazy for --help

    if path is None:
        return holder, None
    if holder["passphrase_fd"] is None:
        words = f"Passphrase of {path} (empty when it has none)"
        return holder, KeySource(path, None, ask_secret(words))
    expected = (holder["key"] is not None) + 2
    lines = read_lines(holder["passphrase_fd"], expected, "passphrases")
    return {**holder, "passphrase_fd": _as_descriptor(lines[:-1])}, KeySource(path, None, lines[-1])


def _make(
    name: str,
    folder: Path | None,
    signing_path: Path | None,
    holder: dict[str, Any],
    *,
    without: bool,
) -> dict[str, Any]:
    """Make keys and return the options that name them, with one passphrase asked for once."""
    from drengine.ceremony.enrolling import NewKeys, make_keys  # noqa: PLC0415 - lazy

    if folder is not None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InputFileError(f"making {folder}: {error.strerror}") from None
        paths = NewKeys(folder / "signing.key", folder / "custodian.key", folder / "custodian.cer")
    elif signing_path is not None:
        paths = NewKeys(signing_path)
    else:
        raise UsageError("give --new-keys or --new-signing-key")
    phrases = _new_passphrases(holder, new_key=paths.key is not None, without=without)
    make_keys(name, paths, phrases[0], phrases[-1])
    made = {**holder, "signing_key": paths.signing, "passphrase_fd": _as_descriptor(phrases)}
    if paths.key is not None:
        made |= {"key": paths.key, "cert": paths.certificate}
    return made


def _new_passphrases(holder: dict[str, Any], *, new_key: bool, without: bool) -> list[bytes | None]:
    """Return a passphrase for the key file, where there is one, and one for the signing key."""
    has_file = new_key or holder["key"] is not None
    if holder["passphrase_fd"] is not None:
        found = read_lines(holder["passphrase_fd"], 1 + has_file, "passphrases")
    elif without and new_key:
        found = [None, None]
    else:
        found = []
        if new_key:
            found.append(_ask_new("the key"))
        elif has_file:
            found.append(ask_secret("Passphrase of the key (empty when it has none)"))
        found.append(None if without else _ask_new("the signing key"))
    wanted = found if new_key else found[-1:]
    if not without and not all(wanted):
        raise UsageError(
            "a new key needs a passphrase",
            hint="Type one, give --passphrase-fd, or --without-passphrase for a drill.",
        )
    return found


def _ask_new(what: str) -> bytes | None:
    """Ask for the passphrase of a new key, twice; None where there is no terminal."""
    typed = ask_secret(f"New passphrase of {what}")
    if typed is not None:
        confirm(os.fsdecode(typed), what)
    return typed


def _as_descriptor(phrases: list[bytes | None]) -> int:
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "wb") as stream:
        stream.write(b"\n".join(phrase or b"" for phrase in phrases) + b"\n")
    return read_end


def keys_of(holder: dict[str, Any]) -> Keys:
    """Return a custodian's keys from the command line.

    Raises:
        UsageError: the options do not name a holder and a signing key.
    """
    from drengine.ceremony.enrolling import Keys  # noqa: PLC0415 - lazy for --help

    if holder["signing_key"] is None:
        raise UsageError("the register is signed: give --signing-key")
    opener, signing = sources_of(holder)
    if signing is None:
        raise UsageError("the register is signed: give --signing-key")
    return Keys(opener, signing, holder["accept_open_permissions"])


@click.command("check")
@click.option("--register", type=FILE, required=True, help="The register's folder.")
@click.option("--challenge", type=FILE, help="A challenge that the register's keeper made.")
@holder_options
@output.output_option
def check_command(
    *, register: Path, challenge: Path | None, output_format: str, **holder: Any
) -> int:
    """Prove that you still hold your key, without opening anything of the domain."""
    from drengine.ceremony.enrolling import check  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.entering import (  # noqa: PLC0415 - lazy for --help
        require_asked,
        require_counting,
        require_enrolled,
    )
    from drengine.ceremony.files import read_input  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.register import MAX_DOCUMENT_BYTES  # noqa: PLC0415 - lazy
    from drengine.ceremony.registry import add_to_register, read_register  # noqa: PLC0415

    known, now_ms = read_register(register), open_clock().now_ms()
    say_remarks(known)
    if x5t_256 := certificate_of(holder):
        require_enrolled(known, x5t_256, now_ms)
    given = None
    if challenge is not None:
        given = read_input(challenge, "the challenge", max_bytes=MAX_DOCUMENT_BYTES)
        require_asked(known, given)
    proof = check(keys_of(holder), at_ms=now_ms, challenge=given)
    require_counting(known, proof, now_ms)
    path = add_to_register(register, proof)
    if output_format == "json":
        facts = {"x5t_256": proof.x5t_256, "proof": str(path), "challenged": challenge is not None}
        output.emit("drengine/ceremony-checked/v1", facts)
    else:
        output.say(f"✓ the key of {proof.x5t_256} is held: {path}")
    return 0


@click.command("challenge")
@click.option("--register", type=FILE, required=True, help="The register's folder.")
@click.option("--custodian", required=True, help="Name or x5t#S256 of an enrolled custodian.")
@output.output_option
def challenge_command(*, register: Path, custodian: str, output_format: str) -> int:
    """Draw a challenge for one custodian: a proof of it shows that they hold the key now."""
    from drengine.ceremony.certificates import load_certificate  # noqa: PLC0415 - lazy
    from drengine.ceremony.challenges import seal_challenge  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.registry import add_to_register, read_register  # noqa: PLC0415
    from drengine.ceremony.request import same_person  # noqa: PLC0415 - lazy for --help

    known, now_ms = read_register(register), open_clock().now_ms()
    say_remarks(known)
    counting = {one.x5t_256: known.of(one.x5t_256, now_ms) for one in known.enrolments}
    entries = [one for one in counting.values() if one is not None]
    found = [
        one
        for one in entries
        if custodian == one.x5t_256 or same_person(custodian) == same_person(one.name)
    ]
    if not found:
        names = ", ".join(sorted({one.name for one in entries})) or "nobody"
        raise InputFileError(
            f"no custodian {custodian!r} is in the register {register}",
            hint=f"Enrolled are: {names}. Give one of these names, or an x5t#S256.",
        )
    newest = max(found, key=lambda one: one.at_ms)
    made = seal_challenge(load_certificate(newest.certificate), os.urandom, at_ms=now_ms)
    path = add_to_register(register, made)
    if output_format == "json":
        facts = {"name": newest.name, "x5t_256": newest.x5t_256, "challenge": str(path)}
        output.emit("drengine/ceremony-challenged/v1", facts)
        return 0
    output.say(f"Wrote {path}")
    output.say(f"Next, by {newest.name}: drengine ceremony check --challenge {path} …")
    return 0
