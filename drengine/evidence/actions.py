"""Corrective actions: opened after a drill, carried from one bundle to the next until closed.

They live in one small file of the home, because they outlive every run. An action is never
removed: closing it is a change that stays in its history.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from drengine.errors import InputError, InputFileError, JournalDamaged
from drengine.journal.files import write_whole
from drengine.journal.liveness import waiting_lock
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
    return _read(home)["actions"]


def read_reviews(home: Path) -> list[dict[str, Any]]:
    """Return every statement that a run needs no corrective action.

    Raises:
        JournalDamaged: the file cannot be read; nothing was changed.
    """
    return _read(home)["reviews"]


def _read(home: Path) -> dict[str, list[dict[str, Any]]]:
    file = home / FILE
    if not file.exists():
        return {"actions": [], "reviews": []}
    try:
        doc = parse_json(file.read_bytes())
        rows = {"actions": doc["actions"], "reviews": doc.get("reviews", [])}
        return {name: [dict(row) for row in listed] for name, listed in rows.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise JournalDamaged(f"reading {file}: {error}") from None


def open_action(home: Path, fields: Mapping[str, str], at: str) -> dict[str, Any]:
    """Open an action and return it.

    Raises:
        InputFileError: the file cannot be written.
    """
    with _changing(home) as kept:
        rows = kept["actions"]
        row: dict[str, Any] = {
            "id": f"CA-{len(rows) + 1}",
            **fields,
            "status": "open",
            "history": [{"at": at, "status": "open", "note": ""}],
        }
        rows.append(row)
    return row


def change_action(home: Path, name: str, status: str, note: str, at: str) -> dict[str, Any]:
    """Change an action's status; what it was before stays in its history.

    Raises:
        InputError: there is no such action or status.
    """
    if status not in STATES:
        raise InputError(f"'{status}' is none of: {', '.join(STATES)}")
    with _changing(home) as kept:
        row = find_action(kept["actions"], name)
        if row["status"] == status:
            raise InputError(f"{name} is {status} already; nothing was changed")
        row["status"] = status
        row["history"] = [*row["history"], {"at": at, "status": status, "note": note}]
    return row


def review_run(home: Path, run: RunId, by: str, note: str, at: str) -> dict[str, Any]:
    """Record that a run needs no corrective action, and return the statement.

    Raises:
        InputError: actions that this run showed are tracked already.
    """
    with _changing(home) as kept:
        mine = [str(row["id"]) for row in kept["actions"] if row.get("run") == run]
        if mine:
            raise InputError(f"{run} showed {', '.join(mine)}; nothing was recorded")
        row = {"run": str(run), "by": by, "note": note, "at": at}
        kept["reviews"].append(row)
    return row


def find_action(rows: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return the action of that id.

    Raises:
        InputError: there is none.
    """
    for row in rows:
        if row["id"] == name:
            return row
    raise InputError(f"there is no corrective action '{name}'", hint="drengine actions list --all")


def is_overdue(row: Mapping[str, Any], today: str) -> bool:
    """Whether an action should have been closed before `today` (YYYY-MM-DD)."""
    return bool(row.get("due")) and row["status"] != "closed" and str(row["due"]) < today


def actions_document(store: JournalStore, run: RunId, home: Path) -> dict[str, Any]:
    """Return what `actions.json` of a run's bundle holds: every action, closed ones too."""
    del store
    return {**kept_actions(home), "run": str(run)}


def kept_actions(home: Path) -> dict[str, Any]:
    """Return every action and statement that a home keeps, as one document."""
    return {"schema": SCHEMA, **_read(home)}


@contextmanager
def _changing(home: Path) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """Give the rows to change; they are written if the block ends well, one process at a time."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with waiting_lock(home / f".{FILE}.lock"):
            kept = _read(home)
            yield kept
            write_whole(home / FILE, canonical({"schema": SCHEMA, **kept}) + b"\n")
    except OSError as error:
        raise InputFileError(f"writing {home / FILE}: {error.strerror}") from None
