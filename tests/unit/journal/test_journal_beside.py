"""The check of journals in a process of its own finds what the check in place finds."""

from __future__ import annotations

import sys

import pytest

from drengine.journal import beside, exchange
from drengine.journal.memory import MemoryStore
from drengine.journal.verify import verify_folder

RUN = "r-0123456789ab"


@pytest.fixture
def folder(writer, tmp_path):
    """An export of a run with a child."""
    store = MemoryStore()
    for run in (RUN, f"{RUN}/mi-1"):
        writer(store, run).note(text="ü…")
    exchange.export_run(store, RUN, tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def elsewhere(monkeypatch):
    """Send every check to another process, and fail where it is done here."""
    monkeypatch.setattr(beside, "LONG_BYTES", 0)

    def here(_):
        raise AssertionError("it was checked here")

    monkeypatch.setattr(beside, "verify_folder", here)


def found_in(folder):
    with beside.checking(folder) as checked:
        return checked()


def damage(folder):
    journal = folder / "journals" / f"{RUN}.jsonl"
    journal.write_bytes(journal.read_bytes().replace("ü".encode(), b"u"))


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("change", [None, damage])
def test_another_process_finds_what_is_found_here(folder, change):
    if change is not None:
        change(folder)
    expected = verify_folder(folder)
    assert bool(expected.problems) == bool(change)
    assert found_in(folder) == expected
    assert len(expected.heads) == 2


def test_a_short_journal_is_checked_here(folder, monkeypatch):
    monkeypatch.setattr(beside, "_started", None)
    assert found_in(folder) == verify_folder(folder)


@pytest.mark.parametrize("program", ["/bin/false", "/bin/true", "/nowhere/python"])
def test_a_process_that_does_not_answer_costs_nothing_but_time(folder, monkeypatch, program):
    monkeypatch.setattr(beside, "LONG_BYTES", 0)
    monkeypatch.setattr(sys, "executable", program)
    assert found_in(folder) == verify_folder(folder)


def test_whoever_turns_away_leaves_no_process_behind(folder, monkeypatch):
    monkeypatch.setattr(beside, "LONG_BYTES", 0)
    begun = []
    start = beside._started
    monkeypatch.setattr(beside, "_started", lambda path: begun.append(start(path)) or begun[0])
    with pytest.raises(KeyboardInterrupt), beside.checking(folder):
        raise KeyboardInterrupt
    assert begun[0].poll() is not None
