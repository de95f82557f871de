"""How blobs are kept: one document per blob, its bytes in parts beside it.

Knows nothing of HTTP or rights. Parts let an append blob grow without rewriting what
it already holds: small appends are merged into the last part until it is full.

Rules:
- a blob's document and its parts change in the same transaction;
- a part is never changed in place: a new key is written and the old one deleted, so a
  document always points to bytes that belong to it.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

from drengine.lab.wire import LabFault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drengine.lab.store import Tx

BLOBS: Final = "storage.blob"
STAGED: Final = "storage.staged"
MERGE_BELOW: Final = 256 * 1024
"""An append to a last part smaller than this is merged into it."""

Blob = dict[str, Any]


def container_key(account: str, container: str) -> str:
    """Return the document key of a container."""
    return f"{account.lower()}/{container.lower()}"


def blob_key(account: str, container: str, name: str) -> str:
    """Return the document key of a blob; its name keeps its case."""
    return f"{container_key(account, container)}/{name}"


def fresh_etag() -> str:
    """Return an entity tag that was never used before."""
    return f'"0x8D{secrets.token_hex(7).upper()}"'


def container_missing() -> LabFault:
    """Return the 404 for a container that does not exist."""
    return LabFault(404, "ContainerNotFound", "The specified container does not exist.")


def blob_missing() -> LabFault:
    """Return the 404 for a blob that does not exist."""
    return LabFault(404, "BlobNotFound", "The specified blob does not exist.")


def find_blob(tx: Tx, key: str) -> Blob | None:
    """Return a blob's document; a blob that has only staged blocks is none."""
    return tx.get(BLOBS, key)


def iterate_blobs(tx: Tx, start: str, prefix: str) -> Iterator[tuple[str, Blob]]:
    """Yield names and documents of a container's blobs below a prefix, in order."""
    for key, doc in tx.find(BLOBS, start + prefix):
        if key.startswith(start + prefix):
            yield key[len(start) :], doc


def new_blob(tx: Tx, kind: str, old: Blob | None) -> Blob:
    """Return the document of an empty blob; a lease survives an overwrite."""
    return {
        "type": kind,
        "length": 0,
        "etag": fresh_etag(),
        "modified_ms": tx.now_ms,
        "created_ms": tx.now_ms,
        "headers": {"content-type": "application/octet-stream"},
        "metadata": {},
        "parts": [],
        "blocks": [],
        "block_count": 0,
        "sealed": False,
        "lease": old["lease"] if old else None,
        "immutability": None,
        "legal_hold": False,
    }


def touch(tx: Tx, doc: Blob) -> None:
    """Give a changed blob a new entity tag and time."""
    doc["etag"] = fresh_etag()
    doc["modified_ms"] = tx.now_ms


def save(tx: Tx, key: str, doc: Blob) -> None:
    """Write a blob's document."""
    tx.put(BLOBS, key, doc)


def add_part(tx: Tx, doc: Blob, data: bytes) -> None:
    """Add bytes at the end of a blob without touching what it holds."""
    if not data:
        return
    part = f"blob/{secrets.token_hex(16)}"
    tx.put_blob(part, data)
    doc["parts"].append({"key": part, "size": len(data)})
    doc["length"] += len(data)


def append(tx: Tx, doc: Blob, data: bytes) -> None:
    """Append a block to an append blob."""
    parts = doc["parts"]
    if parts and parts[-1]["size"] < MERGE_BELOW:
        last = parts.pop()
        doc["length"] -= last["size"]
        data = (tx.get_blob(last["key"]) or b"") + data
        tx.delete_blob(last["key"])
    add_part(tx, doc, data)
    doc["block_count"] += 1
    touch(tx, doc)


def replace_block_blob(tx: Tx, key: str, old: Blob | None, data: bytes) -> Blob:
    """Put a whole block blob in place of what was there and return its document."""
    if old is not None:
        drop_parts(tx, old)
    drop_staged(tx, key)
    doc = new_blob(tx, "BlockBlob", old)
    add_part(tx, doc, data)
    save(tx, key, doc)
    return doc


def drop_parts(tx: Tx, doc: Blob) -> None:
    """Delete the bytes of a blob."""
    for part in doc["parts"]:
        tx.delete_blob(part["key"])


def remove(tx: Tx, key: str, doc: Blob) -> None:
    """Delete a blob, its bytes and its staged blocks."""
    drop_parts(tx, doc)
    drop_staged(tx, key)
    tx.delete(BLOBS, key)


def read_range(tx: Tx, doc: Blob, start: int, end: int) -> bytes:
    """Return the bytes from `start` up to but not including `end`."""
    pieces, at = [], 0
    for part in doc["parts"]:
        size = part["size"]
        if at + size > start and at < end:
            data = tx.get_blob(part["key"]) or b""
            pieces.append(data[max(0, start - at) : end - at])
        at += size
    return b"".join(pieces)


def stage(tx: Tx, key: str, block_id: str, data: bytes) -> None:
    """Keep an uncommitted block of a block blob."""
    staged = tx.get(STAGED, key) or {"blocks": {}}
    old = staged["blocks"].get(block_id)
    if old is not None:
        tx.delete_blob(old["key"])
    part = f"blob/{secrets.token_hex(16)}"
    tx.put_blob(part, data)
    staged["blocks"][block_id] = {"key": part, "size": len(data)}
    tx.put(STAGED, key, staged)


def staged_blocks(tx: Tx, key: str) -> dict[str, Any]:
    """Return the uncommitted blocks of a blob by block id."""
    staged = tx.get(STAGED, key)
    return {} if staged is None else dict(staged["blocks"])


def drop_staged(tx: Tx, key: str) -> None:
    """Delete the uncommitted blocks of a blob."""
    for block in staged_blocks(tx, key).values():
        tx.delete_blob(block["key"])
    tx.delete(STAGED, key)


def commit_blocks(tx: Tx, key: str, old: Blob | None, wanted: list[tuple[str, str]]) -> Blob:
    """Make a blob of staged and committed blocks, in the order asked for.

    Raises:
        LabFault: 400 InvalidBlockList when a block is in neither list.
    """
    staged = staged_blocks(tx, key)
    committed = {block["id"]: block for block in old["blocks"]} if old else {}
    chosen = [_choose(where, name, staged, committed) for where, name in wanted]
    kept = {block["key"] for block in chosen}
    doc = new_blob(tx, "BlockBlob", old)
    doc["blocks"] = chosen
    doc["parts"] = [{"key": block["key"], "size": block["size"]} for block in chosen]
    doc["length"] = sum(block["size"] for block in chosen)
    for block in [*staged.values(), *(old["parts"] if old else [])]:
        if block["key"] not in kept:
            tx.delete_blob(block["key"])
    tx.delete(STAGED, key)
    save(tx, key, doc)
    return doc


def _choose(
    where: str, name: str, staged: dict[str, Any], committed: dict[str, Any]
) -> dict[str, Any]:
    order = {
        "committed": (committed,),
        "uncommitted": (staged,),
        "latest": (staged, committed),
    }[where]
    for blocks in order:
        if name in blocks:
            return {"id": name, "key": blocks[name]["key"], "size": blocks[name]["size"]}
    raise LabFault(400, "InvalidBlockList", "The specified block list is invalid.")


def check_mutable(doc: Blob, now_ms: int) -> None:
    """Refuse a change to a blob under a legal hold or an unexpired policy.

    Raises:
        LabFault: 409 BlobImmutableDueToPolicy.
    """
    policy = doc.get("immutability")
    if doc.get("legal_hold") or (policy and policy["until_ms"] > now_ms):
        raise LabFault(
            409,
            "BlobImmutableDueToPolicy",
            "This operation is not permitted as the blob is immutable due to a policy.",
        )
