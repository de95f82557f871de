"""Copying a blob inside the lab: the source is another blob of it, read with its SAS.

The copy is done when the answer leaves; Azure may take longer for large blobs.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from drengine.lab.blob import access, content
from drengine.lab.blob.target import check_write_conditions, metadata_of, version_headers
from drengine.lab.wire import LabFault, Response

if TYPE_CHECKING:
    from drengine.lab.blob.target import Target

_ZONE = ".blob.core.windows.net"


def copy_blob(target: Target) -> Response:
    """Write a blob with the content of the one that `x-ms-copy-source` names."""
    target.require("cw")
    old = target.find_blob()
    check_write_conditions(target, old)
    source = _source(target)
    if old is not None:
        content.check_mutable(old, target.tx.now_ms)
    body = content.read_range(target.tx, source, 0, source["length"])
    doc = content.replace_block_blob(target.tx, target.key, old, body)
    doc["headers"] = dict(source["headers"])
    doc["metadata"] = metadata_of(target.request) or dict(source["metadata"])
    content.save(target.tx, target.key, doc)
    target.changed("blob.copy")
    headers = {"x-ms-copy-id": str(uuid.uuid4()), "x-ms-copy-status": "success"}
    return Response(202, {**version_headers(doc), **headers})


def _source(target: Target) -> content.Blob:
    """Return the document of the source, which the sender must be allowed to read."""
    parts = urlsplit(target.header("x-ms-copy-source"))
    host = (parts.hostname or "").lower()
    account = host.removesuffix(_ZONE)
    container, _, name = unquote(parts.path).lstrip("/").partition("/")
    if not host.endswith(_ZONE) or not name:
        raise LabFault(400, "InvalidHeaderValue", "x-ms-copy-source is not the URL of a blob.")
    if "sig=" in parts.query:
        rights = access.token_rights(target.tx, account, container, name, parts.query)
    elif account == target.account.lower():
        rights = target.rights
    else:
        rights = frozenset()
    found = content.find_blob(target.tx, content.blob_key(account, container, name))
    if "r" not in rights or found is None:
        raise LabFault(404, "CannotVerifyCopySource", "The specified blob does not exist.")
    return found
