"""What lies in the inbox is taken in, whatever it is: nothing in it may block a run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from gated import Person, Place

from drengine.journal import memory
from drengine.journal.chain import MAX_SIGNAL_BYTES
from drengine.model.canonical import canonical, sha256_hex
from drengine.model.records import RecordType as R
from drengine.model.records import Signal


@pytest.fixture
def place() -> Place:
    return Place(Person("ada", "security-officer"))


@pytest.fixture
def old_door(monkeypatch):
    """The door of an older version, which took everything."""
    monkeypatch.setattr(memory, "check_signal", lambda _: None)


def put(place: Place, body: dict[str, Any], *, id_="s-1", kind="approve", actor="approver:eve"):
    place.store.put_signal(Signal(id_, place.chain.run, kind, actor, body, place.clock.now))


@pytest.mark.usefixtures("old_door")
def test_a_stranger_cannot_block_a_run_with_a_long_reason(place):
    said, envelope = place.say(Person("ada", "security-officer"), reason="x" * 500_000)
    body = {"step": "agree", "request_seq": said.asked.seq, "digest": said.asked.digest}
    body |= {"reason": said.reason, "role": said.role, "envelope": envelope}
    put(place, body, id_=said.nonce, actor="approver:ada")
    note = place.absorb()
    assert (note.type, note.actor) == (R.NOTE, "approver:ada")
    assert "longer than 1048576 bytes" in note.body["why"]
    kept = {name: note.body[name] for name in ("ignored", "said", "signal", "sha256", "size")}
    content = canonical(body)
    assert kept == {
        "ignored": "approve",
        "said": {"step": "agree"},
        "signal": said.nonce,
        "sha256": sha256_hex(content),
        "size": len(content),
    }
    assert place.store.peek_signals(place.chain.run) == []
    assert place.decide(place.people[0]).type is R.GATE_APPROVED, "the run goes on"


@pytest.mark.parametrize(
    "odd",
    [
        {"actor": "approver:" + "x" * 2_000_000},
        {"actor": ""},
        {"id_": "x" * 2_000_000},
        {"kind": "x" * 2_000_000},
    ],
)
@pytest.mark.usefixtures("old_door")
def test_no_part_of_a_signal_is_too_long_for_its_note(place, odd):
    put(place, {"step": "agree"}, **odd)
    note = place.absorb()
    assert note.type is R.NOTE
    assert len(str(note.body)) < 2_000
    assert place.store.peek_signals(place.chain.run) == []


@pytest.mark.usefixtures("old_door")
def test_what_is_nested_as_deep_as_json_may_be_leaves_a_note(place):
    body: dict[str, Any] = {}
    for _ in range(39):
        body = {"a": body}
    put(place, body)
    assert "nested deeper" in place.absorb().body["why"]
    assert place.store.peek_signals(place.chain.run) == []


@pytest.mark.parametrize(("signed", "kind"), [(False, R.GATE_REJECTED), (True, R.NOTE)])
def test_the_longest_rejection_that_the_door_takes_fits_into_its_record(place, signed, kind):
    if not signed:
        place.world = replace(place.world, judge=None)
    gate = place.gate
    body = {"step": "agree", "request_seq": gate.seq, "digest": gate.digest, "role": ""}
    room = MAX_SIGNAL_BYTES - len(canonical({**body, "reason": ""}))
    put(place, {**body, "reason": "x" * room}, kind="reject")
    taken = place.absorb()
    assert taken.type is kind
    assert "sha256" not in taken.body, "it is quoted in full"
