from __future__ import annotations

import hashlib
import json

import pytest

from drengine.lab.hsm import domain, vault

DOMAIN = domain.new_domain()
CONTENTS = vault.Contents(
    keys={f"key-{number}": {"name": f"key-{number}"} for number in range(450)},
    deleted_keys={"gone": {"name": "gone"}},
    roles={"r": {"scope": "/"}},
    definitions={},
)


def sealed() -> dict[str, bytes]:
    return vault.seal(CONTENTS, DOMAIN, hsm="h", created_ms=1)


def test_a_backup_is_several_blobs_and_the_marker_comes_last() -> None:
    blobs = sealed()
    assert [name for name in blobs if name.startswith("keys-")] == [
        "keys-0000.bin",
        "keys-0001.bin",
        "keys-0002.bin",
    ]
    assert list(blobs)[-2:] == [vault.MANIFEST, vault.COMPLETE]
    assert vault.unseal(blobs.get, DOMAIN) == CONTENTS


def test_nothing_of_a_key_is_readable_in_a_backup() -> None:
    assert not any(b"key-7" in blob for blob in sealed().values())


def test_an_empty_hsm_has_a_backup_too() -> None:
    empty = vault.Contents({}, {}, {}, {})
    assert vault.unseal(vault.seal(empty, DOMAIN, hsm="h", created_ms=1).get, DOMAIN) == empty


def test_another_domain_does_not_open_it() -> None:
    with pytest.raises(vault.BackupError, match="another security domain"):
        vault.unseal(sealed().get, domain.new_domain())


@pytest.mark.parametrize("name", list(sealed()))
def test_a_missing_or_changed_blob_is_noticed(name: str) -> None:
    blobs = sealed()
    original = blobs[name]
    for broken in (None, original[:-1] + bytes([original[-1] ^ 1])):
        damaged = {**blobs, name: broken}
        with pytest.raises(vault.BackupError, match=r"incomplete|damaged"):
            vault.unseal(damaged.get, DOMAIN)


def test_a_blob_of_another_backup_does_not_fit() -> None:
    one, two = sealed(), sealed()
    mixed = {**one, "roles.bin": two["roles.bin"]}
    with pytest.raises(vault.BackupError, match="damaged"):
        vault.unseal(mixed.get, DOMAIN)


def test_an_empty_folder_and_an_unknown_format_are_named() -> None:
    with pytest.raises(vault.BackupError, match="holds no backup"):
        vault.unseal({}.get, DOMAIN)
    head = json.dumps({"format": "other"}).encode()
    marker = hashlib.sha256(head).hexdigest().encode()
    folder = {vault.MANIFEST: head, vault.COMPLETE: marker}
    with pytest.raises(vault.BackupError, match="unknown format"):
        vault.unseal(folder.get, DOMAIN)
