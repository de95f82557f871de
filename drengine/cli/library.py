"""Runbooks as the commands find them: by path, or by the name of a shipped one.

Rules: a sub-runbook is looked for beside the runbook that names it, then among the
shipped ones; nothing else is searched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from drengine.errors import InputFileError
from drengine.model.canonical import sha256_hex
from drengine.model.catalogue import Catalogue
from drengine.model.runbook import Runbook
from drengine.resources import runbook_folder
from drengine.runbook.loader import load_runbook
from drengine.runbook.suggest import did_you_mean

MAX_RUNBOOK_BYTES: Final = 256 * 1024
_SUFFIXES: Final = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Document:
    """A runbook's bytes and where they are from."""

    file: str
    text: bytes


def catalogue() -> Catalogue:
    """Return everything that a runbook may name."""
    from drengine.actions.registry import CATALOGUE  # noqa: PLC0415 - not needed to find files

    return CATALOGUE


def find_document(named: str, beside: Path | None = None) -> Document:
    """Return the runbook that `named` means: a path, or the name of a shipped runbook.

    Raises:
        InputFileError: there is none, or it cannot be read.
    """
    path = Path(named)
    if path.suffix in _SUFFIXES or len(path.parts) > 1 or path.is_file():
        return _read(path)
    folders = [folder for folder in (beside, runbook_folder()) if folder is not None]
    for folder in folders:
        for place in (folder / f"{named}.yaml", folder / named / "runbook.yaml"):
            if place.is_file():
                return _read(place)
    known = shipped()
    raise InputFileError(
        f"there is no runbook '{named}'{did_you_mean(named, known)}",
        hint=f"a path to a file, or one of: {', '.join(known)}",
    )


def shipped() -> tuple[str, ...]:
    """Return the names of the shipped runbooks."""
    return tuple(
        sorted({path.stem if path.stem != "runbook" else path.parent.name for path in _files()})
    )


def _files() -> list[Path]:
    folder = runbook_folder()
    return sorted((*folder.glob("*.yaml"), *folder.glob("*/runbook.yaml")))


def roles_of_gates() -> tuple[str, ...]:
    """Return every role that a gate of a shipped runbook asks for."""
    known = Library(catalogue())
    gates = [step.gate for file in _files() for step in known.load(_read(file)).steps]
    return tuple(sorted({role for gate in gates if gate for role in gate.roles}))


def _read(path: Path) -> Document:
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_RUNBOOK_BYTES + 1)
    except OSError as error:
        raise InputFileError(
            f"reading runbook {path}: {error.strerror}", hint="Check the path."
        ) from None
    return Document(str(path), text)


class Library:
    """Loads runbooks once each, by the digest of their text."""

    def __init__(self, known: Catalogue, beside: Path | None = None) -> None:
        self._catalogue = known
        self._beside = beside
        self._loaded: dict[str, Runbook] = {}

    def load(self, document: Document) -> Runbook:
        """Return the runbook in `document`.

        Raises:
            RunbookError: it is not one; names the place.
        """
        key = sha256_hex(document.text)
        if key not in self._loaded:
            self._loaded[key] = load_runbook(document.text, document.file, self._catalogue)
        return self._loaded[key]

    def from_text(self, text: str) -> Runbook:
        """Return the runbook whose text a plan carries."""
        return self.load(Document("(in the plan)", text.encode()))

    def by_name(self, name: str) -> Runbook:
        """Return a sub-runbook.

        Raises:
            InputFileError: there is none of that name.
        """
        return self.load(find_document(name, self._beside))


Load = Callable[[str], Runbook]
