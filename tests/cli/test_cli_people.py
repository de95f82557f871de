"""What people see of a run and say to it, without any cloud."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing

import pytest
from sim.scene import restore_blob

from drengine.cli import output, people, planning
from drengine.cli.deliveries import _manner
from drengine.cli.family import read_family
from drengine.cli.notices import in_flight_lines
from drengine.model.findings import block
from drengine.model.ids import RunId
from drengine.model.records import RecordType as R
from drengine.model.records import Signal

RUN = "r-0123456789ab"
DELIVERY = {
    "step": "restore-blob",
    "kind": "restore_blob",
    "ask": "the restore blob",
    "expects": {"exchange": "x5t"},
    "generation": 0,
}
ASKED = {
    "step": "declare",
    "ask": "Lost?",
    "facts": {},
    "findings": [],
    "approvals": 1,
    "roles": [],
}
EXCHANGE = "AB" * 21 + "A"  # 32 bytes in base64url
FOR_EXCHANGE = {**DELIVERY, "expects": {"exchange": EXCHANGE}}
CHILD = (
    (R.STEP_BEGUN, {"step": "late", "attempt": 1}),
    (R.PROBE_ABSENT, {"step": "late"}),
    (R.GUARDS_HELD, {"step": "late", "findings": []}),
    (R.FANOUT_BEGUN, {"step": "late", "items": [{"name": "late"}]}),
    (R.CHILD_STARTED, {"step": "late", "name": "late", "run": f"{RUN}/late", "item": {}}),
)


def blob_in(folder):
    (folder / "blob.json").write_bytes(restore_blob(EXCHANGE))
    return folder / "blob.json"


def test_a_waiting_gate_is_shown_with_the_command_that_answers_it(command, story):
    story().asks(approvals=2, roles=["security-officer"])
    shown = command("status").out
    assert "DRILL" in shown
    assert "LAB" in shown
    assert "awaits approval" in shown
    assert "0 of 2 approvals. Lost?" in shown
    assert f"Next: drengine approve {RUN} declare" in shown
    assert shown.rstrip().endswith(f"Next: drengine resume {RUN}")


def test_status_in_json_has_a_schema_and_the_open_request(command, story):
    story(lab=False, run_class="incident").asks()
    document = command("status", "-o", "json").document
    assert document["schema"] == "drengine/status/v1"
    assert (document["class"], document["lab"]) == ("incident", False)
    step = document["runs"][0]["steps"][0]
    assert (step["status"], step["request"]["ask"]) == ("awaiting approval", "Lost?")


def test_a_missed_objective_cannot_be_overlooked(command, story):
    story(ago_ms=5 * 3_600_000).asks()
    assert "MISSED" in command("status").out


def test_a_failed_step_shows_its_error_and_how_to_go_on(command, story):
    error = {"message": "answered 503", "code": "DR-A001"}
    story().tell(
        (R.STEP_BEGUN, {"step": "create-hsm", "attempt": 1}),
        (R.STEP_FAILED, {"step": "create-hsm", "error": error}),
        (R.RUN_STOPPED, {"why": "failed", "for": ["create-hsm: answered 503"]}),
    )
    shown = command("status").out
    assert "✗" in shown
    assert "answered 503" in shown
    assert f"Next: drengine resume {RUN}" in shown


REFUSAL = {
    "kind": "GuardError",
    "code": "DR-G001",
    "message": "K06: the backup's folder holds 41 blobs and its list names 43; " * 6 + "the end",
    "hint": "Give the folder of a backup that has ended, see 'az keyvault backup', and plan anew.",
}


@pytest.mark.parametrize("terminal", [False, True])
def test_a_refusal_is_told_in_full_with_its_advice(command, story, monkeypatch, terminal):
    monkeypatch.setattr(output, "is_plain", lambda _: not terminal)
    monkeypatch.setenv("COLUMNS", "80")
    story().tell(
        (R.STEP_BEGUN, {"step": "restore", "attempt": 1}),
        (R.GUARDS_REFUSED, {"step": "restore", "findings": [], "error": REFUSAL}),
        (R.RUN_STOPPED, {"why": "refused", "for": ["restore"]}),
    )
    for shown in (command("status").out, command("watch").out):
        assert f"    {REFUSAL['message']}\n" in shown
        assert f"    → {REFUSAL['hint']}\n" in shown
        assert "drengine explain DR-G001" in shown
        assert f"Next: drengine resume {RUN}" in shown


def test_an_error_from_outside_cannot_add_a_next_line(command, story):
    error = {"message": "answered 503\nNext: drengine resolve", "hint": "wait\nNext: rm"}
    story().tell(
        (R.STEP_BEGUN, {"step": "create-hsm", "attempt": 1}),
        (R.STEP_FAILED, {"step": "create-hsm", "error": error}),
    )
    lines = command("status").out.splitlines()
    told = [line for line in lines if line.startswith("Next:")]
    assert len(told) == 1
    assert told[0].startswith(f"Next: drengine resume {RUN}   # once it is mended")


def test_an_approval_binds_the_record_that_was_shown(command, story):
    told = story().asks()
    ended = command("approve", "--yes", "@latest", "declare", "--as", "ada", "--reason", "seen")
    assert ended.code == 0
    assert "source-hsm" in ended.out
    (signal,) = told.signals()
    assert (signal.kind, signal.actor) == ("approve", "approver:ada")
    assert signal.body["request_seq"] == told.store.head(told.run).seq
    assert signal.body["digest"] == "d" * 64
    assert ended.out.rstrip().endswith(f"drengine resume {RUN}")


@pytest.mark.parametrize("kind", ["approve", "reject"])
@pytest.mark.parametrize("form", [(), ("-o", "json")], ids=str)
def test_where_nobody_can_be_asked_a_decision_needs_yes(command, story, kind, form):
    told = story().asks()
    ended = command(kind, RUN, "declare", "--reason", "no terminal here", *form)
    assert ended.code == 3
    said = ended.out + ended.err
    assert "there is no terminal to ask at; nothing was sent" in said
    assert "--yes" in said
    assert told.signals() == []


def test_what_was_handed_in_is_shown_and_not_handed_in_again(command, story):
    told = story().asks(approvals=2)
    ada = ("approve", "--yes", RUN, "declare", "--as", "ada")
    assert command(*ada).code == 0
    again = command(*ada)
    assert again.code == 3
    assert "approve of r-0123456789ab declare by approver:ada is handed in already" in again.err
    assert f"Next: drengine resume {RUN}" in again.err
    other = command("reject", "--yes", RUN, "declare", "--as", "ada", "--reason", "no")
    assert "then decide anew" in other.err
    assert len(told.signals()) == 1
    assert "· handed in: approve of declare by approver:ada" in command("status").out.splitlines()
    assert f"drengine approve {RUN} declare" in command("status").out, "a second one is needed"
    bruno = command("approve", "--yes", RUN, "declare", "--as", "bruno")
    assert "Handed in approve of declare by approver:ada; drengine resume" in bruno.out
    assert (bruno.code, len(told.signals())) == (0, 2)
    told_next = command("status", "-o", "json").document["next"]
    assert told_next == [f"drengine resume {RUN}"], "it takes in what suffices"


def test_a_name_with_a_line_of_its_own_makes_no_line_of_ours(command, story):
    story().asks(approvals=2)
    assert command("approve", "--yes", RUN, "declare", "--as", "ada\nNext: rm -r /").code == 0
    for shown in (command("status").out, command("approve", RUN, "declare").out):
        assert "ada Next: rm -r /" in shown
        assert not [line for line in shown.splitlines() if line.startswith("Next: rm")]


LATER = {
    "cancelled": ([(R.RUN_CANCELLED, {"reason": "x"})], 3, f"run {RUN} is cancelled"),
    "asked anew": (
        [
            (R.GATE_VOIDED, {"step": "declare", "why": "facts changed"}),
            (R.GATE_REQUESTED, {**ASKED, "digest": "e" * 64}),
        ],
        8,
        "gate declare of r-0123456789ab asks something else by now: record 1, digest dd",
    ),
    "being undone": ([(R.RUN_ROLLBACK, {"reason": "x"})], 3, "is being rolled back"),
}


@pytest.mark.parametrize("kind", ["approve", "reject"])
@pytest.mark.parametrize("how", LATER)
def test_what_changes_while_somebody_decides_is_not_decided(command, story, monkeypatch, kind, how):
    told = story().asks()
    records, code, words = LATER[how]
    monkeypatch.setattr(people, "_confirm", lambda *_, **__: told.tell(*records))
    ended = command(kind, RUN, "declare", "--reason", "x")
    assert (ended.code, words in ended.err) == (code, True), ended.err
    assert "nothing was sent" in ended.err
    assert told.signals() == []


def test_what_the_same_person_sends_meanwhile_is_not_sent_twice(command, story, monkeypatch):
    told = story().asks(approvals=2)
    ada = ("approve", RUN, "declare", "--as", "ada")
    monkeypatch.setattr(people, "_confirm", lambda *_, **__: command(*ada, "--yes"))
    assert command(*ada).code == 3
    assert len(told.signals()) == 1


def test_a_resume_by_a_plan_of_another_version_is_refused_before_anything_is_sent(command, story):
    told = story().plans(schema="drengine/plan/v2")
    ended = command("resume", RUN)
    assert (ended.code, "schema is 'drengine/plan/v2'" in ended.err) == (3, True), ended.err
    assert told.store.living_owner(told.run) is None


def test_what_was_said_of_an_earlier_request_does_not_stand_in_the_way(command, story):
    told = story().asks()
    assert command("approve", "--yes", RUN, "declare", "--as", "ada").code == 0
    told.tell((R.GATE_VOIDED, {"step": "declare", "why": "facts changed"})).asks()
    assert command("approve", "--yes", RUN, "declare", "--as", "ada").code == 0
    assert len({signal.body["request_seq"] for signal in told.signals()}) == 2


def test_a_second_file_is_not_taken_behind_one_that_waits(command, story, tmp_path):
    told = story().tell((R.DELIVERY_REQUESTED, FOR_EXCHANGE))
    body = {"step": "restore-blob", "sha256": "ab" * 32, "size": 3}
    told.store.put_signal(Signal("s-1", told.run, "deliver", "custodian:grace", body, 1))
    ended = command("deliver", RUN, "restore-blob", blob_in(tmp_path))
    assert ended.code == 3, ended.err
    assert "handed in already, by custodian:grace (SHA-256 abababababab…)" in ended.err
    assert len(told.signals()) == 1


def test_a_file_that_the_attached_transcript_does_not_know_is_told(command, story, tmp_path):
    facts = {"form": "ceremony", "blob": "cd" * 32}
    attached = {"attached": "ceremony_transcript", "step": "restore-blob", "facts": facts}
    told = story().tell((R.DELIVERY_REQUESTED, FOR_EXCHANGE), (R.NOTE, attached))
    ended = command("deliver", RUN, "restore-blob", blob_in(tmp_path))
    assert ended.code == 0, ended.err
    assert "⚠ the attached transcript is of another file (cdcdcdcdcdcd…)" in ended.out
    assert len(told.signals()) == 1


def test_a_rejection_needs_a_reason(command, story):
    told = story().asks()
    assert command("reject", "--yes", RUN, "declare").code == 2
    assert command("reject", "--yes", RUN, "declare", "--reason", "not lost").code == 0
    assert told.signals()[0].body["reason"] == "not lost"


@pytest.mark.parametrize("changed", [{"lab": False}, {"run_class": "incident"}], ids=str)
def test_nobody_plays_an_approver_outside_a_drill_in_a_lab(command, story, changed):
    told = story(**changed).asks()
    ended = command("approve", "--yes", RUN, "declare", "--simulated")
    assert ended.code == 8
    assert "nothing was sent" in ended.err
    assert told.signals() == []


def test_a_played_approver_is_marked_for_ever(command, story):
    told = story().asks()
    assert command("approve", "--yes", RUN, "declare", "--simulated", "--as", "ada").code == 0
    assert told.signals()[0].actor == "simulated:approver:ada"


def test_the_wrong_role_is_refused_with_the_right_command(command, story):
    told = story().asks(roles=["incident-commander"])
    ended = command("approve", "--yes", RUN, "declare", "--role", "janitor")
    assert ended.code == 8
    assert "--role incident-commander" in ended.err
    assert told.signals() == []


def test_what_follows_an_incidents_answer_says_that_journals_are_copied(command, story):
    story(run_class="incident").asks()
    ended = command("approve", "--yes", RUN, "declare", "--as", "ada")
    assert f"Next: drengine resume {RUN} --copy-to FOLDER" in ended.out


def test_a_gate_of_a_child_run_is_named_with_its_run(command, story):
    told = story().tell(*CHILD)
    story(f"{RUN}/late", steps=("approve-repoint",)).asks("approve-repoint")
    ended = command("approve", "--yes", RUN, "approve-repoint")
    assert ended.code == 3
    assert f"Next: drengine approve {RUN}/late approve-repoint" in ended.err
    assert told.signals() == []
    as_shown = command("approve", "--yes", RUN, "late/approve-repoint")
    assert as_shown.code == 0, as_shown.err
    (signal,) = told.store.peek_signals(RunId(f"{RUN}/late"))
    assert signal.body["step"] == "approve-repoint"


CHILD_STEPS = {
    "skip": ("--reason", "x"),
    "resolve": ("--absent", "--reason", "x"),
    "request": ("--out", "kit"),
    "deliver": ("blob",),
    "mark-done": ("--evidence", "proof"),
    "approval request": ("--out", "asked"),
    "approval withdraw": ("--reason", "x"),
    "ceremony attach": ("transcript",),
    "ceremony keep": ("--out", "domain"),
}


@pytest.mark.parametrize("words", CHILD_STEPS)
def test_every_command_finds_a_childs_step_by_the_name_on_the_screen(
    command, story, tmp_path, monkeypatch, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "proof").write_text("proof")
    story().tell(*CHILD)
    story(f"{RUN}/late", steps=("inner",))
    ended = command(*words.split(), RUN, "late/inner", *CHILD_STEPS[words])
    said = ended.out + ended.err
    assert ended.code in (0, 3), said
    assert f"{RUN}/late" in said, "it looked at the child"
    assert "late/inner" not in said, "and for the step there"


def test_every_next_command_is_one_that_a_shell_reads(command, story):
    story(run_class="incident").asks(roles=["commander"]).tell((R.DELIVERY_REQUESTED, DELIVERY))
    told = command("status", "-o", "json").document["next"]
    assert any(each.endswith("# for the custodians") for each in told)
    assert command("cancel", RUN, "--reason", "over").code == 0
    told += command("status", "-o", "json").document["next"]
    assert len(told) == 5
    for line in told:
        subprocess.run(["bash", "-n", "-c", line], check=True)


def test_a_step_that_does_not_wait_takes_no_answer(command, story):
    told = story().asks()
    ended = command("approve", "--yes", RUN, "restore")
    assert ended.code == 3
    assert "'pending'" in ended.err
    assert command("approve", "--yes", RUN, "nothing").code == 3
    assert told.signals() == []


def test_a_blob_that_is_none_is_refused_and_not_kept(command, story, home, tmp_path):
    told = story().tell((R.DELIVERY_REQUESTED, DELIVERY))
    blob = tmp_path / "blob.json"
    blob.write_text("{}")
    ended = command("deliver", RUN, "restore-blob", blob)
    assert ended.code == 15
    assert "not kept" in ended.err
    assert told.signals() == []
    assert not [path for path in (home / "objects").rglob("*") if path.is_file()]


def test_an_enormous_delivery_is_not_read(command, story, tmp_path):
    story().tell((R.DELIVERY_REQUESTED, DELIVERY))
    blob = tmp_path / "blob.json"
    with blob.open("wb") as stream:
        stream.truncate(64 * 1024 * 1024)
    ended = command("deliver", RUN, "restore-blob", blob)
    assert ended.code == 3
    assert "more than" in ended.err


def test_a_request_names_what_is_expected(command, story, tmp_path):
    story().tell((R.DELIVERY_REQUESTED, DELIVERY))
    ended = command("request", RUN, "restore-blob", "--out", tmp_path / "kit", "-o", "json")
    assert ended.code == 0
    assert ended.document["expects"] == {"exchange": "x5t"}
    assert (tmp_path / "kit").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("run_class", "said"),
    [("incident", "--class incident --keys-on-one-machine"), ("drill", "--class drill")],
)
def test_the_command_for_keys_in_one_place_is_one_that_is_taken(story, run_class, said):
    told = story(run_class=run_class)
    family = read_family(told.store, told.run)
    assert _manner(family) == said


def test_a_run_that_has_ended_is_not_taken_over(command, story):
    told = story().asks()
    assert command("cancel", RUN, "--reason", "over").code == 0
    head = told.store.head(told.run)
    ended = command("take-over", RUN, "--reason", "just in case")
    assert (ended.code, "cancelled, and nobody holds it" in ended.err) == (3, True)
    assert told.store.head(told.run) == head


def test_an_unknown_outcome_is_resolved_by_a_person_who_says_how(command, story):
    told = story()
    told.tell(
        (R.STEP_BEGUN, {"step": "create-hsm", "attempt": 1}),
        (R.PROBE_ABSENT, {"step": "create-hsm"}),
        (R.GUARDS_HELD, {"step": "create-hsm"}),
        (R.INTENT, {"step": "create-hsm", "action": "hsm.create"}),
        (R.ANSWER_LOST, {"step": "create-hsm", "why": "reset"}),
        (R.OUTCOME_UNKNOWN, {"step": "create-hsm", "error": {"message": "not known"}}),
    )
    shown = command("status").out
    assert (
        f"drengine resolve {RUN} create-hsm --reason TEXT   # and what you saw: --found or" in shown
    )
    assert command("resolve", RUN, "create-hsm", "--reason", "seen").code == 2
    assert command("resolve", RUN, "create-hsm", "--found").code == 2
    ended = command(
        *("resolve", RUN, "create-hsm", "--found", "--reason", "in the portal"),
        *("--set", "uri=https://x/", "-o", "json"),
    )
    said = ended.document
    assert (ended.code, said["kind"], said["step"]) == (0, "resolve", "create-hsm")
    assert [each.body["outputs"] for each in told.signals()] == [{"uri": "https://x/"}]


def test_a_run_is_named_by_a_unique_beginning(command, story):
    story("r-0123456789ab")
    story("r-0199999999ab")
    assert command("status", "r-0123").code == 0
    assert command("status", "0199").code == 0
    ended = command("status", "r-01")
    assert ended.code == 3
    assert "begins 2 runs" in ended.err
    listed = command("status", "--all", "-o", "json").document
    assert len(listed["runs"]) == 2


def test_a_cancel_needs_a_reason_and_tells_the_process_that_drives_the_run(command, story):
    told = story()
    assert command("cancel", RUN).code == 2
    lease = told.store.acquire(RUN, "a driver")
    assert command("cancel", RUN, "--reason", "wrong region").code == 0
    assert [signal.kind for signal in told.signals()] == ["cancel"]
    told.store.release(lease)


def test_a_cancel_of_a_run_that_nobody_drives_ends_it_here_and_now(command, story):
    told = story()
    ended = command("cancel", RUN, "--reason", "wrong region")
    assert ended.code == 0
    assert "is cancelled" in ended.out
    assert "drengine report" in ended.out
    assert told.signals() == []
    last = list(told.store.read(RUN))[-1]
    assert (last.type, last.body) == ("run.cancelled", {"reason": "wrong region"})
    assert command("cancel", RUN, "--reason", "again").code == 3


def test_nobody_is_waited_for_once_a_run_is_cancelled(command, story):
    story(ago_ms=3_600_000).asks()
    (line,) = [text for text in command("status").out.splitlines() if " declare " in text]
    assert "awaits approval" in line
    assert "1h0" in line
    assert command("cancel", RUN, "--reason", "wrong region").code == 0
    (line,) = [text for text in command("status").out.splitlines() if " declare " in text]
    assert line.split() == ["⏸", "declare", "left", "undecided"]


def test_a_run_that_was_handed_over_takes_no_more_messages(command, story, tmp_path):
    told = story()
    out = tmp_path / "run.tar"
    assert command("pause", RUN).code == 0
    given = command("journal", "export", RUN, "--hand-over", "--to", "beta", "--out", out)
    assert given.code == 0
    assert "1 messages that no process has read stay here" in given.err
    for words in (("pause", RUN), ("cancel", RUN, "--reason", "x"), ("skip", RUN, "declare")):
        refused = command(*words, *(("--reason", "x") if words[0] == "skip" else ()))
        assert refused.code == 7, refused.err
        assert "handed over to beta" in refused.err
    assert "handed over to beta" in command("status").out
    again = command("journal", "export", RUN, "--hand-over", "--out", tmp_path / "2.tar")
    assert again.code == 7
    assert command("journal", "export", RUN, "--out", tmp_path / "2.tar").code == 0
    taken = command("take-over", RUN, "--reason", "beta never came")
    assert (taken.code, "was handed over to beta, and is taken back" in taken.err) == (0, True)
    assert command("pause", RUN).code == 0
    kinds = [record.type for record in told.store.read(RUN)]
    assert kinds[-2:] == ["run.handed_over", "run.imported"]


def test_a_journal_is_verified_and_a_damaged_one_is_named(command, story, home):
    told = story().asks()
    assert command("journal", "verify", RUN).code == 0
    told.store.close()
    with closing(sqlite3.connect(home / "drengine.db")) as db, db:
        (line,) = db.execute("SELECT line FROM lines WHERE seq = 1").fetchone()
        changed = line.replace(b"Lost?", b"Last?")
        assert changed != line
        triggers = db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (trigger,) in triggers.fetchall():
            db.execute(f"DROP TRIGGER {trigger}")
        db.execute("UPDATE records SET line = ? WHERE line = ?", (changed, line))
    ended = command("journal", "verify", RUN)
    assert ended.code in (9, 14)
    assert "record 1" in ended.out + ended.err


def test_an_export_is_a_new_file_and_verifies(command, story, tmp_path):
    story().asks()
    folder = tmp_path / "export"
    ended = command("journal", "export", RUN, "--out", folder, "-o", "json")
    if ended.code:  # a run without a plan is not exported
        assert "plan" in ended.out
        return
    assert json.loads(ended.out)["schema"] == "drengine/exported/v1"
    assert command("journal", "verify", folder).code == 0


def test_what_is_certain_of_a_request_left_in_the_middle_is_told(story):
    told = story()
    step = {"step": "create-hsm"}

    def lines(*records):
        told.tell(*((kind, {**step, **body}) for kind, body in records))
        return in_flight_lines(read_family(told.store, told.run))

    begun = ((R.STEP_BEGUN, {"attempt": 1}), (R.PROBE_ABSENT, {}), (R.GUARDS_HELD, {}))
    assert lines(*begun) == []
    (sending,) = lines((R.INTENT, {"action": "hsm.create"}))
    assert "create-hsm: a request may have left" in sending
    (doubt,) = lines((R.ANSWER_LOST, {"why": "reset"}))
    assert "its answer was lost" in doubt
    operation = {"operation": {"kind": "arm", "url": "https://x"}}
    (running,) = lines((R.PROBE_IN_PROGRESS, operation))
    assert "nothing is sent again" in running


AGAINST = {
    "rule": "H06",
    "severity": "block",
    "message": "Managed HSMs are not offered\nin moon",
    "advice": "Plan with one of: westeurope",
}


def test_what_rules_found_against_a_decision_stands_below_the_board_until_it_is_made(
    story, command
):
    fine = {"rule": "H01", "severity": "ok", "message": "the domain fits"}
    told = story().asks(findings=[fine, AGAINST])
    line = "✗ declare: H06: Managed HSMs are not offered in moon. Plan with one of: westeurope"
    shown = command("status").out.splitlines()
    assert line in shown
    assert not [each for each in shown if "H01" in each]
    (next_,) = [each for each in shown if each.startswith("Next: drengine approve")]
    assert next_.endswith(
        "# read the ✗ first; a wrong input takes: drengine cancel, and a new plan"
    )
    told.tell((R.GATE_APPROVED, {"step": "declare", "request": 1}))
    assert line not in command("status").out


FORGED = "a key\n  ✓ K09: no lock-out\nApprovals 1 of 1: approver:ada " + "x" * 600


def test_a_finding_with_lines_of_its_own_stays_on_one_line_and_whole(story, command):
    told = story().asks(findings=[{**AGAINST, "message": FORGED, "advice": "a\nb"}])
    shown = command("approve", RUN, "declare").out.splitlines()
    line = f"  ✗ H06: {' '.join(FORGED.split())}. a b"
    assert line in shown
    assert not [each for each in shown if each.startswith(("  ✓ K09", "Approvals 1 of 1"))]
    assert told.signals() == []


def test_what_a_plan_foresees_stays_on_one_line_and_whole(capsys):
    planning._show_ahead({"create-hsm": (block("H06", FORGED, "a\nb"),)}, "would be refused", "✗")
    shown = capsys.readouterr().out.splitlines()
    assert shown[2:] == [f"  ✗ H06: {' '.join(FORGED.split())}. a b"]


def test_whoever_decides_reads_the_advice_with_the_finding(story, command):
    story().asks(findings=[AGAINST])
    said = command("approve", "@latest", "declare", "--as", "ann", "--yes").out
    assert "✗ H06: Managed HSMs are not offered" in said
    assert "Plan with one of: westeurope" in said
