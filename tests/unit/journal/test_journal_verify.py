"""Checks over whole families of chains."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from drengine.journal import exchange, verify
from drengine.journal.memory import MemoryDisk, MemoryStore
from drengine.model.ids import RunId
from drengine.model.records import GENESIS_PREV, Head, RecordType

RUN = RunId("r-0123456789ab")
CHILD = RunId("r-0123456789ab/mi-1")


def reasons(problems) -> list[str]:
    return [str(problem) for problem in problems]


@pytest.fixture
def family(origin):
    """The store with a run and a finished child, whose leases are free."""
    return origin


def test_a_good_run_has_no_problems(family, folder):
    assert verify.verify_run(family, RUN) == []
    assert verify.verify_run(family, CHILD) == []
    assert verify.verify_folder(folder) == []
    assert verify.verify_folder(folder / "journals") == []


def test_a_run_that_is_not_there_is_a_problem(family):
    assert reasons(verify.verify_run(family, RunId("r-ffffffffffff"))) == [
        "r-ffffffffffff: there is no such run in this store"
    ]


def test_only_the_family_of_the_run_is_looked_at(family, host):
    host.damage(RunId("r-ba9876543210"), 0, b"rubbish\n")
    assert verify.verify_run(family, RUN) == []


def test_damage_is_a_problem_that_names_the_record(family, host):
    host.damage(RUN, 1, list(family.lines(RUN))[1].replace(b"child.started", b"note"))
    (problem,) = verify.verify_run(family, RUN)
    assert problem.place == RUN
    assert "record 2: prev is" in problem.reason


def test_every_damaged_chain_is_reported(family, host):
    host.damage(RUN, 0, b"rubbish\n")
    host.damage(CHILD, 1, b"rubbish\n")
    assert [problem.place for problem in verify.verify_run(family, RUN)] == [RUN, CHILD]


def test_a_cut_tail_in_the_store_is_a_problem(family, host):
    host.damage(RUN, 2, None)
    (problem,) = verify.verify_run(family, RUN)
    assert "ends at record 1, but the store names record 2: its end is lost" in problem.reason


def test_a_cut_child_is_found_by_what_its_parent_recorded(folder):
    (folder / "manifest.json").unlink()
    path = folder / "journals" / "r-0123456789ab~mi-1.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert reasons(verify.verify_folder(folder)) == [
        f"{CHILD}: ends at record 1, but record 2 of {RUN} names record 2: its end is lost"
    ]


def test_a_forged_end_of_a_child_is_found_by_what_its_parent_recorded(folder):
    (folder / "manifest.json").unlink()
    path = folder / "journals" / "r-0123456789ab~mi-1.jsonl"
    path.write_bytes(path.read_bytes().replace(b"run.finished", b"run.cancelled"))
    assert reasons(verify.verify_folder(folder)) == [
        f"{CHILD}: record 2 is not the one that record 2 of {RUN} names"
    ]


def test_a_missing_child_is_found_by_what_its_parent_recorded(folder):
    (folder / "manifest.json").unlink()
    (folder / "journals" / "r-0123456789ab~mi-1.jsonl").unlink()
    assert reasons(verify.verify_folder(folder)) == [
        f"{CHILD}: its journal is missing, but record 2 of {RUN} names its head"
    ]


def test_a_child_that_goes_on_after_its_end_is_a_problem(family, writer):
    chain = writer(family, CHILD)
    chain.note(more=1)
    assert reasons(verify.verify_run(family, RUN)) == [
        f"{CHILD}: goes on to record 3 after its end, which record 2 of {RUN} names as 2"
    ]


def test_a_child_that_was_begun_again_may_go_on(family, writer, draft):
    parent = writer(family, RUN)
    parent.append(draft(RecordType.CHILD_STARTED, run=CHILD))
    child = writer(family, CHILD)
    child.note(more=1)
    assert verify.verify_run(family, RUN) == []
    head = {"seq": child.head.seq, "sha256": child.head.sha256}
    parent.append(draft(RecordType.CHILD_FINISHED, run=CHILD, **head))
    assert verify.verify_run(family, RUN) == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "does not name a run, a seq and a SHA-256"),
        ({"run": CHILD, "seq": "2", "sha256": "0" * 64}, "does not name"),
        ({"run": CHILD, "seq": True, "sha256": "0" * 64}, "does not name"),
        ({"run": "r-ffffffffffff/x", "seq": 1, "sha256": "0" * 64}, "is not below it"),
        ({"run": RUN, "seq": 1, "sha256": "0" * 64}, "is not below it"),
        ({"run": CHILD, "seq": 1, "sha256": "0" * 64}, "record 1 is not the one"),
    ],
)
def test_a_head_of_a_child_that_is_not_its_head_is_a_problem(family, writer, draft, body, reason):
    writer(family, RUN).append(draft(RecordType.CHILD_FINISHED, **body))
    assert any(reason in text for text in reasons(verify.verify_run(family, RUN)))


def test_the_heads_of_an_import_are_checked(family, writer, draft):
    writer(family, RUN).append(
        draft(RecordType.RUN_IMPORTED, chains=[{"run": CHILD, "seq": 1, "sha256": "0" * 64}])
    )
    assert reasons(verify.verify_run(family, RUN)) == [
        f"{CHILD}: record 1 is not the one that record 3 of {RUN} names"
    ]


def test_an_anchor_from_elsewhere_shows_a_lost_end(family, folder):
    (folder / "manifest.json").unlink()
    anchors = {RUN: [Head(5, "0" * 64)]}
    expected = [f"{RUN}: ends at record 2, but the anchor names record 5: its end is lost"]
    assert reasons(verify.verify_folder(folder, anchors)) == expected
    assert reasons(verify.verify_run(family, RUN, anchors)) == expected
    other = {RUN: [Head(0, GENESIS_PREV)]}
    assert "record 0 is not the one that the anchor names" in str(
        verify.verify_run(family, RUN, other)[0]
    )


def test_a_manifest_beside_the_journals_is_an_anchor(folder):
    path = folder / "journals" / "r-0123456789ab.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert "the manifest names record 2" in str(verify.verify_folder(folder)[0])


def test_a_bad_manifest_is_a_problem_and_a_manifest_of_another_kind_is_none(folder):
    manifest = folder / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"objects"', b'"0bjects"'))
    assert [problem.place for problem in verify.verify_folder(folder)] == ["manifest.json"]
    manifest.write_text('{"schema":"drengine/bundle/v1"}\n')
    assert verify.verify_folder(folder) == []


def test_a_torn_file_is_reported_as_torn(folder):
    (folder / "manifest.json").unlink()
    path = folder / "journals" / "r-0123456789ab.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    problems = reasons(verify.verify_folder(folder))
    assert "record 2: the last line is torn" in problems[0]


def test_an_empty_journal_is_a_problem(folder):
    (folder / "manifest.json").unlink()
    (folder / "journals" / "r-0123456789ab.jsonl").write_bytes(b"")
    assert reasons(verify.verify_folder(folder)) == [f"{RUN}: there is no record at all"]


def test_a_journal_under_another_name_is_a_problem(folder):
    (folder / "manifest.json").unlink()
    path = folder / "journals" / "r-0123456789ab.jsonl"
    path.rename(path.with_name("r-ffffffffffff.jsonl"))
    assert "record 0: it belongs to run 'r-0123456789ab'" in str(verify.verify_folder(folder)[0])


@pytest.mark.parametrize("name", ["notes.txt", "..jsonl", "a b.jsonl"])
def test_a_file_that_is_no_journal_is_a_problem(folder, name):
    (folder / "journals" / name).write_text("x")
    assert reasons(verify.verify_folder(folder)) == [f"{name}: is not the journal of a run"]


def test_a_link_is_not_followed(folder, tmp_path):
    path = folder / "journals" / "r-0123456789ab~mi-1.jsonl"
    shutil.move(path, tmp_path / "outside.jsonl")
    path.symlink_to(tmp_path / "outside.jsonl")
    assert f"{path.name}: is not the journal of a run" in reasons(verify.verify_folder(folder))


def test_a_folder_without_journals_is_a_problem(tmp_path):
    assert "there is no journal" in str(verify.verify_folder(tmp_path)[0])
    assert "cannot be read" in str(verify.verify_folder(tmp_path / "absent")[0])


def test_grandchildren_are_checked_through_their_parents(writer, draft, tmp_path: Path):
    store = MemoryStore(MemoryDisk())
    chains = [writer(store, run) for run in (RUN, CHILD, f"{CHILD}/db-1")]
    for parent, child in ((1, 2), (0, 1)):
        child_chain = chains[child]
        head = {"seq": child_chain.head.seq, "sha256": child_chain.head.sha256}
        chains[parent].append(draft(RecordType.CHILD_FINISHED, run=str(child_chain.run), **head))
    assert verify.verify_run(store, RUN) == []
    chains[2].note(late=1)
    (problem,) = verify.verify_run(store, RUN)
    assert problem.place == f"{CHILD}/db-1"
    exchange.export_run(store, RUN, tmp_path / "out")
    assert verify.verify_folder(tmp_path / "out") == [problem]
