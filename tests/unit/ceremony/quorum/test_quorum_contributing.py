"""What a custodian's machine refuses before a share is open, and what tells machines apart."""

from __future__ import annotations

import platform

import pytest
from ceremonyfire.hall import NOW, Hall, Key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from drengine.ceremony import contribute, contributing
from drengine.ceremony.contributing import ContributeOrder
from drengine.ceremony.messages import KeySource
from drengine.errors import ShareError


@pytest.fixture
def hall(tmp_path, domain, exchange, one_time_key):
    return Hall(*(tmp_path / "session", domain, exchange, Key(*one_time_key)), enrolled={1: "Ada"})


def write_key(path, key):
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    return KeySource(path, None, None)


@pytest.fixture
def order(hall, key_folder):
    def of(number=1, name="Ada", signing=None):
        return ContributeOrder(
            request=hall.request.to_bytes(),
            domain=hall.domain.data,
            holder=KeySource(key_folder / f"{number}.key", None, None),
            signing=signing,
            custodian=name,
            host="host 2",
            at_ms=NOW,
            tool_version="0",
            tool_sha256="0" * 64,
        )

    return of


@pytest.fixture
def no_child(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("a child was started")

    monkeypatch.setattr(contribute, "ask_child", fail)


@pytest.fixture
def no_share(monkeypatch):
    def fail(*_):
        raise AssertionError("a share was opened")

    monkeypatch.setattr(contributing, "open_share_with", fail)


@pytest.mark.usefixtures("no_child")
@pytest.mark.parametrize("beside", [True, False], ids=["certificate", "name"])
def test_without_the_enrolled_signing_key_no_child_is_started(order, key_folder, beside):
    if not beside:
        (key_folder / "1.cer").unlink()
    with pytest.raises(ShareError, match=r"no signing key was given; no share was") as refused:
        contribute.contribute(order())
    assert "--signing-key" in refused.value.hint


@pytest.mark.usefixtures("no_share")
@pytest.mark.parametrize("beside", [True, False], ids=["certificate", "name"])
def test_with_another_signing_key_no_share_is_opened(order, key_folder, tmp_path, beside):
    if not beside:
        (key_folder / "1.cer").unlink()
    other = write_key(tmp_path / "other.key", Ed25519PrivateKey.generate())
    with pytest.raises(ShareError, match="another signing key was given; no share was opened"):
        contributing.perform(order(signing=other))


def test_who_is_enrolled_with_the_key_that_is_given_contributes(hall, order, tmp_path):
    right = write_key(tmp_path / "right.key", hall.signing["Ada"])
    assert contributing.perform(order(signing=right)).signature
    assert not contributing.perform(order(2, "Ben")).signature


@pytest.mark.parametrize("content", [b"", b"\n", b"uninitialized\n", None])
def test_machines_without_an_identity_are_told_apart_by_their_names(tmp_path, monkeypatch, content):
    """Images have an empty machine-id: all machines made of one had the same mark."""
    place = tmp_path / "machine-id"
    if content is not None:
        place.write_bytes(content)
    monkeypatch.setattr(contribute, "_MACHINE_ID", str(place))
    marks = []
    for name in ("one", "other"):
        monkeypatch.setattr(platform, "node", lambda name=name: name)
        marks.append(contribute.host_name({"USER": "u"}).split()[-1])
    assert marks[0] != marks[1]
    place.write_bytes(b"0123456789abcdef\n")
    named = {contribute.host_name({"USER": "u"}).split()[-1] for _ in range(2)}
    assert len(named) == 1
    assert not named & set(marks)
