"""A drill that did not get to its end says why."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from drengine.drills.embedded import reasons_of
from drengine.evidence.collect import collect
from drengine.journal.memory import MemoryStore
from drengine.model.records import RecordType as R

STORY = Path(__file__).resolve().parents[1] / "evidence" / "story.py"


@pytest.fixture
def telling() -> ModuleType:
    spec = importlib.util.spec_from_file_location("drills_story", STORY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def reasons(telling: Any, *stopped: str) -> tuple[str, ...]:
    store = MemoryStore()
    story = telling.Story(store, telling.make_plan())
    story.create()
    story.open()
    if stopped:
        story.say(R.RUN_STOPPED, **{"for": list(stopped)})
    journals = {row.run: list(store.read(row.run)) for row in store.runs()}
    return reasons_of(collect(story.plan, journals), "drengine run ended with 1: the last words")


def test_what_the_journal_names_is_the_reason(telling: Any) -> None:
    assert reasons(telling, "restore: the backup is too young") == (
        "the run is stopped",
        "restore: the backup is too young",
    )


def test_an_engine_that_ended_in_the_middle_is_quoted(telling: Any) -> None:
    assert reasons(telling) == (
        "the run is running",
        "drengine run ended with 1: the last words",
    )
