"""What may not be said behind a word that waits: the run takes the first, and notes the second.

A tick for a word that cannot count would let somebody believe that a slip is mended.
"""

from __future__ import annotations

from typing import Final

from drengine.cli.family import Family
from drengine.cli.onward import after_word
from drengine.cli.output import shorten
from drengine.errors import GuardError
from drengine.model.ids import RunId
from drengine.model.records import Signal

_WORDS: Final = {"resolve": "resolve", "mark": "mark-done", "skip": "skip"}
"""Signals that move a step on by a person's word -> the command that sends them."""


def refuse_behind_word(family: Family, run: RunId, step: str) -> None:
    """Refuse a word about a step while an earlier one waits in the inbox.

    Raises:
        GuardError: names what waits, and who said it.
    """
    st = family.states[run].steps[step]
    for signal in family.handed_in(run, step, *_WORDS):
        if signal.body.get("unknown_seq", st.unknown_seq) != st.unknown_seq:
            continue  # of an earlier request: it will not count, and stands in nobody's way
        raise GuardError(
            f"{_told(signal)} of {run} {step} by {shorten(signal.actor, 80)} is handed in already"
            " and not taken in yet; the run takes the first word and would not count another."
            " Nothing was sent",
            hint=f"{after_word(family)}   # {_what_becomes(family)}",
        )


def _what_becomes(family: Family) -> str:
    if family.owner is not None:
        return "shows what comes of it: a process is driving the run"
    pause = f"drengine pause {family.root_run}"
    return f"takes it in; where it was a slip, before that: {pause}, and nothing new is sent"


def _told(signal: Signal) -> str:
    word = _WORDS[signal.kind]
    if signal.kind != "resolve":
        return word
    return f"{word} as {'FOUND' if signal.body.get('found') else 'ABSENT'}"
