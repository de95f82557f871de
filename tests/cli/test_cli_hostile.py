"""What comes from outside reaches a terminal as text: it moves, hides and recolours nothing."""

from __future__ import annotations

import sys

import pytest

from drengine.cli import output
from drengine.model.records import RecordType as R

HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b8m\u202efdp.exe\x08\x08<b>{{7*7}}"
FORBIDDEN = set("\x1b\x07\x08\x9b\u202e")


@pytest.fixture
def hostile(story):
    error = {"message": f"answered 503 {HOSTILE}", "code": "DR-A001"}
    finding = {"rule": HOSTILE, "severity": "block", "message": HOSTILE, "advice": HOSTILE}
    return (
        story()
        .asks(ask=HOSTILE, facts={HOSTILE: {"x": HOSTILE}}, findings=[finding])
        .tell(
            (R.STEP_BEGUN, {"step": "create-hsm", "attempt": 1}),
            (R.STEP_FAILED, {"step": "create-hsm", "error": error}),
            (R.RUN_STOPPED, {"why": "failed", "for": [HOSTILE]}),
        )
    )


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("status", "-o", "json"),
        ("status", "--all"),
        ("approve", "@latest", "declare", "--yes", "--reason", HOSTILE),
        ("cancel", "@latest", "--reason", HOSTILE),
        ("explain", HOSTILE),
        ("status", HOSTILE, "-o", "json"),
    ],
    ids=lambda arguments: " ".join(arguments[:2])[:16].encode("unicode_escape").decode(),
)
def test_no_control_character_reaches_the_screen(command, arguments):
    ended = command(*arguments)
    assert not FORBIDDEN & set(ended.out + ended.err), ended


@pytest.mark.usefixtures("hostile")
def test_what_was_hostile_is_readable_and_kept_in_json(command):
    assert "⟦U+001B⟧[2J" in command("status").out
    declare = command("status", "-o", "json").document["runs"][0]["steps"][0]
    assert declare["request"]["ask"] == HOSTILE


def test_our_own_colours_pass_and_nobody_elses(capsys, monkeypatch):
    monkeypatch.setattr(output, "is_plain", lambda _: False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    output.say(output.styled("bold", bold=True) + f" {HOSTILE}")
    said = capsys.readouterr().out
    assert said.startswith("\x1b[1mbold\x1b[0m ⟦U+001B⟧[2J")
