"""`--copy-to`: a place that cannot be used is refused, one on the journal's own disk is told.

And the commands that record something where no process drives a run: the copy shows it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from drengine.cli.elsewhere import check_place, open_copy
from drengine.errors import InputError, JournalError, UsageError
from drengine.journal.copying import JournalCopy
from drengine.journal.exchange import import_run
from drengine.journal.sqlite import SqliteStore
from drengine.model.ids import RunId
from drengine.model.records import RecordType as R
from drengine.model.records import Signal
from drengine.model.runbook import RunClass

RUN = RunId("r-0123456789ab")
CHILD = RunId(f"{RUN}/late")


@pytest.fixture
def check(tmp_path):
    def call(folder, run_class=RunClass.INCIDENT, *, goes_without=False):
        check_place(run_class, folder, tmp_path, goes_without=goes_without)

    return call


def test_a_place_on_the_journals_own_disk_is_made_used_and_warned_of(check, tmp_path, capsys):
    place = tmp_path / "not" / "yet"
    check(place)
    assert place.is_dir()
    said = capsys.readouterr()
    assert f"{place} is on the same disk as the journal in {tmp_path}" in said.err
    assert "see whether it is mounted" in said.err
    assert not said.out, "a warning is no result: -o json must stay JSON"


def test_a_place_on_another_disk_is_not_warned_of(check, tmp_path, capsys, monkeypatch):
    place = tmp_path / "share"
    place.mkdir()
    real = Path.stat

    def stat(path, **more):
        found = real(path, **more)
        if path != place:
            return found
        return os.stat_result([*found[:2], found.st_dev + 1, *found[3:10]])

    monkeypatch.setattr(Path, "stat", stat)
    check(place)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("run_class", list(RunClass))
def test_a_place_that_is_not_there_and_cannot_be_made_is_refused(check, tmp_path, run_class):
    (tmp_path / "a-file").write_text("where a folder should be")
    with pytest.raises(
        InputError, match=r"cannot be made.*Not a directory; nothing was sent"
    ) as no:
        check(tmp_path / "a-file" / "share", run_class)
    assert "Mount the share" in no.value.hint


def test_a_place_that_may_not_be_written_is_refused(check, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(InputError, match="may not write there; nothing was sent"):
        check(tmp_path / "share")


def test_an_incident_without_a_place_is_refused_unless_it_goes_without(check):
    with pytest.raises(UsageError, match="no place was given") as no:
        check(None)
    assert "--no-copy" in no.value.hint
    check(None, goes_without=True)
    check(None, RunClass.DRILL)


# commands that record something by themselves


@pytest.fixture
def share(tmp_path) -> Path:
    return tmp_path / "share"


@pytest.fixture
def copied(story, share):
    """A run whose process copied its journal, and has ended."""
    told = story()
    told.tell((R.RUN_OPENED, {"copies_to": str(share), "owner": "x", "token": 1}))
    JournalCopy(told.store, share).follow(RUN, R.RUN_WAITING)
    return told


def kinds_in(share: Path) -> list[str]:
    with SqliteStore(share.parent / "reader") as store:
        import_run(store, share / RUN, actor="operator:x", at_ms=1, mono_ms=0, take_over="look")
        return [str(record.type) for record in store.read(RUN)][:-1]


CANCEL = ("cancel", RUN, "--reason", "no longer wanted")
TAKE_OVER = ("take-over", RUN, "--reason", "it hangs")
GIVE = ("journal", "export", RUN, "--hand-over", "--to", "beta", "--out")


@pytest.mark.usefixtures("copied")
def test_a_run_that_was_cancelled_does_not_look_alive_in_its_copy(command, share):
    assert command(*CANCEL).code == 0
    assert kinds_in(share)[-1] == "run.cancelled"


@pytest.mark.usefixtures("copied")
def test_a_run_that_was_given_away_is_given_away_in_its_copy(command, share, tmp_path):
    assert command(*GIVE, tmp_path / "run.tar").code == 0
    assert kinds_in(share)[-1] == "run.handed_over"


@pytest.mark.usefixtures("copied")
def test_a_take_over_stands_in_the_copy(command, share):
    assert command(*TAKE_OVER).code == 0
    assert kinds_in(share)[-1] == "note"


@pytest.mark.usefixtures("copied")
@pytest.mark.parametrize("words", [CANCEL, TAKE_OVER, GIVE])
def test_a_place_that_is_gone_is_told_and_stops_nobody(command, share, tmp_path, words):
    shutil.rmtree(share)
    ended = command(*words, *([tmp_path / "run.tar"] if words is GIVE else []))
    assert ended.code == 0
    assert f"The copy in {share} does not show this: the folder is not there" in ended.err
    assert not share.exists(), "an unmounted share is not made"


@pytest.fixture
def put_back(copied, share, tmp_path):
    """The same home, put back from a backup that is older than the copy."""
    with SqliteStore(tmp_path / "first-life") as first:
        there = share / RUN
        import_run(first, there, actor="operator:x", at_ms=1, mono_ms=0, take_over="the backup")
        lease = first.acquire(RUN, "the first life")
        first.append(lease, first.head(RUN), [copied._draft(R.RUN_WAITING, {"for": []})])
        JournalCopy(first, share).bring_up(RUN)
    return copied


def journal(share: Path) -> bytes:
    return (share / RUN / "journals" / f"{RUN}.jsonl").read_bytes()


@pytest.mark.parametrize("words", [TAKE_OVER, GIVE])
def test_a_home_that_is_older_than_its_copy_is_not_given_away_or_taken(
    command, put_back, share, tmp_path, words
):
    before, there = put_back.store.head(RUN), journal(share)
    ended = command(*words, *([tmp_path / "run.tar"] if words is GIVE else []))
    assert (ended.code, "its copy in" in ended.err) == (7, True)
    assert (put_back.store.head(RUN), journal(share)) == (before, there)
    assert not (tmp_path / "run.tar").exists()


@pytest.mark.usefixtures("put_back")
def test_a_cancel_is_never_refused_because_of_a_copy_and_leaves_it_as_it_is(command, share):
    there = journal(share)
    ended = command(*CANCEL)
    assert (ended.code, "does not show this: run" in ended.err) == (0, True)
    assert journal(share) == there


def test_an_older_home_is_refused_with_another_place_or_none_too(put_back, share, tmp_path):
    other = tmp_path / "other"
    for folder in (share, other, None):
        with pytest.raises(JournalError, match="its copy in"):
            open_copy(put_back.store, RUN, folder, str(share))
    assert open_copy(put_back.store, RUN, other, "") is not None
    assert open_copy(put_back.store, RUN, None, str(tmp_path / "gone")) is None


def test_a_place_that_cannot_be_read_any_more_is_told_and_another_one_taken(
    copied, share, tmp_path, capsys
):
    shutil.rmtree(share / RUN / "journals")
    (share / RUN / "journals").write_text("where a folder should be")
    assert open_copy(copied.store, RUN, tmp_path / "other", str(share)) is not None
    assert "could not be compared" in capsys.readouterr().err


def test_messages_to_children_are_counted_at_a_hand_over(command, story, tmp_path):
    begun = {"step": "late", "name": "late", "run": str(CHILD), "item": {}}
    told = story().tell(
        (R.STEP_BEGUN, {"step": "late", "attempt": 1}),
        (R.PROBE_ABSENT, {"step": "late"}),
        (R.GUARDS_HELD, {"step": "late", "findings": []}),
        (R.FANOUT_BEGUN, {"step": "late", "items": [{"name": "late"}]}),
        (R.CHILD_STARTED, begun),
    )
    story(str(CHILD), steps=("inner",))
    told.store.put_signal(Signal("s-1", RUN, "pause", "operator:x", {}, 1))
    told.store.put_signal(Signal("s-2", CHILD, "approve", "operator:x", {}, 1))
    ended = command(*GIVE, tmp_path / "run.tar")
    assert "2 messages that no process has read stay here" in ended.err
