"""Open one custodian's holder, PEM file or token, for the time of one piece of work.

Only children import this.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from drengine.ceremony.certificates import load_certificate
from drengine.ceremony.contribution import HolderFacts
from drengine.ceremony.files import read_input
from drengine.ceremony.jose import SoftwareKey
from drengine.ceremony.keyfile import MAX_KEY_BYTES, open_key_file
from drengine.ceremony.messages import KeySource, TokenSource
from drengine.ceremony.token import open_token
from drengine.errors import CeremonyError, ShareError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from drengine.ceremony.token import TokenKey


class FileHolder(SoftwareKey):
    """A key read from a PEM file, with what is to be said of it."""

    facts: HolderFacts


@contextmanager
def open_holder(
    source: KeySource | TokenSource, *, accept_open_permissions: bool
) -> Iterator[tuple[FileHolder | TokenKey, Certificate | None]]:
    """Open a holder; yield it with the certificate that names its key, where there is one.

    Raises:
        ShareError: names the file or token and what is wrong with it.
    """
    if isinstance(source, KeySource):
        key = open_key_file(source, accept_open_permissions=accept_open_permissions)
        holder = FileHolder(key.private_key)
        holder.facts = HolderFacts(kind="pem", encrypted=key.encrypted)
        yield holder, key.certificate
        return
    certificate, public_key = token_certificate(source)
    with open_token(source, public_key) as token_key:
        yield token_key, certificate


def token_certificate(source: TokenSource) -> tuple[Certificate, RSAPublicKey]:
    """Return the certificate that names a token's key.

    Raises:
        ShareError: it cannot be read, or its key is not RSA.
    """
    data = read_input(source.certificate, "the custodian's certificate", max_bytes=MAX_KEY_BYTES)
    try:
        certificate = load_certificate(data)
    except CeremonyError as error:
        raise ShareError(f"the certificate {source.certificate}: {error.message}") from None
    public_key = certificate.public_key()
    if not isinstance(public_key, RSAPublicKey):
        raise ShareError(f"the certificate {source.certificate} is not of an RSA key")
    return certificate, public_key
