"""Exports of journals as the tests bring them to another host, and look into them."""

from __future__ import annotations

import tarfile
from pathlib import Path

from drengine.journal import exchange
from drengine.journal.port import JournalStore
from drengine.model.ids import RunId

IMPORTED_MS = 1_795_345_200_000


def bring(store: JournalStore, path: Path) -> RunId:
    """Import a run whose host is said to be dead."""
    return exchange.import_run(
        store,
        path,
        actor="operator:ada",
        at_ms=IMPORTED_MS,
        mono_ms=1,
        owner="host b",
        take_over="its host burned",
    )


def members(path: Path) -> dict[str, bytes]:
    """Return what an archive holds, by name."""
    with tarfile.open(path, "r:") as tar:
        return {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
