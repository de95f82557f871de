"""Secrets by reference."""

from __future__ import annotations

import os

import pytest

from drengine.cli.secrets import SecretResolver
from drengine.errors import InputError, Waiting


def test_a_variable_gives_its_text():
    assert SecretResolver({"SAS": "sv=1&sig=x\n"})("env:SAS").reveal() == "sv=1&sig=x"


def test_a_missing_variable_is_a_wait_that_says_what_is_needed():
    with pytest.raises(Waiting, match="env:SAS is not set") as found:
        SecretResolver({})("env:SAS")
    assert "SAS" in found.value.hint


def test_a_private_file_gives_its_text(tmp_path):
    path = tmp_path / "sas"
    path.write_text("secret\n")
    path.chmod(0o600)
    assert SecretResolver({})(f"file:{path}").reveal() == "secret"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_file_that_others_may_read_is_refused(tmp_path, mode):
    path = tmp_path / "sas"
    path.write_text("secret")
    path.chmod(mode)
    with pytest.raises(InputError, match="may be read by others") as found:
        SecretResolver({})(f"file:{path}")
    assert "secret" not in found.value.message.replace("the secret", "")


def test_a_missing_file_is_a_wait(tmp_path):
    with pytest.raises(Waiting, match="cannot be read"):
        SecretResolver({})(f"file:{tmp_path / 'none'}")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(InputError, match="not a regular file"):
        SecretResolver({})(f"file:{tmp_path / 'pipe'}")


def test_a_descriptor_is_read_once_and_remembered():
    read, write = os.pipe()
    os.write(write, b"secret\n")
    os.close(write)
    resolve = SecretResolver({})
    assert resolve(f"fd:{read}").reveal() == "secret"
    assert resolve(f"fd:{read}").reveal() == "secret"


def test_a_descriptor_that_is_not_open_is_a_wait():
    with pytest.raises(Waiting, match="cannot be read"):
        SecretResolver({})("fd:9999")


def test_the_secret_itself_is_refused_and_not_repeated():
    with pytest.raises(InputError) as found:
        SecretResolver({})("sv=2021&sig=verysecret")
    assert "verysecret" not in found.value.message + found.value.hint


def test_an_empty_secret_is_a_wait():
    with pytest.raises(Waiting, match="empty"):
        SecretResolver({"SAS": ""})("env:SAS")


def test_a_prompt_without_a_terminal_is_a_wait():
    with pytest.raises(Waiting, match="must be typed"):
        SecretResolver({})("prompt:The SAS")


def test_what_is_made_for_a_container_is_no_other_secret():
    with pytest.raises(InputError, match="makes a SAS of the backup container"):
        SecretResolver({})("mint:user-delegation")


def test_what_nobody_can_make_is_no_reference():
    with pytest.raises(InputError, match="must be given as a reference"):
        SecretResolver({})("mint:passphrase")
