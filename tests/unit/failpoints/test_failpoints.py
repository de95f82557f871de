"""Failpoints: off unless asked for, few, and never in an incident."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from drengine import failpoints
from drengine.errors import GuardError, InputError

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def disarmed():
    yield
    failpoints.arm("")


def test_there_are_at_most_eight_and_each_stands_in_the_code_once():
    assert len(failpoints.PLACES) <= 8
    text = "".join(
        path.read_text() for path in (ROOT / "drengine").rglob("*.py") if path.stem != "failpoints"
    )
    reached = re.findall(r'failpoints\.reach\("([^"]+)"\)', text)
    assert sorted(reached) == sorted(failpoints.PLACES)


def test_nothing_happens_where_none_is_armed(tmp_path):
    counted = tmp_path / "counted"
    failpoints.arm(f"*:0:count={counted}")
    failpoints.arm("")
    for place in failpoints.PLACES:
        failpoints.reach(place)
    assert not counted.exists()


def test_the_nth_passing_acts_and_no_other(tmp_path):
    counted = tmp_path / "counted"
    failpoints.arm(f"journal.torn:2:count={counted}")
    for place in ("journal.torn", "http.before_send", "journal.torn", "journal.torn"):
        failpoints.reach(place)
    assert counted.read_text() == "journal.torn\n"


def test_zero_means_every_time_and_a_star_every_place(tmp_path):
    counted = tmp_path / "counted"
    failpoints.arm(f"*:0:count={counted}")
    for place in failpoints.PLACES:
        failpoints.reach(place)
    assert counted.read_text().split() == list(failpoints.PLACES)


def test_an_error_number_is_raised_by_its_name():
    failpoints.arm("object.before_write:1:errno=ENOSPC")
    with pytest.raises(OSError, match="No space left"):
        failpoints.reach("object.before_write")


@pytest.mark.parametrize("text", ["nowhere:1:kill", "journal.torn:x:kill", "journal.torn:1:dance"])
def test_what_is_no_failpoint_is_refused(text):
    with pytest.raises(InputError, match="expected PLACE"):
        failpoints.arm(text)


def test_an_incident_is_refused_while_one_is_armed():
    failpoints.arm("journal.torn:1:kill")
    with pytest.raises(GuardError, match="nothing was sent"):
        failpoints.refuse_for_incident("incident")
    failpoints.refuse_for_incident("drill")
    failpoints.arm("")
    failpoints.refuse_for_incident("incident")


def test_the_environment_is_read_once_at_the_start():
    code = "from drengine import failpoints; failpoints.reach('journal.torn')"
    environment = {"DRENGINE_FAILPOINT": "journal.torn:1:kill", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert done.returncode == -9
