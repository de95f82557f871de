"""Signing a decision on a gate: with a key file, an SSH key, or a certificate.

Where a run was started with a register of approvers the engine counts signed decisions
only; elsewhere a signature is not asked for.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from drengine.errors import GuardError, InputError
from drengine.model.canonical import JsonObject
from drengine.model.run import RunState, StepState
from drengine.trust.approval import Approval, Asked
from drengine.trust.signers import CmsSigner, KeySigner, Signer, SshSigner, signed

DEFAULT_VALID: Final = "8h"


def asked_of(state: RunState, step: StepState) -> Asked:
    """Return what a gate asks now, as a decision is bound to it.

    Raises:
        InputError: nothing is asked there.
    """
    if step.gate is None:
        raise InputError(f"step {step.id} has no open request")
    return Asked(
        run=str(state.run),
        plan=str(state.genesis["plan"]),
        run_class=str(state.run_class),
        lab=state.genesis["cloud"]["lab"] is True,
        step=step.id,
        seq=step.gate.seq,
        digest=step.gate.digest,
        sha256=step.gate.sha256,
        facts=step.gate.facts,
    )


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to say, before it is signed."""

    decision: str
    by: str
    role: str
    reason: str
    now_ms: int
    valid_ms: int
    break_glass: bool = False


def signed_decision(asked: Asked, wish: Wish, signer: Signer) -> tuple[str, JsonObject]:
    """Return nonce and envelope of a decision."""
    nonce = secrets.token_hex(16)
    approval = Approval(
        asked=asked,
        decision=wish.decision,
        by=wish.by,
        role=wish.role,
        reason=wish.reason,
        issued_ms=wish.now_ms,
        expires_ms=wish.now_ms + wish.valid_ms,
        nonce=nonce,
        break_glass=wish.break_glass,
    )
    return nonce, signed(approval.to_bytes(), signer).to_json()


def require_signer(state: RunState, signer: object | None) -> None:
    """Refuse an unsigned decision where the run counts signed ones only.

    Parameters:
        signer: or whatever names one; None where nothing does.

    Raises:
        GuardError: there is no signer.
    """
    if state.genesis.get("approvers") and signer is None:
        raise GuardError(
            f"run {state.run} was started with a register of approvers and counts signed"
            " decisions only; nothing was sent",
            hint="Give --key FILE, --ssh-key FILE or --certificate FILE with --certificate-key.",
        )


def check_keys(**given: Any) -> None:
    """Refuse options that name no signer or several, before any key or passphrase is asked for.

    Parameters:
        given: the options of `signer_options`.

    Raises:
        InputError: says which do not go together.
    """
    if sum(given[name] is not None for name in ("key", "ssh_key", "certificate")) > 1:
        raise InputError("give one of --key, --ssh-key and --certificate")
    if given["certificate"] is not None and not given["certificate_key"]:
        raise InputError("--certificate needs --certificate-key: a file or a pkcs11: address")


def signer_of(
    key: Path | None,
    passphrase: str | None,
    ssh_key: Path | None,
    certificate: Path | None,
    certificate_key: str | None,
) -> Signer | None:
    """Return the signer that the options name, None where they name none.

    Raises:
        InputError: they name several.
        InputFileError: a key cannot be used.
    """
    check_keys(key=key, ssh_key=ssh_key, certificate=certificate, certificate_key=certificate_key)
    if key is not None:
        return KeySigner(open_key(key, passphrase))
    if ssh_key is not None:
        return _ssh(ssh_key)
    return _cms(certificate, certificate_key) if certificate and certificate_key else None


def open_key(path: Path, passphrase: str | None) -> Any:
    """Open a key file with the passphrase that a reference names.

    Raises:
        Waiting: the passphrase is not there; InputFileError: the key cannot be opened.
    """
    from drengine.cli.secrets import SecretResolver  # noqa: PLC0415 - only where a key is used
    from drengine.trust.keys import load_key  # noqa: PLC0415 - as above

    secret = SecretResolver()(passphrase or f"prompt:Passphrase of {path.name}")
    return load_key(path, secret.reveal().encode())


def _ssh(path: Path) -> Signer:
    from drengine.trust.files import read_bounded  # noqa: PLC0415 - on this path only

    public = path if path.suffix == ".pub" else path.with_name(f"{path.name}.pub")
    return SshSigner(path, read_bounded(public, "the public SSH key").decode("utf-8", "replace"))


def _cms(certificate: Path, key: str) -> Signer:
    from drengine.trust.files import read_bounded  # noqa: PLC0415 - on this path only

    text = read_bounded(certificate, "the certificate").decode("ascii", "replace")
    return CmsSigner(certificate, text, key)


def signer_options(command: Callable[..., Any]) -> Any:
    """Add the options that name a key."""
    file = click.Path(path_type=Path, dir_okay=False)
    for option in reversed(
        (
            click.option(
                "--key", type=file, envvar="DRENGINE_KEY", help="Sign with this key file."
            ),
            click.option(
                "--passphrase",
                metavar="REF",
                envvar="DRENGINE_KEY_PASSPHRASE_REF",
                help="Where its passphrase is: env:NAME, file:PATH, fd:N; asked for by default.",
            ),
            click.option("--ssh-key", type=file, help="Sign with an SSH key (ssh-keygen -Y)."),
            click.option("--certificate", type=file, help="Sign with a certificate (CMS)."),
            click.option("--certificate-key", help="Its key: a file or a pkcs11: address."),
        )
    ):
        command = option(command)
    return command
