"""Codes, canonical messages, requests and transcripts: pure values."""

from __future__ import annotations

import dataclasses
import json

import pytest

from drengine.ceremony.code import _WORDS, code_of, is_code_of, words_of
from drengine.ceremony.fields import read_canonical
from drengine.ceremony.request import CeremonyRequest, Invited, check_request, parse_request
from drengine.ceremony.transcript import Transcript, read_transcript
from drengine.errors import CeremonyError, InputFileError, QuorumError, VerificationError

DIGEST = "00ff7f80" * 8
X5T = [f"{letter}" * 42 + "A" for letter in "abc"]


def request_of(**changed):
    made = CeremonyRequest(
        ceremony="c-1",
        run_class="drill",
        purpose="drill 7",
        run="",
        step="",
        target="t",
        exchange_x5t_256="e" * 42 + "A",
        exchange_subject="CN=t",
        domain_sha256="0" * 64,
        required=2,
        custodians=tuple(Invited(one) for one in X5T),
        combiner="Olga",
        combiner_host="host 1",
        combiner_key=b"k" * 422,
        combiner_signs=b"s" * 32,
        witnesses=(),
        opened_ms=1000,
        expires_ms=2000,
        tool_version="1",
        tool_sha256="0" * 64,
    )
    return dataclasses.replace(made, **changed)


def test_the_words_are_256_and_told_apart_by_four_letters():
    assert len(_WORDS) == 256
    assert len({word[:4] for word in _WORDS}) == 256


def test_a_code_has_96_bits_and_may_be_typed_in_many_ways():
    code = code_of(DIGEST)
    assert code == "00ff 7f80 00ff 7f80 00ff 7f80"
    for typed in (code, code.replace(" ", ""), code.upper(), code.replace(" ", "-")):
        assert is_code_of(typed, DIGEST)
    words = words_of(DIGEST)
    assert is_code_of(words, DIGEST)
    assert is_code_of(" ".join(word[:4] for word in words.split()), DIGEST)


@pytest.mark.parametrize("typed", ["", " ", "yes", "00ff 7f80", "x" * 24, "ünd " * 12, "acorn"])
def test_anything_else_is_not_the_code(typed):
    assert not is_code_of(typed, DIGEST)


def test_swapped_words_are_not_the_code():
    words = words_of(DIGEST).split()
    words[0], words[1] = words[1], words[0]
    assert not is_code_of(" ".join(words), DIGEST)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"a":1,"type":"k"}', None),
        (b'{"a":1,"type":"k"}\n', None),
        (b'{"a": 1,"type":"k"}', "canonical form"),
        (b'{"type":"k","a":1}', "canonical form"),
        (b'{"a":1,"b":2,"type":"k"}', "unknown member 'b'"),
        (b'{"type":"k"}', "no member 'a'"),
        (b'{"a":1,"type":"other"}', "knows only 'k'"),
        (b'{"a":1.5,"type":"k"}', "not an integer"),
        (b'{"a":1,"a":1,"type":"k"}', "twice"),
        (b"[]", "not a message"),
        (b"\xff", "not UTF-8"),
        (b'{"a":"' + b"x" * 100 + b'","type":"k"}', "at most 64"),
    ],
)
def test_a_message_is_canonical_or_refused(data, words):
    if words is None:
        assert read_canonical(data, "k", ("a",), max_bytes=64).number("a", least=0, most=2) == 1
        return
    with pytest.raises(CeremonyError, match=words):
        read_canonical(data, "k", ("a",), max_bytes=64)


def test_a_request_comes_back_as_it_was_written():
    made = request_of(witnesses=("Wanda",), run="r-1", step="s")
    assert parse_request(made.to_bytes()) == made
    assert parse_request(made.to_bytes()).digest == made.digest


def test_a_request_of_ten_custodians_fits_one_qr_code():
    from drengine.ceremony.qr import MAX_CODE_BYTES, png_code, terminal_code

    names = [
        Invited(f"{n}" * 42 + "A", f"Custodian Number {n}", bytes([n]) * 32) for n in range(10)
    ]
    data = request_of(custodians=tuple(names), witnesses=("Wanda",)).to_bytes()
    assert len(data) <= MAX_CODE_BYTES
    assert png_code(data).startswith(b"\x89PNG")
    assert len(terminal_code(data).splitlines()) > 60
    with pytest.raises(CeremonyError, match="one QR code holds"):
        png_code(b"x" * (MAX_CODE_BYTES + 1))


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"run_class": "incident"}, CeremonyError, "needs a witness"),
        ({"witnesses": ("olga",)}, CeremonyError, "witness is also combiner"),
        ({"witnesses": ("W", "w ")}, CeremonyError, "named twice"),
        ({"custodians": (Invited(X5T[0], "OLGA"),)}, CeremonyError, "is one of the custodians"),
        ({"custodians": (Invited(X5T[0]),) * 2}, QuorumError, "twice"),
        ({"expires_ms": 1000}, CeremonyError, "no time at all"),
        ({"expires_ms": 10**12}, CeremonyError, "more than seven days"),
    ],
)
def test_a_request_that_breaks_dual_control_is_refused(changed, error, words):
    with pytest.raises(error, match=words):
        check_request(request_of(**changed))


def test_a_request_with_hidden_characters_is_refused():
    made = request_of(target="contoso\u202ehsm")
    with pytest.raises(InputFileError, match="'target' is empty, too long, or hides"):
        parse_request(made.to_bytes())


def transcript_of(*texts):
    made = Transcript()
    for number, text in enumerate(texts):
        made.append("deviation", "Olga", {"text": text}, 1000 + number)
    return made


def test_a_transcript_comes_back_and_its_lines_chain():
    data = transcript_of("one", "two", "three").to_bytes()
    assert read_transcript(data).to_bytes() == data
    assert [entry["seq"] for entry in json.loads(data)["entries"]] == [0, 1, 2]


def test_a_clock_that_goes_back_does_not_turn_the_order():
    made = transcript_of("one")
    assert made.append("deviation", "Olga", {"text": "two"}, 5).at_ms == 1000


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80])
def test_every_changed_byte_of_a_transcript_is_refused(mask):
    data = transcript_of("one", "two").to_bytes()
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= mask
        with pytest.raises(VerificationError):
            read_transcript(bytes(changed))


def test_a_transcript_without_its_middle_is_refused():
    made = transcript_of("one", "two", "three")
    del made.entries[1]
    with pytest.raises(VerificationError, match="does not follow"):
        read_transcript(made.to_bytes())
