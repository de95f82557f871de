"""Certificates that were damaged: a named error, or the certificate as it then is."""

from __future__ import annotations

import json
import os
from collections import Counter

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from drengine.azure.domain_wire import download_body
from drengine.ceremony.certificates import load_certificate, subject_of, thumbprint_of
from drengine.ceremony.founding import certificates_in
from drengine.ceremony.jose import seal_to_key
from drengine.ceremony.rewrap import load_exchange_certificate, make_restore_blob
from drengine.ceremony.unseal import PlainPart
from drengine.errors import CeremonyError, DrError, InputFileError


def with_version(der, version):
    """The same certificate, saying another X.509 version; its signature is nobody's business."""
    at = der.index(b"\xa0\x03\x02\x01\x02") + 4
    return der[:at] + bytes([version]) + der[at + 1 :]


def pem(der):
    import base64

    return b"-----BEGIN CERTIFICATE-----\n%s-----END CERTIFICATE-----\n" % base64.encodebytes(der)


def test_a_certificate_of_an_unknown_version_is_refused_by_name(people):
    strange = with_version(people[0].der, 7)
    with pytest.raises(x509.InvalidVersion):
        x509.load_der_x509_certificate(strange)
    with pytest.raises(CeremonyError, match=r"not an X\.509 certificate"):
        load_certificate(strange)
    with pytest.raises(InputFileError, match="bundle of certificates"):
        certificates_in(pem(strange))
    with pytest.raises(InputFileError, match="not one of an RSA key"):
        download_body([strange], 2)


def test_a_subject_that_cannot_be_read_is_called_so(people):
    der = people[0].der
    at = der.rindex(b"\x06\x03\x55\x04\x03") + 5  # the type of the common name
    bits = load_certificate(der[:at] + b"\x03" + der[at + 1 :])
    with pytest.raises(TypeError):
        bits.subject.rfc4514_string()
    assert subject_of(bits) == "(unreadable)"


def test_nothing_is_sealed_to_a_key_that_is_none():
    even = RSAPublicNumbers(65537, 1 << 2047).public_key()
    with pytest.raises(CeremonyError, match="damaged on its way"):
        seal_to_key(b"x", even, content_key=bytes(64), iv=bytes(16), kid="k")


def test_a_changed_byte_of_an_exchange_certificate_gives_a_blob_or_a_named_error(people):
    der = people[0].der
    parts = [PlainPart("hsm_backup", b"x")]
    outcomes = Counter()
    for at in range(0, len(der), 3):
        changed = bytearray(der)
        changed[at] ^= (0x01, 0x20, 0x80)[at % 9 // 3]
        try:
            found = load_exchange_certificate(bytes(changed))
            blob = json.loads(make_restore_blob(parts, found, os.urandom))
        except DrError:
            outcomes["refused"] += 1
        else:
            outcomes["made"] += 1
            assert blob["WrappedKey"]["x5t_256"] == thumbprint_of(found)
    assert outcomes["refused"] > 0
    assert outcomes["made"] > 0
