"""Lines of a run for pipes and logs: every event, and now and then a sign of life."""

from __future__ import annotations

import re
from dataclasses import replace

from drengine.cli.board import Line, folded
from drengine.cli.effects import limits_in
from drengine.cli.family import Follower, read_family
from drengine.cli.onward import next_commands
from drengine.cli.progress import Lines
from drengine.model.records import RecordType as R
from drengine.model.run import RunStatus

STEP = {"step": "create-hsm"}
BEGUN = (
    (R.STEP_BEGUN, {**STEP, "attempt": 1}),
    (R.PROBE_ABSENT, STEP),
    (R.GUARDS_HELD, STEP),
    (R.INTENT, {**STEP, "action": "hsm.create"}),
    (R.ANSWER_OPERATION, {**STEP, "operation": {"kind": "arm", "url": "https://x"}}),
)
POLLED = (R.OPERATION_POLLED, {**STEP, "detail": "InProgress", "not_before": 0, "polls": 1})


def lines_of(told, capsys):
    show = Lines(until_ms=limits_in(told.store, told.run))
    for state, record in Follower(told.store, told.run).advance():
        show.listen(state, record)
    return capsys.readouterr().out.splitlines()


def test_what_takes_long_gives_a_sign_of_life_every_five_minutes(story, capsys):
    told = story().tell(*BEGUN)
    for _ in range(72):  # every ten seconds for twelve minutes
        told.now_ms += 10_000
        told.tell(POLLED)
    alive = [line for line in lines_of(told, capsys) if "still running" in line]
    assert len(alive) == 2
    assert "create-hsm: still running after 5m00s: InProgress" in alive[0]
    assert "create-hsm: still running after 10m00s: InProgress" in alive[1]


def test_what_is_not_yet_as_it_must_be_is_named(story, capsys):
    told = story().tell(*BEGUN, (R.OPERATION_SUCCEEDED, STEP))
    told.now_ms += 6 * 60_000
    findings = [
        {"rule": "D1", "severity": "ok", "message": "orders is Online", "advice": ""},
        {"rule": "D1", "severity": "block", "message": "hr is Inaccessible", "advice": ""},
    ]
    told.tell((R.VERIFY_MISSED, {**STEP, "findings": findings, "not_before": 0}))
    last = lines_of(told, capsys)[-1]
    assert last.endswith("create-hsm: still looking after 6m00s: hr is Inaccessible")


def test_a_step_of_several_sends_says_that_the_next_follows(story, capsys):
    told = story().tell(*BEGUN, (R.OPERATION_SUCCEEDED, STEP), (R.PART_DONE, STEP))
    assert lines_of(told, capsys)[-1].endswith("create-hsm: one part done, the next follows")


def test_a_child_that_was_paused_by_its_own_name_is_continued_by_it(story):
    told = story()
    family = read_family(told.store, told.run)
    child = f"{told.run}/repoint/mi-1"
    family.states[child] = replace(family.root, run=child, paused=True)
    assert next_commands(family)[0] == f"drengine continue {child}"
    family.states[child] = replace(family.states[child], status=RunStatus.CANCELLED)
    assert f"drengine continue {child}" not in next_commands(family)


def row(symbol, name):
    return Line(0, name, symbol, "", "", "", "")


ROWS = [
    *(row("✓", f"done-{number}") for number in range(5)),
    row("●", "running"),
    row("○", "skipped"),
    row("⏸", "waiting"),
    *(row("·", f"later-{number}") for number in range(4)),
]


def test_a_board_that_fits_is_shown_whole():
    assert folded(ROWS, 12) == ROWS


def test_what_is_done_shares_a_line_where_there_is_no_room_and_then_what_is_to_come():
    names = [line.name for line in folded(ROWS, 11)]
    assert names == ["(6 done)", "running", "waiting", *(f"later-{n}" for n in range(4))]
    names = [line.name for line in folded(ROWS, 5)]
    assert names == ["(6 done)", "running", "waiting", "(4 to come)"]


def test_what_is_under_way_or_waits_keeps_its_line_on_the_smallest_screen():
    assert [line.name for line in folded(ROWS, 1)][1:3] == ["running", "waiting"]
    alone = [row("✗", "failed"), row("✓", "done"), row("·", "later")]
    assert folded(alone, 1) == alone


LOST = (*BEGUN[:4], (R.ANSWER_LOST, {**STEP, "why": "reset"}))


def busy(why):
    return (R.PROBE_BUSY, {**STEP, "why": why, "not_before": 0})


def test_looks_that_fail_are_told_with_their_reason_and_until_when_they_go_on(story, capsys):
    told = story().plans().tell(*LOST)
    for minute in range(60):
        for _ in range(4):
            told.now_ms += 15_000
            told.tell(busy(f"403 AuthorizationFailed, request {minute:08x}"))
    lines = [line for line in lines_of(told, capsys) if "cannot be told yet" in line]
    assert 10 <= len(lines) <= 13, "the first, then one in five minutes"
    assert "create-hsm: cannot be told yet after 15s: 403 AuthorizationFailed" in lines[0]
    assert re.search(r"; it looks again, until 0\d:\d\d:\d\d at most \(for \w+\)$", lines[0])


def test_a_look_that_fails_for_another_reason_is_told_at_once(story, capsys):
    told = story().tell(*LOST)
    for why in ("403 forbidden", "403 forbidden", "the firewall refused", "403 forbidden"):
        told.now_ms += 15_000
        told.tell(busy(why))
    lines = [line for line in lines_of(told, capsys) if "cannot be told yet" in line]
    assert [line.partition("yet after ")[2] for line in lines] == [
        "15s: 403 forbidden; it looks again",
        "45s: the firewall refused; it looks again",
        "1m00s: 403 forbidden; it looks again",
    ]


def test_a_second_send_says_why_there_is_one(story, capsys):
    told = story().tell(*LOST)
    told.now_ms += 90_000
    absent = (R.PROBE_ABSENT, {**STEP, "why": "none"})
    told.tell(absent, absent, (R.DOUBT_CLEARED, {**STEP, "looks": 2, "why": "absent, twice"}))
    expected = "create-hsm: not there: looked 2 times over 1m30s for what came of it; it is checked"
    assert lines_of(told, capsys)[-1].endswith(f"{expected} and sent again")


DONE = (*BEGUN, (R.OPERATION_SUCCEEDED, STEP), (R.STEP_SUCCEEDED, STEP))
KEPT = {"step": "restore", "why": "an instance has one of its keys linked"}
ROLLBACK = (
    (R.RUN_ROLLBACK, {"reason": "wrong region"}),
    (R.UNDO_KEPT, KEPT),
    (R.UNDO_INTENT, {**STEP, "action": "hsm.create"}),
    (R.UNDO_ANSWERED, {**STEP, "operation": None}),
    (R.UNDO_POLLED, {**STEP, "why": "it is still there"}),
    (R.UNDO_DONE, {**STEP, "findings": []}),
    (R.RUN_ROLLED_BACK, {"why": "rolled back"}),
)


def test_a_rollback_tells_what_it_undoes_and_what_stays(story, capsys):
    told = story().tell(*DONE, *ROLLBACK[:5])
    told.now_ms += 6 * 60_000
    told.tell(*ROLLBACK[4:])
    lines = [line.partition(" ↶ ")[2] or line for line in lines_of(told, capsys)]
    at = next(n for n, line in enumerate(lines) if "to be rolled back" in line)
    assert lines[at] == "run: to be rolled back: wrong region"
    assert lines[at + 1].endswith("⚠ restore: stays: an instance has one of its keys linked")
    assert lines[at + 2] == "create-hsm: undoing"
    assert lines[at + 3] == "create-hsm: asked to go; looking whether it is gone"
    assert lines[at + 4] == "create-hsm: still there or going; looking: it is still there"
    assert lines[at + 5].endswith("✓ create-hsm: undone, and read back")
    assert lines[at + 6] == "run: rolled back: undone: create-hsm; stays: restore"


def test_status_shows_what_a_rollback_has_undone_and_what_stays(story, command):
    story().tell(*DONE, *ROLLBACK)
    shown = command("status").out
    (line,) = [text for text in shown.splitlines() if " create-hsm " in text]
    assert line.split()[:3] == ["↶", "create-hsm", "undone"]
    assert "↶ rolled back: undone: create-hsm; stays: restore" in shown
    assert "⚠ restore stays: an instance has one of its keys linked" in shown
    document = command("status", "-o", "json").document
    steps = {each["step"]: each["undo"] for each in document["runs"][0]["steps"]}
    assert (steps["create-hsm"], steps["restore"], steps["late"]) == ("undone", "kept", None)
    assert [each["step"] for each in document["stays"]] == ["restore"]


def test_a_refused_undo_is_told_in_full(story, command):
    error = {"message": "409 a lock is on it", "hint": "remove the lock", "code": "DR-A001"}
    story().tell(*DONE, ROLLBACK[0], (R.UNDO_REFUSED, {**STEP, "error": error}))
    shown = command("status").out
    assert "✗ create-hsm: undo refused" in shown
    assert "    409 a lock is on it" in shown
    assert "    → remove the lock" in shown


def test_an_error_and_its_advice_are_two_sentences(story, capsys):
    error = {"message": "there is no group 'contoso-rd'", "hint": "Plan with one that exists"}
    told = story().tell(BEGUN[0], (R.STEP_FAILED, {**STEP, "error": error}))
    last = lines_of(told, capsys)[-1]
    assert last.endswith("there is no group 'contoso-rd'. Plan with one that exists")
