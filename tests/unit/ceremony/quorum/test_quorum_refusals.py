"""What a ceremony refuses, by name, and that nothing was written when it did."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner

from drengine.cli.quorum.after import status_command
from drengine.cli.quorum.custody import contribute_command
from drengine.cli.quorum.hold import open_command
from drengine.errors import InputFileError, UsageError


def assert_refused(result, words, out=None, code=15):
    said = re.sub(r"\x1b\[[0-9;]*m", "", result.stderr.decode())
    assert result.returncode == code, said
    assert re.search(words, said), said
    assert "Traceback" not in said
    assert out is None or not out.exists()


def test_too_few_contributions_leave_the_ceremony_open(opened):
    shares = opened.shares(1)
    assert_refused(opened.combine(*shares), "needs 2 of its 3 custodians; 1 contributed")
    assert not (opened.folder / "blob.json").exists()
    assert opened.running.poll() is None
    assert opened.combine(*opened.shares(2)).returncode == 0


def test_the_same_contribution_twice_counts_once(opened):
    first = opened.shares(1)
    done = opened.combine(*first, *first)
    assert_refused(done, "needs 2 of its 3 custodians; 1 contributed")
    assert b"was there already; it counts once" in done.stderr


def test_one_custodian_with_two_contributions_is_refused(opened):
    one = opened.shares(1)
    other, out = opened.contribute(1, out=opened.folder / "again.json")
    assert other.returncode == 0
    assert_refused(opened.combine(*one, "--contribution", out), "two contributions are of the same")


def test_a_contribution_to_another_ceremony_is_refused(opened):
    stranger = opened.shares(1)
    opened.end()
    opened.printed.clear()
    opened.session.rename(opened.folder / "old")
    opened.open("--class", "drill")
    assert_refused(opened.combine(*stranger), "was given to another request")
    assert opened.entries()[-1]["kind"] == "refused"


def test_a_drills_contribution_never_serves_an_incident(opened):
    drill = opened.shares(1)
    opened.end()
    opened.printed.clear()
    opened.session.rename(opened.folder / "old")
    opened.open("--class", "incident", "--witness", "Wanda")
    assert_refused(opened.combine(*drill), "a drill's share never serves an incident")


def test_an_incident_needs_a_witness(ceremony):
    result = ceremony.command(
        *("open", "--session", ceremony.session, "--sd-file", ceremony.folder / "sd.json"),
        *("--exchange-cert", ceremony.folder / "exchange.cer", "--target", "t"),
        *("--combiner", "Olga", "--purpose", "p", "--class", "incident"),
    )
    assert_refused(result, "needs a witness")
    assert not ceremony.session.exists()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda place: place.write_bytes(b""), "cannot be its folder: Not a directory"),
        (lambda place: (place.mkdir(), (place / "x").write_bytes(b"")), "is not empty"),
        (lambda place: place.symlink_to(place.parent / "gone"), "folder .*: File exists"),
    ],
    ids=["file", "full", "dangling link"],
)
def test_a_place_that_cannot_be_the_ceremonys_folder_is_refused(ceremony, spoil, words):
    spoil(ceremony.session)
    files = ["--sd-file", ceremony.folder / "sd.json"]
    files += ["--exchange-cert", ceremony.folder / "exchange.cer", "--session", ceremony.session]
    people = ["--target", "t", "--combiner", "Olga", "--purpose", "p", "--class", "drill"]
    told = CliRunner().invoke(open_command, [*map(str, files), *people])
    assert isinstance(told.exception, InputFileError)
    assert re.search(words, told.exception.message)
    assert told.exception.hint


def test_the_combiner_is_no_custodian_and_a_witness_neither(ceremony):
    ceremony.open("--class", "drill", "--witness", "Wanda")
    assert_refused(ceremony.contribute(1, "--name", "olga ")[0], "is the combiner of this ceremony")
    assert_refused(ceremony.contribute(1, "--name", "WANDA")[0], "is a witness of this ceremony")


def test_a_wrong_code_opens_nothing_and_shows_no_right_one(opened):
    result, out = opened.contribute(1, "--code", "0000 " * 6)
    assert_refused(result, "typed code is not the code", out)
    assert opened.code().replace(" ", "") not in result.stderr.decode().replace(" ", "")


def test_the_code_may_be_typed_in_words(opened):
    words = opened.code("  in words").upper()
    assert opened.contribute(1, "--code", words)[0].returncode == 0


def test_a_domain_that_is_not_the_requests_is_refused_before_a_key_is_opened(
    opened, writer, people
):
    other = opened.folder / "other.json"
    other.write_bytes(writer.write_domain(people[:3], 2).data)
    (opened.folder / "keys" / "1.key").unlink()
    result, out = opened.contribute(1, "--sd-file", other)
    assert_refused(result, "it is another domain, or one of the two was changed", out)


def test_a_stranger_is_refused(opened):
    assert_refused(opened.contribute(4)[0], "opens none of the 3 shares")


def test_a_key_that_is_not_its_certificates_is_refused(opened):
    keys = opened.folder / "keys"
    result, out = opened.contribute(1, "--cert", keys / "2.cer", "--name", "Ben")
    assert_refused(result, "does not belong to its certificate", out)


def test_a_wrong_passphrase_is_named(opened, people):
    key = opened.folder / "keys" / "1.key"
    key.write_bytes(people[0].key_pem(b"right"))
    assert_refused(opened.contribute(1, secret=b"wrong\n")[0], "the passphrase is wrong")
    assert opened.contribute(1, secret=b"right\n")[0].returncode == 0


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda key: key.chmod(0o644), "others on this machine may read the key"),
        (lambda key: key.rename(key.with_name("x")) and key.symlink_to("x"), "symbolic link"),
        (lambda key: key.write_bytes(b"-" * 70_000), "more than 65536 bytes"),
        (lambda key: key.unlink(), "No such file"),
    ],
    ids=["mode", "link", "size", "missing"],
)
def test_a_key_file_that_is_not_guarded_is_refused(opened, spoil, words):
    spoil(opened.folder / "keys" / "1.key")
    assert_refused(opened.contribute(1)[0], words)


def test_an_oversized_request_is_refused(opened):
    big = opened.folder / "big.json"
    big.write_bytes(b" " * 33_000)
    assert_refused(opened.contribute(1, "--request", big)[0], "more than 32768 bytes", code=3)


def test_a_plain_key_needs_a_word_in_an_incident(ceremony):
    ceremony.open("--class", "incident", "--witness", "Wanda")
    assert_refused(ceremony.contribute(1)[0], "has no passphrase")
    home = ceremony.folder / "home1"
    accepted = ceremony.command(
        *("contribute", "--request", ceremony.request, "--sd-file", ceremony.folder / "sd.json"),
        *("--name", "Ada", "--code", ceremony.code(), "--out", home / "share.json"),
        *("--key", ceremony.folder / "keys" / "1.key", "--accept-plain-key"),
    )
    assert accepted.returncode == 0
    statement = json.loads((home / "share.json").read_bytes())["statement"]
    assert statement["holder"]["encrypted"] is False


def test_an_incident_with_all_keys_on_one_machine_needs_a_word(ceremony):
    words = [
        *("combine", "--sd-file", ceremony.folder / "sd.json"),
        *("--exchange-cert", ceremony.folder / "exchange.cer", "--out", ceremony.folder / "b.json"),
        *("--key", ceremony.folder / "keys" / "1.key", "--key", ceremony.folder / "keys" / "2.key"),
    ]
    assert_refused(ceremony.command(*words), "keys of a whole quorum in one place", code=8)
    transcript = ceremony.folder / "t.json"
    made = ceremony.command(*words, "--keys-on-one-machine", "--transcript", transcript)
    assert made.returncode == 0
    proof = ceremony.command("verify", transcript, "--blob", ceremony.folder / "b.json")
    assert b"ALL KEYS MET ON ONE MACHINE (incident)" in proof.stdout


def test_cancel_ends_the_ceremony_and_its_contributions_open_nothing(opened):
    shares = opened.shares(1, 2)
    words = ("cancel", "--session", opened.session, "--reason", "wrong target", "--by", "Olga")
    assert opened.command(*words).returncode == 0
    assert opened.running.wait(20) == 15
    assert_refused(opened.combine(*shares), "no ceremony is open")
    status = opened.command("status", "--session", opened.session, "-o", "json")
    assert json.loads(status.stdout)["outcome"] == "cancelled"


def test_a_session_that_was_killed_says_that_its_key_is_gone(opened):
    opened.running.kill()
    opened.running.wait()
    status = opened.command("status", "--session", opened.session)
    assert b"the one-time key with it" in status.stdout


def test_a_deviation_stands_in_the_transcript(opened):
    words = ("deviation", "--session", opened.session, "--text", "the lamp failed", "--by", "Olga")
    assert opened.command(*words).returncode == 0
    assert opened.combine(*opened.shares(1, 2)).returncode == 0
    shown = opened.command("verify", opened.transcript, "--blob", opened.folder / "blob.json")
    assert shown.returncode == 0
    assert "⚠ Olga: the lamp failed" in shown.stdout.decode()
    assert "NOT SIGNED" in shown.stdout.decode()


def test_a_changed_transcript_does_not_hold(opened):
    assert opened.combine(*opened.shares(1, 2)).returncode == 0
    good = opened.transcript.read_bytes()
    changed = opened.folder / "changed.json"
    changed.write_bytes(good.replace(b"drill 7", b"drill 8"))
    assert_refused(opened.command("verify", changed), "does not follow|not the hash", code=9)
    other = opened.folder / "other-blob.json"
    other.write_bytes(
        (opened.folder / "blob.json").read_bytes().replace(b"hsm_backup", b"hsm_bockup")
    )
    result = opened.command("verify", opened.transcript, "--blob", other)
    assert result.returncode in (3, 9)


def test_a_refused_file_is_named_and_the_ceremonys_status_lists_the_refusal(opened, tmp_path):
    made, good = opened.contribute(1, "-o", "json")
    facts = json.loads(made.stdout)
    assert facts["schema"] == "drengine/ceremony-contributed/v1"
    assert facts["attestation"]["statement"]["custodian"] == "Ada"
    assert json.loads(good.read_bytes())["share"] not in made.stdout.decode()
    bad = tmp_path / "by-phone.json"
    bad.write_bytes(b"not a contribution")
    added = opened.command("add", "--session", opened.session, good, bad)
    assert_refused(added, "by-phone.json: reading the contribution", code=3)
    shown = CliRunner().invoke(status_command, ["--session", str(opened.session)])
    assert "Quorum:     1 of 2 contributed" in shown.output
    assert "✗ refused contribution: reading the contribution: it is not JSON" in shown.output


def test_a_contribution_and_facts_about_it_do_not_share_one_stream():
    words = ["--request", "r", "--sd-file", "s", "--name", "n", "--out", "-", "-o", "json"]
    told = CliRunner().invoke(contribute_command, words)
    assert isinstance(told.exception, UsageError)
    assert "--out - puts the contribution" in told.exception.message
