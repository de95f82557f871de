"""The register: enrolment, proofs, challenges, and the answer of `ready`."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from drengine.ceremony.readiness import DAY_MS, judge
from drengine.ceremony.registry import read_register
from drengine.cli.quorum.enrol import challenge_command
from drengine.cli.ready import ready_command
from drengine.errors import InputFileError

PERSON = ("--location", "safe 1", "--contact", "+49 1", "--acknowledge")


def enroll(ceremony, number, *more, name=None):
    return ceremony.command(
        *("enroll", "--name", name or f"Custodian {number}", *PERSON),
        *("--register", ceremony.folder / "register", "--without-passphrase"),
        *(more or ("--key", ceremony.folder / "keys" / f"{number}.key")),
        *("--new-signing-key", ceremony.folder / f"signing-{number}.key"),
    )


def check(ceremony, number, *more):
    return ceremony.command(
        *("check", "--register", ceremony.folder / "register"),
        *("--key", ceremony.folder / "keys" / f"{number}.key"),
        *("--signing-key", ceremony.folder / f"signing-{number}.key", *more),
    )


@pytest.fixture
def enrolled(ceremony):
    for number in (1, 2):
        made = enroll(ceremony, number)
        assert made.returncode == 0, made.stderr.decode()
    return ceremony


def ready(ceremony, domain, *, days=0, max_days=365):
    register = read_register(ceremony.folder / "register")
    latest = max(one.at_ms for one in register.enrolments)
    return judge(
        2,
        [one.x5t for one in domain.people],
        register,
        now_ms=latest + days * DAY_MS,
        max_days=max_days,
    )


def test_a_quorum_is_ready_as_long_as_its_proofs_are_young(enrolled, domain):
    found = ready(enrolled, domain)
    assert found.reached
    assert found.spare == 0
    assert [one.word for one in found.custodians] == ["ready", "ready", "not enrolled"]
    late = ready(enrolled, domain, days=400)
    assert not late.reached
    assert [one.word for one in late.custodians] == ["overdue", "overdue", "not enrolled"]


def test_a_challenge_of_the_register_is_told_apart_from_ones_own(enrolled, domain):
    register = enrolled.folder / "register"
    made = enrolled.command("challenge", "--register", register, "--custodian", "Custodian 1")
    assert made.returncode == 0, made.stderr.decode()
    (challenge,) = register.glob("challenge-*.json")
    proved = check(enrolled, 1, "--challenge", challenge)
    assert proved.returncode == 0, proved.stderr.decode()
    first, second, _ = ready(enrolled, domain).custodians
    assert first.challenged
    assert not second.challenged
    wrong = check(enrolled, 2, "--challenge", challenge)
    assert wrong.returncode == 15
    assert b"another certificate" in wrong.stderr


def test_a_changed_entry_is_refused(enrolled):
    (path, *_) = sorted((enrolled.folder / "register").glob("custodian-*.json"))
    path.write_bytes(path.read_bytes().replace(b"safe 1", b"safe 9"))
    with pytest.raises(InputFileError, match="signature does not verify"):
        read_register(enrolled.folder / "register")


def test_the_duty_must_be_acknowledged(ceremony):
    result = ceremony.command(
        *("enroll", "--name", "A", "--location", "l", "--contact", "c"),
        *("--register", ceremony.folder / "register", "--key", ceremony.folder / "keys" / "1.key"),
    )
    assert result.returncode == 2
    assert not (ceremony.folder / "register").exists()


def test_enroll_makes_keys_that_contribute_signed(ceremony, writer, exchange, plain):
    """From nothing: three custodians make keys, a domain is wrapped for them, two open it."""
    from cryptography import x509

    people = []
    for number in (1, 2, 3):
        home = ceremony.folder / f"made{number}"
        made = ceremony.command(
            *("enroll", "--name", f"Maker {number}", *PERSON, "--without-passphrase"),
            *("--register", ceremony.folder / "register", "--new-keys", home),
        )
        assert made.returncode == 0, plain(made.stderr)
        assert (home / "custodian.key").stat().st_mode & 0o777 == 0o600
        certificate = x509.load_pem_x509_certificate((home / "custodian.cer").read_bytes())
        people.append(writer.Person(certificate, certificate))
        people[-1].key = type("Public", (), {"public_key": certificate.public_key})()
    domain = writer.write_domain(people, 2)
    (ceremony.folder / "sd.json").write_bytes(domain.data)
    ceremony.open("--class", "drill", "--register", ceremony.folder / "register")
    shares = []
    for number in (1, 3):
        home = ceremony.folder / f"made{number}"
        unsigned, _ = ceremony.contribute(
            number,
            *("--name", f"Maker {number}", "--key", home / "custodian.key"),
            out=home / "unsigned.json",
        )
        assert unsigned.returncode == 15
        assert "is enrolled with a signing key" in plain(unsigned.stderr)
        signed, out = ceremony.contribute(
            number,
            *("--name", f"Maker {number}", "--key", home / "custodian.key"),
            *("--signing-key", home / "signing.key"),
        )
        assert signed.returncode == 0, plain(signed.stderr)
        shares += ["--contribution", out]
    assert ceremony.combine(*shares).returncode == 0
    blob = (ceremony.folder / "blob.json").read_bytes()
    assert writer.open_blob(blob, exchange) == domain.parts
    shown = ceremony.command(
        *("verify", ceremony.transcript, "--blob", ceremony.folder / "blob.json"),
        *("--register", ceremony.folder / "register", "-o", "json"),
    )
    assert json.loads(shown.stdout)["signed"] == ["Maker 1", "Maker 3"]


@pytest.mark.parametrize("suffix", ["html", "txt"])
def test_the_paper_script_names_every_role_and_step(enrolled, suffix):
    out = enrolled.folder / f"script.{suffix}"
    made = enrolled.command(
        *("script", "--sd-file", enrolled.folder / "sd.json", "--class", "incident"),
        *("--register", enrolled.folder / "register", "--out", out),
    )
    assert made.returncode == 0, made.stderr.decode()
    text = out.read_text()
    for word in ("INCIDENT", "Custodian 1", "Witness", "2nd of 2", "exchange-key", "upload-domain"):
        assert word in text
    assert text.count("What was decided") == 6


def test_a_challenge_for_nobody_says_who_is_enrolled(enrolled):
    words = ["--register", str(enrolled.folder / "register"), "--custodian"]
    nobody = CliRunner().invoke(challenge_command, [*words, "Zoe"])
    assert nobody.exception.hint.startswith("Enrolled are: Custodian 1, Custodian 2.")
    drawn = json.loads(
        CliRunner().invoke(challenge_command, [*words, "Custodian 1", "-o", "json"]).output
    )
    told = CliRunner().invoke(challenge_command, [*words, "Custodian 1"])
    assert (enrolled.folder / drawn["challenge"]).exists()
    assert f"--challenge {enrolled.folder}" in told.output


def test_ready_asks_those_who_are_not_enrolled_to_enrol(enrolled, domain):
    words = ["--sd-file", enrolled.folder / "sd.json", "--register", enrolled.folder / "register"]
    told = CliRunner().invoke(ready_command, [str(word) for word in words])
    third = domain.people[2].x5t
    assert f"Next: 'drengine ceremony enroll' by the holders of {third}" in told.output
    assert "ceremony check" not in told.output
