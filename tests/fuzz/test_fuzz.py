"""The short form of `make fuzz`: only errors of ours leave what reads foreign documents."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import strategies as st

from drengine.errors import InputError
from fuzz.changes import STRANGE, change
from fuzz.running import hold
from fuzz.targets import TARGETS, Target

EXAMPLES = 50


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name.replace(" ", "-"))
def test_nothing_but_our_own_errors_leaves(target):
    outcome = hold(target, EXAMPLES)
    assert outcome.failure == ""
    assert outcome.refused + outcome.read == outcome.examples >= EXAMPLES


def test_an_error_that_is_not_ours_is_seen():
    def read(number):
        if number > 1000:
            raise KeyError(number)
        raise InputError("refused")

    outcome = hold(Target("broken", st.integers, read), 500)
    assert "KeyError: 1001" in outcome.failure


def test_a_reader_that_takes_too_long_is_seen(monkeypatch):
    monkeypatch.setattr("fuzz.running.SECONDS", 0.005)

    def read(number):
        until = time.process_time() + 0.02
        while number == 0 and time.process_time() < until:
            pass

    outcome = hold(Target("slow", lambda: st.integers(0, 3), read), 50)
    assert "TookTooLong" in outcome.failure


def test_a_change_of_a_strange_value_leaves_the_list_of_them_as_it_is():
    before = json.dumps(STRANGE)
    picks = iter([STRANGE[STRANGE.index([[]])], 0, 5])

    doc = change(lambda _: next(picks), "nothing to change in it")
    changed = change(lambda _: next(picks), doc)

    assert changed == [[], []]
    assert json.dumps(STRANGE) == before
