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
        chain = writer(store, run)
        chain.note(n=1)
        chain.note(text="ü…")
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


def other_end(content):
    return content.replace("ü".encode(), b"u")


def broken(content):
    return content.replace(b'"n":1', b'"n": 1')


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    ("change", "problems", "heads"), [(bytes, 0, 2), (other_end, 1, 2), (broken, 1, 1)]
)
def test_another_process_finds_what_is_found_here(folder, change, problems, heads):
    journal = folder / "journals" / f"{RUN}.jsonl"
    journal.write_bytes(change(journal.read_bytes()))
    expected = verify_folder(folder)
    assert (len(expected.problems), len(expected.heads)) == (problems, heads)
    assert found_in(folder) == expected


def test_a_short_journal_is_checked_here(folder, monkeypatch):
    monkeypatch.setattr(beside, "_started", None)
    assert found_in(folder) == verify_folder(folder)


@pytest.fixture
def program(monkeypatch, tmp_path):
    """Put another program in the place of the interpreter."""
    monkeypatch.setattr(beside, "LONG_BYTES", 0)
    monkeypatch.setattr(beside, "ANSWER_SECONDS", 1.0)

    def put(script):
        file = tmp_path / "program"
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(file))

    return put


@pytest.mark.timeout(30)
@pytest.mark.parametrize("script", ["exit 1", "exit 0", "echo {}", "echo '[1]'", "exec sleep 60"])
def test_a_process_that_does_not_answer_costs_nothing_but_time(folder, program, script):
    program(script)
    assert found_in(folder) == verify_folder(folder)


def test_a_program_that_is_not_there_costs_nothing(folder, monkeypatch):
    monkeypatch.setattr(beside, "LONG_BYTES", 0)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert found_in(folder) == verify_folder(folder)


def test_another_drengine_is_not_believed(folder, monkeypatch):
    monkeypatch.setattr(beside, "_package", lambda: "/nowhere")
    child = beside._started(folder)
    assert beside._answer(child) is None
    assert child.returncode == 1
    child.stdout.close()


@pytest.mark.timeout(30)
def test_whoever_turns_away_leaves_no_process_behind(folder, program, monkeypatch):
    program("exec sleep 60")
    begun = []
    start = beside._started
    monkeypatch.setattr(beside, "_started", lambda path: begun.append(start(path)) or begun[0])
    with pytest.raises(KeyboardInterrupt), beside.checking(folder):
        raise KeyboardInterrupt
    assert begun[0].poll() is not None
