"""Signatures made and checked by other programs: ssh-keygen -Y and openssl cms.

For approvers whose key is an SSH key (a FIDO2 token's, too) or a smart card's
certificate. Nothing of a private key passes through here.

Rules: arguments are lists, never a shell's text; every call has a time limit; files lie in
a folder of their own that only this user may read; the environment is a short fixed one.
"""

from __future__ import annotations

import base64
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from drengine.errors import InputError, InputFileError

NAMESPACE: Final = "drengine"
_SECONDS: Final = 20.0
_SIGNING_SECONDS: Final = 120.0  # a token waits for a finger
_SSHSIG_HEAD: Final = len(b"SSHSIG") + 4
_SSHSIG_STRINGS: Final = 5
_PRESENT: Final = 0x01
_KEPT: Final = (
    *("PATH", "HOME", "SSH_AUTH_SOCK", "SSH_ASKPASS", "DISPLAY", "OPENSSL_CONF"),
    *("PKCS11_MODULE_PATH", "PKCS11_PROVIDER_MODULE", "SOFTHSM2_CONF"),
)
_BY_PROVIDER: Final = ("-provider", "pkcs11", "-provider", "default")
_BY_ENGINE: Final = ("-engine", "pkcs11", "-keyform", "engine")


def ssh_verifies(public: str, signature: bytes, data: bytes) -> bool:
    """Tell whether `ssh-keygen -Y verify` accepts a signature as this key's.

    Of a security key (`sk-…`) it must also say that it was touched: ssh-keygen leaves that
    to its caller, and a key made with `no-touch-required` signs for any program that asks.
    """
    fields = public.split()[:2]
    if fields[0].startswith("sk-") and not _was_touched(signature):
        return False
    with tempfile.TemporaryDirectory(prefix="drengine-ssh-") as name:
        folder = Path(name)
        (folder / "allowed").write_text(
            f'approver namespaces="{NAMESPACE}" {" ".join(fields)}\n', encoding="ascii"
        )
        (folder / "sig").write_bytes(signature)
        arguments = ["-Y", "verify", "-f", str(folder / "allowed"), "-I", "approver"]
        arguments += ["-n", NAMESPACE, "-s", str(folder / "sig")]
        return run(["ssh-keygen", *arguments], data).returncode == 0


def _was_touched(signature: bytes) -> bool:
    """Tell whether a security key's signature has the flag of user presence.

    OpenSSH PROTOCOL.sshsig: magic, version, then five strings (key, namespace, reserved, hash,
    signature); PROTOCOL.u2f: in the last one kind, signature, one byte of flags, a counter.
    """
    try:
        armoured = b"".join(signature.split(b"-----")[2].split())
        rest = base64.b64decode(armoured, validate=True)[_SSHSIG_HEAD:]
        strings = []
        for _ in range(_SSHSIG_STRINGS):
            content, rest = _ssh_string(rest)
            strings.append(content)
        _, rest = _ssh_string(strings[-1])
        _, rest = _ssh_string(rest)
        return bool(rest[0] & _PRESENT)
    except (IndexError, ValueError):
        return False


def _ssh_string(data: bytes) -> tuple[bytes, bytes]:
    """Split the first string of SSH's wire format from what follows it.

    Raises:
        ValueError: the data ends before it.
    """
    end = 4 + int.from_bytes(data[:4], "big")
    if end > len(data):
        raise ValueError("a string of an SSH signature is cut off")
    return data[4:end], data[end:]


def ssh_sign(key: Path, data: bytes) -> bytes:
    """Sign with an SSH key or, where `key` is a public one, with the agent's or token's.

    Raises:
        InputFileError: ssh-keygen did not sign.
    """
    with tempfile.TemporaryDirectory(prefix="drengine-ssh-") as name:
        file = Path(name) / "statement"
        file.write_bytes(data)
        arguments = ["-q", "-Y", "sign", "-f", str(key), "-n", NAMESPACE, str(file)]
        done = run(["ssh-keygen", *arguments], None, seconds=_SIGNING_SECONDS, terminal=True)
        made = file.with_suffix(".sig")
        if done.returncode != 0 or not made.exists():
            raise InputFileError(f"signing with the SSH key {key}: ssh-keygen did not sign")
        return made.read_bytes()


def cms_verifies(certificate: str, signature: bytes, data: bytes) -> bool:
    """Tell whether `openssl cms` accepts a detached signature as this certificate's.

    The certificate itself is pinned: no other, and none that the signature brings along.
    """
    with tempfile.TemporaryDirectory(prefix="drengine-cms-") as name:
        folder = Path(name)
        pinned = folder / "pinned.pem"
        pinned.write_text(certificate, encoding="ascii")
        (folder / "sig").write_bytes(signature)
        (folder / "data").write_bytes(data)
        arguments = ["cms", "-verify", "-binary", "-inform", "DER", "-in", str(folder / "sig")]
        arguments += ["-content", str(folder / "data"), "-out", os.devnull, "-nointern"]
        arguments += ["-certfile", str(pinned), "-CAfile", str(pinned), "-partial_chain"]
        # Whether the certificate is in its time is judged by the register, at the time of use.
        arguments += ["-purpose", "any", "-no_check_time"]
        return run(["openssl", *arguments], None).returncode == 0


def cms_sign(certificate: Path, key: str, data: bytes) -> bytes:
    """Sign with a certificate's key: a file or a `pkcs11:` address (RFC 7512) of a smart card.

    Raises:
        InputFileError: openssl did not sign.
        InputError: an address with a PIN in it, or nothing here that opens one.
    """
    opening = _opening(key) if key.startswith("pkcs11:") else ()
    with tempfile.TemporaryDirectory(prefix="drengine-cms-") as name:
        file, made = Path(name) / "statement", Path(name) / "statement.p7s"
        file.write_bytes(data)
        arguments = ["cms", "-sign", "-binary", "-md", "sha256", "-outform", "DER"]
        arguments += ["-in", str(file), "-signer", str(certificate), "-inkey", key]
        arguments += ["-out", str(made), *opening]
        done = run(["openssl", *arguments], None, seconds=_SIGNING_SECONDS, terminal=True)
        if done.returncode != 0 or not made.exists():
            raise InputFileError(
                f"signing with the certificate {certificate}: openssl did not sign:"
                f" {done.stderr.decode('utf-8', 'replace').strip()[:200]}"
            )
        return made.read_bytes()


def _opening(address: str) -> Sequence[str]:
    """Return what makes openssl open a `pkcs11:` address: its provider, or the older engine."""
    if "pin-value=" in address:
        raise InputError(
            "--certificate-key holds a PIN, and everybody on this machine can read a command line",
            hint="Leave it out to be asked, or name a file: pin-source=file:/path",
        )
    if run(["openssl", "list", "-providers", *_BY_PROVIDER[:2]], None).returncode == 0:
        return _BY_PROVIDER
    if run(["openssl", "engine", "pkcs11"], None).returncode == 0:
        return _BY_ENGINE
    raise InputError(
        "openssl cannot open a pkcs11: address here",
        hint="Install pkcs11-provider or libengine-pkcs11-openssl, and name the card's module:"
        " export PKCS11_PROVIDER_MODULE=FILE or PKCS11_MODULE_PATH=FILE",
    )


def run(
    command: Sequence[str],
    data: bytes | None,
    *,
    seconds: float = _SECONDS,
    terminal: bool = False,
    more: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end.

    Raises:
        InputFileError: there is no such program, or it did not end in time.
    """
    environ = {name: os.environ[name] for name in _KEPT if name in os.environ}
    try:
        return subprocess.run(  # noqa: S603 - a fixed program, its arguments as a list
            list(command),
            input=data,
            stdin=None if data is not None or terminal else subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
            env={**environ, "LC_ALL": "C", **(more or {})},
        )
    except FileNotFoundError:
        raise InputFileError(
            f"the program {command[0]} is not here", hint=f"Install {command[0]}."
        ) from None
    except subprocess.TimeoutExpired:
        raise InputFileError(f"{command[0]} did not end within {seconds:.0f} s") from None
