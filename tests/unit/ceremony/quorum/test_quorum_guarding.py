"""Whose the session's folder is, whom a command believes, and what it says of blob and swap."""

from __future__ import annotations

import json
import os
import signal
import socket

import pytest
from ceremonyfire.hall import Hall, Key
from click.testing import CliRunner

from drengine.ceremony import keeper as keeper_module
from drengine.ceremony import wire
from drengine.ceremony.folder import require_private, take_folder
from drengine.ceremony.messages import encode_bytes
from drengine.ceremony.session import Session
from drengine.cli.quorum import hold
from drengine.cli.quorum.asking import memory_sentence
from drengine.cli.quorum.fetching import combine_in_session
from drengine.cli.quorum.hold import open_command
from drengine.errors import CeremonyError, GuardError, InputFileError, UsageError


@pytest.fixture
def hall(tmp_path, domain, exchange, one_time_key):
    return Hall(tmp_path / "session", domain, exchange, Key(*one_time_key)).open()


# Finding 9: the folder is the combiner's own, and both ends look who is there.


def test_an_empty_folder_that_was_open_to_others_is_shut(tmp_path):
    folder = tmp_path / "session"
    folder.mkdir()
    folder.chmod(0o777)
    take_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="gives a folder to another user")
def test_another_users_folder_is_refused(tmp_path):
    folder = tmp_path / "session"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    with pytest.raises(InputFileError, match="belongs to another user"):
        take_folder(folder)


def test_no_session_listens_in_a_folder_that_others_may_enter(tmp_path):
    tmp_path.chmod(0o770)
    with (
        pytest.raises(InputFileError, match=r"others may enter it \(mode 0770"),
        wire.bind_in(tmp_path),
    ):
        pass
    assert not (tmp_path / wire.SOCKET_NAME).exists()
    tmp_path.chmod(0o700)
    require_private(tmp_path)


def test_a_command_asks_nothing_of_another_user_who_answers(tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    with wire.bind_in(tmp_path) as listening:
        monkeypatch.setattr(wire, "peer_user", lambda _: os.getuid() + 1)
        with pytest.raises(CeremonyError, match="held by another user") as caught:
            wire.ask_session(tmp_path, {"do": "combine"})
        connection, _ = listening.accept()
        with connection:
            assert connection.recv(1) == b""
    assert "somebody else answers in its place" in caught.value.hint


def test_where_the_other_end_cannot_be_told_the_folder_must_be_shut(tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    with wire.bind_in(tmp_path):
        monkeypatch.setattr(wire, "peer_user", lambda _: None)
        tmp_path.chmod(0o755)
        with pytest.raises(InputFileError, match="not yours alone"):
            wire.ask_session(tmp_path, {"do": "status"})


def test_the_other_end_of_a_socket_is_this_user():
    one, two = socket.socketpair()
    with one, two:
        assert wire.peer_user(one) in (None, os.getuid())
        assert wire.is_own_user(two)


def answering(monkeypatch, answer):
    monkeypatch.setattr(wire, "ask_session", lambda *_: dict(answer))


@pytest.fixture
def made(hall):
    hall.add(hall.share(1), hall.share(2))
    return hall.ask("combine")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _: {"blob": encode_bytes(b"not even a blob")}, "reading the restore blob"),
        (lambda _: {"blob": "%"}, "holds no blob"),
        (lambda _: {"blob_sha256": "f" * 64}, "the answer names f{64}"),
    ],
)
def test_a_blob_that_is_not_what_the_answer_says_is_not_written(
    hall, made, monkeypatch, tmp_path, change, words
):
    answering(monkeypatch, {**made, **change(made)})
    with pytest.raises(CeremonyError, match=words):
        combine_in_session(hall.folder, (), tmp_path / "blob.json")
    assert not (tmp_path / "blob.json").exists()


def test_a_blob_for_another_exchange_certificate_is_not_written(
    hall, made, monkeypatch, tmp_path, people
):
    other = hall.request.to_bytes().replace(hall.exchange.x5t.encode(), people[3].x5t.encode())
    (hall.folder / "request.json").write_bytes(other)
    answering(monkeypatch, made)
    with pytest.raises(CeremonyError, match="blob is for the exchange certificate"):
        combine_in_session(hall.folder, (), tmp_path / "blob.json")
    assert not (tmp_path / "blob.json").exists()


# Finding 13, on the command's side.


def test_a_blob_that_cannot_be_written_is_where_the_command_says(
    hall, made, monkeypatch, tmp_path, writer
):
    answering(monkeypatch, made)
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / ("x" * 250)
    with pytest.raises(InputFileError, match="the blob is made, and lies in") as caught:
        combine_in_session(hall.folder, (), out)
    assert f"cp {made['kept']} BLOB" in caught.value.hint
    assert writer.open_blob(hall.session.blob_path.read_bytes(), hall.exchange)


@pytest.mark.usefixtures("made")
def test_whoever_combines_again_is_told_where_the_blob_lies(hall, tmp_path):
    with pytest.raises(CeremonyError, match=r"no ceremony is open .* which lies in") as caught:
        combine_in_session(hall.folder, (), tmp_path / "blob.json")
    assert f"cp {hall.session.blob_path} BLOB" in caught.value.hint


def test_a_client_that_goes_away_leaves_the_blob_and_the_screen_says_so(opened, plain):
    shares = opened.shares(1, 2)[1::2]
    assert opened.command("add", "--session", opened.session, *shares).returncode == 0
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(opened.session / wire.SOCKET_NAME))
        client.sendall(b'{"do":"combine"}\n')
    said = plain(opened.running.communicate(timeout=60)[1])
    assert opened.running.returncode == 0
    kept = opened.session / "restore-blob.json"
    assert f"The restore blob lies in {kept}" in said
    proof = opened.command("verify", opened.transcript, "--blob", kept)
    assert proof.returncode == 0, proof.stderr


def test_a_lost_terminal_closes_the_ceremony_in_the_transcript(opened):
    opened.running.send_signal(signal.SIGHUP)
    assert opened.running.wait(20) == 130
    assert opened.entries()[-1]["body"]["why"] == "interrupted"


def test_a_ceremony_that_could_not_be_announced_is_closed_in_its_transcript(
    ceremony, swapping, monkeypatch
):
    def fail(*_, **__):
        raise UsageError("no terminal to show it on")

    monkeypatch.setattr(hold, "_show_opened", fail)
    told = open_in(ceremony.folder, "--class", "drill")
    assert isinstance(told.exception, UsageError)
    assert not swapping.is_alive
    assert ceremony.entries()[-1]["body"]["why"] == "interrupted"


# Finding 12, with the commands.


def test_the_drop_command_makes_way_and_status_shows_it(opened, plain):
    shares = opened.shares(1, 2)[1::2]
    assert opened.command("add", "--session", opened.session, *shares).returncode == 0
    words = ("--session", opened.session, "--by", "Olga", "--reason", "not hers")
    missing = opened.command("drop", *words, "--custodian", "Dora")
    assert missing.returncode == 15
    dropped = opened.command("drop", *words, "--custodian", "ada", "-o", "json")
    assert json.loads(dropped.stdout)["dropped"]["custodian"] == "Ada"
    shown = opened.command("status", "--session", opened.session)
    assert "⚠ dropped Ada (" in shown.stdout.decode()
    assert "Quorum:     1 of 2 contributed" in shown.stdout.decode()
    again = opened.command("drop", *words, "--custodian", "Ben")
    assert "✓ taken out: the contribution of Ben (" in plain(again.stdout)
    status = opened.command("status", "--session", opened.session, "-o", "json")
    assert len(json.loads(status.stdout)["dropped"]) == 2
    made = opened.combine(*[word for path in shares for word in ("--contribution", path)])
    assert made.returncode == 0, made.stderr


# Finding 2: swap is told of, and refused in an incident.


@pytest.fixture
def swapping(monkeypatch, one_time_key):
    key = Key(*one_time_key)
    key.memory_locked, key.swap_active = False, True
    monkeypatch.setattr(keeper_module, "Keeper", lambda: key)

    def serve(session, announce):
        announce()
        session.ask = session._answer_or_refuse({"do": "cancel", "by": "Olga", "reason": "r"})

    monkeypatch.setattr(Session, "serve", serve)
    return key


def open_in(folder, *words):
    files = ["--sd-file", folder / "sd.json", "--exchange-cert", folder / "exchange.cer"]
    people = ["--target", "t", "--combiner", "Olga", "--purpose", "p", "--witness", "Wanda"]
    words = [*files, *people, "--session", folder / "session", "--accept-unenrolled", *words]
    return CliRunner().invoke(open_command, [str(word) for word in words], standalone_mode=False)


def test_an_incidents_key_that_may_be_swapped_out_is_refused(ceremony, swapping):
    told = open_in(ceremony.folder, "--class", "incident")
    assert isinstance(told.exception, GuardError)
    assert "--accept-swap" in told.exception.hint
    assert not swapping.is_alive
    assert not ceremony.session.exists()


@pytest.mark.usefixtures("swapping")
@pytest.mark.parametrize("words", [("--class", "incident", "--accept-swap"), ("--class", "drill")])
def test_a_key_that_may_be_swapped_out_is_told_of_at_open(ceremony, words):
    told = open_in(ceremony.folder, *words)
    assert told.exception is None
    assert "⚠ the one-time key's memory could not be locked while swap is active" in told.stderr
    (noted,) = [one["body"]["text"] for one in ceremony.entries() if one["kind"] == "deviation"]
    assert ("--accept-swap" in noted) is (len(words) == 3)


@pytest.mark.usefixtures("swapping")
def test_the_facts_of_an_opened_ceremony_tell_of_its_memory(ceremony):
    told = open_in(ceremony.folder, "--class", "drill", "-o", "json")
    facts = json.loads(told.stdout)
    assert (facts["memory_locked"], facts["swap_active"]) == (False, True)


def test_the_three_sentences_about_memory():
    assert "was locked" in memory_sentence(locked=True, swap=True)
    assert "could NOT be locked and this machine has swap" in memory_sentence(
        locked=False, swap=True
    )
    assert "no swap is active" in memory_sentence(locked=False, swap=False)


def test_contribute_and_combine_say_how_their_memory_stood(opened):
    result, one = opened.contribute(1, "-o", "json")
    assert {"memory_locked", "swap_active"} <= set(json.loads(result.stdout))
    result, two = opened.contribute(2)
    assert b"core dumps were off" in result.stderr
    made = opened.combine("--contribution", one, "--contribution", two)
    assert b"core dumps were off" in made.stdout
