"""OAEP in software, against the cryptographic library's own."""

from __future__ import annotations

import secrets

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from drengine.ceremony.oaep import unpad_oaep
from drengine.errors import CeremonyError

OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
SIZE = 256


@pytest.fixture(scope="module")
def key():
    return rsa.generate_private_key(65537, SIZE * 8)


@pytest.fixture(scope="module")
def raw(key):
    """The block that a token's raw RSA operation gives for a message."""
    private = key.private_numbers()
    numbers = private.public_numbers

    def block_of(message):
        sealed = int.from_bytes(key.public_key().encrypt(message, OAEP), "big")
        first = pow(sealed, private.dmp1, private.p)
        second = pow(sealed, private.dmq1, private.q)
        block = second + private.q * ((first - second) * private.iqmp % private.p)
        assert block < numbers.n
        return block.to_bytes(SIZE, "big")

    return block_of


def test_it_takes_off_what_the_library_put_on(raw):
    for _ in range(500):
        message = secrets.token_bytes(64)
        assert unpad_oaep(raw(message), SIZE, 64) == message


def test_a_block_without_its_leading_zeros_is_the_same_block(raw):
    block = raw(b"m" * 64)
    assert unpad_oaep(block.lstrip(b"\0"), SIZE, 64) == b"m" * 64


def test_every_first_byte_but_zero_is_refused(raw):
    block = raw(b"m" * 64)
    for first in range(1, 256):
        with pytest.raises(CeremonyError, match=r"^this key does not open it$"):
            unpad_oaep(bytes([first]) + block[1:], SIZE, 64)


def test_every_changed_byte_is_refused_with_the_same_words(raw):
    block = raw(secrets.token_bytes(64))
    for at in range(SIZE):
        for mask in (0x01, 0x20, 0x80):
            changed = bytearray(block)
            changed[at] ^= mask
            with pytest.raises(CeremonyError, match=r"^this key does not open it$"):
                unpad_oaep(bytes(changed), SIZE, 64)


@pytest.mark.parametrize("length", [0, 63, 65, 190])
def test_a_message_of_another_length_is_refused(raw, length):
    with pytest.raises(CeremonyError, match="does not open"):
        unpad_oaep(raw(b"x" * length), SIZE, 64)


@pytest.mark.parametrize("size", [1, 66, 129, 257, 300])
def test_a_block_of_another_size_is_refused(size):
    with pytest.raises(CeremonyError, match="does not open"):
        unpad_oaep(b"\1" * size, min(size, SIZE), 64)
