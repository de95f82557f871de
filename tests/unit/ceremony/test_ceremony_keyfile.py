from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives.serialization import PrivateFormat

from drengine.ceremony import keyfile
from drengine.ceremony.messages import KeySource
from drengine.errors import ShareError


def open_it(path, *, passphrase=None, certificate=None, accept=False):
    source = KeySource(path, certificate, passphrase)
    return keyfile.open_key_file(source, accept_open_permissions=accept)


def refused(path, **options):
    with pytest.raises(ShareError) as caught:
        open_it(path, **options)
    assert str(path) in caught.value.message
    return caught.value


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize("passphrase", [None, "Grüße 1".encode()])
def test_both_forms_open_plain_and_encrypted(key_folder, people, form, passphrase):
    path = key_folder / "1.key"
    path.write_bytes(people[0].key_pem(passphrase, form))
    opened = open_it(path, passphrase=passphrase)
    assert opened.private_key.private_numbers() == people[0].key.private_numbers()
    assert opened.encrypted is (passphrase is not None)
    assert opened.certificate == people[0].certificate


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_key_that_openssl_encrypted_opens(key_folder, people):
    plain, path = key_folder / "1.key", key_folder / "2.key"
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", plain, "-out", path, "-passout", "pass:words"],
        check=True,
    )
    opened = open_it(path, passphrase=b"words", certificate=key_folder / "1.cer")
    assert opened.private_key.private_numbers() == people[0].key.private_numbers()


def test_a_wrong_passphrase_is_told_without_quoting_it(key_folder, people):
    path = key_folder / "1.key"
    path.write_bytes(people[0].key_pem(b"right words"))
    error = refused(path, passphrase=b"wrong words")
    assert "the passphrase is wrong" in error.message
    assert "wrong words" not in error.message + error.hint


@pytest.mark.parametrize("passphrase", [None, b""])
def test_an_encrypted_key_without_passphrase_is_told(key_folder, people, passphrase):
    path = key_folder / "1.key"
    path.write_bytes(people[0].key_pem(b"right words"))
    error = refused(path, passphrase=passphrase)
    assert "encrypted and no passphrase was given" in error.message
    assert "--passphrase-fd" in error.hint


def test_a_passphrase_for_a_plain_key_is_passed_over(key_folder):
    assert open_it(key_folder / "1.key", passphrase=b"words").encrypted is False


@pytest.mark.parametrize("suffix", [".cer", ".crt", ".pem"])
@pytest.mark.parametrize("form", ["certificate_pem", "der"])
def test_the_certificate_beside_the_key_is_found(key_folder, people, suffix, form):
    (key_folder / "1.cer").unlink()
    (key_folder / f"1{suffix}").write_bytes(getattr(people[0], form))
    assert open_it(key_folder / "1.key").certificate == people[0].certificate


def test_a_key_named_pem_is_not_taken_for_its_own_certificate(key_folder):
    path = (key_folder / "1.key").rename(key_folder / "1.pem")
    (key_folder / "1.cer").unlink()
    assert open_it(path).certificate is None


def test_a_given_certificate_goes_before_the_one_beside(key_folder, people):
    opened = open_it(key_folder / "1.key", certificate=key_folder / "2.cer")
    assert opened.certificate == people[1].certificate


def test_a_certificate_that_is_none_is_refused(key_folder):
    (key_folder / "1.cer").write_bytes(b"words")
    error = refused(key_folder / "1.key")
    assert "1.cer is refused: it is not an X.509 certificate" in error.message
    (key_folder / "1.cer").unlink()
    error = refused(key_folder / "1.key", certificate=key_folder / "none.cer")
    assert "No such file" in error.message


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o610])
def test_a_key_that_others_may_read_is_refused_until_accepted(key_folder, mode):
    path = key_folder / "1.key"
    path.chmod(mode)
    error = refused(path)
    assert f"mode is {mode:04o}" in error.message
    assert f"chmod 600 {path}" in error.hint
    assert open_it(path, accept=True).encrypted is False


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_private_modes_are_fine(key_folder, mode):
    (key_folder / "1.key").chmod(mode)
    assert open_it(key_folder / "1.key").path.name == "1.key"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_of_another_user_is_refused_until_accepted(key_folder):
    os.chown(key_folder / "1.key", 65534, 65534)
    assert "belongs to user 65534" in refused(key_folder / "1.key").message
    assert open_it(key_folder / "1.key", accept=True).encrypted is False


@pytest.mark.parametrize("accept", [False, True])
def test_links_folders_pipes_and_absent_files_are_refused(key_folder, accept):
    link, pipe = key_folder / "link.key", key_folder / "pipe.key"
    link.symlink_to(key_folder / "1.key")
    os.mkfifo(pipe, 0o600)
    assert "symbolic link" in refused(link, accept=accept).message
    assert "not a regular file" in refused(pipe, accept=accept).message
    assert "not a regular file" in refused(key_folder, accept=accept).message
    assert "No such file" in refused(key_folder / "none.key", accept=accept).message


def test_a_file_of_64_kilobytes_and_one_byte_is_no_key(key_folder, people):
    path = key_folder / "1.key"
    filler = b"\n" * (keyfile.MAX_KEY_BYTES - len(people[0].key_pem()))
    path.write_bytes(people[0].key_pem() + filler)
    assert open_it(path).encrypted is False
    path.write_bytes(people[0].key_pem() + filler + b"\n")
    assert "more than 65536 bytes" in refused(path).message


@pytest.mark.parametrize("content", [b"", b"words", b"\x30\x82\x01\x00", b"\xff" * 100])
def test_what_is_no_key_is_refused(key_folder, content):
    (key_folder / "1.key").write_bytes(content)
    assert "not a private key in PEM" in refused(key_folder / "1.key").message


def test_a_damaged_plain_key_is_refused(key_folder, people):
    lines = people[0].key_pem().splitlines(keepends=True)
    (key_folder / "1.key").write_bytes(b"".join(lines[:5] + lines[6:]))
    assert "not a private key in PEM" in refused(key_folder / "1.key").message


def test_a_certificate_given_as_key_is_refused(key_folder):
    path = key_folder / "1.cer"
    path.chmod(0o600)
    assert "not the certificate" in refused(path).hint


def test_an_elliptic_key_is_refused(key_folder, writer):
    (key_folder / "1.key").write_bytes(writer.elliptic_person().key_pem())
    assert "not an RSA key" in refused(key_folder / "1.key").message


def test_no_key_or_passphrase_stands_in_a_repr(key_folder):
    source = KeySource(key_folder / "1.key", None, b"secret words")
    opened = keyfile.open_key_file(source, accept_open_permissions=False)
    assert "secret words" not in repr(source)
    assert "private_key" not in repr(opened)
