"""A backup of `prod-dr` is never taken for one of `prod`, wherever folders are looked at."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from looked import CONTAINER, context, ours

from drengine.actions.contract import Absent, Present
from drengine.actions.discover import discover_backup
from drengine.actions.inventory import _backups
from drengine.actions.registry import KIT
from drengine.errors import GuardError, InputError
from drengine.model.cloud import BlobItem, Operation, OperationKind

OWN, OTHERS = "mhsm-prod-2026112806463630", "mhsm-prod-dr-2026120106463630"
SENT_MS = 1_795_000_000_000  # 2026-11-18T11:06:40Z


class World:
    """A container with some folders, and an HSM that takes what it is sent."""

    def __init__(self, *folders: str) -> None:
        self.folders = folders
        self.sent: list[str] = []

    async def get(self, *_: str) -> Any:
        return ours(activation_status="Active")

    async def list_folders(self, _: Any, prefix: str) -> list[str]:
        return [folder for folder in self.folders if folder.startswith(prefix)]

    async def list_blobs(self, _: Any, prefix: str) -> list[BlobItem]:
        return [BlobItem(f"{prefix}blob", 1, "e")]

    async def start_restore(self, _: Any, folder: str) -> Operation:
        self.sent.append(folder)
        return Operation(OperationKind.HSM_JOB, "u")

    start_restore_check = start_restore

    def cloud(self) -> Any:
        return SimpleNamespace(storage=self, hsms=self, hsm=lambda _: self)


def resolve(world: World, folder: str) -> Any:
    values = {"source_hsm": "prod", "folder": folder, "container_url": CONTAINER}
    return asyncio.run(discover_backup(context(world.cloud(), values=values)))


def listed(*blobs: tuple[str, int, str]) -> World:
    class Holding(World):
        async def list_blobs(self, _: Any, prefix: str) -> list[BlobItem]:
            return [BlobItem(f"{prefix}{name}", size, etag) for name, size, etag in blobs]

    return Holding(OWN)


BLOBS = (("a", 10, "e1"), ("b", 20, "e2"))
ELSEWHERE = "https://other.blob.core.windows.net/copied"


def resolved(world: World, url: str, *, old: bool = False) -> Any:
    """Resolve the folder in a container, by the inventory of one with BLOBS in CONTAINER."""
    (known,) = asyncio.run(_backups(listed(*BLOBS).cloud(), "prod", CONTAINER))
    if old:
        known = {k: v for k, v in known.items() if k not in ("container", "contents")}
    values = {"source_hsm": "prod", "folder": OWN, "container_url": url}
    values["inventory"] = {"sha256": "0" * 64, "path": "inventory.json"}
    given = context(world.cloud(), inventory={"backups": [known]}, values=values)
    return asyncio.run(discover_backup(given))


COPIED = tuple((name, size, f"{etag}x") for name, size, etag in BLOBS)


def test_a_folder_is_the_recorded_one_or_a_copy_of_it_in_another_container():
    assert "copy_of" not in resolved(listed(*BLOBS), CONTAINER)
    assert "copy_of" not in resolved(listed(*BLOBS), f"{CONTAINER}/")
    assert resolved(listed(*COPIED), ELSEWHERE)["copy_of"] == CONTAINER
    assert resolved(listed(*COPIED), ELSEWHERE, old=True)["copy_of"]


@pytest.mark.parametrize(
    ("blobs", "url"),
    [
        (COPIED, CONTAINER),
        (BLOBS[:1], ELSEWHERE),
        ((("a", 10, "x"), ("b", 21, "y")), ELSEWHERE),
        ((("a", 10, "x"), ("c", 20, "y")), ELSEWHERE),
    ],
    ids=["written anew", "incomplete", "another size", "another name"],
)
def test_what_differs_from_the_inventory_is_refused(blobs, url):
    with pytest.raises(InputError, match="incomplete or was changed"):
        resolved(listed(*blobs), url)


def test_latest_is_the_sources_own_newest_backup():
    found = resolve(World(OWN, OTHERS), "latest")
    assert (found["folder"], found["newer"]) == (OWN, [])


def test_where_only_another_hsm_has_backups_there_is_none():
    with pytest.raises(InputError, match="holds no backup of prod"):
        resolve(World(OTHERS), "latest")


def test_anothers_folder_is_refused_when_it_is_named():
    with pytest.raises(InputError, match=f"'{OTHERS}' is not a backup of prod: .* 14 to 17 digits"):
        resolve(World(OWN, OTHERS), OTHERS)
    assert resolve(World(OWN, OTHERS), OWN)["folder"] == OWN


@pytest.mark.parametrize("action", ["hsm.restore", "hsm.restore_check"])
def test_anothers_folder_is_not_sent_to_the_service(action):
    world = World(OWN, OTHERS)
    for folder, refused in ((OTHERS, True), (OWN, False)):
        ctx = context(world.cloud(), values={"folder": folder}, inputs={"source_hsm": "prod"})
        if refused:
            with pytest.raises(GuardError, match="it is not a backup of prod"):
                asyncio.run(KIT.actions[action].start(ctx))
        else:
            asyncio.run(KIT.actions[action].start(ctx))
    assert world.sent == [OWN]


@pytest.mark.parametrize(
    ("folder", "expected"),
    [("mhsm-target-blue-2026111900000000", Absent), ("mhsm-target-2026111900000000", Present)],
)
def test_anothers_backup_is_not_the_answer_that_was_lost(folder, expected):
    ctx = context(World(folder).cloud(), intent_at_ms=SENT_MS, sends=1)
    assert isinstance(asyncio.run(KIT.actions["hsm.backup"].probe(ctx)), expected)


def test_an_inventory_lists_the_hsms_own_backups_only():
    listed = asyncio.run(_backups(World(OWN, OTHERS).cloud(), "prod", CONTAINER))
    assert [backup["folder"] for backup in listed] == [OWN]
