"""Every way to tamper with a sealed bundle that we know, each caught with its own words.

Where a case says "insider", the forger holds the sealing key and makes every file anew.
`drengine verify` and the single file must both refuse; the number is that of the list in
the design of the evidence.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from drengine.evidence.collect import collect
from drengine.evidence.sealed import verify_bundle
from drengine.model.canonical import canonical, digest
from drengine.model.facts import Verdict
from drengine.trust.enrolling import Entry, enrol
from drengine.trust.keys import make_key, public_pem
from drengine.trust.register import read_trust
from drengine.trust.signers import KeySigner

CASES = {}


def case(number, words, *, alone=True, both=False):
    """Keep a case; where `both` is given, the single file must use the same words."""

    def keep(function):
        name = f"{number}-{function.__name__}"
        CASES[name] = (function, words, alone, both)
        return function

    return keep


def index(records, kind, step=None, nth=0):
    found = [
        i
        for i, doc in enumerate(records)
        if doc["type"] == kind and step in (None, doc["body"].get("step"))
    ]
    return found[nth]


@case("01", "does not follow|prev is|digest")
def one_value_in_one_line(forger):
    forger.edit(
        f"journals/{forger.run}.jsonl",
        b'"initiator":"operator:dana"',
        b'"initiator":"operator:dina"',
    )


@case("02", "what is signed names other digests")
def a_step_dropped_and_everything_but_the_signature_made_anew(forger):
    records = forger.records()
    del records[index(records, "probe.absent", "restore")]
    forger.rechain(records)
    forger.resum(sign=False)


@case("02b", "is not a plain file; no journal was read|is not the one that was signed")
def the_same_with_a_folder_among_the_journals(forger):
    a_step_dropped_and_everything_but_the_signature_made_anew(forger)
    (forger.path / "journals" / "x").mkdir()


@case("03", "digest|what is signed")
def the_tail_cut_off(forger):
    forger.rechain(forger.records()[:-4])
    forger.resum(sign=False)


@case("03b", "finished|child|status", alone=False)
def the_tail_cut_off_by_an_insider_who_still_claims_success(forger):
    forger.rechain(forger.records()[:-4])
    forger.rebuild(change=lambda facts: dataclasses.replace(facts, verdict=Verdict.RECOVERED))


@case("04", "report.html")
def the_report_replaced(forger):
    forger.edit("reports/report.html", b"recovered", b"recovery!")


@case("05", "a key that the trust folder lacks|not trusted")
def a_better_time_signed_with_another_key(forger):
    facts = forger.document("facts.json")
    facts["rto"]["actual_ms"] -= 3_600_000
    forger.rebuild(KeySigner(make_key()), facts_doc=canonical(facts))


@case("06", "names 'bob'|another person's|approver:alice|is alice's")
def one_person_counted_twice_by_an_insider(forger):
    records = forger.records()
    first = index(records, "gate.approved", "approve-restore")
    records[first + 1]["body"]["envelope"] = records[first]["body"]["envelope"]
    forger.rechain(records)
    forger.rebuild()


@case("07", "does not count|passed with")
def an_approval_removed_by_an_insider(forger):
    records = forger.records()
    del records[index(records, "gate.approved", "approve-restore")]
    forger.rechain(records)
    forger.rebuild()


@case("07b", "is missing")
def the_file_of_an_approval_removed(forger):
    next((forger.path / "approvals").iterdir()).unlink()
    forger.resum()


@case("08", "another plan|names plan|for another request")
def the_plan_swapped_by_an_insider(forger):
    plan = {k: v for k, v in forger.document("inputs/plan.json").items() if k != "digest"}
    plan["created_at"] = "2026-11-22T09:59:00.000Z"
    plan["digest"] = digest(plan)
    forger.put("inputs/plan.json", plan)
    forger.rebuild()


@case("09", "is not named in SHA256SUMS")
def a_file_that_nobody_listed(forger):
    (forger.path / "reports" / "extra.html").write_text("<p>")


@case("11", "does not count|lifecycle")
def two_records_reordered_by_an_insider(forger):
    records = forger.records()
    i = index(records, "probe.absent", "create-hsm")
    records[i - 1], records[i] = records[i], records[i - 1]
    forger.rechain(records)
    try:
        forger.rebuild()
    except Exception:
        forger.resum()


@case("11b", "does not count")
def two_approvals_reordered_by_an_insider(forger):
    records = forger.records()
    i = index(records, "gate.approved", "approve-create")
    j = index(records, "gate.approved", "approve-restore")
    a, b = records[i]["body"], records[j]["body"]
    a["envelope"], b["envelope"] = b["envelope"], a["envelope"]
    forger.rechain(records)
    forger.rebuild()


@case("12", "twice|canonical")
def a_key_twice_in_the_manifest(forger):
    forger.edit("manifest.json", b'{"class":"drill"', b'{"class":"incident","class":"drill"')


@case("12b", "twice|canonical")
def a_key_twice_in_a_record_by_an_insider(forger):
    forger.edit(f"journals/{forger.run}.jsonl", b'{"actor":', b'{"actor":"engine","actor":')
    forger.resum()


@case("13", "kind of payload|expected")
def another_type_of_payload(forger):
    doc = forger.document("attestation.dsse.json")
    forger.put("attestation.dsse.json", {**doc, "payloadType": "application/json"})


@case("14", "symbolic link")
def a_symbolic_link(forger):
    file = forger.path / "facts.json"
    outside = forger.path.parent / "facts.json"
    file.rename(outside)
    file.symlink_to(outside)


@case("14b", "not a file here|not in both|leads|KeyError")
def a_path_that_leads_out_by_an_insider(forger):
    row = {"path": "../../etc/passwd", "sha256": "0" * 64, "size": 1}
    more = {"media": "text/plain", "role": "passwd", "redacted": False}
    forger.resum(extra_rows=[{**row, **more}])


@case("15", "was given for")
def an_approval_of_another_run_by_an_insider(forger):
    other = forger.other()
    records = forger.records()
    place = index(records, "gate.approved", "approve-create")
    mine = records[place]["body"]
    mine["envelope"] = other.records()[place]["body"]["envelope"]
    forger.rechain(records)
    forger.rebuild()


@case("16", "the chain before it changed|does not count")
def history_before_an_approval_rewritten_by_an_insider(forger):
    records = forger.records()
    doc = records[index(records, "intent", "create-hsm")]
    doc["body"]["manual"] = "az keyvault create …"
    forger.rechain(records)
    forger.rebuild()


@case("17", "revoked")
def sealed_with_a_key_that_is_revoked(forger):
    forger.trust(lambda doc: doc["sealers"][0].update(revoked="2026-01-01T00:00:00.000Z"))


@case("17b", "revoked")
def approved_with_a_key_that_was_revoked(forger):
    forger.trust(lambda doc: doc["people"][0]["keys"][0].update(revoked="2026-01-01T00:00:00.000Z"))


@case("17c", "not been valid since|not valid any more")
def approved_with_a_key_that_was_too_old(forger):
    forger.trust(
        lambda doc: doc["people"][0]["keys"][0].update(not_after="2026-01-01T00:00:00.000Z")
    )


@case("18", "was used before|nonce")
def a_nonce_used_twice(forger):
    records = forger.records()
    for place in (
        index(records, "gate.approved", "approve-restore"),
        index(records, "gate.approved", "approve-repoint"),
    ):
        doc = records[place]
        forger.resign(records, place, nonce="f" * 32)
        forger.rechain(records)
        records = forger.records()
        del doc
    forger.rebuild()


@case("19", "dated")
def an_approval_dated_after_its_use(forger):
    records = forger.records()
    place = index(records, "gate.approved", "approve-repoint")
    forger.resign(records, place, issued_ms=4_000_000_000_000, expires_ms=4_000_000_100_000)
    forger.rechain(records)
    forger.rebuild()


@case("19b", "expired")
def an_approval_used_after_it_expired(forger):
    records = forger.records()
    place = index(records, "gate.approved", "approve-repoint")
    forger.resign(records, place, expires_ms=1_000)
    forger.rechain(records)
    forger.rebuild()


@case("20", "started the run")
def who_began_the_run_approved_it(forger):
    forger.trust(lambda doc: doc["people"][0].update(accounts=["dana"]))


@case("21", "for a drill|for another|is for a")
def a_drill_relabelled_as_an_incident_by_an_insider(forger):
    plan = {k: v for k, v in forger.document("inputs/plan.json").items() if k != "digest"}
    plan["class"] = "incident"
    plan["digest"] = digest(plan)
    forger.put("inputs/plan.json", plan)
    for file in (forger.path / "journals").iterdir():
        records = forger.records(file)
        records[0]["body"] |= {"class": "incident", "plan": plan["digest"]}
        forger.rechain(records, file)
    forger.rebuild()


@case("21b", "attestation|what is signed|played|class")
def a_lab_relabelled_as_real(forger):
    forger.edit("manifest.json", b'"lab":true', b'"lab":false')


@case("22", "plain name|has the line")
def sums_with_carriage_returns(forger):
    file = forger.path / "SHA256SUMS"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))


@case("22b", "plain name|has the line")
def sums_with_an_escaped_name(forger):
    file = forger.path / "SHA256SUMS"
    file.write_bytes(b"\\" + file.read_bytes())


@case("23", "only in upper and lower case")
def names_that_differ_in_case(forger):
    (forger.path / "Facts.json").write_bytes((forger.path / "facts.json").read_bytes())
    forger.resum()


@case("23b", "not a name that evidence uses")
def a_name_that_two_systems_write_differently(forger):
    (forger.path / "reports" / "re\u0301sume.html").write_text("x")


@case("23c", "hard link")
def a_hard_link(forger):
    os.link(forger.path / "facts.json", forger.path.parent / "mine")


@case("23d", "at most .* are read")
def a_file_that_would_fill_the_memory(forger):
    os.truncate(forger.path / "facts.json", (1 << 30) + 1)


@case("24c", "canonical")
def a_letter_written_as_an_escape_by_an_insider(forger):
    forger.edit(f"journals/{forger.run}.jsonl", b'"preflight"', b'"preflight\\u2028"')
    forger.resum()


@case("24", "UTF-8|canonical|Expecting|BOM")
def a_byte_order_mark(forger):
    file = forger.path / "manifest.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())


@pytest.mark.parametrize("number", [b"1.0", b"NaN", b"1e3"])
def test_24b_a_number_that_two_readers_read_differently(forger, number):
    forger.edit(f"journals/{forger.run}.jsonl", b'"attempt":1', b'"attempt":' + number)
    forger.resum()
    assert_refused(forger, "number|canonical|value|Infinity|NaN", alone=True)


@case("27", "the clock was set back")
def the_clock_set_back(forger):
    records = forger.records()
    start = index(records, "step.skipped", "grant-roles")
    for doc in records[start:]:
        doc["at"] = doc["at"].replace("T1", "T0")
        doc["wall"] = doc["wall"].replace("T1", "T0")
    forger.rechain(records)
    forger.rebuild()


@case("28", "rto|RTO|differs from the journals")
def numbers_edited_and_signed_by_an_insider(forger):
    facts = forger.document("facts.json")
    facts["rto"]["actual_ms"] -= 3_600_000
    forger.rebuild(facts_doc=f"{json.dumps(facts, indent=2, sort_keys=True)}\n".encode())


@case("28b", "what is signed is not what the journals give|not that of facts")
def a_claim_edited_and_signed_by_an_insider(forger):
    said = json.loads(forger.payload())["predicate"]
    said["rto"]["actual_ms"] = 60_000
    forger.resum(predicate=said)


@case("29", "nothing was read back")
def a_success_that_nobody_read_back(forger):
    records = forger.records()
    records[index(records, "step.succeeded", "restore")]["body"]["findings"] = []
    records[index(records, "step.succeeded", "restore")]["body"]["exchanges"] = []
    forger.resign_after(records, index(records, "step.succeeded", "restore"))
    forger.rebuild()


@case("29b", "prove-keys is said to have succeeded, but nothing was read back", both=True)
def a_proof_that_nobody_read_back(forger):
    records = forger.records()
    place = index(records, "step.succeeded", "prove-keys")
    del records[place]["body"]["findings"]
    forger.resign_after(records, place)
    forger.rebuild()


@case("31", "raw|is not the signature")
def another_raw_signature_for_openssl(forger):
    (forger.path / "openssl" / "engine.sig").write_bytes(b"0" * 70)


@case("32", "is not what was signed")
def other_signed_bytes_for_openssl(forger):
    (forger.path / "openssl" / "attestation.pae").write_bytes(b"DSSEv1 ")


@case("33", "is missing|not in both")
def a_bundle_cut_in_transfer(forger):
    for name in ("facts.json", "inputs/plan.json", "manifest.json"):
        (forger.path / name).unlink()


@case("34", "is not the register")
def another_register_by_an_insider(forger):
    doc = forger.document("inputs/approvers.json")
    doc["people"][0]["roles"] = ["everything"]
    forger.put("inputs/approvers.json", doc)
    forger.rebuild()


@case("35", "its end is lost|not the chain whose end")
def a_childs_chain_shortened_by_an_insider(forger):
    child = max((forger.path / "journals").iterdir())
    forger.rechain(forger.records(child)[:-2], child)
    forger.rebuild()


@case("36", "signatures, expected one|one signature")
def a_second_signature_on_the_attestation(forger):
    doc = forger.document("attestation.dsse.json")
    doc["signatures"] *= 2
    forger.put("attestation.dsse.json", doc)


def without_children(forger, *names):
    """Drop children from the root's chain, and their journals."""
    gone = [f"{forger.run}/repoint/{name}" for name in names]
    forger.resign_after(
        [
            doc
            for doc in forger.records()
            if not (doc["type"].startswith("child.") and doc["body"]["run"] in gone)
        ],
        0,
    )
    for run in gone:
        (forger.path / "journals" / f"{run.replace('/', '~')}.jsonl").unlink()


@case("37", "its child fog-weu, which the plan lists, was never begun", both=True)
def every_child_dropped_by_an_insider_whom_all_approvers_help(forger):
    without_children(forger, "fog-weu", "fog-neu")
    forger.rebuild()


@case("37b", "its child fog-neu, which the plan lists, was never begun", both=True)
def one_planned_group_dropped_by_an_insider(forger):
    without_children(forger, "fog-neu")
    forger.rebuild()


@case("37c", "its journal is missing", both=True)
def the_journal_of_a_child_that_was_begun_dropped_by_an_insider(forger):
    records = forger.records()
    place = index(records, "child.started", "repoint", 1)
    forger.rechain(records[: place + 1])
    (forger.path / "journals" / f"{forger.run}~repoint~fog-neu.jsonl").unlink()
    forger.rebuild()


@case("37d", "is a child's journal that no record of a parent names", both=True)
def a_childs_journal_that_nobody_names_added_by_an_insider(forger):
    child = forger.path / "journals" / f"{forger.run}~repoint~fog-neu.jsonl"
    other = f"{forger.run}/repoint/fog-xyz"
    records = [{**doc, "run": other} for doc in forger.records(child)]
    forger.rechain(records, child.with_name(f"{other.replace('/', '~')}.jsonl"))
    forger.rebuild()


@case("37e", "child fog-xyz is not one that the plan lists", both=True)
def a_child_that_the_plan_does_not_list_by_an_insider(forger):
    records, other = forger.records(), f"{forger.run}/repoint/fog-xyz"
    for nth in (0, 1):
        records[index(records, ("child.started", "child.finished")[nth], None, 1)]["body"] |= {
            "name": "fog-xyz",
            "run": other,
        }
    forger.rechain(records)
    child = forger.path / "journals" / f"{forger.run}~repoint~fog-neu.jsonl"
    moved = [{**doc, "run": other} for doc in forger.records(child)]
    child.unlink()
    forger.rechain(moved, child.with_name(f"{other.replace('/', '~')}.jsonl"))
    head = moved and forger.heads()[other]
    records[index(records, "child.finished", None, 1)]["body"] |= head
    forger.rechain(records)
    forger.rebuild()


@case("37f", "is given another item than the plan's", both=True)
def a_child_begun_for_another_item_by_an_insider(forger):
    records = forger.records()
    place = index(records, "child.started")
    records[place]["body"]["item"] = {"name": "fog-weu", "id": "/subscriptions/s/fog-other"}
    forger.rechain(records)
    forger.rebuild()


@case("37g", "has another `approvers` than record|is not signed", both=True)
def a_childs_register_dropped_by_an_insider(forger):
    child = forger.path / "journals" / f"{forger.run}~repoint~fog-neu.jsonl"
    moved = forger.records(child)
    del moved[0]["body"]["approvers"]
    forger.rechain(moved, child)
    records = forger.records()
    records[index(records, "child.finished", None, 1)]["body"] |= forger.heads()[
        f"{forger.run}/repoint/fog-neu"
    ]
    forger.rechain(records)
    forger.rebuild()


@case("38", "asked for decisions with no register of approvers", both=True)
def a_signed_run_made_an_unsigned_one_by_an_insider(forger):
    forger.unsign()
    forger.rebuild()


def void_before_it_passed(forger, kind, body):
    records = forger.records()
    place = index(records, "gate.approved", "approve-repoint") + 1
    records.insert(place, {**records[place - 1], "type": kind, "body": body})
    forger.rechain(records)
    forger.resum()


@case("38b", "a gate passed that had asked nobody|no row of the lifecycle", both=True)
def a_gate_that_passed_after_its_approval_was_withdrawn_by_an_insider(forger):
    body = {"step": "approve-repoint", "why": "withdrawn by approver:alice: wrong key"}
    void_before_it_passed(forger, "gate.voided", body)


@case("38c", "a gate passed that had asked nobody|no row of the lifecycle", both=True)
def a_gate_that_passed_after_it_was_begun_anew_by_an_insider(forger):
    body = {"steps": ["approve-repoint"], "why": "rolled back"}
    void_before_it_passed(forger, "generation.ended", body)


REMADE = {
    "reports/executive.html": "is not what these journals give",
    "reports/report.md": "is not what these journals give",
    "reports/junit.xml": "is not what these journals give",
    "reports/timeline.svg": "is not what these journals give",
    "reports/oscal-ar.json": "is not what these journals give",
    "README.txt": "is not what these journals give",
    "verify.py": "is not what these journals give",
}
GIVEN = (
    "inputs/mhsm-full-recovery.yaml",
    "inputs/sqlmi-repoint-group.yaml",
    "inputs/inputs.redacted.json",
    "inputs/environment.json",
    "artifacts/keys/inventory.after.json",
)


@pytest.mark.parametrize("name", [*REMADE, *GIVEN])
def test_39_a_file_that_is_not_what_the_journals_give_is_caught(forger, name):
    """An insider seals another page, runbook or inventory than the journals and the plan give."""
    (forger.path / name).write_bytes((forger.path / name).read_bytes() + b" ")
    forger.resum()
    words = REMADE.get(name, "is not what plan and journals give")
    assert_refused(forger, f"{re.escape(name)}: {words}", alone=name in GIVEN, both=name in GIVEN)
    if name in REMADE:
        # The single file renders nothing, and says so.
        said = "verify.py in the bundle is not the file" if name == "verify.py" else name
        assert said in forger.alone().stdout


@pytest.mark.parametrize("name", [*REMADE, *GIVEN, "actions.json"])
def test_39b_a_file_that_sealing_makes_is_missed_by_both(forger, name):
    (forger.path / name).unlink()
    forger.resum()
    assert_refused(
        forger, f"{re.escape(name)}: is missing: sealing makes it", alone=True, both=True
    )


@pytest.mark.parametrize(
    "name",
    [
        "extra.exe",
        "disclosure.json",
        "reports/more.html",
        "inputs/other.yaml",
        "artifacts/keys/inventory.before.json",
        "artifacts/probes/r-1.7.restore.json",
        f"artifacts/attached/{'a' * 64}",
        "checkpoints/01.tsr",
        "checkpoints/notes.txt",
        "attestation.old",
    ],
)
def test_39c_a_file_that_no_bundle_has_is_refused_by_both(forger, name):
    (forger.path / name).parent.mkdir(exist_ok=True)
    (forger.path / name).write_bytes(b"x")
    forger.resum()
    told = f"{re.escape(name)}: is not a file that a sealed bundle has"
    assert_refused(forger, told, alone=True, both=True)


@case("39f", "reports/more: is an empty folder", both=True)
def an_empty_folder(forger):
    (forger.path / "reports" / "more").mkdir()


@case("39d", "manifest.json says that|another version of drengine than the one that sealed it")
def a_report_that_names_a_version_of_its_own_by_an_insider(forger):
    forger.edit("reports/report.html", b'data-version="', b'data-version="9')
    forger.resum()


@case("39e", "is of another kind or run|is of another run")
def corrective_actions_of_another_run_by_an_insider(forger):
    actions = {"schema": "drengine/actions/v1", "run": "r-000000000000", "actions": []}
    forger.put("actions.json", actions)
    forger.resum()


def test_what_another_version_rendered_is_said_and_not_compared(forger, monkeypatch):
    """The verifier is newer than the engine that made the run and its bundle."""
    monkeypatch.setattr("drengine.__version__", "9.9.9")
    (forger.path / "reports" / "report.md").write_text("another version's words")
    forger.resum()
    report = verify_bundle(forger.path, read_trust(forger.cast.trust))
    assert [str(problem) for problem in report.problems] == []
    (note,) = [note for note in report.notes if "this is 9.9.9: not compared were" in note]
    assert "reports/report.md" in note


def test_a_printed_page_is_taken_and_said_not_to_be_compared(forger):
    (forger.path / "reports" / "executive.pdf").write_bytes(b"%PDF-1.7")
    forger.resum()
    report = verify_bundle(forger.path, read_trust(forger.cast.trust))
    assert report.holds
    assert "Not made again and not compared: reports/executive.pdf." in report.notes
    done = forger.alone()
    assert done.returncode == 0
    assert "reports/executive.pdf" in done.stdout
    assert done.stdout.endswith("recovered (as the sealer says; not computed again here)\n")


def test_databases_whose_child_run_is_gone_are_not_shown(tell, store, journals):
    """Where the plan has the child, "not part of this run" would be a lie."""
    nested = (
        tell.ROOT.partition("  - {id: prove-databases")[0],
        f"{tell.CHILD}  - {{id: prove, title: Prove, action: proof.databases}}\n",
    )
    story = tell.Story(store, tell.make_plan(root=nested[0], child=nested[1])).create(
        text=nested[0]
    )
    facts = collect(story.plan, journals(store))
    shown = {each.id: (str(each.holds), each.detail) for each in facts.criteria}
    assert shown["D1"] == ("not shown", "2 of 2 proving steps: pending")
    assert facts.rto.actual_ms is None


def assert_refused(forger, words, *, alone, both=False):
    report = verify_bundle(forger.path, read_trust(forger.cast.trust))
    told = "\n".join(str(problem) for problem in report.problems)
    assert re.search(words, told), told or "nothing was found"
    done = forger.alone()
    assert done.returncode == 9 or not alone, done.stdout + done.stderr
    assert not both or re.search(words, done.stdout), done.stdout


@pytest.mark.parametrize("name", sorted(CASES))
def test_tampering_is_caught_by_both(forger, name):
    function, words, alone, both = CASES[name]
    function(forger)
    assert_refused(forger, words, alone=alone, both=both)


def test_nothing_that_a_bundle_holds_reaches_the_terminal_as_a_command_of_its_own(forger):
    escape = "\x1b[2J\u202e"
    row = {"path": f"reports/{escape}", "sha256": "0" * 64, "size": 1}
    more = {"media": "text/plain", "role": "report", "redacted": False}
    records = forger.records()
    records[index(records, "gate.approved")]["actor"] = f"approver:{escape}"
    forger.rechain(records)
    forger.resum(extra_rows=[{**row, **more}])
    done = forger.alone()
    assert done.returncode == 9
    assert "<U+001B>[2J<U+202E>" in done.stdout
    assert done.stdout.replace("\n", "").isprintable()


def test_what_an_insider_changes_after_the_last_approval_lies_in_the_span_that_is_told(forger):
    records = forger.records()
    place = index(records, "step.succeeded", "prove-databases")
    records[place]["body"]["outputs"] = {"note": "made up"}
    forger.rechain(records)
    forger.rebuild()
    report = verify_bundle(forger.path, read_trust(forger.cast.trust))
    assert [str(problem) for problem in report.problems] == []
    (span,) = [span for span in report.unanchored if span.startswith(f"{forger.run}: ")]
    first = int(re.search(r"records: (\d+)", span)[1])
    assert first <= place
    assert f"no approver's signature or time stamp covers {span.partition(': ')[2]}" in (
        forger.alone().stdout
    )


@pytest.fixture(scope="module")
def chain(make_bundle, tmp_path_factory, tell, cast):
    """A first bundle, an honest second one, a fork that drops an action, and one with no past."""
    from drengine.evidence.sealed import manifest_digest

    place = tmp_path_factory.mktemp("chain")
    opened = {"schema": "drengine/actions/v1", "actions": [{"id": "CA-1", "status": "open"}]}
    first = make_bundle(place / "1", actions=opened)
    named = {"run": first.name, "manifest_sha256": manifest_digest(first)}

    def later(folder, **more):
        plan = tell.make_plan(target_hsm=f"contoso-{folder}")
        return make_bundle(place / folder, plan=plan, **more)

    return {
        "cast": cast,
        "first": first,
        "second": later("2", actions=opened, previous=named),
        "fork": later("3", previous=named),
        "third": later("4", actions=opened, previous={**named, "manifest_sha256": "0" * 64}),
        "alone": later("5", actions=opened),
    }


@pytest.mark.parametrize(
    ("bundle", "earlier", "words"),
    [
        ("second", ["first"], ""),
        ("second", ["first", "fork"], "is a fork: "),  # 26
        ("third", ["second"], "not given"),  # 26b: reordered, or one left out
        ("alone", ["first"], "names no bundle before it"),
        ("fork", ["first"], "lacks corrective action CA-1"),  # 30
    ],
)
def test_the_chain_of_bundles_is_followed_by_both(chain, cast, alone, bundle, earlier, words):
    before = [chain[name] for name in earlier]
    report = verify_bundle(chain[bundle], read_trust(cast.trust), before)
    told = "\n".join(str(problem) for problem in report.problems)
    done = alone(chain[bundle], cast.trust, *before)
    if not words:
        assert (told, done.returncode) == ("", 0), done.stdout
        return
    assert words in told, told
    assert done.returncode == 9
    assert words.replace("not given", "was not given") in done.stdout, done.stdout


def copied(bundle, place):
    return Path(shutil.copytree(bundle, place / bundle.name))


def an_actions_file_edited(first):
    (first / "actions.json").write_bytes(b'{"actions":[],"schema":"drengine/actions/v1"}\n')


def nothing_but_a_manifest_and_actions(first):
    for file in first.rglob("*"):
        if file.is_file() and file.name not in ("manifest.json", "actions.json"):
            file.unlink()


def no_attestation(first):
    (first / "attestation.dsse.json").unlink()


@pytest.mark.parametrize(
    "change", [an_actions_file_edited, nothing_but_a_manifest_and_actions, no_attestation]
)
def test_a_bundle_from_before_is_believed_only_where_its_seal_holds(
    chain, cast, alone, tmp_path, change
):
    before = copied(chain["first"], tmp_path)
    change(before)
    told = "\n".join(
        map(str, verify_bundle(chain["fork"], read_trust(cast.trust), [before]).problems)
    )
    assert f"{before}: is not a sealed bundle to compare with" in told
    done = alone(chain["fork"], cast.trust, before)
    assert done.returncode == 9
    assert f"{before}: is not a sealed bundle to compare with"[:300] in done.stdout


def test_a_bundle_from_before_must_be_sealed_by_a_trusted_key(chain, alone, tmp_path, forging):
    forger = forging.Forger(chain["first"], tmp_path, chain["cast"])
    forger.put("actions.json", {"schema": "drengine/actions/v1", "actions": []})
    forger.resum(KeySigner(make_key()))
    trust = forger.cast.trust
    found = verify_bundle(chain["fork"], read_trust(trust), [forger.path])
    told = "\n".join(map(str, found.problems))
    assert "a key that the trust folder lacks" in told
    assert "which is not trusted" in alone(chain["fork"], trust, forger.path).stdout


def test_a_bundle_from_before_that_was_not_given_is_named(chain, cast, alone):
    report = verify_bundle(chain["second"], read_trust(cast.trust))
    (note,) = [note for note in report.notes if "was not given (--history)" in note]
    assert chain["first"].name in note
    assert "was not given: not compared" in alone(chain["second"], cast.trust).stdout


def test_the_trust_folder_alone_says_whose_key_counts(honest, tmp_path):
    enrol(tmp_path / "trust", Entry("engine", "p256", public_pem(make_key()), sealer=True))
    told = [str(p) for p in verify_bundle(honest, read_trust(tmp_path / "trust")).problems]
    assert any("a key that the trust folder lacks" in text for text in told)
    assert any("is not in the register of approvers" in text for text in told)
