"""Lines of a run for pipes and logs: every event, and now and then a sign of life."""

from __future__ import annotations

from dataclasses import replace

from drengine.cli.board import Line, folded, next_commands
from drengine.cli.family import Follower, read_family
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
    show = Lines()
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
