"""The wiring of a run: cloud, store, clock and secrets in one `World`.

Everything here loads Azure's libraries; only commands that go there import it.

Rules:
- Input files are read once more and must have the digest of the plan; their bytes go
  beside the journal, from where every step takes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from drengine.actions.registry import KIT
from drengine.azure.cloud import AzureCloud
from drengine.azure.exchanges import collect_exchanges
from drengine.cli.library import Library
from drengine.cli.places import open_clock
from drengine.cli.secrets import SecretResolver, secrets_of
from drengine.cli.stores import owner_name
from drengine.cli.writing import read_bounded
from drengine.engine.world import Listener, World
from drengine.errors import InputFileError, PlanStale
from drengine.journal.port import JournalStore
from drengine.model.canonical import JsonObject, sha256_hex
from drengine.model.plan import Plan, PlanPart
from drengine.model.secret import USER_DELEGATION

MAX_INPUT_BYTES: Final = 64 * 1024 * 1024


def keep_file(store: JournalStore, path: str) -> JsonObject:
    """Keep an input file beside the journal; return what the plan says of it.

    Raises:
        InputFileError: it cannot be read or is too large.
    """
    data = read_bounded(Path(path).absolute(), "input file", MAX_INPUT_BYTES)
    where = str(Path(path).absolute())
    return {"path": where, "sha256": store.put_object(data), "size": len(data)}


def check_files(plan: Plan, store: JournalStore, *, resuming: bool) -> None:
    """Make sure that every input file is the one of the plan, and keep its bytes.

    Parameters:
        resuming: whether bytes that are beside the journal already are enough; another
            host may not have the file.

    Raises:
        PlanStale: a file is gone or is another one.
    """
    for named in _files(plan.root):
        path, sha256 = str(named["path"]), str(named["sha256"])
        if resuming and store.has_object(sha256):
            continue
        try:
            data = read_bounded(Path(path), "input file", MAX_INPUT_BYTES)
        except InputFileError as error:
            raise PlanStale(f"{error.message}; the plan was made with it", hint=_AGAIN) from None
        if (found := sha256_hex(data)) != sha256:
            raise PlanStale(
                f"{path} changed after the plan was made: SHA-256 is {found}, the plan says "
                f"{sha256}; nothing was sent",
                hint=_AGAIN,
            )
        store.put_object(data)


_AGAIN: Final = "bring the file of the plan back, or plan again: drengine plan …"


def _files(part: PlanPart) -> list[dict[str, Any]]:
    found = [
        dict(value)
        for value in part.inputs.values()
        if isinstance(value, dict) and value.keys() == {"path", "sha256", "size"}
    ]
    for child in part.children.values():
        found += _files(child)
    return found


def check_secrets(plan: Plan, library: Library, resolve: SecretResolver) -> None:
    """Resolve every secret of a plan now, so that no step finds out half-way.

    Raises:
        Waiting: one is not there; nothing was sent.
    """
    for reference in secrets_of(plan, library.from_text):
        if reference != USER_DELEGATION:  # made when it is needed
            resolve(reference)


def make_world(
    plan: Plan,
    store: JournalStore,
    cloud: AzureCloud,
    library: Library,
    secret: SecretResolver,
    *,
    listener: Listener,
    waits_for_people: bool,
    copies_to: Path | None,
) -> World:
    """Return what a driver is given."""
    return World(
        plan=plan,
        store=store,
        cloud=cloud,
        clock=open_clock(),
        kit=KIT,
        load=library.from_text,
        collect=collect_exchanges,
        secret=secret,
        owner=owner_name(),
        listener=listener,
        waits_for_people=waits_for_people,
        copies_to="" if copies_to is None else str(copies_to),
    )
