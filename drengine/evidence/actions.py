"""Corrective actions: opened after a drill, carried from one bundle to the next until closed.

They live in one small file of the home, because they outlive every run. An action is never
removed: closing it is a change that stays in its history.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from drengine.errors import InputError, InputFileError, JournalDamaged
from drengine.journal.files import write_whole
from drengine.journal.port import JournalStore
from drengine.model.canonical import canonical
from drengine.model.ids import RunId
from drengine.trust.dsse import parse_json

SCHEMA: Final = "drengine/actions/v1"
FILE: Final = "corrective.json"
STATES: Final = ("open", "in progress", "closed")


def read_actions(home: Path) -> list[dict[str, Any]]:
    """Return every corrective action of a home.

    Raises:
        JournalDamaged: the file cannot be read; nothing was changed.
    """
    file = home / FILE
    if not file.exists():
        return []
    try:
        doc = parse_json(file.read_bytes())
        rows = doc["actions"]
        return [dict(row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JournalDamaged(f"reading {file}: {error}") from None


def open_action(home: Path, fields: Mapping[str, str], at: str) -> dict[str, Any]:
    """Open an action and return it.

    Raises:
        InputFileError: the file cannot be written.
    """
    rows = read_actions(home)
    row: dict[str, Any] = {
        "id": f"CA-{len(rows) + 1}",
        **fields,
        "status": "open",
        "history": [{"at": at, "status": "open", "note": ""}],
    }
    _write(home, [*rows, row])
    return row


def change_action(home: Path, name: str, status: str, note: str, at: str) -> dict[str, Any]:
    """Change an action's status; what it was before stays in its history.

    Raises:
        InputError: there is no such action or status.
    """
    rows = read_actions(home)
    if status not in STATES:
        raise InputError(f"'{status}' is none of: {', '.join(STATES)}")
    for row in rows:
        if row["id"] == name:
            row["status"] = status
            row["history"] = [*row["history"], {"at": at, "status": status, "note": note}]
            _write(home, rows)
            return row
    raise InputError(f"there is no corrective action '{name}'", hint="drengine corrective list")


def actions_document(store: JournalStore, run: RunId, home: Path) -> dict[str, Any]:
    """Return what `actions.json` of a run's bundle holds: every action, closed ones too."""
    del store
    return {"schema": SCHEMA, "run": str(run), "actions": read_actions(home)}


def _write(home: Path, rows: list[dict[str, Any]]) -> None:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(home / FILE, canonical({"schema": SCHEMA, "actions": rows}) + b"\n")
    except OSError as error:
        raise InputFileError(f"writing {home / FILE}: {error.strerror}") from None
