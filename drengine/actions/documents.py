"""Documents that a run carries along: the inventory, from the objects beside the journal."""

from __future__ import annotations

import json
from typing import Any

from drengine.actions.contract import StepContext
from drengine.errors import InputFileError

INVENTORY_SCHEMA = "drengine/inventory/v1"


def inventory_of(ctx: StepContext) -> dict[str, Any]:
    """Return the inventory that the run was planned with.

    Raises:
        InputFileError: the document is not an inventory.
        JournalDamaged: its bytes are not beside the journal.
    """
    given = ctx.inputs["inventory"]
    return parse_inventory(ctx.objects.get_object(str(given["sha256"])), str(given["path"]))


def parse_inventory(data: bytes, path: str) -> dict[str, Any]:
    """Return the inventory in `data`.

    Raises:
        InputFileError: it is not one.
    """
    try:
        doc = json.loads(data)
        if doc["schema"] == INVENTORY_SCHEMA and isinstance(doc["keys"], list):
            return dict(doc)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise InputFileError(
        f"{path}: this is not an inventory ({INVENTORY_SCHEMA})",
        hint="Make one with `drengine inventory --hsm NAME --out FILE` while the HSM is alive.",
    )
