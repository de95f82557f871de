"""Operations on containers and on the account: create, list, delegation keys.

Lists are XML, built by `ElementTree`; a marker is the name to go on from, encoded so
that clients treat it as opaque.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

from drengine.lab.blob import access, content, sas
from drengine.lab.blob.leases import change_lease, check_lease, lease_headers
from drengine.lab.blob.target import (
    CONTAINERS,
    http_date,
    metadata_of,
    version_headers,
)
from drengine.lab.wire import LabFault, Response, whole_number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from drengine.lab.blob.target import Target

_PAGE: Final = 5000
_LISTED_HEADERS: Final = {
    "content-type": "Content-Type",
    "content-encoding": "Content-Encoding",
    "content-language": "Content-Language",
    "content-md5": "Content-MD5",
    "cache-control": "Cache-Control",
    "content-disposition": "Content-Disposition",
}


def create(target: Target) -> Response:
    """Create a container."""
    target.require("cw")
    if target.tx.get(CONTAINERS, target.container_key) is not None:
        raise LabFault(409, "ContainerAlreadyExists", "The specified container already exists.")
    doc = {
        "etag": content.fresh_etag(),
        "modified_ms": target.tx.now_ms,
        "metadata": metadata_of(target.request),
        "lease": None,
    }
    target.tx.put(CONTAINERS, target.container_key, doc)
    target.changed("container.create")
    return Response(201, version_headers(doc))


def properties(target: Target) -> Response:
    """Return a container's properties."""
    target.require("rl")
    doc = target.find_container()
    headers = {
        **version_headers(doc),
        **lease_headers(doc, target.tx.now_ms),
        **{f"x-ms-meta-{name}": value for name, value in doc["metadata"].items()},
        "x-ms-has-immutability-policy": "false",
        "x-ms-has-legal-hold": "false",
    }
    return Response(200, headers)


def delete(target: Target) -> Response:
    """Delete a container with its blobs; refused while one is immutable."""
    target.require("d")
    doc = target.find_container()
    check_lease(target, doc)
    start = f"{target.container_key}/"
    blobs = list(content.iterate_blobs(target.tx, start, ""))
    for _, blob in blobs:
        content.check_mutable(blob, target.tx.now_ms)
    for name, blob in blobs:
        content.remove(target.tx, start + name, blob)
    target.tx.delete(CONTAINERS, target.container_key)
    target.changed("container.delete")
    return Response(202)


def set_metadata(target: Target) -> Response:
    """Replace a container's metadata."""
    target.require("w")
    doc = target.find_container()
    doc |= {
        "metadata": metadata_of(target.request),
        "etag": content.fresh_etag(),
        "modified_ms": target.tx.now_ms,
    }
    target.tx.put(CONTAINERS, target.container_key, doc)
    target.changed("container.set-metadata")
    return Response(200, version_headers(doc))


def lease(target: Target) -> Response:
    """Perform a lease action on a container."""
    target.require("w")
    doc = target.find_container()
    answer = change_lease(target, doc)
    target.tx.put(CONTAINERS, target.container_key, doc)
    target.changed(f"container.lease-{target.header('x-ms-lease-action').lower()}")
    return Response(answer.status, {**version_headers(doc), **answer.headers})


def get_acl(target: Target) -> Response:
    """Return the container's access policy, which is always empty: no public access."""
    target.require("r")
    doc = target.find_container()
    body = ET.tostring(ET.Element("SignedIdentifiers"), "utf-8", xml_declaration=True)
    return Response(200, {**version_headers(doc), "content-type": "application/xml"}, body)


def list_blobs(target: Target) -> Response:
    """List a container's blobs, one page."""
    target.require("l")
    target.find_container()
    query = target.request.query
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    limit = _page_size(query.get("maxresults", ""))
    after = _read_marker(query.get("marker", ""))
    found = content.iterate_blobs(target.tx, f"{target.container_key}/", prefix)
    entries = _entries(found, prefix, delimiter, after)
    page, rest = entries[:limit], entries[limit:]
    root = _listing(target, container=target.container)
    _add_text(root, {"Prefix": prefix, "Marker": query.get("marker", "")})
    _add_text(root, {"MaxResults": query.get("maxresults", ""), "Delimiter": delimiter})
    group = ET.SubElement(root, "Blobs")
    for name, doc in page:
        _add_entry(target, group, name, doc)
    ET.SubElement(root, "NextMarker").text = _marker(rest[0][0]) if rest else ""
    return _xml(root)


def _entries(
    found: Iterable[tuple[str, content.Blob]], prefix: str, delimiter: str, after: str
) -> list[tuple[str, content.Blob | None]]:
    """Return names with documents; a folder has none and stands for all it holds."""
    entries: list[tuple[str, content.Blob | None]] = []
    for name, doc in found:
        cut = name.find(delimiter, len(prefix)) if delimiter else -1
        shown = name if cut < 0 else name[: cut + len(delimiter)]
        if shown < after or (entries and entries[-1][0] == shown):
            continue
        entries.append((shown, doc if cut < 0 else None))
    return entries


def _add_entry(target: Target, group: ET.Element, name: str, doc: content.Blob | None) -> None:
    if doc is None:
        folder = ET.SubElement(group, "BlobPrefix")
        ET.SubElement(folder, "Name").text = name
        return
    entry = ET.SubElement(group, "Blob")
    ET.SubElement(entry, "Name").text = name
    values = ET.SubElement(entry, "Properties")
    _add_text(
        values,
        {
            "Creation-Time": http_date(doc["created_ms"]),
            "Last-Modified": http_date(doc["modified_ms"]),
            "Etag": doc["etag"].strip('"'),
            "Content-Length": str(doc["length"]),
            **{tag: doc["headers"].get(name, "") for name, tag in _LISTED_HEADERS.items()},
            "BlobType": doc["type"],
            **_listed_lease(doc, target.tx.now_ms),
            "Sealed": "true" if doc["sealed"] else "",
            "LegalHold": "true" if doc["legal_hold"] else "",
            "ServerEncrypted": "true",
        },
    )
    if "metadata" in target.request.query.get("include", ""):
        metadata = ET.SubElement(entry, "Metadata")
        _add_text(metadata, doc["metadata"])


def _listed_lease(doc: dict[str, Any], now_ms: int) -> dict[str, str]:
    headers = lease_headers(doc, now_ms)
    return {
        "LeaseStatus": headers["x-ms-lease-status"],
        "LeaseState": headers["x-ms-lease-state"],
        "LeaseDuration": headers.get("x-ms-lease-duration", ""),
    }


def list_containers(target: Target) -> Response:
    """List the account's containers, one page."""
    target.require("l")
    query = target.request.query
    start = f"{target.account.lower()}/"
    prefix = start + query.get("prefix", "")
    limit, after = _page_size(query.get("maxresults", "")), _read_marker(query.get("marker", ""))
    found = [(k[len(start) :], doc) for k, doc in target.tx.find(CONTAINERS, prefix)]
    found = [(name, doc) for name, doc in found if name >= after]
    root = _listing(target)
    group = ET.SubElement(root, "Containers")
    for name, doc in found[:limit]:
        entry = ET.SubElement(group, "Container")
        ET.SubElement(entry, "Name").text = name
        values = {
            "Last-Modified": http_date(doc["modified_ms"]),
            "Etag": doc["etag"],
            **_listed_lease(doc, target.tx.now_ms),
            "HasImmutabilityPolicy": "false",
            "HasLegalHold": "false",
        }
        _add_text(ET.SubElement(entry, "Properties"), values)
    following = _marker(found[limit][0]) if len(found) > limit else ""
    ET.SubElement(root, "NextMarker").text = following
    return _xml(root)


def user_delegation_key(target: Target) -> Response:
    """Hand out a key with which the caller signs tokens in its own name."""
    principal = target.request.principal
    if principal is None or not target.rights:
        raise access.permission_mismatch()
    start, expiry = _key_times(target.request.body)
    fields = {
        "skoid": principal.object_id,
        "sktid": principal.tenant,
        "skt": start,
        "ske": expiry,
        "sks": "b",
        "skv": target.header("x-ms-version") or sas.VERSION,
    }
    secret = access.account_document(target.tx, target.account)["delegation_secret"]
    root = ET.Element("UserDelegationKey")
    tags = ("SignedOid", "SignedTid", "SignedStart", "SignedExpiry", "SignedService")
    for tag, value in zip((*tags, "SignedVersion"), fields.values(), strict=True):
        ET.SubElement(root, tag).text = value
    ET.SubElement(root, "Value").text = sas.delegation_key(secret, fields)
    return _xml(root)


def _key_times(body: bytes) -> tuple[str, str]:
    invalid = LabFault(400, "InvalidXmlDocument", "XML specified is not syntactically valid.")
    if b"<!" in body:
        raise invalid
    try:
        root = ET.fromstring(body)  # noqa: S314 - document types are refused above
    except ET.ParseError:
        raise invalid from None
    start, expiry = root.findtext("Start") or "", root.findtext("Expiry") or ""
    sas.parse_time(expiry)
    return start, expiry


def account_properties(_target: Target) -> Response:
    """Return the kind of the account."""
    return Response(200, {"x-ms-sku-name": "Standard_RAGRS", "x-ms-account-kind": "StorageV2"})


def service_properties(target: Target) -> Response:
    """Return the service's properties: no soft delete, no logging."""
    target.require("r")
    root = ET.Element("StorageServiceProperties")
    policy = ET.SubElement(root, "DeleteRetentionPolicy")
    ET.SubElement(policy, "Enabled").text = "false"
    return _xml(root)


def _listing(target: Target, container: str = "") -> ET.Element:
    root = ET.Element("EnumerationResults")
    root.set("ServiceEndpoint", f"https://{target.request.host}/")
    if container:
        root.set("ContainerName", container)
    return root


def _add_text(parent: ET.Element, values: dict[str, str]) -> None:
    for tag, value in values.items():
        if value:
            ET.SubElement(parent, tag).text = value


def _page_size(text: str) -> int:
    if not text:
        return _PAGE
    found = whole_number(text)
    if not found:
        raise LabFault(400, "OutOfRangeQueryParameterValue", "maxresults must be at least 1.")
    return min(found, _PAGE)


def _marker(name: str) -> str:
    return "2!" + base64.urlsafe_b64encode(name.encode()).decode()


def _read_marker(text: str) -> str:
    if not text:
        return ""
    try:
        return base64.urlsafe_b64decode(text.removeprefix("2!")).decode()
    except ValueError:  # not base64, or not text in it
        raise LabFault(
            400, "InvalidQueryParameterValue", "The marker was not given by this service."
        ) from None


def _xml(root: ET.Element) -> Response:
    body = ET.tostring(root, "utf-8", xml_declaration=True)
    return Response(200, {"content-type": "application/xml"}, body)
