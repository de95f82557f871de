"""The register's commands: another signing key, checks that count, folders that are none."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from drengine.ceremony.registry import read_register
from drengine.cli.quorum.founding import init_domain_command
from drengine.cli.ready import ready_command
from drengine.errors import InputError, InputFileError, QuorumError
from drengine.lockedkeys import lock_key

PERSON = ("--location", "safe 1", "--contact", "+49 1", "--acknowledge")


def enroll(ceremony, number, *more, name=None):
    return ceremony.command(
        *("enroll", "--name", name or ("Ada", "Ben", "Cleo")[number - 1], *PERSON),
        *("--register", ceremony.folder / "register", "--without-passphrase"),
        *("--key", ceremony.folder / "keys" / f"{number}.key", *more),
    )


def check(ceremony, number, signing, *more):
    return ceremony.command(
        *("check", "--register", ceremony.folder / "register"),
        *("--key", ceremony.folder / "keys" / f"{number}.key"),
        *("--signing-key", ceremony.folder / signing, *more),
    )


def documents(ceremony):
    return sorted(path.name for path in (ceremony.folder / "register").iterdir())


@pytest.fixture
def enrolled(ceremony):
    for number in (1, 2):
        made = enroll(ceremony, number, "--new-signing-key", ceremony.folder / f"s{number}.key")
        assert made.returncode == 0, made.stderr.decode()
    return ceremony


def test_another_signing_key_is_refused_without_the_old_one_before_it_is_made(enrolled, plain):
    before, new = documents(enrolled), enrolled.folder / "new.key"
    refused = enroll(enrolled, 1, "--new-signing-key", new)
    assert refused.returncode == 15
    assert "--old-signing-key" in plain(refused.stderr)
    assert not new.exists()
    assert documents(enrolled) == before
    other = enroll(
        enrolled,
        1,
        *("--new-signing-key", new, "--old-signing-key", enrolled.folder / "s2.key"),
    )
    assert other.returncode == 15
    assert "that key has not signed for this one" in plain(other.stderr)
    assert not new.exists(), "nothing was written, it says"
    assert documents(enrolled) == before
    stranger = enroll(
        enrolled,
        3,
        *("--new-signing-key", new, "--old-signing-key", enrolled.folder / "s2.key"),
    )
    assert "so no signing key is replaced" in plain(stranger.stderr)
    (enrolled.folder / "keys" / "3.cer").unlink()
    nameless = enroll(enrolled, 3, "--new-signing-key", new)
    assert "no key was made" in plain(nameless.stderr)
    assert not new.exists()
    moved = enroll(enrolled, 1, "--signing-key", enrolled.folder / "s1.key")
    assert moved.returncode == 0, plain(moved.stderr)


def test_a_good_transcript_holds_after_a_new_signing_key(enrolled, plain):
    """The proof of the review: verify kept one key a certificate, the last by file name."""
    enrolled.open("--class", "drill", "--register", enrolled.folder / "register")
    shares = []
    for number in (1, 2):
        made, out = enrolled.contribute(number, "--signing-key", enrolled.folder / f"s{number}.key")
        assert made.returncode == 0, plain(made.stderr)
        shares += ["--contribution", out]
    assert enrolled.combine(*shares).returncode == 0
    verify = ("verify", enrolled.transcript, "--register", enrolled.folder / "register")
    assert enrolled.command(*verify).returncode == 0
    renewed = enroll(
        enrolled,
        1,
        *("--new-signing-key", enrolled.folder / "new.key"),
        *("--old-signing-key", enrolled.folder / "s1.key"),
    )
    assert renewed.returncode == 0, plain(renewed.stderr)
    again = enrolled.command(*verify)
    assert again.returncode == 0, plain(again.stderr)
    nobody = enrolled.command("verify", enrolled.transcript, "--register", enrolled.folder)
    assert nobody.returncode == InputFileError.exit_code
    assert f"Entries are in {enrolled.folder / 'register'}" in plain(nobody.stderr)


def test_the_old_keys_passphrase_is_the_last_line_of_the_descriptor(ceremony, plain):
    old, new = ceremony.folder / "old.key", ceremony.folder / "new.key"

    def with_lines(content, *more):
        read_end, write_end = os.pipe()
        os.write(write_end, content)
        os.close(write_end)
        words = (*more, "--passphrase-fd", str(read_end))
        return ceremony.command(
            *("enroll", "--name", "Ada", *PERSON, "--register", ceremony.folder / "register"),
            *("--key", ceremony.folder / "keys" / "1.key", *words),
            pass_fds=(read_end,),
        )

    short = with_lines(b"\nelevenchars\n", "--new-signing-key", old)
    assert short.returncode == InputError.exit_code
    assert "fewer than 12 characters" in plain(short.stderr)
    assert not old.exists()
    first = with_lines(b"\nthe first phrase\n", "--new-signing-key", old)
    assert first.returncode == 0, plain(first.stderr)
    second = with_lines(
        b"\nthe second phrase\nthe first phrase\n",
        *("--new-signing-key", new, "--old-signing-key", old),
    )
    assert second.returncode == 0, plain(second.stderr)
    key = load_pem_private_key(new.read_bytes(), b"the second phrase")
    (current,) = {
        one.key
        for one in read_register(ceremony.folder / "register").enrolments
        if one.replaced_key
    }
    assert isinstance(key, ed25519.Ed25519PrivateKey)
    assert key.public_key().public_bytes_raw() == current


def test_a_check_that_would_count_for_nothing_is_refused(enrolled, plain):
    before = documents(enrolled)
    other = check(enrolled, 1, "s2.key")
    assert other.returncode == 15
    assert "enrolled with another signing key" in plain(other.stderr)
    nobody = check(enrolled, 3, "s1.key")
    assert nobody.returncode == 15
    assert "is not enrolled in this register" in plain(nobody.stderr)
    assert documents(enrolled) == before
    assert check(enrolled, 1, "s1.key").returncode == 0


def test_a_challenge_of_another_register_is_refused(enrolled, plain):
    register = enrolled.folder / "register"
    assert (
        enrolled.command("challenge", "--register", register, "--custodian", "ADA").returncode == 0
    )
    (challenge,) = register.glob("challenge-*.json")
    apart = challenge.rename(enrolled.folder / "challenge.json")
    refused = check(enrolled, 1, "s1.key", "--challenge", apart)
    assert refused.returncode == 15
    assert "is not in this register" in plain(refused.stderr)


def test_open_refuses_a_folder_that_is_no_register_and_names_who_is_not_enrolled(
    enrolled, domain, plain
):
    words = ("--class", "incident", "--witness", "Wanda", "--register")
    with pytest.raises(AssertionError, match="nobody is enrolled in"):
        enrolled.open(*words, enrolled.folder)
    enrolled.end()
    assert not enrolled.session.exists()
    with pytest.raises(AssertionError, match="1 of 3 custodians are not enrolled"):
        enrolled.open(*words, enrolled.folder / "register")
    enrolled.end()
    assert not enrolled.session.exists()
    enrolled.open(*words, enrolled.folder / "register", "--accept-unenrolled")
    shown = "".join(enrolled.printed)
    assert "Ada  x5t#S256" in shown
    assert "NOT ENROLLED  x5t#S256" in shown
    third = domain.people[2].x5t
    told = enrolled.command("verify", enrolled.transcript)
    assert f"invited though not enrolled, under any name and unsigned: {third}" in plain(
        told.stdout
    )
    facts = json.loads(enrolled.command("verify", enrolled.transcript, "-o", "json").stdout)
    assert facts["not_enrolled"] == [third]


def test_ready_tells_what_stands_against_an_entry(enrolled, domain):
    register = enrolled.folder / "register"
    words = ["--sd-file", str(enrolled.folder / "sd.json"), "--register", str(register)]
    assert CliRunner().invoke(ready_command, words).output.startswith("✓ yes")
    apart = enrolled.folder / "apart"
    forged = enrolled.command(
        *("enroll", "--name", "Mallory", *PERSON, "--register", apart, "--without-passphrase"),
        *("--key", enrolled.folder / "keys" / "1.key"),
        *("--new-signing-key", enrolled.folder / "forged.key"),
    )
    assert forged.returncode == 0
    (entry,) = apart.glob("custodian-*.json")
    entry.rename(register / entry.name)
    told = CliRunner().invoke(ready_command, words).output
    assert told.startswith("✗ NO: 1 of 3")
    assert "⚠ Ada or Mallory: contested" in told
    assert "the first has not signed for the second" in told
    facts = json.loads(CliRunner().invoke(ready_command, [*words, "-o", "json"]).output)
    assert len(facts["remarks"]) == 1
    assert "Next: 'drengine ceremony enroll' by the holders of " + domain.people[2].x5t in told


def test_ready_refuses_a_folder_in_which_nobody_is_enrolled(enrolled):
    words = ["--sd-file", str(enrolled.folder / "sd.json"), "--register", str(enrolled.folder)]
    assert isinstance(CliRunner().invoke(ready_command, words).exception, InputFileError)


def test_init_domain_shows_thumbprints_and_refuses_who_is_not_enrolled(enrolled, domain):
    certificates = [enrolled.folder / "keys" / f"{number}.cer" for number in (1, 2, 3)]
    named = [word for path in certificates for word in ("--cert", str(path))]
    out = enrolled.folder / "new-domain.json"
    words = ["--hsm", "contoso--new", *named, "--quorum", "2", "--out", str(out)]
    given = [*words, "--register", str(enrolled.folder / "register")]
    refused = CliRunner().invoke(init_domain_command, given)
    assert isinstance(refused.exception, QuorumError)
    assert "3.cer is not enrolled in" in refused.exception.message
    for person, name in zip(domain.people, ("Ada", "Ben", ""), strict=True):
        assert f"x5t#S256 {person.x5t}  {name}".rstrip() in refused.output
    assert not out.exists()


# Passphrases


def typed_into(ceremony, lines, *words):
    """Run a command on a terminal of its own and answer each question about a passphrase."""
    terminal, ours = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "drengine", "ceremony", *map(str, words)],
        env={**ceremony.environment, "TERM": "dumb"},
        stdin=ours,
        stdout=ours,
        stderr=ours,
        start_new_session=True,
    )
    os.close(ours)
    seen, asked = b"", 0
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:
            break
        if not piece:
            break
        seen += piece
        questions = seen.count(b"New passphrase of") + seen.count(b"Once more")
        while asked < min(questions, len(lines)) and seen.rstrip().endswith(b":"):
            time.sleep(0.2)  # the echo is switched off after the question is written
            os.write(terminal, lines[asked] + b"\n")
            asked += 1
    os.close(terminal)
    return running.wait(timeout=60), asked


@pytest.mark.parametrize(
    ("lines", "ended"),
    [
        ([b"corrcet horse", b"correct horse"], InputError.exit_code),
        ([b"correct hors", b"correct hors", b"short"], InputError.exit_code),
        ([b"correct horse", b"correct horse", b"singing horse", b"singing horse"], 0),
    ],
)
def test_the_passphrase_of_a_new_key_is_asked_twice(ceremony, lines, ended):
    home = ceremony.folder / "new"
    code, asked = typed_into(
        ceremony,
        lines,
        *("enroll", "--name", "Ada", *PERSON, "--register", ceremony.folder / "register"),
        *("--new-keys", home),
    )
    assert (code, asked) == (ended, len(lines))
    if ended:
        assert not (home / "custodian.key").exists()
        return
    for name, phrase in (("custodian", lines[0]), ("signing", lines[2])):
        assert load_pem_private_key((home / f"{name}.key").read_bytes(), phrase)


def test_a_locked_key_signs_a_proof(enrolled, plain):
    key = load_pem_private_key((enrolled.folder / "s1.key").read_bytes(), None)
    locked = enrolled.folder / "locked.key"
    locked.write_bytes(lock_key(key, b"correct horse"))
    locked.chmod(0o600)
    read_end, write_end = os.pipe()
    os.write(write_end, b"\ncorrect horse\n")
    os.close(write_end)
    done = enrolled.command(
        *("check", "--register", enrolled.folder / "register"),
        *("--key", enrolled.folder / "keys" / "1.key", "--signing-key", locked),
        *("--passphrase-fd", read_end),
        pass_fds=(read_end,),
    )
    assert done.returncode == 0, plain(done.stderr)
