"""Collects what is wrong with a document, each with its place, so that all are told at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from drengine.errors import RunbookError
from drengine.model.runbook import Position
from drengine.runbook.yaml import Path, Tree

MAX_PROBLEMS: Final = 100


@dataclass(slots=True)
class Problems:
    """The problems of one document; more than `MAX_PROBLEMS` are not kept."""

    tree: Tree
    _found: list[RunbookError] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        """Whether looking further is a waste."""
        return len(self._found) >= MAX_PROBLEMS

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, path: Path, message: str, *, hint: str = "", at_key: bool = False) -> None:
        """Note a problem with the value at `path`, or with its key."""
        if self.is_full:
            return
        place = self.tree.place(path)
        line, column = place.key if at_key else place.value
        self._found.append(
            RunbookError(message, file=self.tree.file, line=line, column=column, hint=hint)
        )

    def position(self, path: Path) -> Position:
        """Return the place of the key at `path`, as the model keeps it."""
        return Position(self.tree.file, *self.tree.place(path).key)

    def in_order(self) -> list[RunbookError]:
        """Return the problems from top to bottom."""
        return sorted(self._found, key=lambda error: (error.line, error.column))
