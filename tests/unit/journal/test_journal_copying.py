"""The copy of a run's journals elsewhere: what is in it, and what it never loses."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
from exported import bring

from drengine.errors import HandedOver, JournalError, StoreFailed
from drengine.journal import copying
from drengine.journal.copying import WHEN, JournalCopy
from drengine.journal.files import UNFINISHED
from drengine.journal.memory import MemoryStore
from drengine.model.ids import RunId, run_of_file
from drengine.model.records import RecordType as R

RUN = RunId("r-0123456789ab")
CHILD = RunId("r-0123456789ab/mi-1")
FILE, CHILD_FILE = "r-0123456789ab.jsonl", "r-0123456789ab~mi-1.jsonl"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def share(tmp_path) -> Path:
    return tmp_path / "share"


@pytest.fixture
def journals(share) -> Path:
    return share / RUN / "journals"


@pytest.fixture
def run(store, writer):
    """A run with a few records."""
    chain = writer(store, RUN)
    chain.note(n=1)
    return chain


def lines(store, run: RunId = RUN) -> bytes:
    return b"".join(store.lines(run))


def put_back(store: MemoryStore) -> MemoryStore:
    """The home as it was when it was backed up."""
    disk = deepcopy(store.disk)
    disk.locks.clear()
    return MemoryStore(disk)


def go_on(store, writer, *notes: int, kind: R = R.INTENT, copy: JournalCopy, run: RunId = RUN):
    """Append as another process would, and let the copy follow."""
    store.disk.locks.clear()
    chain = writer(store, run)
    for n in notes:
        chain.note(n=n)
        copy.follow(run, kind)
    return chain


@pytest.mark.parametrize("kind", sorted(WHEN))
def test_the_copy_is_current_after_what_only_the_journal_knows(store, run, share, journals, kind):
    copy = JournalCopy(store, share)
    copy.follow(RUN, R.NOTE)
    before = lines(store)
    assert (journals / FILE).read_bytes() == before, "whatever a process does first"
    run.note(n=2)
    copy.follow(RUN, R.NOTE)
    assert (journals / FILE).read_bytes() == before, "not at every record"
    copy.follow(RUN, kind)
    assert (journals / FILE).read_bytes() == lines(store)


@pytest.mark.usefixtures("run")
def test_a_new_place_gets_the_children_that_are_over_too(store, writer, share, journals):
    """They grow no more, so no record of theirs would bring them there; their parent names them."""
    writer(store, CHILD).note(n=1)
    JournalCopy(store, share).follow(RUN, R.RUN_OPENED)
    assert (journals / CHILD_FILE).read_bytes() == lines(store, CHILD)


@pytest.mark.parametrize(
    "kind",
    [
        R.ANSWER_OPERATION,
        R.ANSWER_LOST,
        R.RUN_PAUSED,
        R.RUN_CONTINUED,
        R.RUN_ROLLBACK,
        R.RUN_CANCELLED,
        R.RUN_HANDED_OVER,
        R.GATE_REJECTED,
        R.GATE_VOIDED,
        R.OUTCOME_FOUND,
        R.OUTCOME_ABSENT,
        R.OUTCOME_UNKNOWN,
    ],
)
def test_no_answer_decision_or_end_is_missing_in_the_copy(kind):
    assert kind in WHEN


# what the copy has and this home has not


@pytest.fixture
def older(store, run, writer, share):
    """A home that was put back from its backup after its run had gone on."""
    backup = put_back(run.store)
    go_on(store, writer, 2, 3, copy=JournalCopy(store, share))
    return backup


def test_a_home_that_is_older_than_the_copy_may_not_go_on(older, store, share, journals):
    first_life = lines(store)
    with pytest.raises(JournalError) as refused:
        JournalCopy(older, share).check(RUN)
    there, here = store.head(RUN), older.head(RUN)
    assert f"ends with record {there.seq} ({there.sha256[:12]}…)" in refused.value.message
    assert f"this home with record {here.seq} ({here.sha256[:12]}…)" in refused.value.message
    assert "Nothing is sent from here, and the copy was left as it is" in refused.value.message
    take = f"drengine journal import {share / RUN} --take-over REASON, which"
    assert refused.value.hint.startswith(take)
    assert refused.value.exit_code == 14
    assert (journals / FILE).read_bytes() == first_life


def test_the_command_that_the_refusal_names_brings_the_older_home_up(older, share, writer):
    bring(older, share / RUN)
    copy = JournalCopy(older, share)
    copy.check(RUN)
    go_on(older, writer, 4, copy=copy)
    assert (share / RUN / "journals" / FILE).read_bytes() == lines(older)


def test_a_fork_never_replaces_the_chain_in_the_copy(older, store, writer, share, journals):
    first_life = lines(store)
    for notes in ([99], [100, 101]):
        with pytest.raises(JournalError, match="is another chain from record 2 on") as refused:
            go_on(older, writer, *notes, copy=JournalCopy(older, share))
        assert "DRENGINE_HOME=FOLDER drengine journal import" in refused.value.hint
        assert (journals / FILE).read_bytes() == first_life


def test_the_first_record_of_a_process_is_refused_whatever_its_type(older, writer, share):
    with pytest.raises(JournalError, match="put back from a backup"):
        go_on(older, writer, 99, kind=R.RUN_OPENED, copy=JournalCopy(older, share))


@pytest.mark.usefixtures("older")
def test_a_home_without_the_run_does_not_begin_it_anew(share):
    with pytest.raises(JournalError, match="the journal of this home with no record") as refused:
        JournalCopy(MemoryStore(), share).check(RUN)
    assert refused.value.hint.startswith("drengine journal import")


@pytest.mark.usefixtures("run")
def test_what_the_copy_holds_of_a_child_counts_too(store, writer, share, journals):
    copy = JournalCopy(store, share)
    copy.follow(RUN, R.INTENT)
    backup = put_back(store)
    go_on(store, writer, 1, copy=copy, run=CHILD)
    with pytest.raises(JournalError, match=f"run {CHILD}: its copy .* goes on"):
        JournalCopy(backup, share).check(RUN)
    assert (journals / CHILD_FILE).read_bytes() == lines(store, CHILD)


def test_a_chain_that_another_host_put_there_meanwhile_is_not_replaced(
    store, run, writer, share, journals
):
    copy = JournalCopy(store, share)
    copy.follow(RUN, R.INTENT)
    other = MemoryStore()
    bring(other, share / RUN)
    go_on(other, writer, 7, copy=JournalCopy(other, share))
    run.note(n=2)
    with pytest.raises(HandedOver, match="Another host took the run over") as refused:
        copy.follow(RUN, R.INTENT)
    assert "Go on there" in refused.value.hint
    assert (journals / FILE).read_bytes() == lines(other)


@pytest.mark.usefixtures("run")
def test_the_journal_of_another_run_in_that_folder_is_passed_over(store, share, journals):
    JournalCopy(store, share).follow(RUN, R.INTENT)
    (journals / "r-ba9876543210.jsonl").write_bytes(b"{}\n")
    (journals / ".writing-x").write_bytes(b"half")
    JournalCopy(store, share).check(RUN)


# what a crash leaves there


@pytest.mark.parametrize("left", [0, 1, -1, -40, None])
@pytest.mark.usefixtures("run")
def test_a_copy_that_is_shorter_or_torn_is_made_whole(store, share, journals, left):
    JournalCopy(store, share).follow(RUN, R.INTENT)
    whole = lines(store)
    (journals / FILE).write_bytes(whole[:left])
    again = JournalCopy(store, share)
    again.check(RUN)
    again.follow(RUN, R.INTENT)
    assert (journals / FILE).read_bytes() == whole


@pytest.mark.parametrize("left", [0, -40])
@pytest.mark.usefixtures("run")
def test_one_that_became_shorter_under_this_process_is_made_whole_too(store, share, journals, left):
    copy = JournalCopy(store, share)
    copy.follow(RUN, R.INTENT)
    (journals / FILE).write_bytes(lines(store)[:left])
    copy.follow(RUN, R.INTENT)
    assert (journals / FILE).read_bytes() == lines(store)


def test_a_torn_line_that_this_home_never_wrote_is_more_than_it_has(older, store, share, journals):
    (journals / FILE).write_bytes(lines(older) + lines(store)[len(lines(older)) :][:10])
    with pytest.raises(JournalError, match="goes on"):
        JournalCopy(older, share).check(RUN)


@pytest.mark.usefixtures("run")
def test_a_file_that_its_host_died_writing_does_not_stand_in_the_way_of_an_import(
    store, share, journals
):
    JournalCopy(store, share).follow(RUN, R.INTENT)
    (journals / f"{UNFINISHED}abc").write_bytes(b'{"half')
    there = MemoryStore()
    assert bring(there, share / RUN) == RUN
    assert list(there.lines(RUN))[:-1] == list(store.lines(RUN))


def test_a_copy_that_is_gone_stops_the_process_that_kept_it(store, run, share, journals):
    copy = JournalCopy(store, share)
    copy.follow(RUN, R.INTENT)
    (journals / FILE).unlink()
    run.note(n=2)
    with pytest.raises(StoreFailed, match="nothing was sent after it"):
        copy.follow(RUN, R.INTENT)
    assert not (journals / FILE).exists(), "an unmounted share looks like this"


# cost


def test_only_what_is_new_is_read_for_objects_and_written(store, run, share, monkeypatch):
    first = store.put_object(b"first")
    run.note(answer=first)
    store.put_document(RUN, "plan", {"a": 1})
    wrote: list[str] = []
    real = copying.write_whole

    def write(path, content, **more):
        wrote.append(path.name)
        real(path, content, **more)

    monkeypatch.setattr(copying, "write_whole", write)
    copy = JournalCopy(store, share)
    copy.follow(RUN, R.INTENT)
    assert wrote == ["plan.json", first, FILE]
    copy.follow(RUN, R.INTENT)
    second = store.put_object(b"second")
    run.note(answer=second)
    copy.follow(RUN, R.INTENT)
    assert wrote[3:] == [second, FILE]
    JournalCopy(store, share).follow(RUN, R.INTENT)
    assert wrote[5:] == [FILE], "what is there already is left"


def test_a_run_is_brought_up_with_its_children(origin, share):
    JournalCopy(origin, share).bring_up(CHILD)
    there = MemoryStore()
    bring(there, share / RUN)
    for run in (RUN, CHILD):
        assert list(there.lines(run))[: origin.head(run).seq + 1] == list(origin.lines(run))


def test_the_file_of_a_journal_names_its_run():
    assert (run_of_file(FILE), run_of_file(CHILD_FILE)) == (RUN, CHILD)
