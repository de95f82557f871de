"""Seal one share to the combiner's one-time key, and open such a share.

Both run only in short-lived children. The header binds the share to one request, one
custodian and one statement; all of it is under the tag.

Not here: who may contribute (`checking`), and interpolation (`unseal`).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from drengine.ceremony.compact import IV_BYTES, KeyAgreement, parse_jwe
from drengine.ceremony.jose import CONTENT_KEY_BYTES, open_with_key, seal_to_key
from drengine.ceremony.shamir import Share
from drengine.ceremony.strict import encode_base64url
from drengine.errors import CeremonyError, InputFileError, ShareError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    from drengine.ceremony.contribution import Contribution, Statement
    from drengine.ceremony.request import CeremonyRequest

MIN_COMBINER_BITS: Final = 3072
_EXTRA: Final = ("req", "att", "x5t#S256")


def combiner_key_of(request: CeremonyRequest) -> RSAPublicKey:
    """Return the combiner's one-time key.

    Raises:
        InputFileError: it is no RSA key of at least 3072 bits.
    """
    try:
        key = load_der_public_key(request.combiner_key)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPublicKey) or key.key_size < MIN_COMBINER_BITS:
        raise InputFileError(
            f"reading the ceremony request: the combiner's key is not RSA with at least "
            f"{MIN_COMBINER_BITS} bits",
            hint="The combiner opens a new ceremony with 'drengine ceremony open'.",
        )
    return key


def seal_share(
    share: Share,
    request: CeremonyRequest,
    statement: Statement,
    entropy: Callable[[int], bytes],
) -> str:
    """Seal a share to the request's combiner; return the compact JWE."""
    sealed = seal_to_key(
        share.to_bytes(),
        combiner_key_of(request),
        content_key=entropy(CONTENT_KEY_BYTES),
        iv=entropy(IV_BYTES),
        kid=_key_id(request.combiner_key),
        extra=_binding(statement),
    )
    return sealed.to_text()


def check_binding(contribution: Contribution, request: CeremonyRequest) -> None:
    """Check, before any key is near, that a sealed share says it is of this request.

    Raises:
        ShareError: its header names another request, custodian, statement or combiner.
    """
    statement = contribution.statement
    try:
        jwe = parse_jwe(
            contribution.share,
            KeyAgreement.RSA,
            kid=_key_id(request.combiner_key),
            extra_names=_EXTRA,
        )
    except CeremonyError as error:
        raise ShareError(
            f"the sealed share of {statement.custodian} is refused: {error.message}"
        ) from None
    if dict(jwe.extra) != _binding(statement):
        raise ShareError(
            f"the sealed share of {statement.custodian} is bound to another request, custodian "
            "or statement than it travels with",
            hint="Ask this custodian to contribute to this ceremony's request.",
        )


def open_sealed_share(
    contribution: Contribution, request: CeremonyRequest, private_key: RSAPrivateKey
) -> Share:
    """Open a contribution's share with the one-time key; its tag covers the binding.

    Raises:
        ShareError: it does not open, or is bound to something else.
    """
    check_binding(contribution, request)
    statement = contribution.statement
    who = f"{statement.custodian} ({statement.x5t_256})"
    try:
        plaintext = open_with_key(
            parse_jwe(contribution.share, KeyAgreement.RSA, extra_names=_EXTRA), private_key
        )
    except CeremonyError as error:
        raise ShareError(
            f"the sealed share of {who} does not open: {error.message}",
            hint="It was changed on its way. Ask this custodian for the file again.",
        ) from None
    return Share.from_bytes(plaintext, who)


def _binding(statement: Statement) -> dict[str, str]:
    return {
        "req": statement.request,
        "att": statement.digest,
        "x5t#S256": statement.x5t_256,
    }


def _key_id(combiner_key: bytes) -> str:
    return encode_base64url(hashlib.sha256(combiner_key).digest())
