"""`drengine evidence`: seal a run's evidence, stamp it, show parts of it, keep it."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drengine.cli import output
from drengine.cli.places import home_folder
from drengine.cli.plan import auth_option
from drengine.cli.signing import open_key
from drengine.cli.stores import find_run, open_store, run_or_latest
from drengine.errors import InputError

if TYPE_CHECKING:
    from drengine.azure.ports import AuthKind
    from drengine.model.canonical import JsonObject

_folder = click.Path(path_type=Path, file_okay=False)


@click.group("evidence")
def evidence() -> None:
    """Seal a run's evidence; stamp, redact and archive the bundle."""


@evidence.command("seal", short_help="Seal a run's evidence into a signed bundle.")
@run_or_latest
@click.option("--out", type=_folder, help="The bundle's folder; new. By default ./RUN.")
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="DRENGINE_SEALING_KEY",
    required=True,
    help="The key file that seals.",
)
@click.option("--passphrase", metavar="REF", help="Where its passphrase is; asked for by default.")
@click.option("--previous", type=_folder, help="The bundle before this one, to be named in it.")
@click.option(
    "--hsm-sign",
    metavar="KEY",
    help="Have the recovered HSM sign the manifest with KEY, as `evidence hsm-sign` does.",
)
@auth_option
@click.option(
    "--pdf/--no-pdf",
    default=False,
    help="Both pages as PDF too (half a minute); needs drengine[pdf].",
)
@output.output_option
def seal_command(
    *,
    run: str,
    out: Path | None,
    key: Path,
    passphrase: str | None,
    previous: Path | None,
    hsm_sign: str | None,
    auth: AuthKind,
    pdf: bool,
    output_format: str,
) -> int:
    """Seal RUN's evidence into a signed bundle that an auditor can check alone.

    It can be sealed again at any time: the same journals give the same bytes, signature
    and stamps apart. Nothing is appended to the run.
    """
    from drengine.evidence.actions import actions_document  # noqa: PLC0415 - loads the evidence
    from drengine.evidence.reports import reports_of  # noqa: PLC0415 - loads the templates
    from drengine.evidence.seal import SealRequest, seal  # noqa: PLC0415 - as above
    from drengine.trust.signers import KeySigner  # noqa: PLC0415 - as above

    signer = KeySigner(open_key(key, passphrase))
    with open_store() as store:
        found = find_run(store, run)
        folder = seal(
            store,
            SealRequest(
                run=found,
                out=out or Path(found),
                signer=signer,
                reports=partial(reports_of, pdf=("executive", "report") if pdf else ()),
                previous=_named(previous),
                actions=actions_document(store, found, home_folder()),
                checkpoints=checkpoints_of(store, found),
            ),
        )
    by = _hsm_signed(folder, hsm_sign, auth) if hsm_sign else None
    if output_format == "json":
        facts = {"run": found, "bundle": str(folder), "hsm_key": by}
        output.emit("drengine/sealed/v1", facts)
        return 0
    output.say(f"✓ {folder}, sealed with {signer.keyid}")
    if by:
        output.say(f"✓ its manifest signed by the recovered HSM with {by}")
    output.say(f"Next: drengine verify {shlex.quote(str(folder))} --trust FOLDER")
    return 0


def _named(previous: Path | None) -> JsonObject | None:
    from drengine.evidence.history import read_earlier  # noqa: PLC0415 - on this path only

    if previous is None:
        return None
    try:
        found = read_earlier(previous, None)
        return {"run": str(found.manifest["run"]), "manifest_sha256": found.manifest_sha256}
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"--previous {previous}: it is not a sealed bundle ({error}); nothing was sealed"
        ) from None


def checkpoints_of(store: Any, run: str) -> dict[str, bytes]:
    """Return the stamped checkpoints that are kept beside a run's journal."""
    from drengine.evidence.checkpoints import kept_checkpoints  # noqa: PLC0415 - on this path

    return kept_checkpoints(store, run)


def _hsm_signed(folder: Path, key: str, auth: AuthKind) -> str:
    from drengine.cli.hsmsigning import sign_by_hsm  # noqa: PLC0415 - loads Azure's libraries

    return sign_by_hsm(folder, key, auth)


@evidence.command("hsm-sign", short_help="Have the recovered HSM sign a bundle too.")
@click.argument("bundle", type=_folder)
@click.option("--key", required=True, metavar="KEY", help="A key's name, or NAME/VERSION.")
@auth_option
@output.output_option
def hsm_sign_command(*, bundle: Path, key: str, auth: AuthKind, output_format: str) -> int:
    """Have the recovered HSM sign a sealed BUNDLE's manifest with a key from before.

    The key's public half is in the inventory that was taken before the disaster: that the
    signature verifies shows that the private key is back. It needs the right to sign
    (Managed HSM Crypto User on the key); where policy gives it to nobody, leave it out.
    """
    by = _hsm_signed(bundle, key, auth)
    if output_format == "json":
        output.emit("drengine/hsm-signed/v1", {"bundle": str(bundle), "hsm_key": by})
        return 0
    output.say(f"✓ {bundle}: manifest signed by the recovered HSM with {by}")
    return 0


@evidence.command("stamp", short_help="Have a bundle or a run's heads time-stamped.")
@click.argument("target")
@click.option(
    "--tsa",
    "url",
    metavar="URL",
    envvar="DRENGINE_TSA",
    required=True,
    help="The time-stamp authority's address.",
)
@output.output_option
def stamp_command(*, target: str, url: str, output_format: str) -> int:
    """Have TARGET stamped: a sealed bundle's folder, or a run that goes on.

    Of a run the heads of its chains are stamped, so that a later rewriting shows; the
    stamp comes into the bundle when it is sealed. An authority that cannot be reached is
    recorded; give the same command later.
    """
    from drengine.evidence.checkpoints import (  # noqa: PLC0415 - loads urllib
        stamp_bundle,
        stamp_run,
    )

    if Path(target).is_dir():
        done = stamp_bundle(Path(target), url)
    else:
        with open_store() as store:
            done = stamp_run(store, find_run(store, target), url)
    if output_format == "json":
        output.emit("drengine/stamp/v1", {"target": target, **done.to_json()})
    else:
        output.say(f"{'✓' if done.token else '✗'} {target}: {done.told}")
    return 0 if done.token else 4


@evidence.command("redact", short_help="Show some records, with proofs.")
@click.argument("bundle", type=_folder)
@click.option(
    "--profile",
    type=click.Choice(["regulator", "auditor", "internal"]),
    default="auditor",
    show_default=True,
    help="Which records are shown.",
)
@click.option("--record", "records", multiple=True, metavar="RUN:SEQ", help="Only this one.")
@click.option("--out", type=_folder, required=True, help="The folder to write; new.")
@output.output_option
def redact_command(
    *, bundle: Path, profile: str, records: tuple[str, ...], out: Path, output_format: str
) -> int:
    """Show some records of a sealed BUNDLE with proofs, and withhold the rest.

    Whoever gets the folder checks it with `drengine evidence check`, or without drengine
    with the `verify.py` in it; its README says how.
    """
    from drengine.evidence.disclosure import disclose  # noqa: PLC0415 - on this path only

    disclose(bundle, profile, out, records)
    if output_format == "json":
        shown = {"profile": None, "records": list(records)} if records else {"profile": profile}
        output.emit("drengine/disclosure-made/v1", {"folder": str(out), **shown})
        return 0
    output.say(f"✓ {out}")
    output.say(f"Next: drengine evidence check {shlex.quote(str(out))} --trust FOLDER")
    return 0


@evidence.command("check", short_help="Check a redacted folder.")
@click.argument("folder", type=_folder)
@click.option("--trust", type=_folder, required=True, help="Your folder of trusted keys.")
@output.output_option
def check_command(*, folder: Path, trust: Path, output_format: str) -> int:
    """Check a redacted FOLDER: every record in it is part of what was sealed; list them."""
    from drengine.evidence.disclosure import check_disclosure  # noqa: PLC0415 - on this path only
    from drengine.trust.register import read_trust  # noqa: PLC0415 - as above

    found = check_disclosure(folder, read_trust(trust))
    if output_format == "json":
        output.emit("drengine/disclosure-checked/v1", found)
        return 0
    words = output.banner(str(found["class"]), lab=bool(found["lab"]))
    output.say(f"{words}  ✓ {found['shown']} of {found['of']} records of {found['run']}")
    for row in found["records"]:
        place = f"{row['run']}:{row['seq']}"
        output.say(f"  {place}  {row['at']}  {row['type']}  {row['step'] or '-'}  {row['actor']}")
    for note in found["notes"]:
        output.say(f"· {note}")
    return 0


@evidence.command("archive", short_help="Copy a bundle into immutable blobs.")
@click.argument("bundle", type=_folder)
@click.option("--to", "address", required=True, help="azblob://ACCOUNT/CONTAINER[/PREFIX]")
@click.option("--retain", default="2190d", show_default=True, help="For how long; six years.")
@click.option("--trust", type=_folder, help="Verify by the keys of this folder first.")
@click.option("--lock", is_flag=True, help="Lock the policy: it can never be made shorter.")
@click.option("--legal-hold", is_flag=True, help="Also a legal hold, until somebody lifts it.")
@auth_option
@output.output_option
def archive_command(
    *,
    bundle: Path,
    address: str,
    retain: str,
    trust: Path | None,
    lock: bool,
    legal_hold: bool,
    auth: AuthKind,
    output_format: str,
) -> int:
    """Copy a sealed BUNDLE into blobs that cannot be changed, and read each back.

    It is verified first, since nobody can mend it there: by the keys of --trust, or, without
    that folder, that files, journals and seal agree. Whose key sealed it is then not checked.
    """
    from drengine.cli.archiving import archive  # noqa: PLC0415 - loads Azure's libraries

    found = archive(
        bundle, address, retain, trust=trust, lock=lock, legal_hold=legal_hold, auth=auth
    )
    if output_format == "json":
        output.emit("drengine/archived/v1", found)
        return 0
    held = ", legal hold" if found["legal_hold"] else ""
    output.say(f"✓ {found['blobs']} blobs in {address}, unchangeable until {found['until']}{held}")
    if trust is None:
        output.say(
            "· Files, journals and seal agree; whose key sealed it was not checked (--trust)."
        )
    else:
        output.say(f"✓ verified by the keys of {trust} before it was sent")
    return 0
