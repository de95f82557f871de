"""Challenges: a nonce that only the holder of one certificate's key can show.

Not here: keys (`possession` opens them, in a child), and files.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from drengine.ceremony.certificates import thumbprint_of
from drengine.ceremony.compact import IV_BYTES, KeyAgreement, parse_jwe
from drengine.ceremony.jose import CONTENT_KEY_BYTES, open_with, seal_to_key
from drengine.ceremony.register import NONCE_BYTES, Challenge
from drengine.errors import CeremonyError, ShareError
from drengine.model.canonical import sha256_hex

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.x509 import Certificate

    from drengine.ceremony.jose import Unwrapper

_KEY_ID = "drengine challenge"


def seal_challenge(
    certificate: Certificate, entropy: Callable[[int], bytes], *, at_ms: int
) -> Challenge:
    """Draw a nonce and seal it to a certificate.

    Raises:
        ShareError: the certificate is not of an RSA key.
    """
    public_key = certificate.public_key()
    if not isinstance(public_key, RSAPublicKey):
        raise ShareError("the certificate is not of an RSA key")
    nonce = entropy(NONCE_BYTES)
    sealed = seal_to_key(
        nonce,
        public_key,
        content_key=entropy(CONTENT_KEY_BYTES),
        iv=entropy(IV_BYTES),
        kid=_KEY_ID,
    )
    return Challenge(thumbprint_of(certificate), sealed.to_text(), sha256_hex(nonce), at_ms)


def open_challenge(challenge: Challenge, certificate: Certificate, holder: Unwrapper) -> bytes:
    """Return the nonce, after making sure that a challenge is what is opened.

    Raises:
        ShareError: it is another custodian's, not a challenge, or does not open.
    """
    if challenge.x5t_256 != thumbprint_of(certificate):
        raise ShareError(f"the challenge is for {challenge.x5t_256}, another certificate")
    try:
        # The key id and the length keep this from opening a share in the disguise of a challenge.
        jwe = parse_jwe(challenge.sealed, KeyAgreement.RSA, kid=_KEY_ID)
        nonce = open_with(jwe, holder)
    except CeremonyError as error:
        raise ShareError(f"the challenge does not open: {error.message}") from None
    if len(nonce) != NONCE_BYTES or not hmac.compare_digest(sha256_hex(nonce), challenge.commit):
        raise ShareError("what the challenge held is not what its digest says")
    return nonce
