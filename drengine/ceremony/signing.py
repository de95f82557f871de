"""Attestation signatures: Ed25519, by a key that does nothing else.

The key that opens shares never signs: one key, one use (SP 800-57 part 1 §5.2).

Not here: key files and passphrases (`keyfile` gives the private key in a child).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from drengine.ceremony.contribution import signed_bytes
from drengine.errors import ShareError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from drengine.ceremony.contribution import Attestation, Statement


def public_bytes(private_key: Ed25519PrivateKey) -> bytes:
    """Return the 32 bytes of the public half."""
    return private_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def sign_statement(
    private_key: Ed25519PrivateKey, statement: Statement, share_sha256: str
) -> bytes:
    """Sign a statement about one sealed share."""
    return private_key.sign(signed_bytes(statement, share_sha256))


def is_signed_by(key: bytes, signature: bytes, covered: bytes) -> bool:
    """Tell whether a signature over some bytes is this key's."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, covered)
    except (InvalidSignature, ValueError):
        return False
    return True


def check_signature(attestation: Attestation, enrolled: bytes) -> None:
    """Check who signed an attestation, as far as that is known.

    Parameters:
        enrolled: the custodian's signing key in the request; empty where none is enrolled.

    Raises:
        ShareError: unsigned although a key is enrolled, signed by another key, or the
            signature does not verify.
    """
    statement = attestation.statement
    who = f"custodian {statement.custodian} ({statement.x5t_256})"
    if enrolled and statement.key != enrolled:
        found = "by another key" if statement.key else "not at all"
        raise ShareError(
            f"{who} is enrolled with a signing key, and the attestation is signed {found}",
            hint="Contribute again with the enrolled signing key, or enrol the new one first.",
        )
    if bool(statement.key) != attestation.is_signed:
        raise ShareError(f"{who}: the attestation's signature was taken off or put on")
    covered = signed_bytes(statement, attestation.share_sha256)
    if statement.key and not is_signed_by(statement.key, attestation.signature, covered):
        raise ShareError(
            f"{who}: the signature does not verify, so the contribution was changed on its way",
            hint="Ask this custodian for the file again.",
        )
