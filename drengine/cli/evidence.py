"""`drengine evidence`: seal a run's evidence, stamp it, show parts of it, keep it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drengine.cli import output
from drengine.cli.places import home_folder
from drengine.cli.signing import open_key
from drengine.cli.stores import find_run, open_store, run_or_latest
from drengine.errors import InputError

if TYPE_CHECKING:
    from drengine.model.canonical import JsonObject

_folder = click.Path(path_type=Path, file_okay=False)


@click.group("evidence")
def evidence() -> None:
    """Seal a run's evidence; stamp, redact and archive the bundle."""


@evidence.command("seal")
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
@click.option("--pdf/--no-pdf", default=False, help="Also a PDF; needs drengine[pdf].")
@output.output_option
def seal_command(
    *,
    run: str,
    out: Path | None,
    key: Path,
    passphrase: str | None,
    previous: Path | None,
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
                reports=lambda facts: reports_of(facts, pdf=pdf),
                previous=_named(previous),
                actions=actions_document(store, found, home_folder()),
                checkpoints=checkpoints_of(store, found),
            ),
        )
    if output_format == "json":
        output.emit("drengine/sealed/v1", {"run": found, "bundle": str(folder)})
        return 0
    output.say(f"✓ {folder}, sealed with {signer.keyid}")
    output.say(f"Next: drengine verify {folder} --trust FOLDER")
    return 0


def _named(previous: Path | None) -> JsonObject | None:
    from drengine.evidence.bundle import MANIFEST  # noqa: PLC0415 - on this path only
    from drengine.model.canonical import sha256_hex  # noqa: PLC0415 - as above
    from drengine.trust.dsse import parse_json  # noqa: PLC0415 - as above

    if previous is None:
        return None
    try:
        data = (previous / MANIFEST).read_bytes()
        return {"run": str(parse_json(data)["run"]), "manifest_sha256": sha256_hex(data)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"--previous {previous}: it is not a sealed bundle ({error})") from None


def checkpoints_of(store: Any, run: str) -> dict[str, bytes]:
    """Return the stamped checkpoints that are kept beside a run's journal."""
    from drengine.evidence.checkpoints import kept_checkpoints  # noqa: PLC0415 - on this path

    return kept_checkpoints(store, run)


@evidence.command("stamp")
@click.argument("target")
@click.option("--tsa", "url", required=True, help="The time-stamp authority's address.")
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
