"""`drengine ceremony …` as a person or a script meets it."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from drengine.cli.ceremony import ceremony
from drengine.errors import DomainError, QuorumError, UsageError

ROOT = Path(__file__).parents[3]


def run(*words):
    return CliRunner().invoke(ceremony, [str(word) for word in words])


def combine_words(folder, *names):
    keys = [word for name in names for word in ("--key", folder / "keys" / name)]
    return [
        "combine",
        "--class",
        "drill",
        "--sd-file",
        folder / "sd.json",
        "--exchange-cert",
        folder / "exchange.cer",
        *keys,
        "--out",
        folder / "blob.json",
    ]


def through_descriptor(content):
    read_end, write_end = os.pipe()
    os.write(write_end, content)
    os.close(write_end)
    return ["--passphrase-fd", read_end]


def test_combine_says_in_plain_words_what_happened(ceremony_files, domain, exchange, writer):
    result = run(*combine_words(ceremony_files, "1.key", "2.key"))
    assert result.exception is None
    assert "All 2 private keys were opened in one process on this machine" in result.output
    assert exchange.x5t in result.output
    assert all(one.x5t in result.output for one in domain.people[:2])
    assert result.output.count("NOT encrypted") == 2
    blob = (ceremony_files / "blob.json").read_bytes()
    assert writer.open_blob(blob, exchange) == domain.parts


def test_combine_prints_json_with_a_schema(ceremony_files):
    result = run(*combine_words(ceremony_files, "1.key", "2.key", "3.key"), "-o", "json")
    report = json.loads(result.output)
    assert report["schema"] == "drengine/ceremony-combine/v1"
    assert report["required"] == 2
    assert len(report["custodians"]) == 3
    assert report["out"] == str(ceremony_files / "blob.json")


def test_certificates_are_given_in_the_order_of_the_keys(ceremony_files):
    keys = ceremony_files / "keys"
    moved = [(keys / f"{n}.cer").rename(ceremony_files / f"moved-{n}") for n in (1, 2)]
    words = combine_words(ceremony_files, "1.key", "2.key")
    result = run(*words, "--cert", moved[0], "--cert", moved[1], "-o", "json")
    assert {u["matched_by"] for u in json.loads(result.output)["custodians"]} == {"certificate"}


def test_a_certificate_for_some_keys_only_is_refused(ceremony_files):
    words = combine_words(ceremony_files, "1.key", "2.key")
    result = run(*words, "--cert", ceremony_files / "keys" / "1.cer")
    assert isinstance(result.exception, UsageError)
    assert not (ceremony_files / "blob.json").exists()


@pytest.mark.parametrize("content", [b"one\n\n", b"one\r\n\r\n", b"one\n"])
def test_passphrases_come_by_a_descriptor_a_line_per_key(ceremony_files, people, content):
    (ceremony_files / "keys" / "1.key").write_bytes(people[0].key_pem(b"one"))
    words = combine_words(ceremony_files, "1.key", "2.key")
    if content == b"one\n":
        result = run(*words, *through_descriptor(content))
        assert isinstance(result.exception, UsageError)
        assert "1 lines of passphrases for 2 keys" in str(result.exception)
    else:
        result = run(*words, *through_descriptor(content), "-o", "json")
        used = json.loads(result.output)["custodians"]
        assert [one["key_encrypted"] for one in used] == [True, False]


def test_a_descriptor_that_is_not_open_is_refused(ceremony_files):
    words = combine_words(ceremony_files, "1.key", "2.key")
    result = run(*words, "--passphrase-fd", 999)
    assert isinstance(result.exception, UsageError)
    assert "Bad file descriptor" in str(result.exception)


def test_errors_are_raised_and_not_caught(ceremony_files):
    result = run(*combine_words(ceremony_files, "1.key"))
    assert isinstance(result.exception, QuorumError)
    assert result.exception.exit_code == 15
    assert result.output == ""


def test_inspect_shows_what_the_file_says(ceremony_files, domain):
    result = run("inspect", "--sd-file", ceremony_files / "sd.json")
    assert "2 of 3 custodians" in result.output
    assert all(one.x5t in result.output for one in domain.people)
    assert "Only a quorum can tell" in result.output
    result = run("inspect", "--sd-file", ceremony_files / "sd.json", "-o", "json")
    seen = json.loads(result.output)
    assert seen["schema"] == "drengine/ceremony-domain/v1"
    assert seen["custodians"] == [one.x5t for one in domain.people]


def test_inspect_refuses_what_is_no_domain(ceremony_files):
    result = run("inspect", "--sd-file", ceremony_files / "exchange.cer")
    assert isinstance(result.exception, DomainError)


def test_help_and_import_load_no_cryptography():
    code = (
        "import sys; from drengine.cli.ceremony import ceremony; "
        "ceremony(['combine', '--help'], standalone_mode=False); "
        "sys.exit('cryptography' in sys.modules)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0
    assert "--passphrase-fd" in finished.stdout


def read_terminal(terminal, until, seconds=30):
    seen = b""
    end = time.monotonic() + seconds
    while until not in seen:
        assert time.monotonic() < end, seen
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                seen += os.read(terminal, 4096)
            except OSError:
                break
    return seen


def test_at_a_terminal_each_passphrase_is_asked_for_and_not_shown(ceremony_files, people):
    (ceremony_files / "keys" / "1.key").write_bytes(people[0].key_pem(b"open sesame"))
    code = "import sys; from drengine.cli.ceremony import ceremony; ceremony(sys.argv[1:])"
    words = [str(word) for word in combine_words(ceremony_files, "1.key", "2.key")]
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as asked:
        os.close(theirs)
        seen = read_terminal(ours, b"1.key (empty when it is not encrypted): ")
        os.write(ours, b"open sesame\n")
        seen += read_terminal(ours, b"2.key (empty when it is not encrypted): ")
        os.write(ours, b"\n")
        seen += read_terminal(ours, b"is delivered.")
        assert asked.wait(timeout=30) == 0
    os.close(ours)
    assert b"open sesame" not in seen
    assert (ceremony_files / "blob.json").exists()
