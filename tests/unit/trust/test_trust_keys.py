"""Keys, envelopes, registers and the trust folder; openssl and ssh-keygen agree."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from gated import Token
from securesystemslib.dsse import Envelope as OtherEnvelope
from securesystemslib.signer import SSlibKey

from drengine.errors import InputError, InputFileError
from drengine.resources import template_folder
from drengine.trust import enrolling
from drengine.trust.dsse import parse_json, read_envelope
from drengine.trust.enrolling import Entry, enrol, remove
from drengine.trust.judging import verify_with
from drengine.trust.keys import is_signed_by, keyid_of, load_key, make_key, public_pem, save_key
from drengine.trust.people import TrustedKey
from drengine.trust.register import Register, key_id, read_trust
from drengine.trust.signers import CmsSigner, KeySigner, SshSigner, signed

SOFTHSM = Path("/usr/lib/softhsm/libsofthsm2.so")


def openssl(*arguments, **more):
    return subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, check=True, **more
    )


def test_a_key_file_is_encrypted_and_opens_with_its_passphrase_only(tmp_path):
    key = make_key()
    public = save_key(key, tmp_path / "ada.pem", b"correct horse")
    assert (tmp_path / "ada.pem").stat().st_mode & 0o777 == 0o600
    assert b"ENCRYPTED PRIVATE KEY" in (tmp_path / "ada.pem").read_bytes()
    assert public_pem(load_key(tmp_path / "ada.pem", b"correct horse")) == public.read_text()
    with pytest.raises(InputFileError, match="passphrase is wrong"):
        load_key(tmp_path / "ada.pem", b"battery staple")
    openssl("pkey", "-in", tmp_path / "ada.pem", "-passin", "pass:correct horse", "-noout")
    der = openssl("pkey", "-pubin", "-in", public, "-outform", "DER").stdout
    assert keyid_of(public.read_text()) == __import__("hashlib").sha256(der).hexdigest()


def test_no_key_is_written_over_another_or_with_a_short_passphrase(tmp_path):
    save_key(make_key(), tmp_path / "ada.pem", b"correct horse")
    before = (tmp_path / "ada.pem").read_bytes()
    with pytest.raises(InputFileError, match="exists already"):
        save_key(make_key(), tmp_path / "ada.pem", b"correct horse")
    assert (tmp_path / "ada.pem").read_bytes() == before
    with pytest.raises(InputError, match="fewer than"):
        save_key(make_key(), tmp_path / "bruno.pem", b"short")
    assert not (tmp_path / "bruno.pem").exists()


def test_a_key_that_others_may_read_or_that_is_not_encrypted_is_not_used(tmp_path):
    save_key(make_key(), tmp_path / "ada.pem", b"correct horse")
    (tmp_path / "ada.pem").chmod(0o644)
    with pytest.raises(InputFileError, match="read by others"):
        load_key(tmp_path / "ada.pem", b"correct horse")
    (tmp_path / "plain.pem").write_bytes(
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256").stdout
    )
    (tmp_path / "plain.pem").chmod(0o600)
    with pytest.raises(InputFileError, match="not an encrypted"):
        load_key(tmp_path / "plain.pem", b"")


def test_an_independent_implementation_accepts_our_envelope():
    key = make_key()
    envelope = signed(b'{"a":1}', KeySigner(key))
    value = {"public": public_pem(key)}
    other = SSlibKey(keyid_of(public_pem(key)), "ecdsa", "ecdsa-sha2-nistp256", value)
    doc = envelope.to_json()
    theirs = OtherEnvelope.from_dict(json.loads(json.dumps(doc)))
    assert list(theirs.verify([other], 1)) == [other.keyid]
    assert read_envelope(parse_json(json.dumps(doc).encode())) == envelope


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"payloadType": "application/json"}, "expected"),
        ({"signatures": []}, "1 to"),
        ({"payload": "e30"}, "base64"),
        ({"payload": "eyB9Cg==\n"}, "base64"),
        ({"extra": 1}, "three keys"),
    ],
)
def test_an_envelope_in_another_form_is_refused(change, word):
    doc = signed(b"{}", KeySigner(make_key())).to_json()
    with pytest.raises(ValueError, match=word):
        read_envelope({**doc, **change})


@pytest.mark.parametrize("text", [b'{"a":1,"a":2}', b'{"a":1.0}', b'{"a":NaN}', b"\xef\xbb\xbf{}"])
def test_json_that_two_readers_could_read_differently_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011 - the words differ by case
        parse_json(text)


def test_ssh_keys_sign_and_verify(tmp_path):
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "id"], check=True
    )
    public = (tmp_path / "id.pub").read_text()
    signer = SshSigner(tmp_path / "id", public)
    key = TrustedKey("ssh", key_id("ssh", public), public)
    made = signer.sign(b"what is signed")
    assert verify_with(key, made, b"what is signed")
    assert not verify_with(key, made, b"what is not")
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "no"], check=True
    )
    other = (tmp_path / "no.pub").read_text()
    assert not verify_with(TrustedKey("ssh", "", other), made, b"what is signed")


@pytest.fixture(scope="module")
def single_file():
    """The verifier that ships in bundles, which imports nothing of drengine."""
    spec = importlib.util.spec_from_file_location(
        "bundled_verifier", template_folder() / "verify.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_security_key_must_say_that_it_was_touched_to_both_verifiers(single_file):
    token = Token()
    key = TrustedKey("ssh", key_id("ssh", token.public), token.public)
    for touched in (True, False):
        made = token.sign(b"what is signed", touched=touched)
        for data, wanted in ((b"what is signed", touched), (b"what is not", False)):
            assert verify_with(key, made, data) is wanted
            assert single_file.verifies("ssh", token.public.encode(), made, data) is wanted
    assert not verify_with(key, b"-----BEGIN SSH SIGNATURE-----", b"what is signed")


def certificate(folder, name):
    openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt"),
        *("-subj", f"/CN={name}", "-days", "2"),
    )
    return folder / f"{name}.crt"


def test_certificates_sign_and_only_the_pinned_one_verifies(tmp_path):
    ada, eve = certificate(tmp_path, "ada"), certificate(tmp_path, "eve")
    signer = CmsSigner(ada, ada.read_text(), str(tmp_path / "ada.key"))
    made = signer.sign(b"what is signed")
    key = TrustedKey("cms", key_id("cms", ada.read_text()), ada.read_text())
    assert verify_with(key, made, b"what is signed")
    assert not verify_with(key, made, b"what is not")
    assert not verify_with(TrustedKey("cms", "", eve.read_text()), made, b"what is signed")


@pytest.fixture
def card(tmp_path, monkeypatch):
    """Put ada's key into a token; return the address of it there, with its PIN in a file."""
    if not SOFTHSM.exists() or shutil.which("softhsm2-util") is None:
        pytest.skip("softhsm2 is not installed")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\n")
    (tmp_path / "pin").write_text("1234")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm.conf"))
    monkeypatch.setenv("PKCS11_MODULE_PATH", str(SOFTHSM))
    monkeypatch.setenv("PKCS11_PROVIDER_MODULE", str(SOFTHSM))
    key = tmp_path / "ada.key"

    def tool(*words):
        subprocess.run(["softhsm2-util", *words], check=True, capture_output=True)

    tool("--init-token", "--free", "--label", "ada", "--pin", "1234", "--so-pin", "1234")
    tool(*("--import", key, "--token", "ada", "--label", "ada", "--id", "01", "--pin", "1234"))
    key.unlink()
    return f"pkcs11:token=ada;object=ada;type=private;pin-source=file:{tmp_path}/pin"


def test_a_key_that_never_leaves_its_card_signs(tmp_path, request):
    ada = certificate(tmp_path, "ada")
    address = request.getfixturevalue("card")
    try:
        made = CmsSigner(ada, ada.read_text(), address).sign(b"what is signed")
    except InputError as error:
        if "cannot open a pkcs11: address" not in error.message:
            raise
        pytest.skip(f"{error.message}: {error.hint}")
    key = TrustedKey("cms", key_id("cms", ada.read_text()), ada.read_text())
    assert verify_with(key, made, b"what is signed")
    assert not verify_with(key, made, b"what is not")


def test_a_pin_does_not_go_through_a_command_line(tmp_path):
    ada = certificate(tmp_path, "ada")
    with pytest.raises(InputError, match="PIN") as refused:
        CmsSigner(ada, ada.read_text(), "pkcs11:token=ada;pin-value=1234").sign(b"x")
    assert "pin-source" in refused.value.hint
    assert "1234" not in str(refused.value)


def test_where_nothing_opens_a_card_it_is_said_what_to_install(tmp_path, monkeypatch):
    ada = certificate(tmp_path, "ada")
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "openssl").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "openssl").chmod(0o755)
    with pytest.raises(InputError, match="cannot open a pkcs11: address") as refused:
        CmsSigner(ada, ada.read_text(), "pkcs11:token=ada").sign(b"x")
    assert "pkcs11-provider" in refused.value.hint


def entry(name, **more):
    return Entry(name, "p256", public_pem(make_key()), **more)


def test_a_trust_folder_says_who_is_who(tmp_path):
    enrol(tmp_path / "trust", entry("engine", sealer=True), entry("ada", roles=("officer",)))
    enrol(tmp_path / "trust", entry("ada", roles=("commander",)))
    trust = read_trust(tmp_path / "trust")
    assert (tmp_path / "trust" / "engine.pem").read_text() == trust.sealers[0].public
    (ada,) = trust.register.people
    assert ada.roles == ("commander", "officer")
    assert len(ada.keys) == 2
    again = Register.from_json(json.loads(json.dumps(trust.register.to_json())))
    assert again == trust.register
    assert again.digest == trust.register.digest


def test_a_key_that_is_entered_again_only_gains_what_is_new(tmp_path):
    one = entry("ada", roles=("incident-comander",))
    enrol(tmp_path / "trust", one)
    enrol(tmp_path / "trust", replace(one, roles=("incident-commander",)))
    (ada,) = read_trust(tmp_path / "trust").register.people
    assert ada.roles == ("incident-comander", "incident-commander")
    assert [key.refuses(1_795_341_600_000) for key in ada.keys] == [""]
    enrol(tmp_path / "trust", replace(one, revoked="2026-11-22T10:00:00.000Z"))
    (ada,) = read_trust(tmp_path / "trust").register.people
    assert ["revoked" in key.refuses(1_795_341_600_000) for key in ada.keys] == [True]


def test_a_sealing_key_that_is_entered_again_stands_once_and_can_be_revoked(tmp_path):
    folder, one, other = tmp_path / "trust", entry("engine", sealer=True), make_key()
    enrol(folder, one)
    enrol(folder, one, Entry("engine", "p256", public_pem(other), sealer=True))
    enrol(folder, replace(one, revoked="2026-11-22T10:00:00.000Z"))
    sealers = read_trust(folder).sealers
    assert ["revoked" in key.refuses(1_795_341_600_000) for key in sealers] == [True, False]
    assert [key.public for key in sealers] == [one.public, public_pem(other)]


def test_no_sealing_key_is_written_over_anothers_file(tmp_path):
    keys = [entry("engine", sealer=True) for _ in range(3)]
    for each in keys:
        enrol(tmp_path / "trust", each)
    assert [key.public for key in read_trust(tmp_path / "trust").sealers] == [
        each.public for each in keys
    ]


def test_a_list_in_which_a_sealing_key_stands_twice_is_refused_with_the_way_out(
    tmp_path, single_file
):
    place = tmp_path / "trust" / "trust.json"
    enrol(tmp_path / "trust", entry("engine", sealer=True))
    doc = json.loads(place.read_text())
    doc["sealers"].append({**doc["sealers"][0], "revoked": "2026-11-22T10:00:00.000Z"})
    place.write_text(json.dumps(doc))
    with pytest.raises(InputFileError, match="stands more than once among the sealers") as refused:
        read_trust(tmp_path / "trust")
    assert "keep that one" in refused.value.hint
    with pytest.raises(ValueError, match="a sealing key stands twice"):
        single_file.Trust(tmp_path / "trust")


def test_a_sealing_key_that_was_entered_by_mistake_is_taken_out(tmp_path):
    folder, one, slip = tmp_path / "trust", entry("engine", sealer=True), make_key()
    enrol(folder, one, entry("ada"), Entry("slip", "p256", public_pem(slip), sealer=True))
    gone = keyid_of(public_pem(slip))
    with pytest.raises(InputError, match="ada has no key") as refused:
        remove(folder, "ada", gone)
    assert "--sealer" in refused.value.hint
    assert remove(folder, "slip", gone[:12], sealer=True) == gone
    assert [key.public for key in read_trust(folder).sealers] == [one.public]
    assert not (folder / "sealers" / "slip.pem").exists()


def test_a_role_is_taken_away_and_another_given(tmp_path):
    one = entry("ada", roles=("incident-comander", "officer"))
    enrol(tmp_path / "trust", one)
    wrong, right = "incident-comander", "incident-commander"
    enrol(tmp_path / "trust", replace(one, roles=(right,), dropped=(wrong,)))
    (ada,) = read_trust(tmp_path / "trust").register.people
    assert (ada.roles, len(ada.keys)) == ((right, "officer"), 1)


def test_a_role_that_is_not_held_cannot_be_taken_away(tmp_path):
    one = entry("ada", roles=("officer",))
    enrol(tmp_path / "trust", one)
    before = (tmp_path / "trust" / "trust.json").read_bytes()
    for refused in (
        replace(one, dropped=("commander",)),
        replace(one, dropped=("officer",)),
        entry("bruno", dropped=("officer",)),
        entry("ada", sealer=True, dropped=("officer",)),
    ):
        with pytest.raises(InputError, match=r"does not hold|at once|not in this|none can be"):
            enrol(tmp_path / "trust", refused)
        assert (tmp_path / "trust" / "trust.json").read_bytes() == before


def test_one_key_under_two_names_is_refused_and_leaves_no_list(tmp_path):
    one = entry("ada")
    with pytest.raises(InputFileError, match="already, and would count one person twice"):
        enrol(tmp_path / "trust", one, Entry("bruno", "p256", one.public))
    assert not (tmp_path / "trust" / "trust.json").exists()


def test_an_entry_that_is_refused_leaves_the_list_as_it_was(tmp_path):
    one = entry("ada", roles=("officer",))
    enrol(tmp_path / "trust", one)
    with pytest.raises(InputFileError, match="already, and would count one person twice"):
        enrol(tmp_path / "trust", Entry("bruno", "p256", one.public))
    (ada,) = read_trust(tmp_path / "trust").register.people
    assert (ada.name, ada.roles) == ("ada", ("officer",))
    assert [file.name for file in (tmp_path / "trust" / "approvers").iterdir()] == ["ada.pem"]


def test_a_file_of_the_folder_that_is_no_key_is_named(tmp_path):
    enrol(tmp_path / "trust", entry("engine", sealer=True), entry("ada"))
    (tmp_path / "trust" / "engine.pem").write_text("no key")
    with pytest.raises(InputFileError, match=r"engine\.pem: "):
        read_trust(tmp_path / "trust")


@pytest.mark.parametrize("since", ["2026-11-22T10:00:00Z", "2026-11-22T10:00:00.000Z"])
def test_a_time_is_taken_with_and_without_its_fraction(tmp_path, since):
    enrol(tmp_path / "trust", entry("ada", revoked=since))
    doc = json.loads((tmp_path / "trust" / "trust.json").read_text())
    assert doc["people"][0]["keys"][0]["revoked"] == "2026-11-22T10:00:00.000Z"


@pytest.mark.parametrize("name", ["../engine.pem", "/etc/passwd", "a/../../b", "a\\b", ""])
def test_a_trust_folder_reads_nothing_outside_itself(tmp_path, name):
    enrol(tmp_path / "trust", entry("ada"))
    doc = json.loads((tmp_path / "trust" / "trust.json").read_text())
    doc["people"][0]["keys"][0]["file"] = name
    (tmp_path / "trust" / "trust.json").write_text(json.dumps(doc))
    with pytest.raises(InputFileError, match="not a file of this folder"):
        read_trust(tmp_path / "trust")


def test_a_revoked_key_does_not_count_from_then_on(tmp_path):
    enrol(tmp_path / "trust", entry("ada", revoked="2026-11-22T10:00:00.000Z"))
    (ada,) = read_trust(tmp_path / "trust").register.people
    assert ada.keys[0].refuses(1_795_341_599_999) == ""
    assert "revoked" in ada.keys[0].refuses(1_795_341_600_000)


def test_a_signature_of_another_key_is_none():
    key = make_key()
    made = KeySigner(key).sign(b"x")
    assert is_signed_by(public_pem(key), made, b"x")
    assert not is_signed_by(public_pem(make_key()), made, b"x")
    assert not is_signed_by("no key", made, b"x")


def test_many_who_enter_keys_at_once_lose_nobodys(tmp_path):
    people = [f"person-{number}" for number in range(12)]
    told = {name: entry(name, roles=("officer",)) for name in people}
    with ThreadPoolExecutor(len(people)) as at_once:
        list(at_once.map(lambda name: enrol(tmp_path / "trust", told[name]), people))
    register = read_trust(tmp_path / "trust").register
    assert sorted(person.name for person in register.people) == sorted(people)


def test_a_folder_that_another_process_holds_is_left_as_it_was(tmp_path, monkeypatch):
    enrol(tmp_path / "trust", entry("ada"))
    before = (tmp_path / "trust" / "trust.json").read_bytes()
    monkeypatch.setattr(enrolling, "_TRIES", 2)
    held = os.open(tmp_path / "trust", os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InputFileError, match="another process is changing it"):
            enrol(tmp_path / "trust", entry("grace"))
    finally:
        os.close(held)
    assert (tmp_path / "trust" / "trust.json").read_bytes() == before
    enrol(tmp_path / "trust", entry("grace"))


def test_a_refused_first_entry_leaves_no_folder(tmp_path):
    with pytest.raises(InputError, match="is not a name"):
        enrol(tmp_path / "trust", entry("no/name"))
    assert not (tmp_path / "trust").exists()


def test_the_public_half_given_as_the_signing_key_is_called_by_its_name(tmp_path):
    public = save_key(make_key(), tmp_path / "ada.pem", b"correct horse")
    with pytest.raises(InputFileError, match="is the public half of a key"):
        load_key(public, b"correct horse")
