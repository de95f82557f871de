"""Every tampering that can be seen without a signature, each by a test of its own.

`reseal` plays an attacker who also rewrites SHA256SUMS, so that only what the journals
say can give them away; `rechain` one who also hashes a chain anew.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import time
from pathlib import Path

import pytest

import drengine
from drengine.evidence import verify as verify_module
from drengine.evidence.folder import read_sources, write_evidence
from drengine.evidence.render import render_html
from drengine.evidence.sums import write_sums
from drengine.evidence.verify import verify_folder
from drengine.journal.codec import encode
from drengine.journal.memory import MemoryStore
from drengine.model.canonical import canonical, sha256_hex
from drengine.model.facts import Verdict
from drengine.model.ids import RunId
from drengine.model.records import GENESIS_PREV, Draft, RecordType
from drengine.model.runbook import RunClass


@pytest.fixture(scope="session")
def sealed(tell, tmp_path_factory):
    store = MemoryStore()
    story = tell.troubled(tell.Story(store, tell.make_plan()))
    return write_evidence(store, story.run, tmp_path_factory.mktemp("sealed") / "evidence")


@pytest.fixture
def folder(sealed, tmp_path):
    return Path(shutil.copytree(sealed, tmp_path / "evidence"))


@pytest.fixture
def journal(folder):
    return next(file for file in (folder / "journals").iterdir() if "~" not in file.name)


def reseal(folder):
    names = [
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*")
        if p.is_file() and p.name != "SHA256SUMS"
    ]
    (folder / "SHA256SUMS").write_bytes(
        write_sums({n: sha256_hex((folder / n).read_bytes()) for n in names})
    )


def documents(journal):
    return [json.loads(line) for line in journal.read_bytes().splitlines()]


def rechain(journal, docs):
    prev, lines = GENESIS_PREV, []
    for seq, doc in enumerate(docs):
        draft = Draft(RecordType(doc["type"]), doc["actor"], doc["body"], 0, doc["mono"], None)
        line, _ = encode(draft, RunId(doc["run"]), seq, prev)
        fields = {**json.loads(line), "at": doc["at"]}
        if "wall" in doc:
            fields["wall"] = doc["wall"]
        lines.append(canonical(fields) + b"\n")
        prev = sha256_hex(lines[-1])
    journal.write_bytes(b"".join(lines))
    reseal(journal.parent.parent)


def problems(folder):
    report = verify_folder(folder)
    assert not report.holds
    return [str(problem) for problem in report.problems]


def assert_caught(folder, *words):
    found = problems(folder)
    for word in words:
        assert any(word in problem for problem in found), (word, found)
    return found


def test_an_untouched_folder_holds_and_says_what_was_not_checked(folder):
    report = verify_folder(folder)
    assert report.problems == ()
    assert report.facts.verdict is Verdict.RECOVERED
    assert any("no signature" in note for note in report.notes)
    assert report.sums_sha256 == sha256_hex((folder / "SHA256SUMS").read_bytes())


def test_an_unfinished_run_holds_too(tell, store, tmp_path):
    story = tell.recover(tell.Story(store, tell.make_plan()), until="upload")
    assert verify_folder(write_evidence(store, story.run, tmp_path / "e")).holds


def test_extra_files_hold(store, plain_run, tmp_path):
    out = write_evidence(store, plain_run.run, tmp_path / "e", extra_files={"notes/a.txt": b"x"})
    assert verify_folder(out).holds


def test_verifying_changes_nothing(folder):
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}
    verify_folder(folder)
    assert before == {
        p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()
    }


# 1 to 5: values, steps, tails, reports


@pytest.mark.parametrize("also_sums", [False, True])
def test_an_edited_value_in_one_line_is_caught(folder, journal, also_sums):
    journal.write_bytes(
        journal.read_bytes().replace(b"429 TooManyRequests", b"200 GoodEnough5678!", 1)
    )
    if also_sums:
        reseal(folder)
        assert_caught(folder, "prev is")
    else:
        assert_caught(folder, "has the digest", "prev is")


def test_a_dropped_failure_in_a_new_chain_is_caught(folder, journal):
    docs = documents(journal)
    rechain(journal, [d for d in docs if d["type"] != "answer.refused"])
    assert_caught(folder, "no row of the lifecycle")


def test_a_dropped_record_that_moves_nothing_is_caught_by_the_facts(folder, journal):
    rechain(journal, [d for d in documents(journal) if d["type"] != "note"])
    assert_caught(folder, "facts.json: differs", "report.html: a number differs", "not the page")


def test_a_cut_tail_is_caught_by_facts_and_report(folder, journal):
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    reseal(folder)
    assert_caught(folder, "verdict: says 'recovered', found 'not finished'", "not the page")


def test_a_cut_tail_of_a_child_is_caught_by_its_parent(folder):
    child = next((folder / "journals").glob("*fog-weu*"))
    child.write_bytes(b"".join(child.read_bytes().splitlines(keepends=True)[:-1]))
    reseal(folder)
    assert_caught(folder, "its end is lost")


def test_a_replaced_report_is_caught(folder):
    (folder / "report.html").write_text("<h1>All was well</h1>")
    reseal(folder)
    assert_caught(folder, "report.html: does not hold its numbers")


def test_a_word_changed_in_the_report_is_caught_though_its_numbers_are_right(folder):
    page = (folder / "report.html").read_text()
    (folder / "report.html").write_text(page.replace("simulated</span>", "in person</span>", 1))
    reseal(folder)
    assert assert_caught(folder, "is not the page that these journals give") == [
        "report.html: is not the page that these journals give"
    ]


def test_a_number_changed_in_facts_and_report_is_caught(folder):
    facts = json.loads((folder / "facts.json").read_text())
    facts["rto"]["actual_ms"] -= 3_600_000
    (folder / "facts.json").write_text(
        json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    )
    page = (folder / "report.html").read_text()
    actual = page.split('data-rto-actual-ms="')[1].split('"')[0]
    (folder / "report.html").write_text(
        page.replace(f'actual-ms="{actual}"', f'actual-ms="{int(actual) - 3_600_000}"')
    )
    reseal(folder)
    assert_caught(
        folder, "rto.actual_ms: says", "a number differs from the journals: rto-actual-ms"
    )


# 6, 7, 18, 19: approvals


def test_one_approver_under_one_name_twice_does_not_make_two(folder, journal):
    docs = documents(journal)
    for doc in docs:
        if doc["type"] == "gate.approved" and doc["actor"].endswith("bob"):
            doc["actor"] = "simulated:approver:alice"
    rechain(journal, docs)
    assert_caught(folder, "facts.json: differs")
    assert verify_folder(folder).facts.verdict is Verdict.NOT_RECOVERED


def test_a_removed_approval_is_caught(folder, journal):
    docs = documents(journal)
    last = max(
        place
        for place, doc in enumerate(docs)
        if doc["type"] == "gate.approved" and doc["body"]["step"] == "approve-restore"
    )
    rechain(journal, docs[:last] + docs[last + 1 :])
    assert_caught(folder, "facts.json: differs", "decides on a request that is not before it")
    assert verify_folder(folder).facts.verdict is Verdict.NOT_RECOVERED


def test_an_approval_of_another_request_is_caught(folder, journal):
    docs = documents(journal)
    doc = next(d for d in docs if d["type"] == "gate.approved")
    doc["body"]["digest"] = "0" * 64
    rechain(journal, docs)
    assert_caught(folder, "decides on other facts than were shown")


def test_facts_of_a_gate_changed_after_the_approval_are_caught(folder, journal):
    docs = documents(journal)
    doc = next(d for d in docs if d["type"] == "gate.requested")
    doc["body"]["facts"]["target"]["name"] = "another-hsm"
    rechain(journal, docs)
    assert_caught(folder, "the digest of what the gate shows is not its own")


# 8, 21: the plan


def test_a_plan_swapped_after_the_run_is_caught(folder, tell):
    other = tell.make_plan(RunClass.INCIDENT)
    (folder / "plan.json").write_bytes(canonical(other.to_json()) + b"\n")
    reseal(folder)
    assert_caught(
        folder, "record 0 names plan", "the plan starts run", "the plan is for a incident"
    )


def test_a_plan_whose_digest_is_not_its_own_is_caught(folder):
    doc = json.loads((folder / "plan.json").read_text())
    doc["class"] = "incident"
    (folder / "plan.json").write_bytes(canonical(doc) + b"\n")
    reseal(folder)
    assert_caught(folder, "plan.json: reading the plan")


@pytest.mark.parametrize("kind", ["incident", "tabletop"])
def test_a_drill_relabelled_is_caught(folder, journal, kind):
    docs = documents(journal)
    docs[0]["body"]["class"] = kind
    rechain(journal, docs)
    assert_caught(folder, "record 0 says", "facts.json: differs")


def test_a_lab_passed_off_as_azure_is_caught(folder, journal):
    docs = documents(journal)
    docs[0]["body"]["cloud"]["lab"] = False
    rechain(journal, docs)
    assert_caught(folder, "names another cloud than the plan", "facts.json: differs")


def test_inputs_changed_in_record_0_are_caught(folder, journal):
    docs = documents(journal)
    docs[0]["body"]["inputs"]["target_hsm"] = "elsewhere"
    rechain(journal, docs)
    assert_caught(
        folder, "the digest of the inputs is not theirs", "has other inputs than the plan"
    )


# 9, 14, 22, 23: names and files


def test_an_unlisted_file_is_caught(folder):
    (folder / "approval.txt").write_text("granted")
    assert_caught(folder, "approval.txt: is not named in SHA256SUMS")


@pytest.mark.parametrize(
    "name", ["report.html", "facts.json", "plan.json", "README.txt", "SHA256SUMS"]
)
def test_a_missing_file_is_caught(folder, name):
    (folder / name).unlink()
    assert_caught(folder, f"{name}: is missing")


def test_a_missing_folder_of_journals_is_caught(folder):
    (folder / "journals").rename(folder.parent / "elsewhere")
    assert_caught(folder, "journals: is missing")


@pytest.mark.parametrize("name", ["report.html", "journals"])
def test_a_symbolic_link_is_not_followed(folder, name):
    target = folder.parent / "elsewhere"
    (folder / name).rename(target)
    (folder / name).symlink_to(target)
    assert_caught(folder, f"{name}: is a symbolic link")


def test_a_linked_journal_is_not_opened(folder, journal):
    target = folder.parent / "elsewhere"
    journal.rename(target)
    journal.symlink_to(target)
    report = verify_folder(folder)
    assert report.facts is None
    assert any("symbolic link" in str(p) for p in report.problems)


def test_a_pipe_does_not_hang_the_verification(folder):
    os.mkfifo(folder / "journals" / "r-1.jsonl")
    assert_caught(folder, "is not a plain file")


def test_a_file_too_large_to_read_is_named_and_not_read(folder, monkeypatch):
    monkeypatch.setattr(verify_module, "MAX_FILE_BYTES", 1000)
    assert_caught(folder, "at most 1,000 are read")


def test_a_document_too_large_to_hold_is_named_and_not_held(folder, monkeypatch):
    monkeypatch.setattr(verify_module, "MAX_SUMS_BYTES", 10)
    assert_caught(folder, "SHA256SUMS: is larger than 10 bytes")


@pytest.mark.parametrize("name", ["näme.txt", "a b.txt", ".hidden", "back\\slash"])
def test_a_name_that_evidence_never_uses_is_caught(folder, name):
    (folder / name).write_text("x")
    assert_caught(folder, "is not a name that evidence uses")


def test_sums_with_dos_lines_are_refused(folder):
    sums = folder / "SHA256SUMS"
    sums.write_bytes(sums.read_bytes().replace(b"\n", b"\r\n"))
    assert_caught(folder, "SHA256SUMS: line 1")


def test_sums_that_reach_outside_are_refused(folder):
    sums = folder / "SHA256SUMS"
    sums.write_bytes(b"0" * 64 + b"  ../secret\n" + sums.read_bytes())
    assert_caught(folder, "SHA256SUMS: line 1")


# 11, 12, 15, 24: the bytes of a chain


def test_two_records_in_another_order_are_caught(folder, journal):
    docs = documents(journal)
    place = next(i for i, d in enumerate(docs) if d["type"] == "guards.held")
    docs[place], docs[place + 1] = docs[place + 1], docs[place]
    rechain(journal, docs)
    assert_caught(folder, "no row of the lifecycle")


def test_a_key_that_stands_twice_is_caught(folder, journal):
    journal.write_bytes(
        journal.read_bytes().replace(b'{"actor":"engine"', b'{"actor":"nobody","actor":"engine"', 1)
    )
    reseal(folder)
    assert_caught(folder, "stands twice")


@pytest.mark.parametrize("damage", [b"\xef\xbb\xbf", b" ", b"\n"])
def test_a_line_in_another_form_is_caught(folder, journal, damage):
    journal.write_bytes(damage + journal.read_bytes())
    reseal(folder)
    assert_caught(folder, "record 0")


def test_a_float_in_a_record_is_caught(folder, journal):
    data = journal.read_bytes()
    journal.write_bytes(data.replace(b'"attempt":1', b'"attempt":1.0', 1))
    reseal(folder)
    assert_caught(folder, "number that canonical JSON has no form for")


def test_a_torn_last_line_is_caught(folder, journal):
    journal.write_bytes(journal.read_bytes()[:-9])
    reseal(folder)
    assert_caught(folder, "torn")


def test_records_of_another_run_are_caught(folder, journal, tell):
    store = MemoryStore()
    other = tell.recover(tell.Story(store, tell.make_plan(target_hsm="other")))
    journal.write_bytes(b"".join(store.lines(other.run)))
    reseal(folder)
    assert_caught(folder, "it belongs to run")


def test_a_journal_under_another_name_is_caught(folder, journal):
    journal.rename(journal.with_name("r-000000000000.jsonl"))
    reseal(folder)
    assert_caught(folder, "it belongs to run")


def test_a_removed_child_is_caught(folder):
    next((folder / "journals").glob("*fog-neu*")).unlink()
    reseal(folder)
    assert_caught(folder, "its journal is missing", "facts.json: differs")


def test_a_record_whose_body_makes_no_sense_is_a_problem_and_no_crash(folder, journal):
    docs = documents(journal)
    docs[3]["body"] = {"step": "preflight", "findings": 7, "exchanges": "no", "outputs": []}
    docs[0]["body"]["objectives"] = None
    docs[0]["body"]["tool"] = ["x"]
    rechain(journal, docs)
    assert problems(folder)


@pytest.mark.parametrize(
    "field", ["steps", "class", "path", "inputs", "cloud", "objectives", "initiator", "item"]
)
def test_a_field_of_record_0_that_is_gone_or_odd_is_a_problem_and_no_crash(folder, journal, field):
    docs = documents(journal)
    honest = docs[0]["body"][field]
    for value in (None, 7, [7], {"a": 1}, "x"):
        if value == honest:
            continue
        docs[0]["body"][field] = value
        rechain(journal, docs)
        assert problems(folder)
    del docs[0]["body"][field]
    rechain(journal, docs)
    assert problems(folder)


def test_a_child_that_names_itself_as_its_parent_is_a_problem_and_no_crash(folder):
    child = next((folder / "journals").glob("*fog-neu*"))
    docs = documents(child)
    docs[0]["body"]["parent"] = docs[0]["run"]
    rechain(child, docs)
    assert_caught(folder, "record 0 places it under")


# 28, 29: numbers and proofs


def test_a_proof_that_was_emptied_is_caught(folder, journal):
    docs = documents(journal)
    doc = next(
        d for d in docs if d["type"] == "step.succeeded" and d["body"]["step"] == "prove-keys"
    )
    del doc["body"]["evidence"]
    rechain(journal, docs)
    assert_caught(folder, "facts.json: differs")
    assert verify_folder(folder).facts.verdict is Verdict.NOT_RECOVERED


@pytest.mark.parametrize(
    "content", [b"[]", b"{", b"{}", b"\xff", b'{"schema":"drengine/evidence-facts/v1"}']
)
def test_facts_that_are_none_are_caught(folder, content):
    (folder / "facts.json").write_bytes(content)
    reseal(folder)
    assert_caught(folder, "facts.json")


def test_facts_in_another_layout_are_caught(folder):
    doc = json.loads((folder / "facts.json").read_text())
    (folder / "facts.json").write_text(json.dumps(doc))
    reseal(folder)
    assert_caught(folder, "not laid out as drengine writes it")


def test_a_report_of_another_version_is_compared_by_its_numbers_and_this_is_said(folder):
    page = (folder / "report.html").read_text().replace(drengine.__version__, "9.9.9")
    (folder / "report.html").write_text(page)
    reseal(folder)
    report = verify_folder(folder)
    assert report.holds
    assert any("its text was not" in note for note in report.notes)


def test_no_folder_is_no_evidence(tmp_path):
    assert problems(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert len(problems(tmp_path / "empty")) >= 2
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    assert problems(tmp_path / "link")


def test_every_problem_is_listed_not_only_the_first(folder, journal):
    journal.write_bytes(journal.read_bytes().replace(b"preflight", b"prefligth"))
    (folder / "report.html").unlink()
    (folder / "more").write_text("x")
    assert_caught(folder, "prev is", "report.html: is missing", "more: is not named")


def test_a_whole_rewrite_is_not_seen_and_the_notes_say_so(folder, journal):
    """The limit of evidence without a signature: written down here so that nobody forgets it."""
    docs = documents(journal)
    doc = next(d for d in docs if d["type"] == "note")
    doc["body"]["why"] = "nothing of importance"
    rechain(journal, docs)
    facts = verify_folder(folder).facts
    (folder / "facts.json").write_bytes(verify_module.facts_bytes(facts))
    (folder / "report.html").write_text(render_html(facts))
    reseal(folder)
    report = verify_folder(folder)
    assert report.holds
    assert any("not who made it" in note for note in report.notes)
    assert report.sums_sha256 != sha256_hex(write_sums(dict.fromkeys(["a"], "b" * 64)))


def test_sources_of_a_store_are_the_run_and_its_children_only(tell, store, troubled_run):
    tell.Story(store, tell.make_plan(target_hsm="other")).create()
    assert all(
        run.startswith(troubled_run.run) for run in read_sources(store, troubled_run.run).lines
    )


def test_of_a_chain_that_breaks_nothing_is_told_but_where_it_does(folder, journal):
    docs = documents(journal)
    odd = next(n for n, doc in enumerate(docs) if doc["type"] == "step.begun")
    docs[odd]["body"]["step"] = "no-such-step"
    rechain(journal, docs)
    assert "no-such-step" in str(verify_folder(folder).problems)
    journal.write_bytes(journal.read_bytes().replace(b'{"actor"', b'{ "actor"', 1))
    reseal(folder)
    (problem,) = verify_folder(folder).problems
    assert "record 0" in str(problem)


def test_a_folder_among_the_journals_does_not_keep_them_from_being_read(folder, journal):
    (folder / "journals" / "x").mkdir()
    assert "journals/x: is not a plain file" in str(verify_folder(folder).problems[0])
    journal.write_bytes(b"rubbish\n")
    reseal(folder)
    assert not verify_folder(folder).holds


def test_whoever_interrupts_does_not_wait_for_the_rest_of_the_files(folder, monkeypatch):
    hashed = []

    class Slow(io.BytesIO):
        def read(self, size=-1):
            time.sleep(0.05)
            hashed.append(size)
            return b"x"

    def interrupted(_):
        time.sleep(0.1)
        raise KeyboardInterrupt

    plain = Path.open

    def slow(file, *how, **more):
        return plain(file, *how, **more) if file.name == "SHA256SUMS" else Slow()

    monkeypatch.setattr(Path, "open", slow)
    monkeypatch.setattr(verify_module.FolderCheck, "check_journals", interrupted)
    with pytest.raises(KeyboardInterrupt):
        verify_folder(folder)
    assert 0 < len(hashed) < 10


def test_what_gave_no_facts_never_holds(folder, monkeypatch):
    monkeypatch.setattr(verify_module.FolderCheck, "check_journals", lambda _: None)
    (problem,) = verify_folder(folder).problems
    assert "gave no facts" in str(problem)
