"""Custodians with tokens: SoftHSM (raw RSA in the token) and NSS softoken (OAEP in the token)."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from drengine.ceremony import token
from drengine.ceremony.contribution import HolderFacts
from drengine.ceremony.domain import parse_security_domain
from drengine.ceremony.messages import TokenSource
from drengine.ceremony.token import TokenKey, _refused
from drengine.ceremony.unseal import open_share_with
from drengine.errors import ShareError

SOFTHSM = Path("/usr/lib/softhsm/libsofthsm2.so")
P11_KIT = Path("/usr/lib/x86_64-linux-gnu/p11-kit-proxy.so")
SOFTOKEN = Path("/usr/lib/x86_64-linux-gnu/libsoftokn3.so")
PIN = "4711-pin"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("pkcs11") is None, reason="python-pkcs11 is not installed"
)


@dataclass
class Token:
    module: Path
    label: str
    environment: dict

    def words(self, certificate, *more):
        return (
            *("--module", self.module, "--token-label", self.label),
            *("--cert", certificate, *more),
        )


def run(*words, **options):
    subprocess.run([*map(str, words)], check=True, capture_output=True, **options)


@pytest.fixture
def softhsm(tmp_path, people):
    """A SoftHSM token with the first custodian's key in it."""
    if not SOFTHSM.exists() or shutil.which("softhsm2-util") is None:
        pytest.skip("softhsm2 is not installed")
    (tmp_path / "tokens").mkdir()
    config = tmp_path / "softhsm2.conf"
    config.write_text(f"directories.tokendir = {tmp_path}/tokens\nobjectstore.backend = file\n")
    environment = {**os.environ, "SOFTHSM2_CONF": str(config)}
    pkcs8 = tmp_path / "import.p8"
    pkcs8.write_bytes(people[0].key_pem())
    tool = ("softhsm2-util", "--token", "ada")
    run(
        *("softhsm2-util", "--init-token", "--free", "--label", "ada"),
        *("--pin", PIN, "--so-pin", "87654321"),
        env=environment,
    )
    run(*tool, "--import", pkcs8, "--label", "wrap", "--id", "01", "--pin", PIN, env=environment)
    pkcs8.unlink()
    return Token(SOFTHSM, "ada", {"SOFTHSM2_CONF": str(config)})


@pytest.fixture
def softoken(tmp_path, people):
    """NSS's softoken behind p11-kit, with the first custodian's key in its database."""
    if not (P11_KIT.exists() and SOFTOKEN.exists()) or shutil.which("pk12util") is None:
        pytest.skip("libnss3-tools or p11-kit is not installed")
    database = tmp_path / "nss"
    database.mkdir()
    words = tmp_path / "pin"
    words.write_text(PIN)
    bundle = tmp_path / "bundle.p12"
    lock = serialization.BestAvailableEncryption(b"carry")
    bundle.write_bytes(
        pkcs12.serialize_key_and_certificates(
            b"wrap", people[0].key, people[0].certificate, None, lock
        )
    )
    run("certutil", "-N", "-d", f"sql:{database}", "-f", words)
    run("pk12util", "-i", bundle, "-d", f"sql:{database}", "-k", words, "-W", "carry")
    bundle.unlink()
    # p11-kit reads the user's own modules, but never root's.
    root = os.geteuid() == 0
    place = Path("/etc/pkcs11/modules") if root else tmp_path / ".config/pkcs11/modules"
    made = [one for one in (place, *place.parents) if not one.exists()]
    place.mkdir(parents=True, exist_ok=True)
    module = place / f"drengine-test-{secrets.token_hex(4)}.module"
    module.write_text(
        f"module: {SOFTOKEN}\n"
        f"x-init-reserved: configdir='sql:{database}' certPrefix='' keyPrefix='' "
        "secmod='secmod.db' tokenDescription='nss-ada' cryptoTokenDescription='nss-crypto' "
        "dbTokenDescription='nss-ada'\n"
    )
    try:
        yield Token(P11_KIT, "nss-ada", {})
    finally:
        module.unlink()
        for folder in made:
            folder.rmdir()


def contribute_with(ceremony, token, *more, pin=PIN, certificate=None):
    read_end, write_end = os.pipe()
    os.write(write_end, pin.encode())
    os.close(write_end)
    try:
        return ceremony.contribute(
            1,
            *token.words(certificate or ceremony.folder / "keys" / "1.cer"),
            *("--pin-fd", read_end, *more),
            env={**ceremony.environment, **token.environment},
            pass_fds=(read_end,),
        )
    finally:
        os.close(read_end)


@pytest.mark.parametrize(
    ("kind", "unwrap"), [("softhsm", "raw-rsa-in-token"), ("softoken", "oaep-in-token")]
)
def test_a_token_contributes_and_says_how_it_did(
    opened, request, domain, exchange, writer, kind, unwrap
):
    token = request.getfixturevalue(kind)
    result, share = contribute_with(opened, token)
    assert result.returncode == 0, result.stderr.decode()
    holder = json.loads(share.read_bytes())["statement"]["holder"]
    assert holder["kind"] == "pkcs11"
    assert holder["unwrap"] == unwrap
    assert holder["token_label"] == token.label
    # The key was imported into the token: it has existed outside, and the attestation says so.
    assert holder["never_extractable"] in ("no", "unknown")
    made = opened.combine(*opened.shares(2), "--contribution", share)
    assert made.returncode == 0, made.stderr.decode()
    blob = (opened.folder / "blob.json").read_bytes()
    assert writer.open_blob(blob, exchange) == domain.parts


def test_a_wrong_pin_is_tried_once(opened, softhsm, plain):
    result, share = contribute_with(opened, softhsm, pin="0000-wrong")
    assert result.returncode == 15
    assert "refuses the PIN; it was tried once" in plain(result.stderr)
    assert not share.exists()
    assert contribute_with(opened, softhsm)[0].returncode == 0


def test_a_token_that_is_not_there_is_named_with_those_that_are(opened, softhsm, plain):
    token = Token(softhsm.module, "bert", softhsm.environment)
    result, _ = contribute_with(opened, token)
    assert result.returncode == 15
    assert "0 tokens are labelled 'bert'" in plain(result.stderr)
    assert "'ada'" in plain(result.stderr)


def test_another_certificates_token_is_refused_before_anything_is_decrypted(opened, softhsm, plain):
    result, _ = contribute_with(
        opened,
        softhsm,
        *("--name", "Ben"),
        certificate=opened.folder / "keys" / "2.cer",
    )
    assert result.returncode == 15
    assert "none of them belongs to the certificate; nothing was decrypted" in plain(result.stderr)


def test_a_module_that_others_could_have_put_there_is_not_loaded(opened, tmp_path, plain):
    planted = tmp_path / "libsofthsm2.so"
    planted.write_bytes(b"\x7fELF")
    tmp_path.chmod(0o777)
    try:
        result, _ = contribute_with(opened, Token(planted, "ada", {}))
    finally:
        tmp_path.chmod(0o700)
    assert result.returncode == 15
    assert "is not loaded" in plain(result.stderr)


def test_a_relative_module_path_is_not_loaded(opened, plain):
    result, _ = contribute_with(opened, Token(Path("libsofthsm2.so"), "ada", {}))
    assert "is not an absolute path" in plain(result.stderr)


class Pulled:
    """A private key whose token answers every decryption with one error."""

    def __init__(self, error):
        self.error = error

    def decrypt(self, *_words, **_options):
        raise self.error


@pytest.mark.parametrize("name", ["DeviceRemoved", "SessionHandleInvalid", "UserNotLoggedIn"])
def test_a_token_that_goes_away_is_no_damaged_share(name, domain, people):
    """The custodian would look for another copy of a file that is whole."""
    import pkcs11

    gone = getattr(pkcs11, name)
    key = TokenKey(pkcs11, Pulled(gone()), people[0].key.public_key(), HolderFacts("pkcs11", True))
    with pytest.raises(gone):
        open_share_with(parse_security_domain(domain.data), people[0].certificate, key)
    source = TokenSource(Path("/m.so"), "ada", Path("ada.cer"))
    told = _refused(gone(), source).message
    assert "the token 'ada'" in told
    assert "damaged" not in told


@pytest.mark.parametrize("name", ["EncryptedDataInvalid", "GeneralError"])
def test_what_a_token_says_of_a_share_that_it_does_not_open_is_told(name, domain, people):
    import pkcs11

    error = getattr(pkcs11, name)()
    key = TokenKey(pkcs11, Pulled(error), people[0].key.public_key(), HolderFacts("pkcs11", True))
    with pytest.raises(ShareError, match=f"the token says {name}"):
        open_share_with(parse_security_domain(domain.data), people[0].certificate, key)


def test_a_slot_with_a_foreign_card_does_not_hide_the_token_in_another(monkeypatch):
    import pkcs11

    class Slot:
        def __init__(self, answer):
            self.answer = answer

        def get_token(self):
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

    class Ada:
        label, serial = "ada", b"1"

    class Module:
        @staticmethod
        def get_slots(**_options):
            return [Slot(pkcs11.TokenNotRecognised()), Slot(Ada)]

    monkeypatch.setattr(token, "trusted_module", lambda path: path)
    monkeypatch.setattr(pkcs11, "lib", lambda _path: Module)
    source = TokenSource(Path("/m.so"), "ada", Path("ada.cer"))
    assert token._find_token(pkcs11, source) is Ada
