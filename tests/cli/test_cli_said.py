"""What a person says to a run, and what the answer tells of it."""

from __future__ import annotations

import pytest

from drengine.model.ids import RunId
from drengine.model.records import RecordType as R

RUN, OTHER = "r-0123456789ab", "r-aaaaaaaaaaaa"
OPERATION = {"operation": {"kind": "arm", "url": "https://x"}}


def of(step, *records):
    return [(kind, {"step": step, **(body[0] if body else {})}) for kind, *body in records]


def sent(step="create-hsm"):
    return of(
        step,
        (R.STEP_BEGUN, {"attempt": 1}),
        (R.PROBE_ABSENT,),
        (R.GUARDS_HELD,),
        (R.INTENT, {"action": "hsm.create"}),
    )


def done(step="create-hsm"):
    return [
        *sent(step),
        *of(step, (R.ANSWER_OPERATION, OPERATION), (R.OPERATION_SUCCEEDED,), (R.STEP_SUCCEEDED,)),
    ]


def unknown(step="create-hsm"):
    error = {"message": "not known"}
    return [
        *sent(step),
        *of(step, (R.ANSWER_LOST, {"why": "reset"}), (R.OUTCOME_UNKNOWN, {"error": error})),
    ]


def failed(step):
    return of(step, (R.STEP_BEGUN, {"attempt": 1}), (R.STEP_FAILED, {"error": {"message": "no"}}))


RESOLVE = ("resolve", RUN, "create-hsm", "--reason", "looked")


def test_an_outcome_is_not_both_found_and_absent(command, story):
    told = story().tell(*unknown())
    for both in (("--found", "--absent"), ("--absent", "--found")):
        ended = command(*RESOLVE, *both)
        assert (ended.code, "not both; nothing was sent" in ended.err) == (2, True)
    assert told.signals() == []


@pytest.mark.parametrize("word", ["found", "absent"])
def test_the_answer_repeats_what_was_said_of_an_outcome(command, story, word):
    told = story().tell(*unknown(), *failed("restore"))
    ended = command(*RESOLVE, f"--{word}", "--as", "ada")
    assert f"✓ resolve of {RUN} create-hsm as {word.upper()} sent as operator:ada" in ended.out
    assert ended.out.rstrip().endswith(f"Next: drengine resume {RUN}")
    other = story(OTHER).tell(*unknown())
    in_json = ("-o", "json", "--as", "ada")
    shown = command("resolve", OTHER, *RESOLVE[2:], f"--{word}", *in_json).document
    assert (shown["outcome"], shown["next"]) == (word, f"drengine resume {OTHER}")
    said = [each.body["found"] for each in (*told.signals(), *other.signals())]
    assert said == [word == "found"] * 2


FIRST = {
    "resolve as ABSENT": ("resolve", "--absent", "--reason", "slip"),
    "mark-done": ("mark-done", "--evidence", "proof"),
}


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize(
    "second", [("resolve", "--found", "--reason", "it is there"), FIRST["mark-done"]]
)
def test_a_second_word_behind_one_that_waits_is_refused_and_not_sent(
    command, story, tmp_path, monkeypatch, first, second
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "proof").write_text("proof")
    told = story().tell(*unknown())
    kind, *more = FIRST[first]
    assert command(kind, RUN, "create-hsm", *more, "--as", "ada").code == 0
    before = told.signals()
    ended = command(second[0], RUN, "create-hsm", *second[1:], "--as", "bob")
    assert (ended.code, ended.out) == (8, "")
    assert f"{first} of {RUN} create-hsm by operator:ada is handed in already" in ended.err
    assert "Nothing was sent" in ended.err
    assert f"Next: drengine resume {RUN}   # takes it in" in ended.err
    assert told.signals() == before
    assert command("status", "-o", "json").document["next"] == [f"drengine resume {RUN}"]
    # Once it is taken in and the outcome is unknown again, the next word counts.
    told.tell(*of("create-hsm", (R.OUTCOME_ABSENT, {"reason": "slip", "signal": before[0].id})))
    told.tell(*unknown()[1:])
    assert command(second[0], RUN, "create-hsm", *second[1:], "--as", "bob").code == 0


def test_behind_a_word_to_a_run_that_is_driven_its_status_is_named(command, story):
    told = story().tell(*unknown())
    lease = told.store.acquire(RunId(RUN), "a driver")
    assert command(*RESOLVE, "--absent").code == 0
    ended = command(*RESOLVE, "--found")
    told.store.release(lease)
    assert (ended.code, f"Next: drengine status {RUN}   # shows what" in ended.err) == (8, True)


def test_a_skip_behind_a_word_that_waits_is_refused(command, story, tmp_path):
    (tmp_path / "proof").write_text("proof")
    told = story().tell(*failed("restore"))
    assert command("mark-done", RUN, "restore", "--evidence", tmp_path / "proof").code == 0
    ended = command("skip", RUN, "restore", "--reason", "x")
    assert (ended.code, "mark-done of" in ended.err, len(told.signals())) == (8, True, 1)
    assert ended.err.count("#") == 1, "one remark behind one command"


def test_an_outcome_of_what_the_run_did_not_send_is_not_called_a_send(command, story):
    error = {"error": {"message": "not known"}}
    story().tell(
        *of("create-hsm", (R.STEP_BEGUN, {"attempt": 1}), (R.PROBE_IN_PROGRESS, OPERATION)),
        *of("create-hsm", (R.OPERATION_LOST, {"why": "gone"}), (R.OUTCOME_UNKNOWN, error)),
    )
    ended = command(*RESOLVE, "--absent")
    assert "create-hsm was not sent by this run, which found it under way" in ended.out
    assert "0 times" not in ended.out


def test_after_a_resolve_of_a_run_that_is_driven_its_status_follows(command, story):
    told = story().tell(*unknown())
    lease = told.store.acquire(RunId(RUN), "a driver")
    assert f"Next: drengine status {RUN}" in command(*RESOLVE, "--absent").out
    told.store.release(lease)


@pytest.mark.parametrize("driven", [False, True])
def test_a_cancel_says_what_it_leaves_behind(command, story, driven):
    told = story().plans().tell(*done(), *sent("restore"))
    lease = told.store.acquire(RunId(RUN), "a driver") if driven else None
    ended = command("cancel", RUN, "--reason", "over")
    if lease:
        told.store.release(lease)
    assert ended.code == 0, ended.err
    said = ended.out
    assert "create-hsm (Create the target HSM contoso-hsm2): it was done" in said
    assert "restore (Restore the source's backup): its request was sent, and may still" in said
    assert "'drengine rollback' instead of the cancel" in said
    assert "declare" not in said


def test_a_cancel_in_json_has_no_empty_signal_and_names_what_is_left(command, story):
    story().plans().tell(*done())
    shown = command("cancel", RUN, "--reason", "over", "-o", "json").document
    assert shown["signal"] is None
    assert shown["left"] == [
        {
            "run": RUN,
            "step": "create-hsm",
            "title": "Create the target HSM contoso-hsm2",
            "effect": "had",
        }
    ]


def test_a_cancel_of_a_run_that_did_nothing_says_so_without_its_plan_too(command, story):
    story().asks()
    assert "Nothing is left behind" in command("cancel", RUN, "--reason", "over").out


def test_a_refused_request_leaves_nothing(command, story):
    error = {"error": {"message": "409"}}
    story().tell(*sent(), *of("create-hsm", (R.ANSWER_REFUSED, error)))
    assert "Nothing is left behind" in command("cancel", RUN, "--reason", "over").out


def test_a_request_that_was_refused_at_once_twice_leaves_nothing(command, story):
    error = {"error": {"message": "409"}}
    told = story().tell(*sent(), *of("create-hsm", (R.ANSWER_REFUSED, error)))
    told.tell((R.RUN_OPENED, {"owner": "x"}), *sent())
    told.tell(*of("create-hsm", (R.ANSWER_REFUSED, error)))
    assert "Nothing is left behind" in command("cancel", RUN, "--reason", "over").out


def test_an_attempt_before_one_that_was_refused_may_have_been_done(command, story):
    told = story().tell(*done()[:-1], *of("create-hsm", (R.STEP_FAILED, {"error": {}})))
    told.tell((R.RUN_OPENED, {"owner": "x"}), *sent())
    told.tell(*of("create-hsm", (R.ANSWER_REFUSED, {"error": {"message": "409"}})))
    ended = command("cancel", RUN, "--reason", "over", "-o", "json").document
    assert [each["effect"] for each in ended["left"]] == ["may have had"]


def test_a_cancel_of_a_child_names_its_own_effects_and_no_rollback(command, story):
    told = story().plans().tell(*done(), *CHILD)
    child = story(f"{RUN}/late", steps=("restore",)).tell(*done("restore"))
    ended = command("cancel", child.run, "--reason", "x")
    assert "late/restore" in ended.out
    assert "create-hsm" not in ended.out
    assert "rollback" not in ended.out
    assert (told.signals(), [each.kind for each in child.signals()]) == ([], ["cancel"])


def test_a_cancel_names_what_was_handed_in_and_leaves_it_in_the_journal(command, story):
    told = story().plans().asks().tell(*CHILD)
    child = story(f"{RUN}/late", steps=("declare",)).asks()
    assert command("approve", RUN, "declare", "--yes", "--as", "ada").code == 0
    assert command("approve", child.run, "declare", "--yes", "--as", "bob").code == 0
    ended = command("cancel", RUN, "--reason", "over")
    assert "Handed in and not taken in any more: approve of declare by approver:ada" in ended.out
    assert "in any more: approve of late/declare by approver:bob" in ended.out
    assert (told.signals(), child.signals()) == ([], [])
    for each, actor in ((told, "approver:ada"), (child, "approver:bob")):
        note, last = list(each.store.read(each.run))[-2:]
        assert (note.type, note.actor, last.type) == (R.NOTE, actor, R.RUN_CANCELLED)
        assert (note.body["ignored"], note.body["said"]["step"]) == ("approve", "declare")
    assert command("status", "-o", "json").document["handed_in"] == []


def test_a_pause_says_nothing_of_what_is_left_behind(command, story):
    story().plans().tell(*done())
    assert "left behind" not in command("pause", RUN).out


def test_a_pause_of_a_paused_run_says_that_it_is_one(command, story):
    told = story()
    idle = command("continue", RUN)
    assert (idle.code, f"{RUN} is not paused; nothing was sent" in idle.out) == (0, True)
    assert command("pause", RUN).code == 0
    again = command("pause", RUN)
    assert "handed in already and not taken in yet; nothing was sent" in again.out
    assert [each.kind for each in told.signals()] == ["pause"]
    (sent_,) = told.signals()
    told.tell((R.RUN_PAUSED, {"reason": "", "signal": sent_.id}))
    again = command("pause", RUN, "-o", "json").document
    assert (again["signal"], again["already"]) == (None, f"{RUN} is paused already")
    assert again["next"] == f"drengine continue {RUN}"
    assert told.signals() == [sent_]
    assert "✓ continue" in command("continue", RUN).out


def test_a_skip_names_what_goes_on_without_the_step(command, story):
    steps = ("declare", "create-hsm", "exchange-key", "restore-blob")
    story(steps=steps).plans()
    ended = command("skip", RUN, "exchange-key", "--reason", "by hand")
    assert "What will not be true by this run: Read the exchange key" in ended.out
    assert (
        "Goes on as if it were, once all before it is done: restore-blob (Custodians make the restore blob)"
        in ended.out
    )
    assert "reads what it would have told, and fails without: restore-blob, upload" in ended.out
    story(OTHER, steps=steps).plans()
    shown = command("skip", OTHER, "exchange-key", "--reason", "by hand", "-o", "json").document
    assert shown["behind"] == ["restore-blob"]
    assert "upload-domain" in shown["read_by"]


def test_marking_a_skipped_step_as_done_says_what_is_left_to_do(command, story, tmp_path):
    (tmp_path / "proof").write_text("proof")
    skipped = {"reason": "by hand", "by": "operator:ada"}
    told = story().tell(*of("create-hsm", (R.STEP_SKIPPED, skipped)))
    ended = command("mark-done", RUN, "create-hsm", "--evidence", tmp_path / "proof")
    assert (ended.code, "nothing was sent" in ended.err) == (3, True)
    assert f"Next: drengine status {RUN}   # what was skipped stays so" in ended.err
    gone = command("mark-done", RUN, "restore", "--evidence", tmp_path / "gone")
    assert (gone.code, "--evidence FILE" in gone.err) == (3, True)
    assert told.signals() == []


def test_a_failure_behind_a_skipped_step_says_what_was_skipped(command, story):
    skipped = {"reason": "by hand", "by": "operator:ada"}
    story().tell(*of("create-hsm", (R.STEP_SKIPPED, skipped)), *failed("restore"))
    assert "→ skipped before it: create-hsm" in command("status").out


CHILD = (
    *of(
        "late",
        (R.STEP_BEGUN, {"attempt": 1}),
        (R.PROBE_ABSENT,),
        (R.GUARDS_HELD,),
        (R.FANOUT_BEGUN, {"items": [{"name": "late"}]}),
        (R.CHILD_STARTED, {"name": "late", "run": f"{RUN}/late", "item": {}}),
    ),
)
TO_A_STEP = {
    "resolve": ("--absent", "--reason", "x"),
    "skip": ("--reason", "x"),
    "mark-done": ("--evidence", "proof"),
    "deliver": ("proof",),
    "request": ("--out", "kit"),
    "approval request": ("--out", "asked"),
}


@pytest.mark.parametrize("words", TO_A_STEP)
def test_a_step_of_a_child_run_is_named_with_its_run(command, story, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "proof").write_text("proof")
    told = story().tell(*CHILD)
    child = story(f"{RUN}/late", steps=("inner",)).tell(*unknown("inner"))
    ended = command(*words.split(), RUN, "inner", *TO_A_STEP[words])
    assert ended.code == 3
    assert f"its child run {RUN}/late waits there" in ended.err
    assert f"Next: drengine {words} {RUN}/late inner   # with the same options" in ended.err
    assert (told.signals(), child.signals()) == ([], [])


def test_a_step_that_several_children_have_is_named_with_each(command, story):
    starts = [
        (R.CHILD_STARTED, {"step": "late", "name": n, "run": f"{RUN}/{n}", "item": {}})
        for n in "ab"
    ]
    story().tell(*CHILD[:4], *starts)
    for name in "ab":
        story(f"{RUN}/{name}", steps=("inner",))
    ended = command("skip", RUN, "inner", "--reason", "x")
    assert f"its child run {RUN}/a has it (and so do {RUN}/b)" in ended.err


def test_a_run_that_goes_without_copies_is_resumed_without(command, story):
    told = story(run_class="incident").asks()
    assert f"drengine resume {RUN} --copy-to FOLDER" in command("status").out
    told.tell((R.RUN_OPENED, {"copies_to": ""}))
    assert f"drengine resume {RUN} --no-copy" in command("status").out
    told.tell((R.RUN_OPENED, {"copies_to": "/mnt/share"}))
    assert command("status").out.rstrip().endswith(f"drengine resume {RUN}")


@pytest.mark.parametrize("words", [("skip", "--reason", "x"), ("mark-done", "--evidence", "proof")])
def test_what_a_person_decides_is_not_left_out_with_a_tick(
    command, story, tmp_path, monkeypatch, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "proof").write_text("proof")
    told = story().plans()
    ended = command(words[0], RUN, "declare", *words[1:])
    assert (ended.code, "✓" in ended.out) == (8, False)
    assert "will not count: declare is a decision or a delivery" in ended.err
    assert len(told.signals()) == 1, "the attempt stands in the journal"


def test_what_follows_a_skip_of_an_incident_can_be_typed(command, story):
    story(run_class="incident")
    ended = command("skip", RUN, "create-hsm", "--reason", "x")
    assert ended.out.rstrip().endswith(f"Next: drengine resume {RUN} --copy-to FOLDER")


def test_nothing_is_said_to_a_step_of_a_run_that_is_over(command, story):
    told = story().tell(*unknown(), (R.RUN_CANCELLED, {"reason": "over"}))
    for words in ((*RESOLVE, "--absent"), ("skip", RUN, "restore", "--reason", "x")):
        ended = command(*words)
        assert (ended.code, f"run {RUN} is cancelled" in ended.err) == (3, True)
        assert "nothing was sent" in ended.err
    assert told.signals() == []


@pytest.mark.parametrize(
    "changed", [{"schema": "drengine/plan/v2"}, {"cloud": {"name": "x"}}, {"root": None}], ids=str
)
def test_a_plan_of_another_version_ends_no_command_in_the_middle(command, story, changed):
    story().plans(**changed).asks().tell(*done(), *failed("restore"))
    for words in (
        ("skip", RUN, "late", "--reason", "x"),
        ("rollback", RUN, "--reason", "x"),
        ("cancel", RUN, "--reason", "x"),
    ):
        assert command("status").code == 0
        ended = command(*words)
        assert (ended.code, "✓" in ended.out) == (0, True), ended.err
    assert "create-hsm: it was done" in ended.out
    assert command("watch", RUN).code == 4


def test_a_record_that_lacks_a_field_is_a_damaged_journal_and_no_crash(command, story):
    told = story().plans()
    lease = told.store.acquire(told.run, "somebody")
    written = told._draft(R.STEP_BEGUN, {"step": "create-hsm"})
    told.store.append(lease, told.store.head(told.run), [written])
    told.store.release(lease)
    for words in (("status", RUN), ("cancel", RUN, "--reason", "x"), ("watch", RUN)):
        ended = command(*words)
        assert ended.code == 14, ended.err
        assert "record 1 of r-0123456789ab does not hold what a `step.begun` holds" in ended.err


def test_a_note_in_another_form_ends_no_screen(command, story):
    story().tell((R.NOTE, {"ignored": "approve", "why": "x", "said": "y"}))
    assert command("status").code == 0
