from __future__ import annotations

import secrets
from dataclasses import replace

import pytest

from drengine.ceremony.shamir import PRIME, Share, combine, recover
from drengine.errors import QuorumError, ShareError


def deal(writer, required, count, *, polynomials=None):
    polynomials = polynomials or [
        [secrets.randbelow(256), *(secrets.randbelow(PRIME) for _ in range(required - 1))]
        for _ in range(32)
    ]
    secret = bytes(polynomial[0] for polynomial in polynomials)
    shares = [
        Share.from_bytes(writer.share_words(polynomials, x), f"custodian {x}")
        for x in range(1, count + 1)
    ]
    return secret, shares


def lie(share):
    return replace(share, values=(share.values[0] ^ 1, *share.values[1:]))


def test_the_noted_vector_reads_as_its_points():
    words = bytes.fromhex("8E02" * 32), bytes.fromhex("F204" * 32), bytes.fromhex("5506" * 32)
    shares = [Share.from_bytes(data, "x") for data in words]
    assert [(share.x, share.values[0]) for share in shares] == [(1, 142), (2, 242), (3, 85)]
    for pair in (shares[:2], shares[1:], shares[::2], shares):
        assert combine(pair, 2) == b"\x2a" * 32


def test_a_value_of_256_needs_its_ninth_bit(writer):
    polynomials = [[byte, (256 - byte) % PRIME] for byte in range(32)]
    secret, shares = deal(writer, 2, 3, polynomials=polynomials)
    assert set(shares[0].values) == {256}
    assert shares[0].to_bytes() == bytes([0x00, 0x03]) * 32
    assert combine(shares[:2], 2) == secret


def test_a_share_comes_back_as_it_was_written(writer):
    _, shares = deal(writer, 3, 10)
    for share in shares:
        assert Share.from_bytes(share.to_bytes(), share.holder) == share


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes, not 64"),
        (bytes(63), "63 bytes"),
        (bytes(66), "66 bytes"),
        (bytes(64), "number 0"),
        (b"\x01\x02" * 31 + b"\x01\x04", "not a share"),
        (b"\x01\x03" * 32, "not a share"),
    ],
)
def test_bytes_that_are_no_share_are_refused(data, message):
    with pytest.raises(ShareError, match=f"carol: .*{message}"):
        Share.from_bytes(data, "carol")


def test_the_same_number_twice_is_refused_and_both_are_named(writer):
    _, shares = deal(writer, 2, 3)
    twice = [shares[0], replace(shares[0], holder="copy")]
    with pytest.raises(QuorumError, match="custodian 1 and copy hold the same share"):
        combine(twice, 2)


@pytest.mark.parametrize("number", [0, 128, -1])
def test_a_number_outside_the_range_is_refused(writer, number):
    _, shares = deal(writer, 2, 3)
    with pytest.raises(ShareError, match=r"not 1\.\.127"):
        combine([shares[0], replace(shares[1], x=number)], 2)


def test_too_few_shares_are_refused(writer):
    _, shares = deal(writer, 3, 3)
    with pytest.raises(QuorumError, match="2 shares were given, 3 are needed"):
        combine(shares[:2], 3)


def test_a_surplus_share_off_the_curve_is_refused(writer):
    _, shares = deal(writer, 2, 3)
    with pytest.raises(ShareError, match="one of them is wrong"):
        combine([*shares[:2], lie(shares[2])], 2)


def test_an_interpolated_256_is_no_byte():
    shares = [Share("a", 1, (256,) * 32), Share("b", 2, (256,) * 32)]
    with pytest.raises(ShareError, match="give no bytes"):
        combine(shares, 2)
    assert recover(shares, 2, lambda _secret: True) is None


@pytest.mark.parametrize("wrong", range(4))
def test_with_surplus_shares_the_wrong_one_is_named(writer, wrong):
    secret, shares = deal(writer, 3, 4)
    shares[wrong] = lie(shares[wrong])
    found = recover(shares, 3, lambda candidate: candidate == secret)
    assert found is not None
    assert found.secret == secret
    assert found.wrong_holders == (f"custodian {wrong + 1}",)


def test_two_wrong_ones_are_both_named_while_a_quorum_of_right_ones_is_there(writer):
    secret, shares = deal(writer, 5, 10)
    shares[0], shares[9] = lie(shares[0]), lie(shares[9])
    found = recover(shares, 5, lambda candidate: candidate == secret)
    assert found is not None
    assert found.wrong_holders == ("custodian 1", "custodian 10")


def test_with_exactly_a_quorum_nobody_can_be_named(writer):
    secret, shares = deal(writer, 2, 2)
    assert recover([lie(shares[0]), shares[1]], 2, lambda key: key == secret) is None


def test_values_and_secrets_stay_out_of_a_repr(writer):
    secret, shares = deal(writer, 2, 2)
    found = recover(shares, 2, lambda key: key == secret)
    assert repr(shares[0]) == "Share(holder='custodian 1', x=1)"
    assert repr(found) == "Recovered(wrong_holders=())"
