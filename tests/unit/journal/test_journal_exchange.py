"""Moving runs between hosts, and refusing what does not come from an export."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from pathlib import Path

import pytest
from exported import IMPORTED_MS, bring, members

from drengine.errors import (
    Fenced,
    HandedOver,
    InputFileError,
    JournalDamaged,
    JournalError,
    Locked,
)
from drengine.journal import exchange, verify
from drengine.journal.copying import JournalCopy
from drengine.journal.memory import MemoryStore
from drengine.model.ids import RunId
from drengine.model.records import RecordType, Signal

RUN = RunId("r-0123456789ab")
OTHER = RunId("r-ba9876543210")
CHILD = RunId("r-0123456789ab/mi-1")


def untouched(store) -> bool:
    return not store.exists(RUN) and not store.exists(CHILD) and not store.runs()


# export


def test_an_export_holds_the_run_its_children_documents_and_named_objects(origin, tar):
    first, second, _ = origin.objects_of_test
    found = members(tar)
    assert list(found) == [
        "manifest.json",
        "journals/r-0123456789ab.jsonl",
        "journals/r-0123456789ab~mi-1.jsonl",
        "documents/r-0123456789ab/plan.json",
        "documents/r-0123456789ab~mi-1/inputs.json",
        *(f"objects/{sha256}" for sha256 in sorted((first, second))),
    ]
    assert found["journals/r-0123456789ab.jsonl"] == b"".join(origin.lines(RUN))
    assert found[f"objects/{first}"] == b"first"


def test_the_same_run_gives_the_same_bytes_and_exporting_changes_nothing(origin, tar, tmp_path):
    before = {row.run: row.head for row in origin.runs()}
    exchange.export_run(origin, RUN, tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == tar.read_bytes()
    assert {row.run: row.head for row in origin.runs()} == before
    with tarfile.open(tar) as found:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in found.getmembers()} == {
            (0, 0, 0, "", 0o600)
        }


def test_a_folder_holds_the_same_files(tar, folder):
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert found == members(tar)
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {0o600}


def test_the_exported_chain_is_checked_by_the_command_in_the_documentation(folder):
    page = Path(__file__).parents[3] / "docs" / "journal-format.md"
    (script,) = re.findall(r"```bash\n(file=.*?)```", page.read_text(), re.DOTALL)
    file = folder / "journals" / "r-0123456789ab.jsonl"
    head = json.loads((folder / "manifest.json").read_bytes())["journals"][0]["sha256"]

    def check():
        command = ["bash", "-c", script, "check", str(file)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    assert check() == head + "\n"
    file.write_bytes(file.read_bytes().replace(b"engine", b"enGine", 1))
    assert check() == "record 1\n"


def test_nothing_is_overwritten(origin, tar, tmp_path):
    before = tar.read_bytes()
    with pytest.raises(InputFileError, match="exists"):
        exchange.export_run(origin, RUN, tar)
    (tmp_path / "dangling.tar").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputFileError, match="exists"):
        exchange.export_run(origin, RUN, tmp_path / "dangling.tar")
    assert tar.read_bytes() == before


def test_an_export_that_fails_leaves_nothing_behind(origin, host, tmp_path):
    host.spoil_object(origin.objects_of_test[0], b"spoiled")
    out = tmp_path / "out"
    out.mkdir()
    for name in ("run.tar", "run"):
        with pytest.raises(JournalDamaged):
            exchange.export_run(origin, RUN, out / name)
    assert list(out.iterdir()) == []
    with pytest.raises(InputFileError, match="No such file"):
        exchange.export_run(origin, RUN, tmp_path / "absent" / "run.tar")


def test_a_damaged_chain_is_not_exported(origin, host, tmp_path):
    host.damage(RUN, 1, next(origin.lines(RUN)))
    with pytest.raises(JournalDamaged, match="record 1"):
        exchange.export_run(origin, RUN, tmp_path / "run.tar")
    assert not (tmp_path / "run.tar").exists()


def test_a_child_is_exported_only_with_its_parent(origin, tmp_path):
    with pytest.raises(JournalError, match="it is a child") as error:
        exchange.export_run(origin, CHILD, tmp_path / "run.tar")
    assert error.value.hint == f"drengine journal export {RUN}"


def test_a_run_that_is_not_there_is_not_exported(origin, tmp_path):
    with pytest.raises(JournalError, match="there is no run"):
        exchange.export_run(origin, RunId("r-ffffffffffff"), tmp_path / "run.tar")
    assert not (tmp_path / "run.tar").exists()


# import


@pytest.mark.parametrize("form", ["tar", "folder"])
def test_an_imported_run_is_the_same_and_records_the_take_over(origin, form, request):
    path = request.getfixturevalue(form)
    there = MemoryStore()
    assert bring(there, path) == RUN
    assert list(there.lines(CHILD)) == list(origin.lines(CHILD))
    lines = list(there.lines(RUN))
    assert lines[:-1] == list(origin.lines(RUN))
    last = list(there.read(RUN))[-1]
    assert (last.type, last.actor, last.at_ms) == (
        RecordType.RUN_IMPORTED,
        "operator:ada",
        IMPORTED_MS,
    )
    assert last.body == {
        "owner": "host b",
        "token": 1,
        "chains": [
            {"run": run, "seq": origin.head(run).seq, "sha256": origin.head(run).sha256}
            for run in (RUN, CHILD)
        ],
        "reason": "its host burned",
    }
    assert there.get_document(RUN, "plan") == origin.get_document(RUN, "plan")
    first, second, unused = origin.objects_of_test
    assert there.get_object(first) == b"first"
    assert there.get_object(second) == b"second"
    assert not there.has_object(unused)
    assert verify.verify_run(there, RUN) == []
    assert {row.status for row in there.runs()} == {"imported"}
    row = next(row for row in there.runs() if row.run == RUN)
    assert (row.title, row.run_class) == (f"title of {RUN}", "drill")


def test_a_run_whose_host_could_go_on_is_not_taken_without_a_reason(tar):
    there = MemoryStore()
    with pytest.raises(HandedOver, match="did not hand it over") as refusal:
        exchange.import_run(there, tar, actor="operator:ada", at_ms=IMPORTED_MS, mono_ms=1)
    assert refusal.value.exit_code == 7
    assert "--take-over" in refusal.value.hint
    assert untouched(there)


def test_a_run_that_was_handed_over_needs_no_reason(origin, tmp_path, writer):
    chain = writer(origin, RUN)
    chain.append(chain.make(RecordType.RUN_HANDED_OVER, to="host b"))
    chain.release()
    exchange.export_run(origin, RUN, tmp_path / "given.tar")
    there = MemoryStore()
    exchange.import_run(
        there, tmp_path / "given.tar", actor="operator:ada", at_ms=IMPORTED_MS, mono_ms=1
    )
    last = list(there.read(RUN))[-1]
    assert last.type is RecordType.RUN_IMPORTED
    assert "reason" not in last.body


def test_nothing_is_handed_over_that_cannot_be_written(tmp_path):
    with pytest.raises(InputFileError, match="No such file"):
        exchange.check_export(RUN, tmp_path / "no" / "run.tar")
    with pytest.raises(InputFileError, match="exists"):
        exchange.check_export(RUN, tmp_path)


def test_an_import_into_each_store_gives_the_same_chain(host, tar):
    there = type(host)(tar.parent / "there") if hasattr(host, "home") else type(host)()
    store = there.open()
    bring(store, tar)
    assert store.head(RUN).seq == 3
    assert store.acquire(RUN, "the driver").token == 2
    there.close()


def test_a_run_that_went_on_elsewhere_comes_back(origin, tar, tmp_path, writer):
    there = MemoryStore()
    bring(there, tar)
    chain = writer(there, RUN)
    chain.note(on="b")
    chain.release()
    exchange.export_run(there, RUN, tmp_path / "back.tar")
    old_token = origin.acquire(RUN, "x").token
    origin.close()
    return_to = type(origin)(getattr(origin, "home", None) or origin.disk)
    bring(return_to, tmp_path / "back.tar")
    records = list(return_to.read(RUN))
    assert [record.type for record in records[-3:]] == [
        RecordType.RUN_IMPORTED,
        RecordType.NOTE,
        RecordType.RUN_IMPORTED,
    ]
    assert records[-1].body["token"] == old_token + 1
    assert verify.verify_run(return_to, RUN) == []
    return_to.close()


def test_the_owner_before_the_import_is_fenced(host, origin, tar, tmp_path, writer, draft):
    there = MemoryStore()
    bring(there, tar)
    chain = writer(there, RUN)
    chain.note(on="b")
    chain.release()
    exchange.export_run(there, RUN, tmp_path / "back.tar")
    old, old_child = writer(origin, RUN), writer(origin, CHILD)
    second = host.open()
    with pytest.raises(Locked, match="held by a living process"):
        bring(second, tmp_path / "back.tar")
    assert list(second.lines(RUN)) == list(origin.lines(RUN))
    host.lose_locks()
    bring(second, tmp_path / "back.tar")
    with pytest.raises(Fenced):
        origin.append(old.lease, second.head(RUN), [draft()])
    with pytest.raises(Fenced):
        origin.append(old_child.lease, second.head(CHILD), [draft()])


def test_what_is_here_already_is_not_imported_again(origin, tar):
    with pytest.raises(JournalError, match="every record of it is here already"):
        bring(origin, tar)
    assert origin.head(RUN).seq == 2


def test_a_longer_chain_here_is_kept(origin, tar, writer):
    writer(origin, RUN).note(more=1)
    origin.close()
    return_to = type(origin)(getattr(origin, "home", None) or origin.disk)
    with pytest.raises(JournalError, match="goes on after record 2"):
        bring(return_to, tar)
    assert return_to.head(RUN).seq == 3
    return_to.close()


def test_a_chain_that_parts_from_the_one_here_is_refused(origin, tar, tmp_path, writer):
    there = MemoryStore()
    bring(there, tar)
    chain = writer(origin, RUN)
    chain.note(here=1)
    chain.release()
    before = list(origin.lines(RUN))
    exchange.export_run(there, RUN, tmp_path / "back.tar")
    with pytest.raises(JournalError, match="they part at record 3"):
        bring(origin, tmp_path / "back.tar")
    assert list(origin.lines(RUN)) == before


def test_an_import_after_a_crash_before_its_commit_is_simply_repeated(tar, monkeypatch):
    there = MemoryStore()

    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(there, "adopt", crash)
        with pytest.raises(KeyboardInterrupt):
            bring(there, tar)
    assert untouched(there)
    bring(there, tar)
    assert there.head(RUN).seq == 3


def test_signals_do_not_travel(origin, tmp_path):
    origin.put_signal(Signal("s-1", RUN, "approve", "operator:ada", {}, 1))
    exchange.export_run(origin, RUN, tmp_path / "run.tar")
    there = MemoryStore()
    bring(there, tmp_path / "run.tar")
    assert list(there.peek_signals(RUN)) == []


def test_the_copy_that_an_incident_keeps_elsewhere_is_taken_over_as_it_is(origin, tmp_path):
    copy = JournalCopy(origin, tmp_path / "share")
    copy.follow(CHILD, RecordType.INTENT)
    place = tmp_path / "share" / RUN
    there = MemoryStore()
    assert bring(there, place) == RUN
    assert list(there.lines(CHILD)) == list(origin.lines(CHILD))
    assert list(there.lines(RUN))[:-1] == list(origin.lines(RUN))
    assert there.get_document(RUN, "plan") == origin.get_document(RUN, "plan")
    first, second, _ = origin.objects_of_test
    assert (there.get_object(first), there.get_object(second)) == (b"first", b"second")


@pytest.mark.parametrize("wrong", ["another run", "cut in the middle", "a changed object"])
def test_a_copy_that_is_not_what_it_was_is_refused(origin, tmp_path, wrong):
    copy, place = JournalCopy(origin, tmp_path / "share"), tmp_path / "share" / RUN
    for run in (CHILD, RUN):
        copy.follow(run, RecordType.INTENT)
    journal = place / "journals" / "r-0123456789ab.jsonl"
    if wrong == "another run":
        (place / "journals" / f"{OTHER}.jsonl").write_bytes(journal.read_bytes())
    elif wrong == "cut in the middle":
        journal.write_bytes(journal.read_bytes()[:-20])
    else:
        next((place / "objects").iterdir()).write_bytes(b"something else")
    there = MemoryStore()
    with pytest.raises((InputFileError, JournalDamaged)):
        bring(there, place)
    assert untouched(there)
