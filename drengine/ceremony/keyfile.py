"""Read one custodian's private key from a PEM file, and find its certificate.

Only `child` calls this: a key file is never opened in any other process.

Not here: passphrase prompts, tokens (PKCS#11), and opening shares.

Rules:
- A key file is opened once, without following a link, and judged by that
  descriptor: a regular file of this user, for this user only, at most 64 kB.
- The certificate is the one given, or `<stem>.cer|.crt|.pem` beside the key. It only
  serves to name the custodian: without one, the key is tried on every share.
- No message holds a byte of a key or a passphrase.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from drengine.ceremony.certificates import load_certificate
from drengine.ceremony.files import read_input, read_up_to
from drengine.ceremony.messages import KeySource
from drengine.errors import CeremonyError, InputFileError, ShareError

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import Certificate

MAX_KEY_BYTES: Final = 64 * 1024
_CERTIFICATE_SUFFIXES: Final = (".cer", ".crt", ".pem")
_ENCRYPTED_MARKS: Final = (b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")


@dataclass(frozen=True, slots=True)
class CustodianKey:
    """An opened key file; `identity` is the file's device and inode."""

    path: Path
    private_key: RSAPrivateKey = field(repr=False)
    certificate: Certificate | None
    encrypted: bool
    identity: tuple[int, int]


def open_key_file(source: KeySource, *, accept_open_permissions: bool) -> CustodianKey:
    """Read a custodian's key and certificate.

    Raises:
        ShareError: names the file and says what is wrong with it.
    """
    content, identity = _read_guarded(source.path, accept_open_permissions=accept_open_permissions)
    encrypted = any(mark in content for mark in _ENCRYPTED_MARKS)
    key = _load_key(content, source, encrypted=encrypted)
    if not isinstance(key, RSAPrivateKey):
        raise ShareError(
            f"{source.path}: it is not an RSA key; security domains are shared to RSA keys"
        )
    return CustodianKey(
        path=source.path,
        private_key=key,
        certificate=find_certificate(source),
        encrypted=encrypted,
        identity=identity,
    )


def open_signing_key(source: KeySource, *, accept_open_permissions: bool) -> Ed25519PrivateKey:
    """Read a custodian's signing key, under the same rules as a key that opens shares.

    Raises:
        ShareError: names the file and says what is wrong with it.
    """
    content, _ = _read_guarded(source.path, accept_open_permissions=accept_open_permissions)
    encrypted = any(mark in content for mark in _ENCRYPTED_MARKS)
    key = _load_key(content, source, encrypted=encrypted)
    if not isinstance(key, Ed25519PrivateKey):
        raise ShareError(
            f"{source.path}: it is not an Ed25519 key; attestations are signed by a key of their "
            "own, never by the one that opens shares",
            hint="'drengine ceremony enroll' makes one.",
        )
    return key


def _read_guarded(path: Path, *, accept_open_permissions: bool) -> tuple[bytes, tuple[int, int]]:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags)
        try:
            status = os.fstat(descriptor)
            _require_private(path, status, accept_open_permissions=accept_open_permissions)
            content = read_up_to(descriptor, MAX_KEY_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _unreadable(path, error) from None
    if len(content) > MAX_KEY_BYTES:
        raise ShareError(f"{path}: it has more than {MAX_KEY_BYTES} bytes, so it is not a key file")
    return content, (status.st_dev, status.st_ino)


def _unreadable(path: Path, error: OSError) -> ShareError:
    if error.errno == errno.ELOOP:
        return ShareError(
            f"{path}: it is a symbolic link; key files are opened without following links",
            hint="Give the path of the key file itself.",
        )
    return ShareError(
        f"{path}: the key file cannot be read: {error.strerror}",
        hint="Check the path and its permissions.",
    )


def _require_private(path: Path, status: os.stat_result, *, accept_open_permissions: bool) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ShareError(f"{path}: it is not a regular file")
    if accept_open_permissions:
        return
    if status.st_uid != os.geteuid():
        raise ShareError(
            f"{path}: the key file belongs to user {status.st_uid}, not to user {os.geteuid()} "
            "who runs this",
            hint="Take a copy of your own, or add --accept-open-permissions.",
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise ShareError(
            f"{path}: its mode is {mode:04o}, so others on this machine may read the key",
            hint=f"Run 'chmod 600 {path}', or add --accept-open-permissions where the medium "
            "knows no modes.",
        )


def _load_key(content: bytes, source: KeySource, *, encrypted: bool) -> PrivateKeyTypes:
    path = source.path
    if encrypted and not source.passphrase:
        raise ShareError(
            f"{path}: the key is encrypted and no passphrase was given",
            hint="Give it when asked, or on a descriptor with --passphrase-fd.",
        )
    try:
        # A passphrase for a key without encryption is not an error: the report tells.
        return load_pem_private_key(content, source.passphrase if encrypted else None)
    except (ValueError, TypeError):
        raise _unloadable(path, encrypted=encrypted) from None
    except UnsupportedAlgorithm:
        raise ShareError(
            f"{path}: the key uses an algorithm or encryption that is not supported here",
            hint=f"Write it anew: 'openssl pkcs8 -topk8 -v2 aes-256-cbc -in {path} -out NEW'.",
        ) from None


def _unloadable(path: Path, *, encrypted: bool) -> ShareError:
    if encrypted:
        return ShareError(
            f"{path}: the passphrase is wrong, or the encrypted key is damaged",
            hint="Try the passphrase again; nothing was opened.",
        )
    return ShareError(
        f"{path}: it is not a private key in PEM (PKCS#8 or PKCS#1)",
        hint="Give the key file, not the certificate; turn DER into PEM with 'openssl pkey'.",
    )


def find_certificate(source: KeySource) -> Certificate | None:
    """Return the certificate given with a key, or the one beside it; opens no key.

    Raises:
        ShareError: it cannot be read.
    """
    if source.certificate is not None:
        return _read_certificate(source.path, source.certificate)
    for suffix in _CERTIFICATE_SUFFIXES:
        beside = source.path.with_suffix(suffix)
        if beside != source.path and beside.is_file():
            return _read_certificate(source.path, beside)
    return None


def _read_certificate(key_path: Path, path: Path) -> Certificate:
    try:
        return load_certificate(
            read_input(path, "the custodian's certificate", max_bytes=MAX_KEY_BYTES)
        )
    except InputFileError as error:
        raise ShareError(f"{key_path}: {error.message}", hint=error.hint) from None
    except CeremonyError as error:
        raise ShareError(
            f"{key_path}: its certificate {path} is refused: {error.message}",
            hint="Give the right certificate with --cert, or move this one away: without one, "
            "the key is tried on every share.",
        ) from None
