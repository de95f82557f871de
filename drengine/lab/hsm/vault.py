"""Full backups as they lie in storage: several blobs, encrypted, bound to the domain.

A backup of a HSM is a folder of blobs: `manifest.json` (plain: what belongs to it),
`keys-NNNN.bin` and `roles.bin` (AES-256-GCM under a key derived from the security domain,
so that only a HSM of the same domain opens them) and, written last, `complete` with the
digest of the manifest. A folder without a fitting `complete` is not a backup.

This module is free of storage and HTTP: it turns documents into blobs and back.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from drengine.lab.hsm.domain import protection_key

FORMAT: Final = "drengine-lab-hsm-backup/1"
MANIFEST: Final = "manifest.json"
COMPLETE: Final = "complete"
KEYS_PER_BLOB: Final = 200
_NONCE: Final = 12
_GCM_KEY: Final = 32


class BackupError(ValueError):
    """A folder is not a backup that this HSM can restore."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a backup holds: documents by their key without the HSM's name."""

    keys: dict[str, dict[str, Any]]
    deleted_keys: dict[str, dict[str, Any]]
    roles: dict[str, dict[str, Any]]
    definitions: dict[str, dict[str, Any]]


def seal(
    contents: Contents, domain: Mapping[str, bytes], *, hsm: str, created_ms: int
) -> dict[str, bytes]:
    """Return the blobs of a backup by name, in the order in which to write them."""
    identity = secrets.token_hex(16)
    plain: dict[str, Any] = {
        f"keys-{number:04}.bin": dict(chunk)
        for number, chunk in enumerate(_chunks(list(contents.keys.items())))
    }
    plain["deleted-keys.bin"] = contents.deleted_keys
    plain["roles.bin"] = {"assignments": contents.roles, "definitions": contents.definitions}
    blobs = {name: _seal(part, domain, identity, name) for name, part in plain.items()}
    manifest = {
        "format": FORMAT,
        "id": identity,
        "hsm": hsm,
        "created_ms": created_ms,
        "domain": domain_mark(domain),
        "blobs": {name: hashlib.sha256(blob).hexdigest() for name, blob in blobs.items()},
    }
    head = json.dumps(manifest, indent=1).encode()
    complete = hashlib.sha256(head).hexdigest().encode()
    return {**blobs, MANIFEST: head, COMPLETE: complete}


def unseal(read: Callable[[str], bytes | None], domain: Mapping[str, bytes]) -> Contents:
    """Return what a backup holds.

    Parameters:
        read: returns a blob of the folder by name, None where there is none.
        domain: the security domain of the HSM that restores.

    Raises:
        BackupError: incomplete, damaged, or of another security domain.
    """
    manifest = _manifest(read)
    if not hmac.compare_digest(str(manifest.get("domain")), domain_mark(domain)):
        raise BackupError("The backup was taken from a HSM with another security domain.")
    parts = {
        name: _unseal(read(name), digest, domain, str(manifest["id"]), name)
        for name, digest in manifest["blobs"].items()
    }
    keys = {
        key: one for name in parts if name.startswith("keys-") for key, one in parts[name].items()
    }
    roles = parts["roles.bin"]
    return Contents(keys, parts["deleted-keys.bin"], roles["assignments"], roles["definitions"])


def domain_mark(domain: Mapping[str, bytes]) -> str:
    """Return what tells two security domains apart without telling their contents."""
    return hashlib.sha256(protection_key(domain, "full-backup-mark")).hexdigest()


def _manifest(read: Callable[[str], bytes | None]) -> dict[str, Any]:
    head, complete = read(MANIFEST), read(COMPLETE)
    if head is None and complete is None:
        raise BackupError("The folder holds no backup.")
    if head is None or complete is None:
        raise BackupError("The backup is incomplete.")
    if not hmac.compare_digest(hashlib.sha256(head).hexdigest().encode(), complete):
        raise BackupError("The backup is damaged: its manifest is not the one it ended with.")
    found = json.loads(head)
    if found.get("format") != FORMAT:
        raise BackupError("The folder holds a backup of an unknown format.")
    return dict(found)


def _chunks(items: list[tuple[str, dict[str, Any]]]) -> list[list[tuple[str, dict[str, Any]]]]:
    starts = range(0, len(items), KEYS_PER_BLOB)
    return [items[start : start + KEYS_PER_BLOB] for start in starts]


def _cipher(domain: Mapping[str, bytes], identity: str) -> AESGCM:
    return AESGCM(protection_key(domain, f"full-backup-{identity}")[:_GCM_KEY])


def _seal(part: object, domain: Mapping[str, bytes], identity: str, name: str) -> bytes:
    nonce = secrets.token_bytes(_NONCE)
    plain = json.dumps(part, separators=(",", ":")).encode()
    return nonce + _cipher(domain, identity).encrypt(nonce, plain, name.encode())


def _unseal(
    blob: bytes | None, digest: str, domain: Mapping[str, bytes], *names: str
) -> dict[str, Any]:
    identity, name = names
    if blob is None:
        raise BackupError(f"The backup is incomplete: {name} is missing.")
    if not hmac.compare_digest(hashlib.sha256(blob).hexdigest(), digest):
        raise BackupError(f"The backup is damaged: {name} is not what was written.")
    try:
        cipher = _cipher(domain, identity)
        plain = cipher.decrypt(blob[:_NONCE], blob[_NONCE:], name.encode())
    except InvalidTag:
        raise BackupError(f"The backup does not open: {name} fails its check.") from None
    return dict(json.loads(plain))
