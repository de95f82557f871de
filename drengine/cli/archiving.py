"""Archiving a bundle: from a folder to blobs under a policy.

What is locked away for years is verified first: nobody could put a bundle right there.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any, Final

from drengine.azure.archive import Archived, BlobArchive, Retention
from drengine.azure.auth import AuthKind, session_of
from drengine.cli.places import lab_folder, open_clock
from drengine.cli.times import option_ms
from drengine.errors import (
    AzureError,
    DrError,
    GuardError,
    InputError,
    NotAuthorized,
    VerificationError,
)
from drengine.evidence.bundle import MANIFEST, is_outside
from drengine.evidence.sealed import contradictions, verify_bundle
from drengine.evidence.sums import SUMS, read_sums
from drengine.model.canonical import sha256_hex
from drengine.trust.register import read_trust

_NOT_FOUND: Final = 404
_ADDRESS: Final = re.compile(
    r"azblob://(?P<account>[a-z0-9-]{3,63})/(?P<container>[a-z0-9-]{3,63})(?:/(?P<prefix>[\w./-]*))?"
)


def archive(
    bundle: Path,
    address: str,
    retain: str,
    *,
    trust: Path | None,
    lock: bool,
    legal_hold: bool,
    auth: AuthKind,
) -> dict[str, Any]:
    """Put a bundle into a container and return what the service says of it.

    Parameters:
        trust: whose keys count; without it, whose key sealed the bundle is not asked.

    Raises:
        InputError: the address is none, or the folder no sealed bundle.
        VerificationError: the bundle does not verify; nothing was sent.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise InputError(
            f"{address!r} is not an address of blobs", hint="azblob://ACCOUNT/CONTAINER[/PREFIX]"
        )
    files = _whole(bundle)
    _verify(bundle, trust)
    retention = Retention(open_clock().now_ms() + option_ms("--retain", retain), lock, legal_hold)
    stem = (match["prefix"] or "").rstrip("/")
    prefix = f"{stem}/{bundle.resolve().name}/" if stem else f"{bundle.resolve().name}/"
    place = (match["account"], match["container"])
    if retention.until_ms <= open_clock().now_ms():
        raise InputError(f"--retain {retain}: that is no time at all")
    found = asyncio.run(_keep(files, place, prefix, retention, auth))
    return {
        "blobs": found.blobs,
        "size_bytes": found.size_bytes,
        "until": found.until,
        "legal_hold": found.legal_hold,
        "prefix": prefix,
        "verified": "seal" if trust is None else "trust",
    }


def _verify(bundle: Path, trust: Path | None) -> None:
    """Refuse a bundle that an auditor would have to refuse.

    Raises:
        VerificationError: says what is wrong first, and how much there is.
    """
    if trust is None:
        problems = contradictions(bundle)
        again = f"drengine verify {bundle} --trust FOLDER"
    else:
        problems = verify_bundle(bundle, read_trust(trust)).problems
        again = f"drengine verify {bundle} --trust {trust}"
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise VerificationError(
            f"{bundle} does not verify: {problems[0]}{more}; nothing was sent", hint=again
        )


def _whole(bundle: Path) -> dict[str, bytes]:
    """Return the files of a sealed bundle, all of them and as they were sealed.

    Raises:
        InputError: it is no sealed bundle, or a file is missing, changed or too many.
    """
    if not (bundle / MANIFEST).is_file():
        raise InputError(f"{bundle} is not a sealed bundle", hint="drengine evidence seal RUN")
    if links := sorted(file.name for file in bundle.rglob("*") if file.is_symlink()):
        raise InputError(
            f"{bundle} holds a symbolic link ({links[0]}): it was not sealed; nothing was sent",
            hint=f"drengine verify {bundle} --trust FOLDER",
        )
    try:
        files = {
            file.relative_to(bundle).as_posix(): file.read_bytes()
            for file in sorted(bundle.rglob("*"))
            if file.is_file()
        }
        sealed = read_sums(files.get(SUMS, b""))
    except (OSError, ValueError) as error:
        raise InputError(f"reading {bundle}: {error}; nothing was sent") from None
    found = {name: sha256_hex(data) for name, data in files.items() if not is_outside(name)}
    if wrong := sorted(name for name, _ in sealed.items() ^ found.items()):
        raise InputError(
            f"{bundle} is not as it was sealed ({wrong[0]}); nothing was sent",
            hint=f"drengine verify {bundle} --trust FOLDER",
        )
    return files


async def _keep(
    files: dict[str, bytes],
    place: tuple[str, str],
    prefix: str,
    retention: Retention,
    auth: AuthKind,
) -> Archived:
    session = await session_of(auth, lab_folder() is not None)
    try:
        where = await session.whoami()
        url = f"https://{place[0]}.blob.{where.storage_suffix}/{place[1]}"
        store = BlobArchive(session.pipeline(), url)
        try:
            return await store.keep(files, prefix, retention)
        except DrError as error:
            so_far = f"{store.kept} of {len(files)} blobs are kept and protected."
            error.hint = f"{so_far} {_advice(error)}"
            raise
    finally:
        await session.close()


def _advice(error: DrError) -> str:
    if isinstance(error, NotAuthorized):
        return "To write and protect blobs needs the role Storage Blob Data Owner on the container."
    if isinstance(error, AzureError) and error.status == _NOT_FOUND:
        return (
            "The container must be there already, with version-level immutability (az storage"
            " container-rm create --enable-vlw true)."
        )
    if isinstance(error, GuardError):
        return error.hint
    return "The same command again goes on where this one stopped."
