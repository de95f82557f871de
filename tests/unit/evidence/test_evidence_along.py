"""Stamps taken along a run: the run never waits, and no authority can end it."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from drengine.errors import StoreFailed
from drengine.evidence import along, checkpoints
from drengine.evidence.along import StampsAlong
from drengine.evidence.checkpoints import kept_checkpoints
from drengine.journal.sqlite import SqliteStore
from drengine.model.records import RecordType as R

NOWHERE = "http://127.0.0.1:9/"


@pytest.fixture
def asked(monkeypatch):
    """Play an authority in place of the network; keep what it was asked to stamp."""
    seen = SimpleNamespace(bytes=[], answer=lambda: b"token")

    def request(_, data, *, seconds):
        assert seconds == along.ANSWER_SECONDS
        seen.bytes.append(data)
        return seen.answer()

    monkeypatch.setattr(checkpoints, "request_stamp", request)
    return seen


@pytest.fixture
def running(tell, tmp_path):
    """A run at its first gate, in a store on disk."""
    with SqliteStore(tmp_path / "home") as store:
        story = tell.Story(store, tell.make_plan())
        story.create().reads("preflight").ask("approve-create")
        yield story


def stamps(running, told, **more):
    home = running.store.home
    return StampsAlong(lambda: SqliteStore(home), running.plan, "http://t/", told.append, **more)


def record(kind, step="approve-create"):
    return SimpleNamespace(type=kind, body={"step": step})


def test_a_gate_is_stamped_beside_the_run_and_nothing_is_appended(running, asked):
    head, told = running.store.head(running.run), []
    beside = stamps(running, told)
    beside.follow(running.last)
    beside.close()
    assert running.store.head(running.run) == head
    assert told == []
    kept = kept_checkpoints(running.store, running.run)
    assert sorted(kept) == ["01.json", "01.tsr"]
    assert asked.bytes == [kept["01.json"]]
    assert head.sha256.encode() in kept["01.json"]


@pytest.mark.parametrize(
    ("kind", "step", "is_stamped"),
    [
        (R.INTENT, "restore", True),
        (R.INTENT, "create-hsm", True),
        (R.INTENT, "upload", False),
        (R.UNDO_INTENT, "restore", True),
        (R.GATE_APPROVED, "approve-create", True),
        (R.RUN_FINISHED, "", True),
        (R.OPERATION_POLLED, "restore", False),
    ],
)
def test_sends_that_cannot_be_undone_are_stamped_and_others_are_not(
    running, asked, kind, step, is_stamped
):
    beside = stamps(running, [])
    beside.follow(record(kind, step))
    beside.close()
    assert bool(asked.bytes) is is_stamped


def test_an_authority_that_never_answers_delays_nothing_and_is_recorded(running, asked):
    never, told = threading.Event(), []
    asked.answer = never.wait
    beside = stamps(running, told, last_seconds=0.05)
    began = time.monotonic()
    for _ in range(50):
        beside.follow(running.last)
    followed = time.monotonic() - began
    beside.close()
    kept = kept_checkpoints(running.store, running.run)
    never.set()
    assert followed < 0.5
    assert list(kept) == ["01.json"]
    assert b"had not answered when the command ended" in kept["01.json"]
    assert "drengine evidence stamp" in told[0]


def test_wishes_that_come_meanwhile_become_one_stamp(running, asked):
    first, may_answer = threading.Event(), threading.Event()

    def answer():
        first.set()
        may_answer.wait(10)
        return b"token"

    asked.answer = answer
    beside = stamps(running, [])
    beside.follow(running.last)
    first.wait(10)
    for _ in range(40):
        beside.follow(running.last)
    may_answer.set()
    beside.close()
    assert len(asked.bytes) == 2


def test_an_authority_that_is_down_is_recorded_and_told(running):
    told = []
    home = running.store.home
    beside = StampsAlong(lambda: SqliteStore(home), running.plan, NOWHERE, told.append)
    beside.follow(running.last)
    beside.close()
    assert "cannot be reached" in told[0]
    assert b"unstamped" in kept_checkpoints(running.store, running.run)["01.json"]


def test_a_store_that_fails_beside_it_does_not_reach_the_run(running):
    def broken():
        raise StoreFailed("the disk is full")

    told = []
    beside = StampsAlong(broken, running.plan, "http://t/", told.append)
    beside.follow(running.last)
    beside.close()
    assert "the disk is full" in told[0]
    running.approve("approve-create").passed("approve-create")
