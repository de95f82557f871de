"""Check what a new security domain is made with, and what came back.

Pure of the network: `init-domain` and the re-keying runbook ask here before they send and
after they have kept the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from drengine.ceremony.certificates import load_certificate, thumbprint_of
from drengine.ceremony.domain import (
    MAX_CUSTODIANS,
    MIN_CUSTODIANS,
    MIN_REQUIRED,
    SecurityDomain,
    parse_security_domain,
)
from drengine.errors import CeremonyError, DomainError, InputFileError, QuorumError

if TYPE_CHECKING:
    from drengine.ceremony.register import Register

MIN_KEY_BITS: Final = 2048


def check_custodians(certificates: Sequence[bytes], required: int) -> list[bytes]:
    """Return the certificates as DER, in their order, after checking the quorum.

    Raises:
        QuorumError: N is not 3 to 10, M not 2 to N, or somebody is there twice.
        InputFileError: one is not a certificate of an RSA key of 2048 bits or more.
    """
    count = len(certificates)
    if not MIN_CUSTODIANS <= count <= MAX_CUSTODIANS:
        raise QuorumError(
            f"{count} certificates were given; a security domain has {MIN_CUSTODIANS} to "
            f"{MAX_CUSTODIANS} custodians"
        )
    if not MIN_REQUIRED <= required <= count:
        raise QuorumError(
            f"a quorum of {required} of {count} custodians is not possible; "
            f"{MIN_REQUIRED} to {count} are"
        )
    found = [_certificate(data, number) for number, data in enumerate(certificates, start=1)]
    if len({public for _, public in found}) != count:
        raise QuorumError(
            "two of the certificates are of the same key; each custodian has a key of their own"
        )
    return [der for der, _ in found]


def _certificate(data: bytes, number: int) -> tuple[bytes, tuple[int, int]]:
    try:
        certificate = load_certificate(data)
    except CeremonyError as error:
        raise InputFileError(f"certificate {number}: {error.message}") from None
    key = certificate.public_key()
    if not isinstance(key, RSAPublicKey) or key.key_size < MIN_KEY_BITS:
        raise InputFileError(f"certificate {number} is not of an RSA key of {MIN_KEY_BITS} bits")
    numbers = key.public_numbers()
    return certificate.public_bytes(Encoding.DER), (numbers.n, numbers.e)


def check_new_domain(data: bytes, certificates: Sequence[bytes], required: int) -> SecurityDomain:
    """Check that a downloaded domain is the one that was asked for.

    Raises:
        DomainError: it is not one, or has another quorum or other custodians.
    """
    domain = parse_security_domain(data)
    wanted = tuple(thumbprint_of(load_certificate(der)) for der in certificates)
    if domain.required != required or domain.custodians != wanted:
        raise DomainError(
            f"the downloaded domain needs {domain.required} of {len(domain.custodians)} "
            f"custodians; {required} of {len(wanted)}, by these certificates, was asked for",
            hint="Do not rely on it: download again, and compare the certificates.",
        )
    return domain


def names_in(
    register: Register | None, certificates: Sequence[bytes], now_ms: int
) -> list[tuple[str, str]]:
    """Return each certificate's x5t#S256, and the name that it is enrolled with; '' for none."""
    found = []
    for der in certificates:
        x5t_256 = thumbprint_of(load_certificate(der))
        enrolment = None if register is None else register.of(x5t_256, now_ms)
        found.append((x5t_256, "" if enrolment is None else enrolment.name))
    return found


def certificates_in(bundle: bytes) -> list[bytes]:
    """Return the certificates of a PEM bundle, as PEM each.

    Raises:
        InputFileError: it is not a bundle of certificates.
    """
    try:
        found = x509.load_pem_x509_certificates(bundle)
    except (ValueError, x509.InvalidVersion):
        raise InputFileError(
            "the custodians' file is not a bundle of certificates in PEM"
        ) from None
    return [one.public_bytes(Encoding.PEM) for one in found]
