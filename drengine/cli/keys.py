"""`drengine key`: signing keys, and the trust folder that says whose they are."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drengine.cli import output
from drengine.errors import GuardError, InputError, InputFileError

if TYPE_CHECKING:
    from drengine.journal.sqlite import SqliteStore
    from drengine.model.ids import RunId
    from drengine.trust.keys import PrivateKey

_file = click.Path(path_type=Path, dir_okay=False)


@click.group("key")
def key() -> None:
    """Make and show signing keys; keep a trust folder.

    A key file is an ECDSA key on P-256 in encrypted PKCS#8. Its id is the SHA-256 of its
    public half: openssl pkey -pubin -in KEY.pub.pem -outform DER | sha256sum
    """


@key.command("init")
@click.argument("path", type=_file)
@click.option(
    "--passphrase",
    metavar="REF",
    help="Where the passphrase is: env:NAME, file:PATH, fd:N; asked for by default.",
)
@output.output_option
def init_command(*, path: Path, passphrase: str | None, output_format: str) -> int:
    """Make a key at PATH, and its public half beside it."""
    from drengine.cli.passphrases import confirm  # noqa: PLC0415 - with a key only
    from drengine.cli.secrets import SecretResolver  # noqa: PLC0415 - with a key only
    from drengine.trust.keys import (  # noqa: PLC0415 - as above
        keyid_of,
        make_key,
        public_pem,
    )

    secret = SecretResolver()(passphrase or f"prompt:New passphrase of {path.name}")
    if passphrase is None:
        confirm(secret.reveal(), f"the key {path.name}")
    made = make_key()
    public = _saved(made, path, secret.reveal().encode())
    keyid = keyid_of(public_pem(made))
    if output_format == "json":
        facts = {"key": str(path), "public": str(public), "keyid": keyid}
        output.emit("drengine/key/v1", facts)
        return 0
    output.say(f"✓ {path}, and {public} to give away")
    output.say(f"Id    {keyid}")
    output.say(f"Next: drengine key trust FOLDER NAME --public {shlex.quote(str(public))}")
    return 0


def _saved(made: PrivateKey, path: Path, passphrase: bytes) -> Path:
    from drengine.trust.keys import save_key  # noqa: PLC0415 - with a key only

    try:
        return save_key(made, path, passphrase)
    except InputFileError as error:
        hint = error.hint or "Name another file, or move that one away."
        raise InputFileError(error.message, hint=hint) from None
    except InputError as error:
        hint = error.hint or "Give a longer one: drengine key init asks for it without --passphrase"
        raise InputError(error.message, hint=hint) from None


@key.command("show", short_help="Show the public half of a key.")
@click.argument("path", type=_file)
@output.output_option
def show_command(*, path: Path, output_format: str) -> int:
    """Show the public half of the key at PATH: a key file or a public key."""
    from drengine.trust.files import read_bounded  # noqa: PLC0415 - with a key only
    from drengine.trust.keys import PUBLIC_SUFFIX  # noqa: PLC0415 - as above

    text = read_bounded(path, "the key").decode("ascii", "replace")
    if "PRIVATE KEY" in text:
        text = read_bounded(path.with_suffix(PUBLIC_SUFFIX), "the public key").decode("ascii")
    kind, keyid = _identify(path, text)
    if output_format == "json":
        output.emit("drengine/key/v1", {"kind": kind, "keyid": keyid, "public": text})
        return 0
    output.say(text.rstrip())
    output.say(f"Kind  {kind}")
    output.say(f"Id    {keyid}")
    return 0


def _identify(path: Path, text: str) -> tuple[str, str]:
    if "PRIVATE KEY" in text:
        raise InputError(
            f"{path} is a private key; it was not entered anywhere",
            hint=f"Give its public half: {path.with_suffix('.pub.pem')}, or {path}.pub (SSH).",
        )
    from drengine.trust.register import key_id  # noqa: PLC0415 - with a key only

    kind = "cms" if "BEGIN CERTIFICATE" in text else "p256" if "BEGIN PUBLIC" in text else "ssh"
    try:
        return kind, key_id(kind, text)
    except ValueError as error:
        raise InputError(
            f"{path}: {error}", hint="Give a P-256 or SSH public key, or a certificate."
        ) from None


@key.command("trust", short_help="Enter a key into a trust folder.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.argument("name")
@click.option("--public", type=_file, help="Public key, SSH key or certificate.")
@click.option("--role", "roles", multiple=True, help="A role that the person holds; repeatable.")
@click.option("--drop-role", "dropped", multiple=True, help="One to take away; repeatable.")
@click.option("--account", "accounts", multiple=True, help="A name this person starts runs under.")
@click.option("--sealer", is_flag=True, help="The key seals bundles; it approves nothing.")
@click.option("--revoked", metavar="UTC", help="The key does not count from this time on.")
@click.option(
    "--remove",
    "removed",
    metavar="KEYID",
    help="Take out a key that was entered by mistake, before any run here knows it.",
)
@output.output_option
def trust_command(
    *,
    folder: Path,
    name: str,
    public: Path | None,
    roles: tuple[str, ...],
    dropped: tuple[str, ...],
    accounts: tuple[str, ...],
    sealer: bool,
    revoked: str | None,
    removed: str | None,
    output_format: str,
) -> int:
    """Enter NAME's key into the trust FOLDER, making it where there is none.

    A run keeps the register that it began with: what is changed here holds for later plans.
    """
    if removed is not None:
        if any((public, roles, dropped, accounts, revoked)):
            raise click.UsageError("--remove takes a key out; give at most --sealer with it.")
        return _take_out(folder, name, removed, output_format, sealer=sealer)
    if public is None:
        raise click.UsageError("Give --public FILE, or --remove KEYID.")
    from drengine.trust.enrolling import Entry, enrol  # noqa: PLC0415 - with a key only
    from drengine.trust.files import read_bounded  # noqa: PLC0415 - as above

    text = read_bounded(public, "the public key").decode("ascii", "replace")
    kind, keyid = _identify(public, text)
    entry = Entry(
        name, kind, text, roles, accounts, sealer=sealer, revoked=revoked or "", dropped=dropped
    )
    slips = _roles_nobody_asks_for(roles)
    enrol(folder, entry)
    holds = () if sealer else _roles_of(folder, name)
    for slip in slips:
        output.talk(f"⚠ {slip}")
    if output_format == "json":
        facts = {"folder": str(folder), "name": name, "kind": kind, "keyid": keyid}
        output.emit("drengine/trusted/v1", {**facts, "sealer": sealer, "roles": list(holds)})
        return 0
    does = "seals with" if sealer else "approves with"
    if revoked:
        output.say(f"✓ {folder}: {name}: {keyid} is REVOKED: it does not count from {revoked} on")
    else:
        output.say(f"✓ {folder}: {name} {does} {keyid}")
    if not sealer:
        said = ", ".join(holds) or "none: gates that ask for a role do not count it"
        output.say(f"  Roles   {said}")
    return 0


def _take_out(folder: Path, name: str, keyid: str, output_format: str, *, sealer: bool) -> int:
    from drengine.trust.enrolling import remove  # noqa: PLC0415 - with a key only

    if not sealer and (users := _runs_with(keyid)):
        raise GuardError(
            f"{keyid} stands in the register of {', '.join(users)}: what it signed there could not"
            " be verified with this folder any more; nothing was changed",
            hint=f"drengine key trust {shlex.quote(str(folder))} {name} --public FILE --revoked UTC"
            "   # from then on it does not count",
        )
    whole = remove(folder, name, keyid, sealer=sealer)
    if output_format == "json":
        facts = {"folder": str(folder), "name": name, "keyid": whole, "removed": True}
        output.emit("drengine/trusted/v1", {**facts, "sealer": sealer} if sealer else facts)
        return 0
    if sealer:
        output.say(f"✓ {folder}: {whole} seals no more")
        output.say("  A bundle that it did seal does not verify with this folder any more")
        return 0
    output.say(f"✓ {folder}: {name} has {whole} no more; no run of this home knew it")
    named = shlex.quote(str(folder))
    output.say(f"Next: drengine key trust {named} NAME --public FILE   # under the right name")
    return 0


def _runs_with(keyid: str) -> list[str]:
    """Return the runs of this home whose register has a key."""
    from drengine.cli.places import home_folder  # noqa: PLC0415 - on this path only
    from drengine.cli.stores import open_store  # noqa: PLC0415 - as above

    if not (home_folder() / "drengine.db").exists():
        return []
    with open_store() as store:
        roots = [row.run for row in store.runs() if "/" not in row.run]
        return [run for run in roots if _knows(store, run, keyid)]


def _knows(store: SqliteStore, run: RunId, keyid: str) -> bool:
    if "approvers" not in store.documents(run):
        return False
    people: Any = store.get_document(run, "approvers")["people"]
    return any(key["keyid"].startswith(keyid) for person in people for key in person["keys"])


@key.command("trust-tsa", short_help="Enter a time-stamp authority's root.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--root",
    type=_file,
    required=True,
    help="The authority's root certificate in PEM; more in the same file are entered, too.",
)
@output.output_option
def trust_tsa_command(*, folder: Path, root: Path, output_format: str) -> int:
    """Enter a time-stamp authority's root into the trust FOLDER, making it where there is none.

    `drengine verify` believes a time stamp only where it leads to a root in this folder;
    without one every stamp is a note and anchors nothing. Take the root from the authority
    itself, never from a bundle, and compare its digest with what the authority publishes:

    \b
      drengine key trust-tsa trust/ --root tsa-root.pem
      drengine run plan.json --tsa https://tsa.example/
      drengine evidence stamp evidence --tsa https://tsa.example/
      drengine verify evidence --trust trust/
    """
    from drengine.trust.enrolling import add_tsa  # noqa: PLC0415 - with a root only
    from drengine.trust.files import read_bounded  # noqa: PLC0415 - as above

    text = read_bounded(root, "the root certificate").decode("ascii", "replace")
    fresh = add_tsa(folder, text)
    if output_format == "json":
        facts = {"folder": str(folder), "entered": [each.to_json() for each in fresh]}
        output.emit("drengine/trusted-tsa/v1", facts)
        return 0
    for each in fresh:
        told = each.to_json()
        output.say(f"✓ {folder}: time stamps that lead to {told['subject']} count")
        output.say(f"  SHA-256 {told['sha256']}, until {told['not_after']}")
    if not fresh:
        output.say(f"✓ {folder}: had every certificate of {root} already; nothing was changed")
    return 0


def _roles_of(folder: Path, name: str) -> tuple[str, ...]:
    from drengine.trust.register import read_trust  # noqa: PLC0415 - with a key only

    people = read_trust(folder).register.people
    return next(person.roles for person in people if person.name == name)


def _roles_nobody_asks_for(roles: tuple[str, ...]) -> list[str]:
    """Say which roles no shipped runbook asks for: mostly a slip of the pen."""
    if not roles:
        return []
    from drengine.cli.library import roles_of_gates  # noqa: PLC0415 - with a role only

    asked = roles_of_gates()
    return [
        f"No shipped runbook asks for the role {role!r}; they ask for {', '.join(asked)}."
        for role in roles
        if role not in asked
    ]
