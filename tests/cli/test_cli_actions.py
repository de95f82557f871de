"""Corrective actions from opening to closing, and the catalogue of what steps can do."""

from __future__ import annotations

import importlib.util
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from drengine.evidence.actions import (
    FILE,
    actions_document,
    open_action,
    read_actions,
    read_reviews,
)
from drengine.journal.sqlite import SqliteStore

STORIES = Path(__file__).parents[1] / "unit/evidence/conftest.py"


@pytest.fixture
def opened(command):
    ended = command(
        "actions", "add", "Move the third key card", "--owner", "ada", "--due", "2020-01-31"
    )
    assert ended.code == 0, ended.err
    return command


def test_an_action_is_opened_shown_closed_and_never_lost(opened):
    assert opened("actions", "start", "CA-1", "--note", "ordered a safe").code == 0
    assert opened("actions", "close", "CA-1", "--note", "safe is there").code == 0
    assert "CA-1" not in opened("actions", "list").out
    assert "CA-1   closed" in opened("actions", "list", "--all").out
    shown = opened("actions", "show", "CA-1").out
    assert "Move the third key card" in shown
    assert shown.index("ordered a safe") < shown.index("safe is there")


def test_what_is_overdue_is_marked_until_it_is_closed(opened):
    assert "⚠ overdue" in opened("actions", "list").out
    (row,) = opened("actions", "list", "-o", "json").document["actions"]
    assert (row["overdue"], row["status"], row["due"]) == (True, "open", "2020-01-31")
    opened("actions", "close", "CA-1", "--note", "done")
    (row,) = opened("actions", "list", "--all", "-o", "json").document["actions"]
    assert row["overdue"] is False


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("close", "CA-9", "--note", "x"), "no corrective action 'CA-9'"),
        (("close", "CA-1", "--note", "  "), "must say why"),
        (("reopen", "CA-1", "--note", "x"), "is open already"),
        (("show", "CA-9"), "no corrective action 'CA-9'"),
        (("add", "  ", "--owner", "ada"), "needs a title and an owner"),
        (("add", "x", "--owner", "ada", "--due", "31.1.2027"), "is not a date"),
        (("add", "x", "--owner", "ada", "--due", "20270131"), "is not a date"),
        (("add", "x", "--owner", "ada", "--run", "r-404"), "there is no run"),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(opened, home, arguments, word):
    before = (home / FILE).read_bytes()
    ended = opened("actions", *arguments)
    assert ended.code == 3
    assert word in ended.err
    assert (home / FILE).read_bytes() == before


def test_every_form_prints_one_schema_in_json(opened, story):
    story()
    add = ("actions", "add", "Rehearse", "--owner", "bob", "--run", "@latest", "--lesson", "slow")
    for arguments in (
        add,
        ("actions", "list"),
        ("actions", "show", "CA-2"),
        ("actions", "start", "CA-2", "--note", "n"),
        ("actions", "close", "CA-2", "--note", "n"),
        ("actions", "reopen", "CA-2", "--note", "n"),
    ):
        document = opened(*arguments, "-o", "json").document
        assert document["schema"] == "drengine/corrective-actions/v1"
        assert document["actions"][-1]["run"] == "r-0123456789ab"


def test_actions_that_are_opened_at_once_are_all_kept(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: open_action(tmp_path, {"title": f"{n}"}, "t"), range(16)))
    rows = read_actions(tmp_path)
    assert [row["id"] for row in rows] == [f"CA-{n + 1}" for n in range(16)]
    assert len({row["title"] for row in rows}) == 16


def test_a_damaged_file_is_refused_and_left_as_it_is(opened, home):
    (home / FILE).write_text("{")
    ended = opened("actions", "add", "x", "--owner", "ada")
    assert ended.code == 14
    assert (home / FILE).read_text() == "{"


def test_hostile_words_in_an_action_reach_the_terminal_as_text(command):
    command("actions", "add", "\x1b[2J\x1b]0;owned\x07\u202egnp.exe", "--owner", "\x9b31mada")
    for ended in (command("actions", "list"), command("actions", "show", "CA-1")):
        assert not set(ended.out) & set("\x1b\x07\x9b\u202e"), ended.out
        assert "⟦U+001B⟧[2J" in ended.out
    told = command("actions", "list", "-o", "json").out
    assert not set(told) & set("\x1b\x07\x9b\u202e")
    assert json.loads(told)["actions"][0]["owner"] == "\x9b31mada"


def test_the_catalogue_is_explained_and_one_action_in_full(command):
    listed = command("explain", "actions")
    assert "hsm.restore" in listed.out
    assert "never repeated without a person" in listed.out
    one = command("explain", "hsm.restore").out
    assert "REST" in one
    assert "outputs" in one
    (spec,) = command("explain", "hsm.restore", "-o", "json").document["actions"]
    assert spec["repeat"] == "never"
    assert spec["quiet_ms"] > 0
    listed = command("explain", "actions", "-o", "json").document["actions"]
    assert {"hsm.create", "hsm.restore"} < {each["name"] for each in listed}
    assert command("explain", "hsm.nothing").code == 3


@pytest.fixture
def runs(home):
    """Two runs that are over: one without a hitch, one in which much went wrong."""
    spec = importlib.util.spec_from_file_location("action_stories", STORIES)
    stories = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stories)
    story, tales = stories.load("story"), stories.load("tales")
    with SqliteStore(home) as store:
        return [
            tale(story.Story(store, story.make_plan(target_hsm=name))).run
            for name, tale in (("one", tales.recover), ("two", tales.troubled))
        ]


def test_that_nothing_is_to_be_mended_is_recorded_and_carried_on(command, home, runs):
    told = ("actions", "none", runs[0], "--by", "ada", "--note", "read the report")
    assert command(*told).code == 0
    (row,) = read_reviews(home)
    assert (row["run"], row["by"], row["note"]) == (runs[0], "ada", "read the report")
    command("actions", "add", "Another thing", "--owner", "ada")
    assert len(read_reviews(home)) == 1
    assert actions_document(None, runs[0], home)["reviews"] == [row]


def test_a_run_with_deviations_is_not_talked_away(command, home, runs):
    ended = command("actions", "none", runs[1], "--by", "ada", "--note", "fine")
    assert (ended.code, "deviations; nothing was recorded" in ended.err) == (3, True)
    assert "drengine actions add" in ended.err
    assert not (home / FILE).exists()


def test_a_run_of_which_actions_are_tracked_needs_some(command, runs):
    command("actions", "add", "Mend", "--owner", "ada", "--run", runs[0])
    ended = command("actions", "none", runs[0], "--by", "ada", "--note", "fine")
    assert (ended.code, "showed CA-1" in ended.err) == (3, True)
