"""Operations on a single blob: put, blocks, append, read, delete, properties, WORM.

Each function answers one combination of method and `comp`; `routes` chooses it. Rights,
conditions, lease and immutability are checked here, in Azure's order, before anything
changes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

from drengine.lab.blob import content
from drengine.lab.blob.leases import change_lease, check_lease, lease_headers
from drengine.lab.blob.target import (
    check_read_conditions,
    check_write_conditions,
    http_date,
    metadata_of,
    parse_http_date,
    version_headers,
)
from drengine.lab.wire import LabFault, Response

if TYPE_CHECKING:
    from drengine.lab.blob.target import Target

CONTENT_HEADERS: Final = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-md5",
    "content-type",
)
_ENCRYPTED: Final = {"x-ms-request-server-encrypted": "true"}
_RANGE: Final = re.compile(r"bytes=([0-9]{1,18})-([0-9]{0,18})")
_MAX_APPEND_BLOCKS: Final = 50_000


def put_blob(target: Target) -> Response:
    """Create or replace a block blob with its content, or an empty append blob."""
    kind = target.header("x-ms-blob-type")
    if kind not in ("BlockBlob", "AppendBlob"):
        raise LabFault(
            400,
            "MissingRequiredHeader" if not kind else "InvalidHeaderValue",
            "An HTTP header that's mandatory for this request is not specified or not supported.",
        )
    old = _check_replace(target)
    body = target.request.body
    digest = _check_md5(target, body)
    if kind == "AppendBlob" and body:
        raise LabFault(400, "InvalidBlobOrBlock", "The blob content is not valid.")
    doc = content.replace_block_blob(target.tx, target.key, old, body)
    doc["type"] = kind
    _set_properties(target, doc)
    if kind == "BlockBlob":
        doc["headers"]["content-md5"] = digest
    _set_worm_headers(target, doc)
    content.save(target.tx, target.key, doc)
    target.changed("blob.put")
    return Response(201, {**version_headers(doc), **_ENCRYPTED, "content-md5": digest})


def _check_replace(target: Target) -> content.Blob | None:
    target.require("cw")
    old = target.find_blob()
    check_write_conditions(target, old)
    if old is None:
        return None
    if "w" not in target.rights:
        raise LabFault(
            403,
            "UnauthorizedBlobOverwrite",
            "This request is not authorized to perform blob overwrites.",
        )
    check_lease(target, old)
    content.check_mutable(old, target.tx.now_ms)
    return old


def _check_md5(target: Target, body: bytes) -> str:
    digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    claimed = target.header("content-md5")
    if claimed and claimed != digest:
        raise LabFault(
            400,
            "Md5Mismatch",
            "The MD5 value specified in the request did not match with the MD5 value calculated "
            "by the server.",
        )
    return digest


def _set_properties(target: Target, doc: content.Blob) -> None:
    doc["headers"] = {
        name: value for name in CONTENT_HEADERS if (value := target.header(f"x-ms-blob-{name}"))
    }
    if "content-type" not in doc["headers"]:
        doc["headers"]["content-type"] = target.header("content-type") or "application/octet-stream"
    doc["metadata"] = metadata_of(target.request)


def _set_worm_headers(target: Target, doc: content.Blob) -> None:
    until = target.header("x-ms-immutability-policy-until-date")
    if until:
        doc["immutability"] = {
            "until_ms": parse_http_date(until),
            "mode": target.header("x-ms-immutability-policy-mode") or "Unlocked",
        }
    if target.header("x-ms-legal-hold"):
        doc["legal_hold"] = target.header("x-ms-legal-hold").lower() == "true"


def put_block(target: Target) -> Response:
    """Stage a block; nothing is visible before the block list is put."""
    target.require("cw")
    old = target.find_blob()
    check_lease(target, old)
    _check_kind(old, "BlockBlob")
    block_id = _block_id(target.request.query.get("blockid", ""))
    digest = _check_md5(target, target.request.body)
    content.stage(target.tx, target.key, block_id, target.request.body)
    target.changed("blob.put-block")
    return Response(201, {**_ENCRYPTED, "content-md5": digest})


def _block_id(text: str) -> str:
    try:
        if 0 < len(base64.b64decode(text, validate=True)) <= 64:  # noqa: PLR2004 - REST: Put Block
            return text
    except binascii.Error:
        pass
    raise LabFault(400, "InvalidQueryParameterValue", "The block id is not valid base64.")


def _check_kind(doc: content.Blob | None, kind: str) -> None:
    if doc is not None and doc["type"] != kind:
        raise LabFault(409, "InvalidBlobType", "The blob type is invalid for this operation.")


def put_block_list(target: Target) -> Response:
    """Make the blob of the listed blocks."""
    old = _check_replace(target)
    _check_kind(old, "BlockBlob")
    doc = content.commit_blocks(target.tx, target.key, old, _block_list(target.request.body))
    _set_properties(target, doc)
    _set_worm_headers(target, doc)
    content.save(target.tx, target.key, doc)
    target.changed("blob.put-block-list")
    return Response(201, {**version_headers(doc), **_ENCRYPTED})


def _block_list(body: bytes) -> list[tuple[str, str]]:
    invalid = LabFault(400, "InvalidXmlDocument", "XML specified is not syntactically valid.")
    if b"<!" in body:  # a document type: entities have no place in a block list
        raise invalid
    try:
        root = ET.fromstring(body)  # noqa: S314 - document types are refused above
    except ET.ParseError:
        raise invalid from None
    found = [(child.tag.lower(), (child.text or "").strip()) for child in root]
    if any(where not in ("committed", "uncommitted", "latest") for where, _ in found):
        raise invalid
    return found


def get_block_list(target: Target) -> Response:
    """List committed and staged blocks."""
    target.require("r")
    doc = target.find_blob()
    staged = content.staged_blocks(target.tx, target.key)
    if doc is None and not staged:
        raise content.blob_missing()
    kind = target.request.query.get("blocklisttype", "committed").lower()
    root = ET.Element("BlockList")
    if kind in ("committed", "all"):
        _add_blocks(root, "CommittedBlocks", doc["blocks"] if doc else [])
    if kind in ("uncommitted", "all"):
        listed = [{"id": name, **block} for name, block in staged.items()]
        _add_blocks(root, "UncommittedBlocks", listed)
    headers = {"content-type": "application/xml"}
    if doc is not None:
        headers |= version_headers(doc)
        headers["x-ms-blob-content-length"] = str(doc["length"])
    return Response(200, headers, ET.tostring(root, "utf-8", xml_declaration=True))


def _add_blocks(root: ET.Element, tag: str, blocks: list[dict[str, Any]]) -> None:
    group = ET.SubElement(root, tag)
    for block in blocks:
        entry = ET.SubElement(group, "Block")
        ET.SubElement(entry, "Name").text = block["id"]
        ET.SubElement(entry, "Size").text = str(block["size"])


def append_block(target: Target) -> Response:
    """Append to an append blob, at the position the caller expects."""
    target.require("aw")
    doc = target.existing_blob()
    _check_kind(doc, "AppendBlob")
    check_write_conditions(target, doc)
    check_lease(target, doc)
    content.check_mutable(doc, target.tx.now_ms)
    _check_append_position(target, doc)
    digest = _check_md5(target, target.request.body)
    offset = doc["length"]
    content.append(target.tx, doc, target.request.body)
    content.save(target.tx, target.key, doc)
    target.changed("blob.append")
    headers = {
        **version_headers(doc),
        **_ENCRYPTED,
        "content-md5": digest,
        "x-ms-blob-append-offset": str(offset),
        "x-ms-blob-committed-block-count": str(doc["block_count"]),
    }
    return Response(201, headers)


def _check_append_position(target: Target, doc: content.Blob) -> None:
    if doc["sealed"]:
        raise LabFault(
            409,
            "BlobIsSealed",
            "The specified blob is sealed and its contents can't be modified unless the blob is "
            "re-created after a delete.",
        )
    if doc["block_count"] >= _MAX_APPEND_BLOCKS:
        raise LabFault(409, "BlockCountExceedsLimit", "The committed block count is at its limit.")
    position = target.number("x-ms-blob-condition-appendpos")
    if position is not None and position != doc["length"]:
        raise LabFault(
            412,
            "AppendPositionConditionNotMet",
            "The append position condition specified was not met.",
        )
    limit = target.number("x-ms-blob-condition-maxsize")
    if limit is not None and doc["length"] + len(target.request.body) > limit:
        raise LabFault(
            412, "MaxBlobSizeConditionNotMet", "The max blob size condition was not met."
        )


def seal(target: Target) -> Response:
    """Make an append blob read-only for good; repeating it changes nothing."""
    target.require("aw")
    doc = target.existing_blob()
    _check_kind(doc, "AppendBlob")
    check_write_conditions(target, doc)
    check_lease(target, doc)
    doc["sealed"] = True
    content.save(target.tx, target.key, doc)
    target.changed("blob.seal")
    return Response(200, {**version_headers(doc), "x-ms-blob-sealed": "true"})


def get_blob(target: Target) -> Response:
    """Return a blob's bytes, whole or a range."""
    target.require("r")
    doc = target.existing_blob()
    check_read_conditions(target, doc)
    headers = property_headers(target, doc)
    asked = target.header("x-ms-range") or target.header("range")
    span = _range(asked, doc["length"])
    if span is None:
        return Response(200, headers, content.read_range(target.tx, doc, 0, doc["length"]))
    start, end = span
    data = content.read_range(target.tx, doc, start, end)
    if "content-md5" in headers:
        headers["x-ms-blob-content-md5"] = headers.pop("content-md5")
    if target.header("x-ms-range-get-content-md5").lower() == "true":
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        headers["content-md5"] = base64.b64encode(digest).decode()
    headers["content-range"] = f"bytes {start}-{end - 1}/{doc['length']}"
    return Response(206, headers, data)


def _range(text: str, length: int) -> tuple[int, int] | None:
    if not text:
        return None
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        return None
    start = int(found[1])
    end = min(int(found[2]) + 1 if found[2] else length, length)
    if start >= length or end <= start:
        raise LabFault(
            416,
            "InvalidRange",
            "The range specified is invalid for the current size of the resource.",
            {"content-range": f"bytes */{length}"},
        )
    return start, end


def head_blob(target: Target) -> Response:
    """Return a blob's properties."""
    target.require("r")
    doc = target.existing_blob()
    check_read_conditions(target, doc)
    return Response(200, {**property_headers(target, doc), "content-length": str(doc["length"])})


def property_headers(target: Target, doc: content.Blob) -> dict[str, str]:
    """Return the headers that describe a blob."""
    headers = {
        **version_headers(doc),
        **doc["headers"],
        **{f"x-ms-meta-{name}": value for name, value in doc["metadata"].items()},
        **lease_headers(doc, target.tx.now_ms),
        "accept-ranges": "bytes",
        "x-ms-blob-type": doc["type"],
        "x-ms-creation-time": http_date(doc["created_ms"]),
        "x-ms-server-encrypted": "true",
    }
    if doc["type"] == "AppendBlob":
        headers["x-ms-blob-committed-block-count"] = str(doc["block_count"])
        if doc["sealed"]:
            headers["x-ms-blob-sealed"] = "true"
    return headers | _worm_headers(doc)


def _worm_headers(doc: content.Blob) -> dict[str, str]:
    headers = {}
    policy = doc.get("immutability")
    if policy:
        headers["x-ms-immutability-policy-until-date"] = http_date(policy["until_ms"])
        headers["x-ms-immutability-policy-mode"] = policy["mode"].lower()
    if doc.get("legal_hold"):
        headers["x-ms-legal-hold"] = "true"
    return headers


def delete_blob(target: Target) -> Response:
    """Delete a blob for good; the lab keeps no soft-deleted blobs."""
    target.require("d")
    doc = target.existing_blob()
    check_write_conditions(target, doc)
    check_lease(target, doc)
    content.check_mutable(doc, target.tx.now_ms)
    content.remove(target.tx, target.key, doc)
    target.changed("blob.delete")
    return Response(202, {"x-ms-delete-type-permanent": "true"})


def set_metadata(target: Target) -> Response:
    """Replace a blob's metadata."""
    doc = _changeable(target)
    doc["metadata"] = metadata_of(target.request)
    return _changed(target, doc, "blob.set-metadata")


def set_properties(target: Target) -> Response:
    """Replace a blob's content headers."""
    doc = _changeable(target)
    metadata = doc["metadata"]
    _set_properties(target, doc)
    doc["metadata"] = metadata
    return _changed(target, doc, "blob.set-properties")


def _changeable(target: Target) -> content.Blob:
    target.require("w")
    doc = target.existing_blob()
    check_write_conditions(target, doc)
    check_lease(target, doc)
    content.check_mutable(doc, target.tx.now_ms)
    return doc


def _changed(target: Target, doc: content.Blob, effect: str) -> Response:
    content.touch(target.tx, doc)
    content.save(target.tx, target.key, doc)
    target.changed(effect)
    return Response(200, version_headers(doc))


def lease_blob(target: Target) -> Response:
    """Perform a lease action on a blob."""
    target.require("w")
    doc = target.existing_blob()
    check_write_conditions(target, doc)
    answer = change_lease(target, doc)
    content.save(target.tx, target.key, doc)
    target.changed(f"blob.lease-{target.header('x-ms-lease-action').lower()}")
    return Response(answer.status, {**version_headers(doc), **answer.headers})


def set_immutability(target: Target) -> Response:
    """Set or extend the time-based policy of a blob; a locked one only grows."""
    target.require("i")
    doc = target.existing_blob()
    until = parse_http_date(target.header("x-ms-immutability-policy-until-date"))
    mode = (target.header("x-ms-immutability-policy-mode") or "Unlocked").capitalize()
    old = doc.get("immutability")
    locked = old is not None and old["mode"].lower() == "locked"
    if until <= target.tx.now_ms:
        raise LabFault(400, "InvalidHeaderValue", "The until date is in the past.")
    if locked and old is not None and (until < old["until_ms"] or mode != "Locked"):
        raise _policy_locked()
    doc["immutability"] = {"until_ms": until, "mode": mode}
    content.save(target.tx, target.key, doc)
    target.changed("blob.set-immutability")
    return Response(200, _worm_headers(doc))


def delete_immutability(target: Target) -> Response:
    """Remove an unlocked policy from a blob."""
    target.require("i")
    doc = target.existing_blob()
    old = doc.get("immutability")
    if old is not None and old["mode"].lower() == "locked":
        raise _policy_locked()
    doc["immutability"] = None
    content.save(target.tx, target.key, doc)
    target.changed("blob.delete-immutability")
    return Response(200)


def _policy_locked() -> LabFault:
    return LabFault(
        409,
        "BlobImmutableDueToPolicy",
        "This operation is not permitted as the blob is immutable due to a locked policy.",
    )


def set_legal_hold(target: Target) -> Response:
    """Set or clear the legal hold of a blob."""
    target.require("i")
    doc = target.existing_blob()
    doc["legal_hold"] = target.header("x-ms-legal-hold").lower() == "true"
    content.save(target.tx, target.key, doc)
    target.changed("blob.set-legal-hold")
    return Response(200, {"x-ms-legal-hold": str(doc["legal_hold"]).lower()})
