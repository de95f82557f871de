"""Deviations, lessons and corrective actions, carried from one bundle to the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from drengine.journal.port import JournalStore
from drengine.model.ids import RunId

SCHEMA: Final = "drengine/actions/v1"


def actions_document(store: JournalStore, run: RunId, home: Path) -> dict[str, Any]:
    """Return what `actions.json` of a run's bundle holds."""
    del store, run, home
    return {"schema": SCHEMA, "actions": []}
