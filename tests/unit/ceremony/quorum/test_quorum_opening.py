"""What `open` refuses before there is a code: a request that custodians could not use."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from drengine.ceremony.contribution import HolderFacts
from drengine.ceremony.opening import Occasion, make_request
from drengine.ceremony.register import Enrolment, Register
from drengine.ceremony.registry import verified_enrolment
from drengine.ceremony.request import MAX_REQUEST_BYTES, parse_request
from drengine.ceremony.signing import public_bytes
from drengine.errors import CeremonyError, QuorumError

NOW = 1_800_000_000_000
LONG = "日" * 240


@pytest.fixture(scope="module")
def one_time():
    public = rsa.generate_private_key(65537, 3072).public_key()
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(scope="module")
def keys():
    return [Ed25519PrivateKey.generate() for _ in range(3)]


@pytest.fixture
def make(domain, exchange, one_time):
    def asked(register=None, run_class="drill", *, host="host 1", **occasion):
        given = {"combiner": "Olga", "witnesses": ("Wanda",), "purpose": "p", **occasion}
        return make_request(
            Occasion(run_class, target="t", valid_ms=3_600_000, **given),
            domain=domain.data,
            exchange_certificate=exchange.certificate_pem,
            register=Register() if register is None else register,
            combiner_key=one_time,
            combiner_signs=bytes(32),
            host=host,
            now_ms=NOW,
            tool={"version": "0", "files_sha256": "0" * 64},
        )

    return asked


def entry(person, key, name, at_ms=NOW - 10_000):
    held = HolderFacts("pem", encrypted=True)
    made = Enrolment(name, person.x5t, person.der, held, "-", "-", public_bytes(key), at_ms)
    signed = replace(made, signature=key.sign(made.signed_bytes()))
    return replace(signed, file=f"custodian-{name[:9]}-{at_ms}.json")


@pytest.fixture
def entries(people, keys):
    return [
        entry(person, key, name)
        for person, key, name in zip(people, keys, ("Ada", "Ben", "Cleo"), strict=False)
    ]


def test_an_incident_without_a_register_wants_a_word(make):
    with pytest.raises(QuorumError, match=r"no --register was given, so that none of the 3") as no:
        make(run_class="incident")
    assert "--register" in no.value.hint
    assert "--accept-unenrolled" in no.value.hint
    assert len(make(run_class="incident", accept_unenrolled=True).unenrolled) == 3
    assert len(make().unenrolled) == 3


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"run": "r" * 241}, "'run'"),
        ({"step": "a\tb"}, "'step'"),
        ({"witnesses": tuple(f"W{number}" for number in range(9))}, "'witnesses'"),
        ({"host": "h" * 241}, "'combiner.host'"),
    ],
)
def test_a_request_that_nobody_could_read_is_not_opened(make, given, named):
    with pytest.raises(CeremonyError, match="custodians could not read the request") as refused:
        make(**given)
    assert named in refused.value.message
    assert "nothing was opened" in refused.value.message


def test_brackets_in_texts_are_text(make, entries, people, keys):
    """One name with many brackets made the request unreadable for all the others."""
    bracketed = entry(people[0], keys[0], "Ada " + "[" * 200, NOW - 500)
    assert verified_enrolment(bracketed.to_bytes()).name == bracketed.name
    request = make(Register((*entries, bracketed)), purpose="{" * 200)
    assert parse_request(request.to_bytes()) == request


def test_the_longest_names_and_texts_fit_into_a_request(make, people, keys):
    register = Register(
        tuple(
            entry(person, key, f"{number}{LONG[1:]}")
            for number, (person, key) in enumerate(zip(people, keys, strict=False))
        )
    )
    request = make(
        register,
        purpose=LONG,
        run=LONG,
        step=LONG,
        host=LONG,
        combiner=f"c{LONG[1:]}",
        witnesses=tuple(f"{number}w{LONG[2:]}" for number in range(8)),
    )
    assert parse_request(request.to_bytes()) == request
    ten = replace(request, custodians=request.custodians * 3 + request.custodians[:1])
    assert len(ten.to_bytes()) < MAX_REQUEST_BYTES


def test_who_took_anothers_name_is_named_with_the_files(make, entries, people, keys):
    """Ada calls herself Ben, by her own key: every open was refused without a word of whom."""
    renamed = entry(people[0], keys[0], "Ben", NOW - 500)
    with pytest.raises(QuorumError, match="the name 'Ben' twice") as refused:
        make(Register((*entries, renamed)))
    for person in people[:2]:
        assert person.x5t in refused.value.message
    assert renamed.file in refused.value.hint
    assert entries[1].file in refused.value.hint
    assert entries[2].file not in refused.value.hint


@pytest.mark.parametrize("name", ["Olga", "Wanda"])
def test_who_took_the_combiners_or_a_witness_name_is_named(make, entries, people, keys, name):
    renamed = entry(people[0], keys[0], name, NOW - 500)
    with pytest.raises(CeremonyError, match="nobody is both") as refused:
        make(Register((*entries, renamed)))
    assert people[0].x5t in refused.value.message
    assert renamed.file in refused.value.hint


def test_another_name_within_one_line_is_a_remark(entries, people, keys):
    register = Register((*entries, entry(people[0], keys[0], "Dora", NOW - 500)))
    (told,) = register.remarks(NOW)
    for word in (people[0].x5t, "'Ada'", "'Dora'", entries[0].file, "custodian-Dora"):
        assert word in told
    spelled = Register((*entries, entry(people[0], keys[0], "ADA", NOW - 500)))
    assert spelled.remarks(NOW) == ()
