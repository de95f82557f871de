"""Enrol a custodian and prove possession: the parent's half; keys are in a child only.

Not here: the register's folder (`registry`), and what counts as ready (`readiness`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from drengine.ceremony.fields import require_text
from drengine.ceremony.files import require_new, write_new
from drengine.ceremony.messages import (
    KeySource,
    TokenSource,
    absolute_source,
    decode_bytes,
    encode_bytes,
    encode_source,
    read_result,
)
from drengine.ceremony.register import Enrolment, Proof
from drengine.ceremony.registry import verified_enrolment, verified_proof
from drengine.ceremony.spawn import TOKEN_ENVIRONMENT, ask_child, no_answer, start_line
from drengine.lockedkeys import require_long

_MODULE: Final = "drengine.ceremony.possession"
_START: Final = start_line(_MODULE)
_START_WITH_TOKEN: Final = _START.replace(
    "import main; main()", "import main_with_token; main_with_token()"
)


@dataclass(frozen=True, slots=True)
class NewKeys:
    """Paths of what is to be made; `key` and `certificate` are None for a token's custodian."""

    signing: Path
    key: Path | None = None
    certificate: Path | None = None


def make_keys(
    name: str, paths: NewKeys, passphrase: bytes | None, signing_passphrase: bytes | None
) -> None:
    """Make a custodian's keys and write them, each with mode 0600.

    Raises:
        InputFileError: a file exists, or cannot be written.
        InputError: a passphrase is too short for a new key.
    """
    if paths.key is not None and passphrase is not None:
        require_long(passphrase, "the custodian's key")
    if signing_passphrase is not None:
        require_long(signing_passphrase, "the signing key")
    places = [path for path in (paths.key, paths.certificate, paths.signing) if path is not None]
    for path in places:
        require_new(path, "a key")
    made = _ask(
        {
            "do": "make",
            "name": require_text(name, "the name"),
            "wrapping": paths.key is not None,
            "passphrase": None if passphrase is None else encode_bytes(passphrase),
            "signing_passphrase": (
                None if signing_passphrase is None else encode_bytes(signing_passphrase)
            ),
        },
        with_token=False,
    )
    if paths.key is not None and paths.certificate is not None:
        write_new(paths.key, decode_bytes(made["key"]), "the private key")
        write_new(paths.certificate, decode_bytes(made["certificate"]), "the certificate")
    write_new(paths.signing, decode_bytes(made["signing"]), "the signing key")


@dataclass(frozen=True, slots=True)
class Keys:
    """A custodian's holder and signing key.

    Attributes:
        earlier: the signing key enrolled before, which consents to the new one.
    """

    holder: KeySource | TokenSource
    signing: KeySource
    accept_open_permissions: bool = False
    earlier: KeySource | None = None


def public_half(signing: KeySource, *, accept_open_permissions: bool = False) -> bytes:
    """Let a child open a signing key; return its public half.

    Raises:
        ShareError: it does not open, or is no signing key.
    """
    order = {
        "do": "show",
        "signing": encode_source(absolute_source(signing)),
        "accept_open_permissions": accept_open_permissions,
    }
    return decode_bytes(_ask(order, with_token=False)["key"])


def enroll(
    keys: Keys, *, name: str, location: str, contact: str, at_ms: int
) -> tuple[Enrolment, Proof]:
    """Let a child open a challenge with the custodian's key, and sign the entry.

    Raises:
        ShareError: a key does not open, or is not the certificate's.
    """
    order = {
        "do": "enroll",
        "name": require_text(name, "the name"),
        "location": require_text(location, "the location"),
        "contact": require_text(contact, "the contact"),
    }
    made = _prove(keys, order, at_ms=at_ms, challenge=None)
    return (
        verified_enrolment(decode_bytes(made["enrolment"])),
        verified_proof(decode_bytes(made["proof"])),
    )


def check(keys: Keys, *, at_ms: int, challenge: bytes | None = None) -> Proof:
    """Let a child prove that the custodian holds the key; nothing else is opened.

    Raises:
        ShareError: a key does not open, or is not the certificate's.
    """
    made = _prove(keys, {"do": "check"}, at_ms=at_ms, challenge=challenge)
    return verified_proof(decode_bytes(made["proof"]))


def _prove(
    keys: Keys, order: dict[str, Any], *, at_ms: int, challenge: bytes | None
) -> dict[str, Any]:
    complete = {
        **order,
        "holder": encode_source(absolute_source(keys.holder)),
        "signing": encode_source(absolute_source(keys.signing)),
        "accept_open_permissions": keys.accept_open_permissions,
        "at_ms": at_ms,
        "challenge": None if challenge is None else encode_bytes(challenge),
        "earlier": None if keys.earlier is None else encode_source(absolute_source(keys.earlier)),
    }
    return _ask(complete, with_token=isinstance(keys.holder, TokenSource))


def _ask(order: dict[str, Any], *, with_token: bool) -> dict[str, Any]:
    answer, _ = ask_child(
        _START_WITH_TOKEN if with_token else _START,
        json.dumps(order).encode("ascii"),
        environment=TOKEN_ENVIRONMENT if with_token else (),
        doing="checking keys",
    )
    try:
        return read_result(answer)
    except (ValueError, KeyError, TypeError):
        raise no_answer("checking keys", "broke off in the middle of its answer") from None
