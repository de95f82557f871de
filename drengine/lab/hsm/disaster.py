"""What a disaster does to the estate's source HSM, at once and without a request for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drengine.lab import arm_resource as hsms
from drengine.lab.wire import LabFault

if TYPE_CHECKING:
    from drengine.lab.store import Tx


def strike(tx: Tx, kind: str) -> str:
    """Delete or purge the source HSM and return its name.

    Parameters:
        kind: `purge` leaves nothing of it, `soft-delete` leaves it recoverable.

    Raises:
        LabFault: 409, it is gone already.
    """
    estate = tx.get("lab.meta", "estate") or {}
    name = str(estate.get("source_hsm", ""))
    for _, document in tx.find(hsms.HSM):
        if document["resource"]["name"].lower() == name.lower():
            hsms.soft_delete(tx, document)
    if tx.get(hsms.DELETED, name.lower()) is None:
        raise LabFault(409, "Conflict", f"The source HSM '{name}' is gone already.")
    if kind == "purge":
        hsms.purge(tx, name.lower())
    return name
