"""Subscription and resource groups: what every request to Resource Manager lies in.

A lab has one subscription. Its groups are those of the estate and those that a client
makes with PUT; a group is never deleted, and deleting one with everything in it is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from drengine.lab.wire import LabFault

if TYPE_CHECKING:
    from drengine.lab.store import Tx

META: Final = "lab.meta"
ESTATE: Final = "estate"
GROUP: Final = "arm.group"
_SCOPE: Final = re.compile(
    r"/subscriptions/(?P<subscription>[^/]+)(/resourceGroups/(?P<group>[^/]+)(?P<rest>/.*)?)?",
    re.IGNORECASE,
)
_NAME: Final = re.compile(r"[-\w.()]{0,89}[-\w()]")


def require(tx: Tx, path: str) -> None:
    """Check that the subscription and the group of a request's path exist.

    A request about a group itself is left to its own handler.

    Raises:
        LabFault: 404 SubscriptionNotFound or ResourceGroupNotFound.
    """
    found = _SCOPE.match(path)
    if found is None:
        return
    subscription = str((tx.get(META, ESTATE) or {}).get("subscription", ""))
    if found["subscription"].lower() != subscription.lower():
        raise LabFault(
            404,
            "SubscriptionNotFound",
            f"The subscription '{found['subscription']}' could not be found.",
        )
    if found["rest"] and tx.get(GROUP, found["group"].lower()) is None:
        raise missing_group(found["group"])


def missing_group(name: str) -> LabFault:
    """Return the 404 for a group that does not exist."""
    return LabFault(404, "ResourceGroupNotFound", f"Resource group '{name}' could not be found.")


def add_groups(tx: Tx, names: Iterable[str], location: str) -> None:
    """Make resource groups known that are not yet."""
    for name in names:
        if tx.get(GROUP, name.lower()) is None:
            tx.put(GROUP, name.lower(), {"name": name, "location": location, "tags": {}})


def put_group(tx: Tx, name: str, body: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Write a group as a PUT wants it; return its document and whether it is new.

    Raises:
        LabFault: the name or the place is missing or not allowed, or the place would change.
    """
    if not _NAME.fullmatch(name):
        raise LabFault(400, "InvalidResourceGroup", f"The name '{name}' is not valid for a group.")
    location = str(body.get("location") or "").replace(" ", "").lower()
    if not location:
        raise LabFault(400, "LocationRequired", "The location property is required.")
    old = tx.get(GROUP, name.lower())
    if old is not None and old["location"] != location:
        raise LabFault(
            409,
            "InvalidResourceGroupLocation",
            f"The resource group '{name}' already exists in location '{old['location']}'.",
        )
    kept = old["name"] if old else name
    document = {"name": kept, "location": location, "tags": body.get("tags") or {}}
    tx.put(GROUP, name.lower(), document)
    return document, old is None
