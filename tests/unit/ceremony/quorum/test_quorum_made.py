"""What is said of a blob is signed: who comes later accuses, excuses and adds nobody."""

from __future__ import annotations

import pytest
from ceremonyfire.hall import FALSE, HOUR, Hall, Key

from drengine.ceremony.contribution import parse_contribution
from drengine.ceremony.messages import decode_bytes
from drengine.ceremony.proving import prove
from drengine.ceremony.transcript import Transcript
from drengine.errors import VerificationError

NAMES = {1: "Ada", 2: "Ben", 3: "Cleo"}


@pytest.fixture
def hall(tmp_path, domain, exchange, one_time_key):
    return Hall(tmp_path / "session", domain, exchange, Key(*one_time_key), enrolled=NAMES).open()


def signed(hall, number, **options):
    name = NAMES[number]
    return hall.share(number, name=name, key=hall.signing[name], **options)


@pytest.fixture
def lied(hall):
    """Cleo lied; the blob is made of the shares of Ada and Ben."""
    hall.add(signed(hall, 1), signed(hall, 2), signed(hall, 3, share=FALSE))
    blob = decode_bytes(hall.ask("combine")["blob"])
    (noted,) = prove(hall.transcript, blob=blob).remarks
    assert "the share of Cleo" in noted
    return blob


def chained(entries):
    """The entries with a chain that holds, as anybody can write it."""
    made = Transcript()
    for entry in entries:
        made.append(entry["kind"], entry["actor"], entry["body"], entry["at_ms"])
    return made.to_bytes()


def refused(entries, blob, words):
    with pytest.raises(VerificationError, match=words):
        prove(chained(entries), blob=blob)


def the(entries, kind):
    return next(entry for entry in entries if entry["kind"] == kind)


def test_an_honest_custodian_cannot_be_named_as_the_liar(hall, lied):
    """The proof of the review: verify --blob accepted it."""
    entries = hall.entries
    ben, cleo = (one.x5t for one in hall.domain.people[1:3])
    made, said = the(entries, "combined")["body"]["made"], the(entries, "deviation")["body"]
    made["custodians"] = [hall.domain.people[0].x5t, cleo]
    made["misfits"] = [{"x5t_256": ben, "why": "the share of Ben is not of this domain"}]
    said["text"] = said["text"].replace("Cleo", "Ben")
    refused(entries, lied, "did not sign this blob")


def test_the_remark_about_the_liar_is_the_one_that_was_signed(hall, lied):
    entries = hall.entries
    body = the(entries, "deviation")["body"]
    body["text"] = body["text"].replace("Cleo", "Ben")
    refused(entries, lied, "not those that follow from what")


@pytest.mark.parametrize("copies", [0, 2])
def test_the_remark_about_the_liar_is_neither_left_out_nor_doubled(hall, lied, copies):
    entries = hall.entries
    at = entries.index(the(entries, "deviation"))
    entries[at : at + 1] = [entries[at]] * copies
    refused(entries, lied, "not those that follow from what")


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("plain_ms", 1),
        ("memory_locked", False),
        ("swap_active", True),
        ("pid", 1),
        ("twins", [["Ada", "Ben"]]),
        ("at_ms", 5),
        ("exchange_subject", "CN=other"),
        ("blob_size", 1),
    ],
)
def test_nothing_that_is_said_of_the_blob_can_be_changed(hall, lied, member, value):
    entries = hall.entries
    assert the(entries, "combined")["body"]["made"][member] != value
    the(entries, "combined")["body"]["made"][member] = value
    refused(entries, lied, "did not sign this blob")


def test_what_follows_from_the_signed_facts_cannot_be_changed(hall, lied):
    for change in (
        lambda entry: entry["body"].update(sentence="No memory was ever used."),
        lambda entry: entry["body"].update(more=1),
        lambda entry: entry.update(actor="Wanda"),
        lambda entry: entry.update(at_ms=entry["at_ms"] + HOUR // 2),
    ):
        entries = hall.entries
        change(the(entries, "combined"))
        refused(entries, lied, "not those that follow from what")


def test_after_the_blob_nothing_is_contributed_dropped_or_refused(hall):
    hall.add(signed(hall, 1), signed(hall, 2))
    never = parse_contribution(signed(hall, 3))
    blob = decode_bytes(hall.ask("combine")["blob"])
    taken = the(hall.entries, "contributed")
    dropped = {
        "custodian": "Ada",
        "x5t_256": hall.domain.people[0].x5t,
        "share_sha256": taken["body"]["attestation"]["share_sha256"],
        "reason": "she lied",
    }
    for kind, body in (
        ("contributed", {"attestation": never.attestation.to_json()}),
        ("dropped", dropped),
        ("refused", {"what": "contribution", "code": "x", "message": "Ada lied", "sha256": ""}),
        ("opened", the(hall.entries, "opened")["body"]),
    ):
        entries = hall.entries
        at = entries.index(the(entries, "combined")) + 1
        entries.insert(at, {**entries[at - 1], "kind": kind, "actor": "Cleo", "body": body})
        refused(entries, blob, r"comes after the blob was made|in the middle of another")


def test_a_deviation_that_is_added_after_the_blob_says_that_nobody_signed_it(hall, lied):
    entries = hall.entries
    text = {"text": "Ben lied"}
    entries.append({**entries[-1], "kind": "deviation", "actor": "Olga", "body": text})
    found = prove(chained(entries), blob=lied).remarks
    assert found[-1] == "Olga: Ben lied (added after the blob was made, and signed by nobody)"
    assert "signed by nobody" not in found[0]
