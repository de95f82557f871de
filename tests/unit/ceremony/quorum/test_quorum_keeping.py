"""What a session keeps to: time that passed, what stands on the disk, and every refusal noted."""

from __future__ import annotations

import time

import pytest
from ceremonyfire.hall import HOUR, NOW, Hall, Key

from drengine.ceremony import files
from drengine.ceremony.proving import prove
from drengine.clock import SystemClock

MINUTE = 60_000


@pytest.fixture
def make_hall(tmp_path, domain, exchange, one_time_key):
    return lambda: Hall(tmp_path / "session", domain, exchange, Key(*one_time_key))


def remarks(hall):
    return [one["body"]["text"] for one in hall.entries if "was set" in str(one["body"])]


# A clock that somebody sets neither ends a ceremony nor makes it longer.


@pytest.mark.parametrize(("by", "words"), [(9 * HOUR, "540 minutes more"), (-720 * HOUR, "less")])
def test_a_clock_that_is_set_ends_nothing_and_is_noted_once(make_hall, by, words):
    shown = [None]
    hall = make_hall().open(shown_ms=lambda: shown[0])
    hall.add(hall.share(1))
    shown[0] = NOW + by
    assert hall.add(hall.share(2))["contributed"]
    hall.ask("status")
    (noted,) = remarks(hall)
    assert words in noted
    hall.now, shown[0] = NOW + HOUR, NOW + HOUR + by
    refused = hall.add(hall.share(3))["error"]
    assert "the ceremony is closed: expired" in refused["message"]
    assert len(remarks(hall)) == 1
    assert prove(hall.transcript).outcome == "expired"


def test_a_clock_that_is_set_back_to_where_it_was_is_noted_too(make_hall):
    shown = [NOW + HOUR]
    hall = make_hall().open(shown_ms=lambda: shown[0])
    hall.ask("status")
    shown[0] = None
    hall.ask("status")
    assert len(remarks(hall)) == 2


def test_clocks_that_differ_by_minutes_are_not_told(make_hall):
    hall = make_hall().open(shown_ms=lambda: NOW + 5 * MINUTE)
    hall.ask("status")
    assert remarks(hall) == []


def test_the_clock_of_a_ceremony_goes_by_what_passed(monkeypatch):
    """What `open` gives a session as its clock, and as what the machine shows."""
    clock, wall = SystemClock(), time.time_ns()
    before = clock.now_ms()
    monkeypatch.setattr(time, "time_ns", lambda: wall + 9 * HOUR * 1_000_000)
    assert clock.now_ms() - before < MINUTE
    assert clock.wall_ms() - clock.now_ms() > 8 * HOUR


# What stands on the disk stands in the memory, whatever the disk says afterwards.


@pytest.mark.parametrize("good", [0, 1, 2])
def test_a_folder_that_is_not_synced_keeps_memory_and_disk_of_one_mind(
    make_hall, monkeypatch, good
):
    """The proof of the review: `combined` on the disk, and an open ceremony in the memory."""
    hall = make_hall().open()
    hall.add(hall.share(1), hall.share(2))
    real, calls = files._sync_folder, []

    def failing(folder):
        calls.append(folder)
        if len(calls) > good:
            raise OSError(5, "Input/output error")
        real(folder)

    monkeypatch.setattr(files, "_sync_folder", failing)
    made = hall.ask("combine")
    assert made["head"] == prove(hall.transcript).head == hall.session._minutes.head
    proven = prove(hall.transcript, blob=hall.session.blob_path.read_bytes())
    assert (proven.outcome, hall.session.outcome) == ("combined", "combined")
    told = [line for line in hall.screen if "could not be synced" in line]
    assert len(told) == 3 - good


def test_an_entry_that_is_not_synced_counts_and_is_told(make_hall, monkeypatch):
    hall = make_hall().open()

    def fail(_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(files, "_sync_folder", fail)
        assert hall.add(hall.share(1))["contributed"]
    assert hall.kinds.count("contributed") == 1
    assert any("after a power failure" in line for line in hall.screen)
    hall.add(hall.share(2))
    assert "blob" in hall.ask("combine")


# What is refused is written down.


@pytest.mark.parametrize(
    ("act", "members", "words"),
    [
        ("drop", {"custodian": "X", "by": "Olga", "reason": "r"}, "none is of the custodian"),
        ("drop", {"custodian": "X", "by": " ", "reason": "r"}, "the name is empty"),
        ("deviation", {"text": " ", "by": "Olga"}, "the deviation is empty"),
        ("cancel", {"reason": " ", "by": "Olga"}, "the reason is empty"),
    ],
)
def test_every_refusal_is_noted(make_hall, act, members, words):
    hall = make_hall().open()
    assert words in hall.ask(act, **members)["error"]["message"]
    assert hall.kinds == ["opened", "refused"]
    noted = hall.entries[-1]["body"]
    assert noted["what"] == act
    assert words in noted["message"]
    assert hall.session.outcome == ""
