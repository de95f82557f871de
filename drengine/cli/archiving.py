"""Archiving a bundle: from a folder to blobs under a policy."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any, Final

from drengine.azure.archive import Archived, BlobArchive, Retention
from drengine.azure.auth import AuthKind, open_session
from drengine.cli.places import lab_folder, open_clock
from drengine.cli.signing import valid_ms
from drengine.errors import InputError
from drengine.evidence.bundle import MANIFEST

_ADDRESS: Final = re.compile(
    r"azblob://(?P<account>[a-z0-9-]{3,63})/(?P<container>[a-z0-9-]{3,63})(?:/(?P<prefix>[\w./-]*))?"
)


def archive(
    bundle: Path, address: str, retain: str, *, lock: bool, legal_hold: bool, auth: AuthKind
) -> dict[str, Any]:
    """Put a bundle into a container and return what the service says of it.

    Raises:
        InputError: the address is none, or the folder no sealed bundle.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise InputError(
            f"{address!r} is not an address of blobs", hint="azblob://ACCOUNT/CONTAINER[/PREFIX]"
        )
    if not (bundle / MANIFEST).is_file():
        raise InputError(f"{bundle} is not a sealed bundle", hint="drengine evidence seal RUN")
    files = {
        file.relative_to(bundle).as_posix(): file.read_bytes()
        for file in sorted(bundle.rglob("*"))
        if file.is_file()
    }
    retention = Retention(open_clock().now_ms() + valid_ms(retain), lock, legal_hold)
    stem = (match["prefix"] or "").rstrip("/")
    prefix = f"{stem}/{bundle.resolve().name}/" if stem else f"{bundle.resolve().name}/"
    place = (match["account"], match["container"])
    found = asyncio.run(_keep(files, place, prefix, retention, auth))
    return {
        "blobs": found.blobs,
        "size_bytes": found.size_bytes,
        "until": found.until,
        "legal_hold": found.legal_hold,
        "prefix": prefix,
    }


async def _keep(
    files: dict[str, bytes],
    place: tuple[str, str],
    prefix: str,
    retention: Retention,
    auth: AuthKind,
) -> Archived:
    session = open_session(auth, lab_folder() is not None)
    try:
        where = await session.whoami()
        url = f"https://{place[0]}.blob.{where.storage_suffix}/{place[1]}"
        return await BlobArchive(session.pipeline(), url).keep(files, prefix, retention)
    finally:
        await session.close()
