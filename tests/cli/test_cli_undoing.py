"""What the screens say of a rollback, of child runs, and of words that did not count."""

from __future__ import annotations

import pytest

from drengine.cli.family import read_family
from drengine.cli.notices import in_flight_lines, undone_lines
from drengine.cli.running import _facts
from drengine.evidence import collect
from drengine.model.facts import Verdict
from drengine.model.ids import RunId
from drengine.model.records import RecordType as R

RUN = "r-0123456789ab"
CHILD = f"{RUN}/repoint"
STEPS = ("declare", "create-hsm", "repoint")
OPERATION = {"operation": {"kind": "arm", "url": "https://x"}}
ROLLBACK = (R.RUN_ROLLBACK, {"reason": "wrong region"})
GATE = {"step": "declare"}


def of(step, *records):
    return [(kind, {"step": step, **(body[0] if body else {})}) for kind, *body in records]


def sent(step="create-hsm"):
    begun = ((R.STEP_BEGUN, {"attempt": 1}), (R.PROBE_ABSENT,), (R.GUARDS_HELD,))
    return of(step, *begun, (R.INTENT, {"action": "hsm.create"}))


def done(step="create-hsm"):
    answered = ((R.ANSWER_OPERATION, OPERATION), (R.OPERATION_SUCCEEDED,), (R.STEP_SUCCEEDED,))
    return [*sent(step), *of(step, *answered)]


def undoing(step="create-hsm"):
    return of(step, (R.UNDO_INTENT,), (R.UNDO_ANSWERED,))


def undone(step="create-hsm"):
    return [*undoing(step), *of(step, (R.UNDO_DONE,))]


def stopped(why="refused"):
    return (R.RUN_STOPPED, {"why": why, "for": ["create-hsm: a key is linked"]})


def noted(kind, step, why):
    return (R.NOTE, {"ignored": kind, "why": why, "said": {"step": step}})


@pytest.fixture
def pair(story):
    """Begin a run with a child run at work."""

    def begin(*before):
        parent = story(steps=STEPS).plans().tell(*before)
        fanned = ((R.STEP_BEGUN, {"attempt": 1}), (R.GUARDS_HELD,), (R.FANOUT_BEGUN,))
        started = (R.CHILD_STARTED, {"name": "repoint", "run": CHILD, "item": {"name": "repoint"}})
        parent.tell(*of("repoint", *fanned, started))
        return parent, story(CHILD, steps=("declare", "create-hsm"))

    return begin


@pytest.fixture
def alone(story):
    """A rollback whose process is gone: at a gate, one undo asked for."""
    return story().plans().asks().tell(*done(), ROLLBACK, *undoing())


def test_a_rollback_that_no_process_drives_is_called_so_and_not_watched_on(command, alone):
    shown = command("status").out
    assert "rollback left alone: no process drives it" in shown
    assert "being undone: create-hsm" in shown
    assert "nothing was undone" not in shown
    assert "create-hsm: it was asked to go; the resume reads back whether it is gone" in shown
    assert command("watch", RUN).code == 130
    lease = alone.store.acquire(RunId(RUN), "a driver")
    driven = command("status").out
    assert "rolling back" in driven
    assert "left alone" not in driven
    assert "it was asked to go" not in driven
    alone.store.release(lease)


def test_during_a_rollback_only_what_counts_is_offered(command, alone, tmp_path):
    assert command("status", "-o", "json").document["next"] == [f"drengine resume {RUN}"]
    (line,) = [text for text in command("status").out.splitlines() if " declare " in text]
    assert line.split() == ["⏸", "declare", "left", "undecided"]
    asked = ("approval", "request", RUN, "declare", "--out", tmp_path / "request.json")
    for words in (("approve", RUN, "declare"), ("reject", RUN, "declare", "--reason", "x"), asked):
        ended = command(*words, *(() if words is asked else ("--yes",)))
        assert (ended.code, "is being rolled back" in ended.err) == (3, True), ended.err
        assert "nothing was sent" in ended.err
    (tmp_path / "proof").write_text("proof")
    for words in (
        ("skip", RUN, "restore", "--reason", "x"),
        ("mark-done", RUN, "restore", "--evidence", tmp_path / "proof"),
    ):
        ended = command(*words)
        assert (ended.code, "is being rolled back: no step is left out" in ended.err) == (3, True)
    again = command("rollback", RUN, "--reason", "once more")
    assert (again.code, "✓" in again.out) == (0, False)
    assert f"· a rollback of {RUN} was asked for already; nothing was sent" in again.out
    assert f"Next: drengine resume {RUN}" in again.out
    assert alone.signals() == []


def test_a_rollback_that_stopped_offers_no_gate_and_says_how_far_it_is(command, story):
    refused = of("create-hsm", (R.UNDO_INTENT,), (R.UNDO_REFUSED, {"error": {"message": "linked"}}))
    told = story().plans().asks()
    told.tell(*done(), *done("restore"), ROLLBACK, *undone("restore"), *refused, stopped())
    shown = command("status").out
    assert "✗ rollback stopped" in shown
    assert "↶ rollback stopped: undone: restore; undo refused: create-hsm" in shown
    assert command("status", "-o", "json").document["next"] == [
        f"drengine resume {RUN}   # once it is mended; it goes on undoing"
    ]
    assert command("approve", RUN, "declare", "--yes").code == 3
    assert "asked for already" in command("rollback", RUN, "--reason", "n").out
    assert told.signals() == []


def test_a_rollback_that_waits_in_the_inbox_is_asked_for_already(command, story):
    told = story().plans().asks().tell(*done())
    assert command("rollback", RUN, "--reason", "x").code == 0
    assert "asked for already" in command("rollback", RUN, "--reason", "x").out
    assert command("status", "-o", "json").document["next"] == [f"drengine resume {RUN}"]
    assert command("approve", RUN, "declare", "--yes").code == 3
    assert [each.kind for each in told.signals()] == ["rollback"]


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (((R.UNDO_INTENT,),), "a request to undo it may have left"),
        (((R.UNDO_INTENT,), (R.UNDO_ANSWERED, OPERATION)), "Azure goes on undoing it"),
        (((R.UNDO_INTENT,), (R.UNDO_ANSWERED,)), "the resume reads back whether it is gone"),
    ],
)
def test_an_undo_that_a_process_left_is_named_as_in_flight(story, records, words):
    told = story().tell(*done(), ROLLBACK, *of("create-hsm", *records), stopped("interrupted"))
    family = read_family(told.store, told.run)
    (line,) = in_flight_lines(family)
    assert line.startswith("create-hsm: ")
    assert words in line
    assert "being undone: create-hsm" in undone_lines(family)[0]


def test_what_was_undone_and_stays_in_child_runs_is_told_with_their_names(command, pair):
    parent, child = pair(*done())
    kept = of("declare", (R.UNDO_KEPT, {"why": "nothing takes it back"}))
    child.tell(*done(), ROLLBACK, *undone(), *kept, (R.RUN_ROLLED_BACK, {}))
    parent.tell(ROLLBACK, *undone(), (R.RUN_ROLLED_BACK, {}))
    shown = command("status").out
    named = "undone: create-hsm, repoint/create-hsm; stays: repoint/declare"
    assert f"↶ rolled back: {named}" in shown
    assert "⚠ repoint/declare stays: nothing takes it back" in shown
    document = command("status", "-o", "json").document
    assert document["undone"] == [
        {"run": RUN, "step": "create-hsm"},
        {"run": CHILD, "step": "create-hsm"},
    ]


def test_a_rollback_that_undid_its_childrens_only_does_not_say_that_it_undid_nothing(command, pair):
    parent, child = pair()
    child.tell(*done(), ROLLBACK, *undone(), (R.RUN_ROLLED_BACK, {}))
    parent.tell(ROLLBACK, (R.RUN_ROLLED_BACK, {}))
    assert "nothing was undone" not in command("status").out


def test_a_gate_of_a_child_that_is_over_is_not_offered(command, pair):
    _, child = pair()
    child.asks(findings=[AGAINST])
    child.tell(noted("approve", "declare", "the key is revoked"))
    shown = command("status").out
    assert f"Next: drengine approve {CHILD} declare" in shown
    assert "✗ repoint/declare: K06: a key is missing" in shown
    assert "⚠ repoint/declare: approve of engine did not count: the key is revoked" in shown
    child.tell((R.RUN_CANCELLED, {"reason": "x"}))
    shown = command("status").out
    assert "drengine approve" not in shown
    assert "K06" not in shown
    assert "did not count" not in shown


AGAINST = {"rule": "K06", "severity": "block", "message": "a key is missing", "advice": "look"}


def test_what_was_handed_in_to_a_child_is_named_with_its_run(command, pair):
    _, child = pair()
    child.asks()
    assert command("approve", CHILD, "declare", "--yes", "--as", "ada").code == 0
    assert "· handed in: approve of repoint/declare by approver:ada" in command("status").out


STUCK = {
    "unknown": of(
        "create-hsm", (R.ANSWER_LOST, {"why": "reset"}), (R.OUTCOME_UNKNOWN, {"error": {}})
    ),
    "failed": of("create-hsm", (R.STEP_FAILED, {"error": {"message": "no"}})),
}


@pytest.mark.parametrize("how", STUCK)
def test_a_word_about_a_stuck_step_that_did_not_count_is_told_until_one_does(command, story, how):
    why = "it speaks of the request before record 3"
    begun = sent() if how == "unknown" else sent()[:1]
    told = story().tell(*begun, *STUCK[how], noted("resolve", "create-hsm", why))
    line = f"⚠ create-hsm: resolve of engine did not count: {why}"
    assert line in command("status").out
    assert command("status", "-o", "json").document["uncounted"] == [
        {"run": RUN, "step": "create-hsm", "why": line.removeprefix("⚠ create-hsm: ")}
    ]
    told.tell(*of("create-hsm", (R.STEP_MARKED, {"evidence": "0" * 64})))
    assert "did not count" not in command("status").out


def test_json_of_status_says_what_the_lines_below_the_board_say(command, story):
    told = story().plans().tell(*sent())
    document = command("status", "-o", "json").document
    assert document["in_flight"][0]["step"] == "create-hsm"
    assert "a request may have left" in document["in_flight"][0]["why"]
    assert (document["handed_to"], document["undone"], document["uncounted"]) == (None, [], [])
    told.tell((R.RUN_HANDED_OVER, {"to": "beta", "owner": "x", "token": 1}))
    assert command("status", "-o", "json").document["handed_to"] == "beta"


def test_json_of_a_run_that_ended_says_the_same(story):
    told = story().asks().tell(noted("approve", "declare", "the key is revoked"), *sent())
    shown = _facts(read_family(told.store, told.run), None, 130, "", [])
    assert [each["step"] for each in shown["in_flight"]] == ["create-hsm"]
    assert [each["step"] for each in shown["uncounted"]] == ["declare"]
    assert (shown["handed_to"], shown["undone"], shown["stays"]) == (None, [], [])


def test_who_watches_gets_the_exit_code_of_an_unknown_outcome_in_a_child(command, pair):
    parent, child = pair()
    child.tell(*sent(), *STUCK["unknown"])
    reason = "repoint/repoint: child run is unknown"
    parent.tell((R.RUN_STOPPED, {"why": "unknown outcome", "for": [reason]}))
    assert command("watch", RUN).code == 12
    parent.tell((R.RUN_WAITING, {"for": ["declare"]}))
    assert command("watch", RUN).code == 12
    parent.tell((R.RUN_CANCELLED, {"reason": "x"}))
    assert command("watch", RUN).code == 4


@pytest.mark.parametrize(
    ("why", "code"), [("refused", 8), ("failed", 4), ("interrupted", 130), ("a later word", 4)]
)
def test_who_watches_gets_the_exit_code_of_whoever_drove_it(command, story, why, code):
    story().tell(stopped(why))
    assert command("watch", RUN).code == code


@pytest.mark.parametrize(("late", "code"), [(True, 10), (False, 0)])
def test_who_watches_a_run_that_finished_hears_whether_its_objective_was_met(
    command, story, monkeypatch, late, code
):
    class Facts:
        verdict = Verdict.OBJECTIVE_MISSED if late else Verdict.RECOVERED

    monkeypatch.setattr(collect, "collect", lambda *_: Facts)
    story().plans().tell((R.RUN_FINISHED, {"why": "done", "for": []}))
    ended = command("watch", RUN)
    assert (ended.code, f"Verdict: {Facts.verdict}" in ended.out) == (code, True)
