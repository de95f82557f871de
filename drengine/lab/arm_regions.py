"""Extending a Managed HSM to a second region, and giving that up again.

The texts of refusals are recorded where a recording exists (2023-12); which regions a HSM
can be extended to is from the documentation of 2026-04.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from drengine.lab.hsm import state
from drengine.lab.places import NAMED_REGIONS
from drengine.lab.wire import LabFault

if TYPE_CHECKING:
    from drengine.lab.store import Tx

NOT_EXTENDED_TO: Final = frozenset(
    {"eastus", "canadaeast", "westeurope", "qatarcentral", "polandcentral", "westindia"}
)
Action = Literal["update", "extend", "shrink"]


def wanted_action(tx: Tx, document: dict[str, Any], body: dict[str, Any]) -> Action:
    """Return what a change of a HSM is about.

    Raises:
        LabFault: the regions it asks for are not allowed.
    """
    wanted = (body.get("properties") or {}).get("regions")
    if wanted is None:
        return "update"
    resource = document["resource"]
    have = {one["name"] for one in resource["properties"]["regions"]}
    names = [str(one.get("name", "")).replace(" ", "").lower() for one in wanted]
    extra = [one for one in names if one != resource["location"]]
    if set(extra) == have:
        return "update"
    if not extra:
        return "shrink"
    for name in extra:
        _check_region(name)
    if len(extra) > 1:
        raise LabFault(400, "400", "A Managed HSM can be extended to one region only.")
    hsm = tx.get(state.HSM, resource["name"].lower()) or {}
    if hsm.get("phase") != state.ACTIVE:
        raise LabFault(400, "400", "Only an activated Managed HSM can be extended to a region.")
    return "extend"


def _check_region(name: str) -> None:
    if name not in NAMED_REGIONS:
        raise LabFault(
            400,
            "400",
            f"Invalid region name: {name} passed. The valid list of region names: "
            f"{', '.join(NAMED_REGIONS)}",
        )
    if name in NOT_EXTENDED_TO:
        raise LabFault(400, "400", f"A Managed HSM cannot be extended to the region {name}.")


def begin(document: dict[str, Any], body: dict[str, Any], action: Action) -> None:
    """Write into the document that regions are being added or removed."""
    properties = document["resource"]["properties"]
    location = document["resource"]["location"]
    if action == "shrink":
        properties["regions"] = [
            {**one, "provisioningState": "Deleting"} for one in properties["regions"]
        ]
        return
    names = [str(one["name"]).replace(" ", "").lower() for one in body["properties"]["regions"]]
    properties["regions"] = [
        {"name": name, "provisioningState": "Provisioning", "isPrimary": False}
        for name in names
        if name != location
    ]


def finish(tx: Tx, document: dict[str, Any]) -> None:
    """Let what was begun take effect; the caller saves the document."""
    properties = document["resource"]["properties"]
    kept = [one for one in properties["regions"] if one["provisioningState"] != "Deleting"]
    properties["regions"] = [{**one, "provisioningState": "Succeeded"} for one in kept]
    document["state"] = "Succeeded"
    hsm = tx.get(state.HSM, document["resource"]["name"].lower())
    if hsm is not None:
        state.store(tx, {**hsm, "regions": [one["name"] for one in kept]})


def shown(resource: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all regions of a rendered resource, the primary first."""
    regions = list(resource["properties"]["regions"])
    provisioning = resource["properties"]["provisioningState"]
    primary = {
        "name": resource["location"],
        "provisioningState": "Succeeded" if regions else provisioning,
        "isPrimary": True,
    }
    return [primary, *regions]
