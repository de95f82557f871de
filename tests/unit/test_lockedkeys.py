"""Keys under a passphrase: what the file has, and who can read it."""

from __future__ import annotations

import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from drengine.errors import InputError
from drengine.lockedkeys import ROUNDS, lock_key
from drengine.trust.keys import load_key, make_key, save_key

PHRASE = "fünf Wörter — 五".encode()
KEYS = {
    "rsa": lambda: rsa.generate_private_key(65537, 3072),
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


def public(key):
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def openssl(*words, **more):
    return subprocess.run(["openssl", *words], capture_output=True, check=False, **more)


@pytest.mark.parametrize("kind", KEYS)
def test_a_locked_key_is_read_by_openssl_and_by_the_library_az_uses(kind, tmp_path):
    key = KEYS[kind]()
    path = tmp_path / "locked.key"
    path.write_bytes(lock_key(key, PHRASE))
    assert public(load_pem_private_key(path.read_bytes(), PHRASE)) == public(key)
    (tmp_path / "phrase").write_bytes(PHRASE)
    given = ("pkey", "-in", path, "-passin", f"file:{tmp_path / 'phrase'}")
    assert openssl(*given, "-pubout", "-outform", "DER").stdout == public(key)
    (tmp_path / "phrase").write_bytes(PHRASE[:-1])
    assert openssl(*given, "-noout").returncode != 0


def test_a_locked_key_has_six_hundred_thousand_rounds(tmp_path):
    path = tmp_path / "locked.key"
    path.write_bytes(lock_key(ed25519.Ed25519PrivateKey.generate(), PHRASE))
    shown = openssl("asn1parse", "-in", path).stdout.decode()
    assert f"INTEGER           :{ROUNDS:06X}" in shown
    assert ROUNDS >= 600_000
    for name in ("PBES2", "PBKDF2", "hmacWithSHA256", "aes-256-cbc"):
        assert name in shown


def test_no_two_locked_keys_share_salt_or_vector():
    key = ed25519.Ed25519PrivateKey.generate()
    first, second = lock_key(key, PHRASE), lock_key(key, PHRASE)
    assert first != second
    assert first.splitlines()[-2] != second.splitlines()[-2]


def test_a_passphrase_of_eleven_characters_is_refused_and_one_of_twelve_taken(tmp_path):
    with pytest.raises(InputError, match="fewer than 12 characters"):
        lock_key(make_key(), "ääääääääääX".encode())  # 21 bytes
    save_key(make_key(), tmp_path / "ada.pem", b"twelve chars")
    assert load_key(tmp_path / "ada.pem", b"twelve chars")
    shown = openssl("asn1parse", "-in", tmp_path / "ada.pem").stdout.decode()
    assert f":{ROUNDS:06X}" in shown
