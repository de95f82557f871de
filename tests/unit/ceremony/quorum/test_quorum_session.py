"""A session that nothing but its own end can end, and contributions that stand in nobody's way."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace

import pytest
from ceremonyfire.hall import FALSE, HOUR, NOW, Hall, Key
from cryptography.hazmat.primitives.asymmetric import ed25519

from drengine.ceremony import keeper as keeper_module
from drengine.ceremony import minutes as minutes_module
from drengine.ceremony import session as session_module
from drengine.ceremony import transcript as transcript_module
from drengine.ceremony.domain import parse_security_domain
from drengine.ceremony.fields import require_text
from drengine.ceremony.keeper import Keeper
from drengine.ceremony.proving import prove
from drengine.ceremony.strict import count_brackets
from drengine.ceremony.transcript import Transcript, read_transcript, remark
from drengine.ceremony.unseal import open_domain, open_share
from drengine.errors import CeremonyError, InputFileError, ShareError, VerificationError


@pytest.fixture
def make_hall(tmp_path, domain, exchange, one_time_key):
    return lambda **options: Hall(
        tmp_path / "session", domain, exchange, Key(*one_time_key), **options
    )


@pytest.fixture
def hall(make_hall):
    return make_hall().open()


def full(*_, **__):
    raise InputFileError("writing x: No space left on device", hint="Make room there.")


# Finding 11: one message must not end the ceremony.


@pytest.mark.parametrize("text", [" ", "   ", "\u3164", "\u2800 ", "\u034f", "\uffa0"])
def test_a_text_that_shows_nothing_is_refused(hall, text):
    refused = hall.add(hall.share(1, host=text))["error"]
    assert "'statement.host' is empty" in refused["message"]
    with pytest.raises(CeremonyError, match="the name is empty"):
        require_text(text, "the name")
    assert hall.kinds == ["opened", "refused"]
    assert hall.add(hall.share(1))["contributed"] == [hall.domain.people[0].x5t]


def test_whatever_fails_in_one_message_is_noted_by_type_and_place_and_the_next_is_answered(
    hall, monkeypatch
):
    def fail(*_):
        raise IndexError("the words of a secret")

    with monkeypatch.context() as patch:
        patch.setattr(hall.session._gathered, "_take", fail)
        refused = hall.add(hall.share(1))["error"]
    assert refused["kind"] == "InternalError"
    noted = hall.entries[-1]["body"]
    assert "IndexError at test_quorum_session.py:" in noted["message"]
    assert "secret" not in hall.transcript.decode() + refused["message"]
    assert hall.ask("nonsense")["error"]["kind"] == "CeremonyError"
    assert hall.session._answer_or_refuse({"to": "do"})["error"]["kind"] == "InternalError"
    assert len(hall.add(hall.share(1), hall.share(2))["contributed"]) == 2
    assert "blob" in hall.ask("combine")
    assert prove(hall.transcript).outcome == "combined"


# Finding 12: a bad contribution can be taken out, and honest ones go on without it.


def test_a_dropped_contribution_may_be_given_anew_and_the_transcript_says_both(hall):
    x5t = hall.domain.people[2].x5t
    hall.add(hall.share(3, share=FALSE), hall.share(1))
    answer = hall.ask("drop", custodian=x5t, by="Olga", reason="she says it is not hers")
    assert answer["contributed"] == [hall.domain.people[0].x5t]
    assert len(list((hall.folder / "attestations").iterdir())) == 1
    assert hall.add(hall.share(3))["contributed"][-1] == x5t
    made = hall.ask("combine")
    assert made["custodians"] == [hall.domain.people[0].x5t, x5t]
    proven = prove(hall.transcript)
    assert proven.dropped == (f"Custodian 3 ({x5t}) by Olga: she says it is not hers",)
    assert [one.statement.x5t_256 for one in proven.attestations] == made["custodians"]


def test_that_the_very_contribution_that_was_taken_out_is_in_again_is_a_deviation(hall):
    message = hall.share(1)
    hall.add(message)
    hall.ask("drop", custodian="Custodian 1", by="Olga", reason="nobody knows her")
    assert "error" not in hall.add(message)
    told = prove(hall.transcript).remarks
    assert any("is in again; it was taken out by Olga: nobody knows her" in text for text in told)


def test_what_is_not_there_cannot_be_dropped(hall):
    hall.add(hall.share(1))
    before = hall.entries
    refused = hall.ask("drop", custodian="Custodian 2", by="Olga", reason="r")["error"]
    assert "none is of the custodian" in refused["message"]
    assert "Contributed: Custodian 1" in refused["hint"]
    assert hall.ask("drop", custodian="custodian 1", by=" ", reason="r")["error"]
    assert hall.entries[: len(before)] == before
    assert hall.kinds[len(before) :] == ["refused", "refused"]


@pytest.mark.parametrize("drops", [0, 2])
def test_a_transcript_that_drops_what_is_not_there_does_not_hold(hall, drops):
    """Dropped but used, and dropped twice."""
    hall.add(hall.share(1), hall.share(2))
    hall.ask("drop", custodian="Custodian 1", by="Olga", reason="r")
    hall.add(hall.share(1))
    hall.ask("combine")
    forged = Transcript()
    for entry in read_transcript(hall.transcript).entries:
        copies = drops if entry.kind == "dropped" else 1
        for _ in range(copies):
            forged.append(entry.kind, entry.actor, entry.body, entry.at_ms)
    with pytest.raises(VerificationError, match=r"twice|drops a contribution that is not there"):
        prove(forged.to_bytes())


def test_a_later_contribution_of_the_same_custodian_is_told_how_to_take_its_place(hall):
    forged = hall.share(3, share=FALSE)
    signed = hall.share(3, key=ed25519.Ed25519PrivateKey.generate())
    hall.add(forged)
    refused = hall.add(signed)["error"]
    x5t = hall.domain.people[2].x5t
    command = f"drengine ceremony drop --session {hall.folder} --custodian={x5t} --by NAME"
    assert command in refused["hint"]
    assert f"({x5t}, not signed) came first, 'Custodian 3' ({x5t}, signed)" in refused["message"]
    hall.ask("drop", custodian=x5t, by="Olga", reason="forged")
    assert hall.add(signed)["contributed"] == [x5t]


@pytest.mark.parametrize(
    "bad", [{"share": FALSE}, {"garble": True}, {"share": replace(FALSE, x=1)}]
)
def test_a_share_that_does_not_fit_is_named_and_the_others_make_the_blob(hall, writer, bad):
    hall.add(hall.share(3, **bad), hall.share(1), hall.share(2))
    made = hall.ask("combine")
    people = hall.domain.people
    assert made["custodians"] == [people[0].x5t, people[1].x5t]
    assert [one["x5t_256"] for one in made["misfits"]] == [people[2].x5t]
    blob = (hall.folder / "restore-blob.json").read_bytes()
    assert writer.open_blob(blob, hall.exchange) == hall.domain.parts
    proven = prove(hall.transcript, blob=blob)
    assert "Custodian 3" in proven.remarks[-1]
    assert proven.remarks[-1].endswith("the blob is made without it")


@pytest.mark.parametrize("bad", [{"share": FALSE}, {"garble": True}])
def test_without_enough_others_the_refusal_names_the_drop_command_and_stays_open(hall, bad):
    hall.add(hall.share(3, **bad), hall.share(1))
    refused = hall.ask("combine")["error"]
    assert f"drengine ceremony drop --session {hall.folder} --custodian=" in refused["hint"]
    assert "Custodian 3" in refused["message"]
    assert hall.session.outcome == ""
    assert not (hall.folder / "restore-blob.json").exists()
    hall.add(hall.share(2))
    assert "blob" in hall.ask("combine")


def test_who_takes_anothers_share_number_is_named_and_the_honest_one_is_not(writer, people):
    made = writer.write_domain(people[:4], 2)
    domain = parse_security_domain(made.data)
    shares = [open_share(domain, one.certificate, one.key) for one in people[:4]]
    shares[3] = replace(shares[3], x=shares[0].x, values=(9,) * 32)
    with pytest.raises(ShareError, match="not of this security domain") as caught:
        open_domain(domain, shares)
    assert people[3].x5t in caught.value.message
    assert people[0].x5t not in caught.value.message


def test_a_right_share_that_two_gave_is_noted_and_accuses_nobody(hall):
    domain = parse_security_domain(hall.domain.data)
    first = open_share(domain, None, hall.domain.people[0].key)
    hall.add(hall.share(1), hall.share(2), hall.share(3, share=first))
    assert hall.ask("combine")["misfits"] == []
    assert "gave the same share" in prove(hall.transcript).remarks[-1]


def test_the_name_of_somebody_enrolled_with_another_certificate_is_refused(make_hall):
    hall = make_hall(enrolled={1: "Ada", 2: "Ben"}).open()
    refused = hall.add(hall.share(3, name="ADA", share=FALSE))["error"]
    assert f"is enrolled with the certificate {hall.domain.people[0].x5t}" in refused["message"]
    genuine = hall.share(1, name="Ada", key=hall.signing["Ada"])
    assert hall.add(genuine)["contributed"] == [hall.domain.people[0].x5t]


# Finding 13: the blob is on the disk before the key is gone.


def test_the_blob_and_its_entry_are_on_the_disk_when_the_key_is_let_go(hall):
    seen = []
    hall.key.at_close = lambda: seen.append((hall.session.blob_path.exists(), hall.kinds[-1]))
    hall.add(hall.share(1), hall.share(2))
    hall.ask("combine")
    assert seen == [(True, "combined")]
    assert hall.session.blob_path.stat().st_mode & 0o777 == 0o600
    assert any(f"the blob lies in {hall.session.blob_path}" in line for line in hall.screen)


@pytest.mark.parametrize("place", [minutes_module, session_module], ids=["transcript", "blob"])
def test_a_full_disk_leaves_the_ceremony_open_and_a_later_blob_has_a_whole_transcript(
    hall, monkeypatch, place
):
    hall.add(hall.share(1), hall.share(2))
    with monkeypatch.context() as patch:
        patch.setattr(place, "replace_private", full)
        refused = hall.ask("combine")["error"]
    assert "the ceremony is open still" in refused["message"]
    assert hall.key.is_alive
    assert not hall.session.blob_path.exists()
    made = hall.ask("combine")
    proven = prove(hall.transcript, blob=hall.session.blob_path.read_bytes())
    assert (proven.outcome, proven.head) == ("combined", made["head"])


def test_what_cannot_be_noted_has_not_happened(hall, monkeypatch):
    share = hall.share(1)
    with monkeypatch.context() as patch:
        patch.setattr(minutes_module, "replace_private", full)
        assert "writing the transcript" in hall.add(share)["error"]["message"]
        assert hall.ask("status")["contributed"] == []
    assert hall.add(share)["contributed"] == [hall.domain.people[0].x5t]
    assert hall.kinds.count("contributed") == 1


def test_a_ceremony_is_cancelled_though_the_disk_is_full(hall, monkeypatch):
    monkeypatch.setattr(minutes_module, "replace_private", full)
    assert hall.ask("cancel", by="Olga", reason="r")["noted"] is False
    assert (hall.key.is_alive, hall.session.outcome) == (False, "cancelled")


@pytest.fixture
def interruptible():
    """Ctrl-C as a terminal gives it: what a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_ctrl_c_in_the_middle_waits_until_the_blob_is_kept_and_noted(hall):
    hall.add(hall.share(1), hall.share(2))
    hall.key.at_close = lambda: os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        hall.ask("combine")
    assert hall.kinds[-2:] == ["combined", "closed"]
    prove(hall.transcript, blob=hall.session.blob_path.read_bytes())


def test_a_full_transcript_still_lets_those_who_contributed_combine(hall, monkeypatch):
    hall.add(hall.share(1), hall.share(2))
    monkeypatch.setattr(transcript_module, "MAX_ENTRIES", len(hall.entries) + 31)
    before = hall.transcript
    assert "the transcript is full" in hall.add(hall.share(3))["error"]["message"]
    assert hall.ask("status")["required"] == 2
    assert hall.transcript == before
    assert "blob" in hall.ask("combine")
    assert prove(hall.transcript).outcome == "combined"


def test_refused_contributions_never_make_a_transcript_that_nobody_reads(make_hall):
    """The proof of the review: brackets in a name, refused some 66 times, and verify said no."""
    hall = make_hall().open()
    one, two = (hall.share(1, name="Ada" + "[" * 200) for _ in range(2))
    hall.add(one)
    for _ in range(100):
        hall.add(two)
    assert hall.kinds.count("refused") == 100
    hall.add(hall.share(2))
    assert "blob" in hall.ask("combine")
    assert prove(hall.transcript).outcome == "combined"


@pytest.mark.parametrize("limit", ["MAX_ENTRIES", "MAX_TRANSCRIPT_BYTES", "MAX_BRACKETS"])
def test_what_would_not_be_read_back_is_not_noted(hall, monkeypatch, limit):
    hall.add(hall.share(1), hall.share(2))
    content, screen = hall.transcript, len(hall.screen)
    now = {
        "MAX_ENTRIES": len(hall.entries),
        "MAX_TRANSCRIPT_BYTES": len(content),
        "MAX_BRACKETS": count_brackets(content),
    }
    with monkeypatch.context() as patch:
        patch.setattr(transcript_module, limit, now[limit])
        assert "the transcript is full" in hall.add(hall.share(3))["error"]["message"]
        with pytest.raises(CeremonyError, match="longer than anybody reads it back"):
            hall.session._minutes.note(remark("one more"), at_ms=NOW)
    assert (hall.transcript, len(hall.screen)) == (content, screen)
    assert len(hall.add(hall.share(3))["contributed"]) == 3


def test_a_screen_that_is_gone_stops_nothing(hall):
    def gone(*_):
        raise BrokenPipeError

    hall.session._minutes._listener = gone
    assert len(hall.add(hall.share(1), hall.share(2))["contributed"]) == 2
    assert "blob" in hall.ask("combine")


# Finding 14: a key that is gone is noticed.


def test_a_dead_keeper_closes_the_ceremony_before_anything_is_answered(hall):
    hall.add(hall.share(1), hall.share(2))
    hall.key.is_alive = False
    refused = hall.ask("combine")["error"]
    assert "was ended by SIGKILL: the key is gone" in refused["message"]
    assert refused["hint"].startswith("Open a new one: drengine ceremony open")
    assert hall.entries[-1]["body"]["why"] == "interrupted"


def test_a_dead_keeper_is_noticed_though_nobody_asks(hall):
    hall.key.is_alive = False
    assert hall.session.serve() == "interrupted"
    assert "a new ceremony is needed" in hall.entries[-1]["body"]["reason"]


def test_a_keeper_that_dies_while_it_combines_does_not_ask_for_another_try(hall):
    hall.add(hall.share(1), hall.share(2))

    def die():
        hall.key.is_alive = False
        raise CeremonyError("combining: the process broke off", hint="Try again.")

    hall.key.before = die
    assert hall.ask("combine")["error"]["hint"].startswith("Open a new one")
    assert hall.session.outcome == "interrupted"


def test_a_keeper_tells_that_it_was_ended():
    keeper = Keeper()
    assert keeper.is_alive
    os.kill(keeper.pid, signal.SIGKILL)
    with pytest.raises(CeremonyError, match="keeps the one-time key was ended by SIGKILL"):
        keeper._read()
    assert (keeper.is_alive, keeper.how_it_ended()) == (False, "was ended by SIGKILL")
    keeper.close()


@pytest.mark.parametrize("error", [BlockingIOError(11, "Resource unavailable"), MemoryError()])
def test_an_attempt_that_cannot_be_started_is_refused_and_the_keeper_lives(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(keeper_module, "ask_child", fail)
    refused = json.loads(keeper_module._attempt(b"{}", b"key", bytes))["error"]
    assert refused["kind"] == "CeremonyError"
    assert "could not be started" in refused["message"]
    assert "the one-time key is still there" in refused["message"]


# Finding 17: what was in time when it was checked is in time for every reader.


def test_a_blob_that_took_until_the_request_expired_has_a_transcript_that_holds(hall):
    hall.add(hall.share(1), hall.share(2))
    hall.now = NOW + HOUR - 500

    def slow():
        hall.now += 1000

    hall.key.before = slow
    assert hall.ask("combine")["at_ms"] == NOW + HOUR - 500
    assert prove(hall.transcript, blob=hall.session.blob_path.read_bytes()).outcome == "combined"
    assert {entry["at_ms"] for entry in hall.entries[-2:]} == {NOW + HOUR - 500}


def test_a_contribution_in_the_last_moment_has_a_transcript_that_holds(hall):
    moments = iter([NOW + HOUR - 1, *[NOW + HOUR] * 9])
    hall.session._now_ms = lambda: next(moments)
    assert hall.add(hall.share(1))["contributed"]
    assert len(prove(hall.transcript).attestations) == 1


# Finding 2: a key that may come to lie on a disk is told of.


def test_a_key_that_may_be_swapped_out_is_noted_as_a_deviation(make_hall):
    hall = make_hall()
    hall.key.memory_locked, hall.key.swap_active = False, True
    hall.open(swap_accepted=True)
    assert hall.session.may_be_swapped
    (remark,) = prove(hall.transcript).remarks
    assert "could not be locked while swap is active" in remark
    assert remark.endswith("accepted with --accept-swap")
