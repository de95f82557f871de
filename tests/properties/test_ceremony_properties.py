"""Properties of the ceremony: any quorum combines, no altered byte gets through."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drengine.ceremony import strict
from drengine.ceremony.blob import inspect_restore_blob
from drengine.ceremony.compact import KeyAgreement, parse_jwe
from drengine.ceremony.domain import parse_security_domain
from drengine.ceremony.jose import open_direct, open_with_key
from drengine.ceremony.rewrap import make_restore_blob
from drengine.ceremony.shamir import PRIME, Share, combine, recover
from drengine.ceremony.unseal import open_domain, open_share
from drengine.errors import CeremonyError, DomainError, InputFileError

CEK = bytes(range(64))
UNHURRIED = settings(deadline=None, max_examples=60)


def load_writer():
    name = "ceremony_domain_writer"
    if name not in sys.modules:
        place = Path(__file__).parents[1] / "unit" / "ceremony" / "domain_writer.py"
        spec = importlib.util.spec_from_file_location(name, place)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


writer = load_writer()
field_element = st.integers(0, PRIME - 1)


@st.composite
def polynomials(draw, required):
    secret = draw(st.binary(min_size=32, max_size=32))
    row = st.lists(field_element, min_size=required - 1, max_size=required - 1)
    return [[byte, *draw(row)] for byte in secret]


@st.composite
def dealt(draw, surplus=0):
    """A sharing, and some of its shares in any order, at least `surplus` over the quorum."""
    required = draw(st.integers(2, 10 - surplus))
    total = draw(st.integers(max(3, required + surplus), 10))
    rows = draw(polynomials(required))
    numbers = draw(st.permutations(range(1, total + 1)))
    taken = draw(st.integers(required + surplus, total))
    shares = [
        Share.from_bytes(writer.share_words(rows, x), f"custodian {x}") for x in numbers[:taken]
    ]
    return bytes(row[0] for row in rows), required, shares


@given(dealt())
@UNHURRIED
def test_any_quorum_in_any_order_gives_the_secret(sharing):
    secret, required, shares = sharing
    assert combine(shares, required) == secret


@given(st.binary(min_size=32, max_size=32), st.integers(1, 10), st.data())
@UNHURRIED
def test_a_share_whose_values_are_all_256_is_read_and_combined(secret, number, data):
    slope = [(256 - byte) * pow(number, -1, PRIME) % PRIME for byte in secret]
    rows = [[byte, first] for byte, first in zip(secret, slope, strict=True)]
    other = data.draw(st.integers(1, 10).filter(lambda x: x != number))
    shares = [Share.from_bytes(writer.share_words(rows, x), "x") for x in (number, other)]
    assert set(shares[0].values) == {256}
    assert combine(shares, 2) == secret


@given(st.integers(1, 126), st.lists(field_element, min_size=32, max_size=32))
@UNHURRIED
def test_a_share_has_one_spelling(x, values):
    share = Share("holder", x, tuple(values))
    assert Share.from_bytes(share.to_bytes(), "holder") == share


@given(dealt(surplus=1), st.data())
@UNHURRIED
def test_a_wrong_share_is_named_when_one_more_than_the_quorum_is_there(sharing, data):
    secret, required, shares = sharing
    wrong = data.draw(st.integers(0, len(shares) - 1))
    byte = data.draw(st.integers(0, 31))
    delta = data.draw(st.integers(1, PRIME - 1))
    values = list(shares[wrong].values)
    values[byte] = (values[byte] + delta) % PRIME
    shares[wrong] = Share(shares[wrong].holder, shares[wrong].x, tuple(values))
    found = recover(shares, required, lambda key: key == secret)
    assert found is not None
    assert found.secret == secret
    assert found.wrong_holders == (shares[wrong].holder,)


def altered(text, data):
    """The JWE with one byte of one decoded segment changed; never the empty one."""
    segments = [n for n, segment in enumerate(text.split(".")) if segment]
    segment = data.draw(st.sampled_from(segments))
    byte = data.draw(st.integers(0, len(writer.unb64(text.split(".")[segment])) - 1))
    return writer.flip(text, segment, byte, data.draw(st.integers(1, 255)))


@given(st.binary(max_size=100), st.data())
@settings(deadline=None, max_examples=300)
def test_an_altered_byte_of_a_direct_jwe_never_opens(plaintext, data):
    sealed = writer.seal_direct(plaintext, CEK, "tag")
    assert open_direct(parse_jwe(sealed, KeyAgreement.DIRECT, kid="tag"), CEK) == plaintext
    with pytest.raises(CeremonyError):
        open_direct(parse_jwe(altered(sealed, data), KeyAgreement.DIRECT), CEK)


@given(st.binary(max_size=100), st.data())
@UNHURRIED
def test_an_altered_byte_of_a_share_never_opens(plaintext, data):
    key = writer.person(1).key
    sealed = writer.seal_rsa(plaintext, key.public_key())
    with pytest.raises(CeremonyError):
        open_with_key(parse_jwe(altered(sealed, data), KeyAgreement.RSA), key)


@given(st.binary(max_size=64), st.integers(0, 4), st.integers(1, 8), st.data())
@UNHURRIED
def test_a_cut_or_grown_segment_never_opens(plaintext, segment, count, data):
    segments = writer.seal_direct(plaintext, CEK, "tag").split(".")
    raw = writer.unb64(segments[segment])
    cut = raw[:-count] if data.draw(st.booleans()) and raw else raw + bytes(count)
    segments[segment] = writer.b64(cut)
    with pytest.raises(CeremonyError):
        open_direct(parse_jwe(".".join(segments), KeyAgreement.DIRECT), CEK)


@given(st.data())
@settings(deadline=None, max_examples=25)
def test_any_quorum_of_any_domain_gives_a_blob_that_holds_the_same_parts(data):
    total = data.draw(st.integers(3, 10))
    required = data.draw(st.integers(2, total))
    people = [writer.person(number) for number in range(1, total + 1)]
    parts = {tag: data.draw(st.binary(max_size=200)) for tag in writer.PARTS}
    parts.update(
        data.draw(
            st.dictionaries(st.from_regex(r"\A[a-z_]{1,20}\Z"), st.binary(max_size=40), max_size=2)
        )
    )
    domain = writer.write_domain(people, required, parts, data.draw(polynomials(required)))
    parsed = parse_security_domain(domain.data)
    chosen = data.draw(st.permutations(people))[: data.draw(st.integers(required, total))]
    shares = [open_share(parsed, one.certificate, one.key) for one in chosen]
    exchange = writer.person(99)
    blob = make_restore_blob(open_domain(parsed, shares), exchange.certificate, os.urandom)
    assert writer.open_blob(blob, exchange) == parts
    assert inspect_restore_blob(blob).tags == tuple(parts)


PEOPLE = [writer.person(number) for number in (1, 2, 3)]
FROZEN = writer.write_domain(PEOPLE, 2, {tag: tag.encode() for tag in writer.PARTS})


@given(st.integers(0, len(FROZEN.data) - 1), st.integers(1, 255))
@settings(deadline=None, max_examples=300)
def test_a_changed_byte_of_the_file_gives_a_named_error_or_the_same_parts(at, mask):
    data = bytearray(FROZEN.data)
    data[at] ^= mask
    try:
        opened = open_with_two(bytes(data))
    except CeremonyError:
        return
    assert opened == FROZEN.parts


def open_with_two(data):
    parsed = parse_security_domain(data)
    shares = [open_share(parsed, one.certificate, one.key) for one in PEOPLE[:2]]
    return {part.tag: part.plaintext for part in open_domain(parsed, shares)}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["EncData", "SharedKeys", "data", "kdf", "version", "tag", "required"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
@settings(deadline=None, max_examples=300)
def test_foreign_bytes_only_ever_give_the_named_error(data):
    with pytest.raises(DomainError):
        parse_security_domain(data)
    with pytest.raises(InputFileError):
        inspect_restore_blob(data)


@given(st.text(alphabet="AZaz09-_=+/. \n", max_size=12))
@UNHURRIED
def test_base64url_text_that_is_read_is_the_one_that_would_be_written(text):
    try:
        data = strict.decode_base64url(text, "it")
    except CeremonyError:
        return
    assert strict.encode_base64url(data) == text
