from __future__ import annotations

import json
import secrets

import pytest

from drengine.ceremony.compact import KeyAgreement, parse_jwe
from drengine.ceremony.jose import open_direct, open_with_key, seal_direct, seal_to_key
from drengine.errors import CeremonyError

CEK = bytes(range(64))


def parse_direct(text):
    return parse_jwe(text, KeyAgreement.DIRECT, kid="tag")


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 8148])
def test_what_the_tests_writer_sealed_is_opened(writer, size):
    plaintext = secrets.token_bytes(size)
    assert open_direct(parse_direct(writer.seal_direct(plaintext, CEK, "tag")), CEK) == plaintext


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17])
def test_what_was_sealed_is_opened_by_the_tests_reader(writer, size):
    plaintext = secrets.token_bytes(size)
    sealed = seal_direct(plaintext, content_key=CEK, iv=bytes(16), kid="tag").to_text()
    assert writer.unseal(sealed, CEK) == plaintext


def test_the_header_has_the_letters_that_azure_writes(writer):
    header = seal_direct(b"", content_key=CEK, iv=bytes(16), kid="hsm_backup").header_text
    assert writer.unb64(header) == b'{"alg":"dir","enc":"A256CBC-HS512","kid":"hsm_backup"}'


def test_rsa_sealing_works_in_both_directions(writer, exchange):
    theirs = parse_jwe(writer.seal_rsa(b"words", exchange.key.public_key()), KeyAgreement.RSA)
    assert open_with_key(theirs, exchange.key) == b"words"
    ours = seal_to_key(
        b"words", exchange.key.public_key(), content_key=CEK, iv=bytes(16), kid="not used"
    )
    assert writer.unseal(ours.to_text(), exchange.key.decrypt(ours.wrapped_key, writer.OAEP))


def test_another_key_opens_nothing(writer, exchange, people):
    jwe = parse_jwe(writer.seal_rsa(b"words", exchange.key.public_key()), KeyAgreement.RSA)
    with pytest.raises(CeremonyError, match="this key does not open it"):
        open_with_key(jwe, people[0].key)


def test_a_key_of_another_size_is_told_by_its_size(writer, exchange):
    jwe = parse_jwe(writer.seal_rsa(b"words", exchange.key.public_key()), KeyAgreement.RSA)
    with pytest.raises(CeremonyError, match="2048 bits; this key has 3072"):
        open_with_key(jwe, writer.person(1, bits=3072).key)


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_a_content_key_of_another_length_is_refused(writer, exchange, size):
    wrapped = exchange.key.public_key().encrypt(bytes(size), writer.OAEP)
    header = {"alg": "RSA-OAEP-256", "enc": "A256CBC-HS512", "kid": "x"}
    jwe = parse_jwe(writer.seal(b"words", CEK, header, wrapped), KeyAgreement.RSA)
    with pytest.raises(CeremonyError, match=f"content key has {size} bytes, not 64"):
        open_with_key(jwe, exchange.key)


def test_one_flipped_bit_of_the_vector_is_refused(writer):
    sealed = writer.seal_direct(b"hello security domain", CEK, "tag")
    with pytest.raises(CeremonyError, match="tag does not verify"):
        open_direct(parse_direct(writer.flip(sealed, 2, 0, 1)), CEK)


@pytest.mark.parametrize("size", [0, 1, 16, 31, 33, 64])
def test_a_tag_of_any_length_but_32_is_refused(writer, size):
    segments = writer.seal_direct(b"words", CEK, "tag").split(".")
    segments[4] = writer.b64((writer.unb64(segments[4]) * 2)[:size])
    with pytest.raises(CeremonyError, match=f"tag has {size} bytes, not 32"):
        parse_direct(".".join(segments))


@pytest.mark.parametrize("size", [0, 12, 15, 17])
def test_a_vector_of_any_length_but_16_is_refused(writer, size):
    segments = writer.seal_direct(b"words", CEK, "tag").split(".")
    segments[2] = writer.b64(bytes(size))
    with pytest.raises(CeremonyError, match=f"vector has {size} bytes, not 16"):
        parse_direct(".".join(segments))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"alg": "RSA-OAEP-256", "enc": "A256CBC-HS512", "kid": "tag"}, "'alg' is 'RSA-OAEP-256'"),
        ({"alg": "dir", "enc": "A256GCM", "kid": "tag"}, "'enc' is 'A256GCM'"),
        ({"alg": "dir", "enc": "A256CBC-HS512", "kid": "other"}, "'other', not 'tag'"),
        ({"alg": "dir", "enc": "A256CBC-HS512"}, "no member 'kid'"),
        ({"alg": "dir", "enc": "A256CBC-HS512", "kid": 3}, "'kid' is not a string"),
        ({"alg": None, "enc": "A256CBC-HS512", "kid": "tag"}, "'alg' is something else"),
        ({"alg": "dir", "enc": "A256CBC-HS512", "kid": "tag", "zip": "DEF"}, "unknown member"),
        ({"alg": "dir", "enc": "A256CBC-HS512", "kid": "tag", "crit": []}, "unknown member"),
    ],
)
def test_a_header_that_says_anything_else_is_refused(writer, header, message):
    with pytest.raises(CeremonyError, match=message):
        parse_direct(writer.seal(b"words", CEK, header))


def test_the_order_of_header_members_is_free_since_the_tag_covers_the_text(writer):
    sealed = writer.seal(b"words", CEK, {"kid": "tag", "enc": "A256CBC-HS512", "alg": "dir"})
    assert open_direct(parse_direct(sealed), CEK) == b"words"


def test_a_header_rewritten_with_the_same_meaning_does_not_verify(writer):
    segments = writer.seal_direct(b"words", CEK, "tag").split(".")
    spaced = json.dumps(json.loads(writer.unb64(segments[0]))).encode()
    segments[0] = writer.b64(spaced)
    with pytest.raises(CeremonyError, match="tag does not verify"):
        open_direct(parse_direct(".".join(segments)), CEK)


@pytest.mark.parametrize("text", ["", "a.b.c.d", "....", ".....", "x" * 600_000])
def test_what_is_no_compact_jwe_is_refused(text):
    with pytest.raises(CeremonyError):
        parse_direct(text)


def test_a_wrapped_key_where_none_belongs_is_refused(writer):
    header = {"alg": "dir", "enc": "A256CBC-HS512", "kid": "tag"}
    with pytest.raises(CeremonyError, match="not empty"):
        parse_direct(writer.seal(b"words", CEK, header, wrapped=b"x"))


def test_a_ciphertext_that_is_not_whole_blocks_is_refused(writer):
    segments = writer.seal_direct(b"words", CEK, "tag").split(".")
    segments[3] = writer.b64(bytes(31))
    with pytest.raises(CeremonyError, match="31 bytes, not whole AES blocks"):
        parse_direct(".".join(segments))


def test_authentic_bytes_with_wrong_padding_are_refused(writer, monkeypatch):
    monkeypatch.setattr(writer, "bytes", lambda _pad: b"\x00", raising=False)
    sealed = writer.seal_direct(b"fifteen letters", CEK, "tag")
    with pytest.raises(CeremonyError, match="padding is wrong"):
        open_direct(parse_direct(sealed), CEK)
