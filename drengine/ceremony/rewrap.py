"""Make the restore blob: the plain parts, sealed again for one exchange key.

Not here: where the exchange certificate comes from. Whoever chooses it receives the
security domain, so people compare its x5t#S256 with what the new HSM gave out.

Rules:
- A fresh master key and fresh vectors for every blob, drawn from the `entropy` that
  is passed in; the exchange key is RSA with at least 2048 bits.
- The bytes have the form that `az keyvault security-domain restore-blob` writes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from drengine.ceremony.blob import WRAPPED_KEY_ID, write_restore_blob
from drengine.ceremony.certificates import load_certificate, thumbprint_of
from drengine.ceremony.compact import IV_BYTES
from drengine.ceremony.jose import CONTENT_KEY_BYTES, seal_direct, seal_to_key
from drengine.ceremony.kdf import derive_content_key
from drengine.ceremony.parts import SealedPart
from drengine.ceremony.shamir import SECRET_BYTES
from drengine.errors import CeremonyError, InputFileError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.x509 import Certificate

    from drengine.ceremony.unseal import PlainPart

Entropy = Callable[[int], bytes]
MIN_EXCHANGE_KEY_BITS: Final = 2048
_HINT: Final = (
    "Fetch it from the new HSM: 'az keyvault security-domain init-recovery' writes it as PEM."
)


def load_exchange_certificate(data: bytes) -> Certificate:
    """Read the exchange certificate, PEM or DER, and check that its key can be used.

    Raises:
        InputFileError: not a certificate, not RSA, or a key that is too short.
    """
    try:
        certificate = load_certificate(data)
    except CeremonyError as error:
        raise InputFileError(
            f"reading the exchange certificate: {error.message}", hint=_HINT
        ) from None
    _exchange_key(certificate)
    return certificate


def refuse_custodian(exchange_x5t_256: str, custodians: Sequence[str]) -> None:
    """Refuse a custodian's own certificate: the whole domain would be readable to one person.

    Parameters:
        custodians: x5t#S256 of the certificates in the security domain.

    Raises:
        CeremonyError: nothing was opened for it.
    """
    if exchange_x5t_256 in custodians:
        raise CeremonyError(
            f"the exchange certificate (x5t#S256 {exchange_x5t_256}) is a custodian's of this"
            " security domain and no HSM's: one person could open all of it; nothing was opened",
            hint=_HINT,
        )


def make_restore_blob(
    parts: Sequence[PlainPart], exchange_certificate: Certificate, entropy: Entropy
) -> bytes:
    """Seal the parts under a new master key, and that key to the exchange certificate.

    Raises:
        InputFileError: the exchange certificate has no key that can be used.
    """
    exchange_key = _exchange_key(exchange_certificate)
    master_key = entropy(SECRET_BYTES)
    sealed = [
        SealedPart(
            part.tag,
            seal_direct(
                part.plaintext,
                content_key=derive_content_key(master_key, part.tag),
                iv=entropy(IV_BYTES),
                kid=part.tag,
            ),
        )
        for part in parts
    ]
    wrapped_key = seal_to_key(
        master_key,
        exchange_key,
        content_key=entropy(CONTENT_KEY_BYTES),
        iv=entropy(IV_BYTES),
        kid=WRAPPED_KEY_ID,
    )
    return write_restore_blob(sealed, wrapped_key, thumbprint_of(exchange_certificate))


def _exchange_key(certificate: Certificate) -> RSAPublicKey:
    key = certificate.public_key()
    if not isinstance(key, RSAPublicKey):
        raise InputFileError(
            "reading the exchange certificate: its key is not an RSA key", hint=_HINT
        )
    if key.key_size < MIN_EXCHANGE_KEY_BITS:
        raise InputFileError(
            f"reading the exchange certificate: its RSA key has {key.key_size} bits; "
            f"at least {MIN_EXCHANGE_KEY_BITS} are needed",
            hint=_HINT,
        )
    return key
