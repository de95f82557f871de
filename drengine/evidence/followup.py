"""What followed from a run and from those before it: corrective actions and lessons.

Pure. They are not part of the facts, since no journal holds them: people open and close them
after a run. A bundle carries them as `actions.json`, sealed with everything else, and the
report shows what stands there. What is overdue is so on the day on which the run ended, so
that the same bundle gives the same page for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from drengine.evidence.deviations import VIRTUAL
from drengine.evidence.reading import objects, text
from drengine.model.facts import EvidenceFacts
from drengine.model.times import utc_text

CLOSED: Final = "closed"


@dataclass(frozen=True, slots=True)
class Action:
    """One corrective action as it stood when the evidence was written.

    Attributes:
        run: the run that showed what is to be mended; empty where none is named.
        last: when its status last changed, and what was said then.
    """

    id: str
    title: str
    owner: str
    due: str
    run: str
    lesson: str
    status: str
    last: str
    is_overdue: bool

    @property
    def is_done(self) -> bool:
        """Whether somebody closed it."""
        return self.status == CLOSED


@dataclass(frozen=True, slots=True)
class Review:
    """Somebody's statement that a run needs no corrective action."""

    run: str
    by: str
    note: str
    at: str


@dataclass(frozen=True, slots=True)
class FollowUp:
    """Every action that is kept, those of earlier runs too, and what was said of this run.

    Attributes:
        of_run: those that this run showed.
        review: the statement that this run needs none, None where nobody made it.
    """

    actions: tuple[Action, ...] = ()
    of_run: tuple[Action, ...] = ()
    review: Review | None = None

    @property
    def open(self) -> tuple[Action, ...]:
        """What is still to be done."""
        return tuple(each for each in self.actions if not each.is_done)

    @property
    def overdue(self) -> tuple[Action, ...]:
        """What should have been done by the end of the run."""
        return tuple(each for each in self.actions if each.is_overdue)

    @property
    def done(self) -> tuple[Action, ...]:
        """What was closed."""
        return tuple(each for each in self.actions if each.is_done)

    @property
    def lessons(self) -> tuple[Action, ...]:
        """Actions that say what was learned."""
        return tuple(each for each in self.actions if each.lesson)


def follow_up_of(doc: Mapping[str, Any] | None, facts: EvidenceFacts) -> FollowUp:
    """Return what `actions.json` says, taken for what it must be."""
    if doc is None:
        return FollowUp()
    today = utc_text(facts.last.at_ms)[:10]
    actions = tuple(_action(row, today) for row in objects(doc.get("actions")))
    reviews = [_review(row) for row in objects(doc.get("reviews"))]
    return FollowUp(
        actions=actions,
        of_run=tuple(each for each in actions if each.run == facts.run),
        review=next((each for each in reversed(reviews) if each.run == facts.run), None),
    )


def _action(row: Mapping[str, Any], today: str) -> Action:
    history = objects(row.get("history"))
    last = history[-1] if history else {}
    status, due = text(row.get("status")), text(row.get("due"))
    return Action(
        id=text(row.get("id")),
        title=text(row.get("title")),
        owner=text(row.get("owner")),
        due=due,
        run=text(row.get("run")),
        lesson=text(row.get("lesson")),
        status=status,
        last=" ".join(filter(None, (text(last.get("at"))[:10], text(last.get("note"))))),
        is_overdue=bool(due) and status != CLOSED and due < today,
    )


def _review(row: Mapping[str, Any]) -> Review:
    return Review(*(text(row.get(name)) for name in ("run", "by", "note", "at")))


def real_deviations(facts: EvidenceFacts) -> int:
    """Return how many deviations are more than a step that its own condition left out.

    What a lab's virtual time does is nobody's to mend either.
    """
    return sum(
        each.kind != VIRTUAL and not (each.kind == "step skipped" and each.actor == "engine")
        for each in facts.deviations
    )
