from __future__ import annotations

import json
import os
from itertools import combinations

import pytest

from drengine.ceremony.blob import inspect_restore_blob
from drengine.ceremony.domain import parse_security_domain
from drengine.ceremony.rewrap import load_exchange_certificate, make_restore_blob
from drengine.ceremony.unseal import open_domain, open_share
from drengine.errors import DomainError, InputFileError, QuorumError, ShareError


def open_shares(parsed, members):
    return [open_share(parsed, one.certificate, one.key) for one in members]


def plain(parts):
    return {part.tag: part.plaintext for part in parts}


def test_every_quorum_opens_the_same_parts(domain, people):
    parsed = parse_security_domain(domain.data)
    for size in (2, 3):
        for members in combinations(people[:3], size):
            assert plain(open_domain(parsed, open_shares(parsed, members))) == domain.parts


def test_a_key_without_certificate_is_tried_on_every_share(domain, people):
    parsed = parse_security_domain(domain.data)
    share = open_share(parsed, None, people[2].key)
    assert (share.holder, share.x) == (people[2].x5t, 3)


def test_a_renewed_certificate_does_not_lock_its_custodian_out(domain, people, writer):
    parsed = parse_security_domain(domain.data)
    renewed = writer.certify(people[1].key, "renewed")
    assert open_share(parsed, renewed.certificate, renewed.key).holder == people[1].x5t


def test_a_stranger_is_refused_and_the_custodians_are_named(domain, people):
    parsed = parse_security_domain(domain.data)
    stranger = people[3]
    with pytest.raises(ShareError, match="opens none of the 3 shares") as caught:
        open_share(parsed, stranger.certificate, stranger.key)
    assert stranger.x5t in caught.value.message
    assert all(one.x5t in caught.value.message for one in people[:3])
    with pytest.raises(ShareError, match="no certificate beside it"):
        open_share(parsed, None, stranger.key)


def test_a_key_under_another_certificate_is_refused(domain, people):
    parsed = parse_security_domain(domain.data)
    with pytest.raises(ShareError, match="does not belong to its certificate") as caught:
        open_share(parsed, people[0].certificate, people[1].key)
    assert people[0].x5t in caught.value.message


def test_a_damaged_share_is_told_apart_from_a_wrong_key(domain, people, writer):
    entry = domain.document["SharedKeys"]["enc_shares"][0]
    entry["enc_key"] = writer.flip(entry["enc_key"], 3, 5, 1)
    parsed = parse_security_domain(domain.data)
    with pytest.raises(ShareError, match="does not open although key and certificate are right"):
        open_share(parsed, people[0].certificate, people[0].key)


def test_a_share_that_is_no_share_is_refused(domain, people, writer):
    entry = domain.document["SharedKeys"]["enc_shares"][0]
    entry["enc_key"] = writer.seal_rsa(b"hello", people[0].key.public_key())
    parsed = parse_security_domain(domain.data)
    with pytest.raises(ShareError, match="5 bytes, not 64"):
        open_share(parsed, people[0].certificate, people[0].key)


@pytest.mark.parametrize("segment", [2, 3, 4])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_tampered_part_is_named(domain, people, writer, number, segment):
    entry = domain.document["EncData"]["data"][number]
    entry["compact_jwe"] = writer.flip(entry["compact_jwe"], segment, 3, 1)
    parsed = parse_security_domain(domain.data)
    shares = open_shares(parsed, people[:2])
    with pytest.raises(DomainError, match=f"part '{entry['tag']}'.*tag does not verify"):
        open_domain(parsed, shares)


def swap_share(domain, writer, number, words):
    person = domain.people[number]
    entry = domain.document["SharedKeys"]["enc_shares"][number]
    entry["enc_key"] = writer.seal_rsa(words, person.key.public_key())


def test_a_share_of_another_domain_is_named_when_others_suffice(domain, people, writer):
    other = writer.write_domain(people[:3], 2)
    swap_share(domain, writer, 1, writer.share_words(other.polynomials, 2))
    parsed = parse_security_domain(domain.data)
    shares = open_shares(parsed, people[:3])
    with pytest.raises(ShareError, match="is not of this security domain") as caught:
        open_domain(parsed, shares)
    assert people[1].x5t in caught.value.message
    assert people[0].x5t not in caught.value.message


def test_a_share_of_another_domain_among_just_enough_is_refused_unnamed(domain, people, writer):
    other = writer.write_domain(people[:3], 2)
    swap_share(domain, writer, 1, writer.share_words(other.polynomials, 2))
    parsed = parse_security_domain(domain.data)
    shares = open_shares(parsed, people[:2])
    with pytest.raises(QuorumError, match="no 2 of them give a key") as caught:
        open_domain(parsed, shares)
    assert "one more custodian" in caught.value.hint


def test_two_custodians_with_one_share_are_refused(domain, people, writer):
    swap_share(domain, writer, 1, writer.share_words(domain.polynomials, 1))
    parsed = parse_security_domain(domain.data)
    shares = open_shares(parsed, people[:2])
    with pytest.raises(QuorumError, match="hold the same share"):
        open_domain(parsed, shares)


def test_too_few_shares_are_refused(domain, people):
    parsed = parse_security_domain(domain.data)
    with pytest.raises(QuorumError, match="2 of its 3 custodians; 1 given"):
        open_domain(parsed, open_shares(parsed, people[:1]))


def test_a_blob_opens_with_the_exchange_key_alone(domain, people, exchange, writer):
    parsed = parse_security_domain(domain.data)
    parts = open_domain(parsed, open_shares(parsed, people[:2]))
    blob = make_restore_blob(parts, exchange.certificate, os.urandom)
    assert writer.open_blob(blob, exchange) == domain.parts
    seen = inspect_restore_blob(blob)
    assert (seen.exchange_x5t_256, seen.tags, seen.size_bytes) == (
        exchange.x5t,
        parsed.tags,
        len(blob),
    )


def test_every_byte_of_entropy_comes_from_the_port(domain, people, exchange):
    parsed = parse_security_domain(domain.data)
    parts = open_domain(parsed, open_shares(parsed, people[:2]))
    asked = []

    def entropy(count):
        asked.append(count)
        return bytes([len(asked)]) * count

    first = json.loads(make_restore_blob(parts, exchange.certificate, entropy))
    asked.clear()
    second = json.loads(make_restore_blob(parts, exchange.certificate, entropy))
    assert asked == [32, 16, 16, 16, 64, 16]
    assert first["EncData"] == second["EncData"]
    # OAEP draws its own seed, so the wrapped key alone differs.
    assert first["WrappedKey"]["enc_key"] != second["WrappedKey"]["enc_key"]


@pytest.mark.parametrize("data", [b"", b"words", b"\x30\x03abc", b"-----BEGIN CERTIFICATE-----\n"])
def test_what_is_no_exchange_certificate_is_refused(data):
    with pytest.raises(InputFileError, match=r"not an X\.509 certificate"):
        load_exchange_certificate(data)


def test_an_exchange_key_that_is_short_or_not_rsa_is_refused(writer):
    with pytest.raises(InputFileError, match="has 1024 bits; at least 2048"):
        load_exchange_certificate(writer.person(1, bits=1024).certificate_pem)
    with pytest.raises(InputFileError, match="not an RSA key"):
        load_exchange_certificate(writer.elliptic_person().certificate_pem)


def test_two_certificates_in_one_file_are_ambiguous_and_refused(exchange, people):
    both = exchange.certificate_pem + people[0].certificate_pem
    with pytest.raises(InputFileError, match="holds 2 certificates"):
        load_exchange_certificate(both)


def test_a_der_certificate_with_pem_inside_is_read_as_der(writer, exchange):
    assert load_exchange_certificate(exchange.der) == exchange.certificate
    carrier = writer.certify(exchange.key, writer.elliptic_person().certificate_pem.decode()[:60])
    assert b"-----BEGIN CERTIFICATE" in carrier.der
    assert load_exchange_certificate(carrier.der) == carrier.certificate


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("WrappedKey", "x5t_256"), "AAAA"),
        (("WrappedKey", "enc_key"), "a.b.c"),
        (("WrappedKey", "enc_key"), None),
        (("EncData", "data"), []),
        (("EncData", "kdf"), "none"),
        (("more",), 1),
    ],
)
def test_what_is_no_restore_blob_is_refused(domain, people, exchange, path, value):
    parsed = parse_security_domain(domain.data)
    parts = open_domain(parsed, open_shares(parsed, people[:2]))
    document = json.loads(make_restore_blob(parts, exchange.certificate, os.urandom))
    *way, last = path
    place = document
    for step in way:
        place = place[step]
    place[last] = value
    with pytest.raises(InputFileError, match="reading the restore blob"):
        inspect_restore_blob(json.dumps(document).encode())


def test_a_security_domain_is_no_restore_blob(domain):
    with pytest.raises(InputFileError, match="no member 'WrappedKey'"):
        inspect_restore_blob(domain.data)
