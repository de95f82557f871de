"""The process in which a custodian's keys are made, or shown to be there.

Started fresh by `enrolling`, and gone after it. Proving possession opens a challenge and
nothing else: no share, no security domain comes near.

Rules: those of `serving`. Keys that are made leave as PEM, under their passphrase.
"""

from __future__ import annotations

import datetime as dt
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from drengine.ceremony.certificates import thumbprint_of
from drengine.ceremony.challenges import open_challenge, seal_challenge
from drengine.ceremony.holding import open_holder
from drengine.ceremony.keyfile import open_signing_key
from drengine.ceremony.messages import (
    KeySource,
    decode_bytes,
    decode_source,
    encode_bytes,
)
from drengine.ceremony.register import Enrolment, Proof, parse_challenge
from drengine.ceremony.serving import serve_once
from drengine.ceremony.signing import public_bytes
from drengine.errors import ShareError
from drengine.lockedkeys import lock_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from drengine.ceremony.hardening import Hardening

CUSTODIAN_KEY_BITS = 3072
_VALID_DAYS = 3650


def main() -> NoReturn:
    """Serve one order and end."""
    serve_once(_perform)


def main_with_token() -> NoReturn:
    """Serve one order that needs a token, whose module may write its own lock files."""
    serve_once(_perform, may_write_files=True)


def _perform(data: bytes, hardening: Hardening) -> bytes:
    del hardening
    order = json.loads(data)
    acts = {"make": make_keys, "show": show_signing_key}
    made = acts.get(order["do"], prove_possession)(order)
    return json.dumps(made).encode("ascii")


def show_signing_key(order: dict[str, Any]) -> dict[str, str]:
    """Open a signing key and say its public half."""
    source = decode_source(order["signing"])
    if not isinstance(source, KeySource):
        raise TypeError("a signing key is a file")
    accept = bool(order["accept_open_permissions"])
    key = open_signing_key(source, accept_open_permissions=accept)
    return {"key": encode_bytes(public_bytes(key))}


def make_keys(order: dict[str, Any]) -> dict[str, str]:
    """Make what is asked for of: the key that opens shares, its certificate, the signing key."""
    made: dict[str, str] = {}
    if order["wrapping"]:
        key = rsa.generate_private_key(65537, CUSTODIAN_KEY_BITS)
        made["key"] = encode_bytes(_pem(key, order["passphrase"]))
        made["certificate"] = encode_bytes(_certificate(key, str(order["name"])))
    signing = ed25519.Ed25519PrivateKey.generate()
    made["signing"] = encode_bytes(_pem(signing, order["signing_passphrase"]))
    return made


def _pem(key: rsa.RSAPrivateKey | Ed25519PrivateKey, passphrase: str | None) -> bytes:
    if passphrase is not None:
        return lock_key(key, decode_bytes(passphrase))
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _certificate(key: rsa.RSAPrivateKey, name: str) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=_VALID_DAYS))
        .public_key(key.public_key())
    )
    # The one signature that this key ever makes, over its own certificate.
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def prove_possession(order: dict[str, Any]) -> dict[str, str]:
    """Open a challenge with the holder; sign an enrolment or a proof that says so.

    Raises:
        ShareError: the holder or the signing key does not open, or is not the certificate's.
    """
    accept = bool(order["accept_open_permissions"])
    signing = decode_source(order["signing"])
    if not isinstance(signing, KeySource):
        raise TypeError("a signing key is a file")
    signing_key = open_signing_key(signing, accept_open_permissions=accept)
    with open_holder(decode_source(order["holder"]), accept_open_permissions=accept) as opened:
        holder, certificate = opened
        if certificate is None:
            raise ShareError(
                "there is no certificate beside the key, so it is not known whose key it is",
                hint="Give it with --cert.",
            )
        if certificate.public_key() != holder.public_key:
            raise ShareError("the private key does not belong to its certificate")
        challenge = (
            seal_challenge(certificate, os.urandom, at_ms=int(order["at_ms"]))
            if order["challenge"] is None
            else parse_challenge(decode_bytes(order["challenge"]))
        )
        nonce = open_challenge(challenge, certificate, holder)
        facts = holder.facts
    proof = Proof(
        x5t_256=thumbprint_of(certificate),
        nonce=nonce,
        challenger="self" if order["challenge"] is None else "register",
        holder=facts,
        key=public_bytes(signing_key),
        at_ms=int(order["at_ms"]),
    )
    made = {"proof": encode_bytes(_signed_proof(proof, signing_key))}
    if order["do"] == "enroll":
        enrolment = Enrolment(
            name=str(order["name"]),
            x5t_256=proof.x5t_256,
            certificate=certificate.public_bytes(Encoding.DER),
            holder=facts,
            location=str(order["location"]),
            contact=str(order["contact"]),
            key=proof.key,
            at_ms=proof.at_ms,
        )
        signed = _signed_enrolment(enrolment, signing_key, _earlier_key(order, accept=accept))
        made["enrolment"] = encode_bytes(signed.to_bytes())
    return made


def _earlier_key(order: dict[str, Any], *, accept: bool) -> Ed25519PrivateKey | None:
    if order["earlier"] is None:
        return None
    source = decode_source(order["earlier"])
    if not isinstance(source, KeySource):
        raise TypeError("a signing key is a file")
    return open_signing_key(source, accept_open_permissions=accept)


def _signed_enrolment(
    enrolment: Enrolment, signing_key: Ed25519PrivateKey, earlier: Ed25519PrivateKey | None
) -> Enrolment:
    if earlier is not None:
        enrolment = replace(enrolment, replaced_key=public_bytes(earlier))
        consent = earlier.sign(enrolment.consent_bytes())
        enrolment = replace(enrolment, consent=consent)
    return replace(enrolment, signature=signing_key.sign(enrolment.signed_bytes()))


def _signed_proof(proof: Proof, signing_key: Ed25519PrivateKey) -> bytes:
    return replace(proof, signature=signing_key.sign(proof.signed_bytes())).to_bytes()
