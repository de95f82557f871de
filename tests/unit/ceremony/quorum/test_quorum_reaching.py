"""How a session is reached: before anybody hears of it, from anywhere, and what its silence means."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys

import pytest
from ceremonyfire.hall import Hall, Key
from click.testing import CliRunner

from drengine.ceremony import hardening, wire
from drengine.ceremony import keeper as keeper_module
from drengine.ceremony.session import Session
from drengine.cli.quorum import after, hold
from drengine.cli.quorum.after import status_command
from drengine.cli.quorum.hold import open_command
from drengine.errors import CeremonyError, InputFileError, UsageError


@pytest.fixture
def hall(tmp_path, domain, exchange, one_time_key):
    return Hall(tmp_path / "enclosed", domain, exchange, Key(*one_time_key)).open()


@pytest.fixture
def made_keys(monkeypatch, one_time_key):
    """How many one-time keys were made; a session is cancelled once it was announced."""
    made = []

    def keeper():
        made.append(Key(*one_time_key))
        return made[-1]

    def answer(session, listening):
        del listening
        session._answer_or_refuse({"do": "cancel", "by": "Olga", "reason": "r"})

    monkeypatch.setattr(keeper_module, "Keeper", keeper)
    monkeypatch.setattr(Session, "_answer_one", answer)
    return made


def open_in(ceremony, *words):
    files = ["--sd-file", ceremony.folder / "sd.json"]
    files += ["--exchange-cert", ceremony.folder / "exchange.cer", "--class", "drill"]
    people = ["--target", "t", "--combiner", "Olga", "--purpose", "p", "--witness", "Wanda"]
    given = [str(word) for word in (*files, *people, *words)]
    return CliRunner().invoke(open_command, given, standalone_mode=False)


def status_of(folder, *words):
    given = ["--session", str(folder), *words]
    return CliRunner().invoke(status_command, given, standalone_mode=False)


# Before it is announced


@pytest.mark.usefixtures("made_keys")
def test_a_folder_with_closed_in_its_name_is_a_folder_like_any_other(ceremony):
    """The proof of the review: the code was announced, and then the ceremony ended."""
    told = open_in(ceremony, "--session", ceremony.folder / "enclosed")
    assert told.exception is None
    entries = json.loads((ceremony.folder / "enclosed" / "transcript.json").read_bytes())["entries"]
    assert entries[-1]["body"]["why"] == "cancelled"


def test_a_session_can_be_reached_before_it_is_announced(hall):
    def announce():
        assert wire.is_listening(hall.folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hall.session.serve(announce)
    assert hall.entries[-1]["body"]["why"] == "interrupted"


@pytest.mark.usefixtures("made_keys")
def test_where_nothing_can_listen_nothing_is_announced(ceremony, monkeypatch):
    def fail(*_):
        raise CeremonyError("listening: no sockets here")

    monkeypatch.setattr("drengine.ceremony.session.bind_in", fail)
    told = open_in(ceremony, "--session", ceremony.session)
    assert isinstance(told.exception, CeremonyError)
    assert "Request code" not in told.stdout


def test_no_second_session_listens_in_one_folder(tmp_path):
    tmp_path.chmod(0o700)
    with (
        wire.bind_in(tmp_path),
        pytest.raises(CeremonyError, match=r"open in .* already"),
        wire.bind_in(tmp_path),
    ):
        pass


def test_a_socket_that_nobody_listens_on_any_more_is_in_nobodys_way(tmp_path):
    tmp_path.chmod(0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / wire.SOCKET_NAME))
    assert not wire.is_listening(tmp_path)
    with wire.bind_in(tmp_path):
        assert wire.is_listening(tmp_path)


# QR codes


@pytest.mark.parametrize("place", ["q.png", "nowhere/q.png"])
def test_a_picture_that_cannot_be_written_is_refused_before_a_key_is_made(
    ceremony, made_keys, place
):
    (ceremony.folder / "q.png").touch()
    words = ("--session", ceremony.session, "--qr-png", ceremony.folder / place)
    told = open_in(ceremony, *words)
    assert isinstance(told.exception, InputFileError)
    assert "--qr-png" in told.exception.hint
    assert (made_keys, ceremony.session.exists()) == ([], False)


@pytest.mark.parametrize("words", [("--qr",), ("--qr-png", "new.png")])
def test_without_the_library_for_codes_no_key_is_made(ceremony, made_keys, monkeypatch, words):
    monkeypatch.delitem(sys.modules, "drengine.ceremony.qr", raising=False)
    monkeypatch.delattr("drengine.ceremony.qr", raising=False)
    monkeypatch.setitem(sys.modules, "segno", None)
    told = open_in(ceremony, "--session", ceremony.session, *words)
    assert isinstance(told.exception, UsageError)
    assert "nothing was opened" in told.exception.message
    assert (made_keys, ceremony.session.exists()) == ([], False)


@pytest.mark.usefixtures("made_keys")
def test_a_code_that_cannot_be_shown_ends_nothing_that_was_announced(ceremony, monkeypatch):
    def fail(*_, **__):
        raise CeremonyError("the message has 9999 bytes", hint="Carry the file.")

    monkeypatch.setattr(hold, "print_code", fail)
    told = open_in(ceremony, "--session", ceremony.session)
    assert told.exception is None
    assert "⚠ the message has 9999 bytes. Carry the file." in told.stderr
    assert ceremony.entries()[-1]["body"]["why"] == "cancelled"


# What is shown


@pytest.mark.usefixtures("made_keys")
@pytest.mark.parametrize("words", [(), ("-o", "json")])
def test_the_folder_is_shown_so_that_it_is_found_from_anywhere(ceremony, monkeypatch, words):
    monkeypatch.chdir(ceremony.folder)
    told = open_in(ceremony, "--session", "session", *words)
    assert str(ceremony.session / "request.json") in told.stdout
    assert f"--session {ceremony.session}" in told.stdout or words


@pytest.mark.usefixtures("made_keys")
@pytest.mark.parametrize("may", [True, False])
def test_a_machine_on_which_programs_may_trace_each_other_is_told_of(ceremony, monkeypatch, may):
    monkeypatch.setattr(hardening, "may_be_traced", lambda: may)
    told = open_in(ceremony, "--session", ceremony.session)
    assert ("sysctl kernel.yama.ptrace_scope=1" in told.stderr) is may


# What its silence means


def test_a_session_that_is_stopped_is_not_gone(opened, monkeypatch):
    monkeypatch.setattr(after, "_STATUS_SECONDS", 0.5)
    opened.running.send_signal(signal.SIGSTOP)
    try:
        told = status_of(opened.session)
        facts = json.loads(status_of(opened.session, "-o", "json").stdout)
    finally:
        opened.running.send_signal(signal.SIGCONT)
    assert "it does not answer; whether the ceremony is open" in told.stdout
    assert "is gone" not in told.stdout
    assert "open --session NEW_FOLDER" not in told.stdout
    assert facts["alive"] is None
    assert "does not answer" in facts["session_says"]
    assert json.loads(status_of(opened.session, "-o", "json").stdout)["alive"] is True


def test_a_session_of_another_user_is_not_gone(opened, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 4321)
    told = status_of(opened.session).stdout
    assert "is held by another user" in told
    assert "is gone" not in told


def test_a_session_that_is_gone_is_called_so(opened):
    opened.running.kill()
    opened.running.wait()
    told = status_of(opened.session).stdout
    assert "its session is gone, and the one-time key with it" in told
