"""Who may replace an entry of the register, and what a wrong or lying clock is worth."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from drengine.ceremony.challenges import seal_challenge
from drengine.ceremony.contribution import HolderFacts
from drengine.ceremony.entering import require_following, require_open, time_for
from drengine.ceremony.opening import Occasion, make_request
from drengine.ceremony.readiness import DAY_MS, judge
from drengine.ceremony.register import Enrolment, Proof, Register
from drengine.ceremony.registry import add_to_register, read_register
from drengine.ceremony.signing import public_bytes
from drengine.errors import CeremonyError, InputFileError, QuorumError

NOW = 1_800_000_000_000
FAR = 253_402_300_799_999
MINUTE = 60_000
HELD = HolderFacts("pem", encrypted=True)


def entry(person, key, at_ms=NOW - DAY_MS, name="Ada", earlier=None):
    made = Enrolment(name, person.x5t, person.der, HELD, "-", "-", public_bytes(key), at_ms)
    if earlier is not None:
        made = replace(made, replaced_key=public_bytes(earlier))
        made = replace(made, consent=earlier.sign(made.consent_bytes()))
    return replace(made, signature=key.sign(made.signed_bytes()))


def proof(person, key, at_ms=NOW - DAY_MS, *, challenger="self", nonce=None):
    made = Proof(
        person.x5t, nonce or os.urandom(32), challenger, HELD, public_bytes(key), at_ms=at_ms
    )
    return replace(made, signature=key.sign(made.signed_bytes()))


@pytest.fixture
def ada(people):
    return people[0]


@pytest.fixture
def keys():
    return [Ed25519PrivateKey.generate() for _ in range(3)]


@pytest.fixture
def write(tmp_path):
    """Write documents into a register and read it back, as the commands do."""

    def into(*documents):
        for document in documents:
            add_to_register(tmp_path / "register", document)
        return read_register(tmp_path / "register")

    return into


def standing(register, person, now_ms=NOW):
    return judge(2, [person.x5t], register, now_ms=now_ms, max_days=365).custodians[0]


def test_an_entry_dated_9999_takes_over_nothing_and_is_told(write, ada, keys):
    """The proof of the review: no key of Ada's was used for the second entry."""
    genuine = entry(ada, keys[0])
    register = write(genuine, proof(ada, keys[0]))
    register = write(entry(ada, keys[1], FAR, "Mallory"), proof(ada, keys[1], FAR))
    assert register.of(ada.x5t, NOW) == genuine
    found = standing(register, ada)
    assert (found.name, found.word) == ("Ada", "ready")
    told = register.remarks(NOW)
    assert len(told) == 2
    assert all("dated 9999-12-31T23:59:59Z, after this machine's clock" in one for one in told)


@pytest.mark.parametrize("at_ms", [0, NOW - 2 * DAY_MS, NOW - MINUTE])
def test_another_key_without_consent_makes_neither_count(write, ada, keys, at_ms):
    """Dates are what the writer says: the forged entry may well be the older one."""
    register = write(entry(ada, keys[0]), proof(ada, keys[0]))
    register = write(entry(ada, keys[1], at_ms, "Mallory"), proof(ada, keys[1], at_ms))
    assert register.of(ada.x5t, NOW) is None
    assert standing(register, ada).word == "contested"
    (told,) = register.remarks(NOW)
    for word in ("Ada", "Mallory", "two signing keys", "deleted the wrong file", "custodian-"):
        assert word in told
    with pytest.raises(CeremonyError, match="two signing keys"):
        require_open(register, ada.x5t, NOW, another=False)


def test_the_key_before_consents_to_the_next(write, ada, keys):
    second = entry(ada, keys[1], NOW - 2 * MINUTE, "Ada Lovelace", earlier=keys[0])
    third = entry(ada, keys[2], NOW - MINUTE, "Ada Lovelace", earlier=keys[1])
    register = write(entry(ada, keys[0]), second, third)
    assert register.of(ada.x5t, NOW) == third
    (renamed,) = register.remarks(NOW)
    assert "is enrolled for 'Ada Lovelace'" in renamed
    require_following(register, entry(ada, keys[2], NOW))
    with pytest.raises(CeremonyError, match="that key has not signed") as refused:
        require_following(register, entry(ada, keys[1], NOW))
    assert "--old-signing-key" in refused.value.hint
    assert third.file == ""
    assert "custodian-" in refused.value.hint


def test_a_key_counts_until_it_was_replaced_and_no_longer(ada, keys):
    """A transcript is held against the key of its time: neither today's, nor any ever enrolled."""
    first, second = entry(ada, keys[0], NOW - DAY_MS), entry(ada, keys[1], NOW, earlier=keys[0])
    register = Register((second, first))

    def counted(at_ms):
        return register.line(ada.x5t, at_ms).keys_at(at_ms)

    assert counted(NOW - 2 * DAY_MS) == frozenset()
    assert counted(NOW - 6 * MINUTE) == {first.key}
    assert counted(NOW) == {first.key, second.key}  # clocks differ by minutes
    assert counted(NOW + 5 * MINUTE) == {second.key}


def test_a_replaced_key_consents_to_nothing_more(write, ada, keys):
    """Whoever finds the key that was replaced makes noise with it, and no entry that counts."""
    second = entry(ada, keys[1], NOW - 2 * MINUTE, earlier=keys[0])
    register = write(entry(ada, keys[0]), second)
    assert register.of(ada.x5t, NOW) == second
    register = write(entry(ada, keys[2], NOW - MINUTE, "Mallory", earlier=keys[0]))
    assert register.of(ada.x5t, NOW) is None
    assert "Mallory" in register.remarks(NOW)[0]


def test_the_same_key_may_change_place_and_contact_alone(write, ada, keys):
    moved = replace(entry(ada, keys[0], NOW), location="safe 9", signature=b"")
    moved = replace(moved, signature=keys[0].sign(moved.signed_bytes()))
    register = write(entry(ada, keys[0]))
    require_following(register, moved)
    assert write(moved).of(ada.x5t, NOW) == moved


def test_a_lost_key_is_replaced_after_the_keeper_took_the_old_entry_out(write, ada, keys, tmp_path):
    register = write(entry(ada, keys[0]))
    with pytest.raises(CeremonyError, match="that key has not signed"):
        require_open(register, ada.x5t, NOW, another=True)
    (old,) = (tmp_path / "register").glob("custodian-*")
    old.unlink()
    fresh = entry(ada, keys[1], NOW)
    assert write(fresh).of(ada.x5t, NOW) == fresh


def test_a_consent_that_is_not_the_keys_is_refused(write, ada, keys):
    forged = replace(entry(ada, keys[1]), replaced_key=public_bytes(keys[0]), consent=bytes(64))
    forged = replace(forged, signature=keys[1].sign(forged.signed_bytes()))
    with pytest.raises(InputFileError, match="consent of the signing key before does not verify"):
        write(forged)


def test_a_consent_for_one_entry_serves_no_other(write, ada, keys):
    given = entry(ada, keys[1], earlier=keys[0])
    stolen = replace(given, key=public_bytes(keys[2]), signature=b"")
    stolen = replace(stolen, signature=keys[2].sign(stolen.signed_bytes()))
    with pytest.raises(InputFileError, match="consent of the signing key before does not verify"):
        write(stolen)


def test_an_entry_of_the_earlier_form_says_what_to_do(write, ada, keys, tmp_path):
    write(entry(ada, keys[0]))
    (path,) = (tmp_path / "register").glob("custodian-*")
    path.write_bytes(path.read_bytes().replace(b"ceremony-enrolment/v2", b"ceremony-enrolment/v1"))
    with pytest.raises(InputFileError, match="form of an earlier drengine") as refused:
        read_register(tmp_path / "register")
    assert "ceremony enroll" in refused.value.hint


def test_a_slower_clock_writes_its_entry_after_those_that_count(ada, keys):
    register = Register((entry(ada, keys[0], NOW + MINUTE), entry(ada, keys[0], FAR)))
    assert time_for(register, NOW) == NOW + MINUTE + 1


# Proofs and challenges


def challenged(person, at_ms, nonce):
    from cryptography import x509

    drawn = iter([nonce])
    return seal_challenge(
        x509.load_der_x509_certificate(person.der),
        lambda size: next(drawn, None) or os.urandom(size),
        at_ms=at_ms,
    )


def test_a_nonce_said_again_is_as_old_as_its_challenge(write, ada, keys):
    """The proof of the review: the key is lost, its old nonce stands readable in the register."""
    nonce, then = os.urandom(32), NOW - 400 * DAY_MS
    register = write(
        entry(ada, keys[0], then),
        challenged(ada, then, nonce),
        proof(ada, keys[0], then, challenger="register", nonce=nonce),
    )
    assert standing(register, ada, then).challenged
    register = write(proof(ada, keys[0], NOW, challenger="register", nonce=nonce))
    found = standing(register, ada)
    assert (found.word, found.days) == ("overdue", 400)


def test_a_challenge_that_is_copied_with_a_later_date_is_as_old_as_the_first(write, ada, keys):
    nonce, then = os.urandom(32), NOW - 400 * DAY_MS
    first = challenged(ada, then, nonce)
    register = write(
        entry(ada, keys[0], then),
        first,
        replace(first, at_ms=NOW),
        proof(ada, keys[0], NOW, challenger="register", nonce=nonce),
    )
    assert standing(register, ada).word == "overdue"


def test_the_challenge_of_another_custodian_proves_nothing(write, people, keys):
    ada, ben = people[:2]
    nonce = os.urandom(32)
    register = write(
        entry(ada, keys[0]),
        challenged(ben, NOW - DAY_MS, nonce),
        proof(ada, keys[0], challenger="register", nonce=nonce),
    )
    found = standing(register, ada)
    assert (found.word, found.challenged) == ("never proved", False)
    assert "answers a challenge that is not in the register" in register.remarks(NOW)[0]


def test_a_proof_dated_after_now_says_clock_wrong(write, ada, keys):
    register = write(entry(ada, keys[0]), proof(ada, keys[0], NOW + 730 * DAY_MS))
    found = standing(register, ada)
    assert (found.word, found.days) == ("clock wrong", None)
    assert "after this machine's clock" in register.remarks(NOW)[0]
    assert standing(register, ada, NOW + 730 * DAY_MS).word == "ready"
    within = write(proof(ada, keys[0], NOW + 4 * MINUTE))
    assert standing(within, ada).word == "ready"


def test_a_challenge_dated_after_now_says_clock_wrong(write, ada, keys):
    nonce = os.urandom(32)
    register = write(
        entry(ada, keys[0]),
        challenged(ada, NOW + DAY_MS, nonce),
        proof(ada, keys[0], NOW, challenger="register", nonce=nonce),
    )
    assert standing(register, ada).word == "clock wrong"


def test_an_entry_dated_after_now_says_clock_wrong(write, ada, keys):
    register = write(entry(ada, keys[0], NOW + DAY_MS))
    found = standing(register, ada)
    assert (found.name, found.word) == ("Ada", "clock wrong")


# Opening a ceremony with a register


@pytest.fixture
def ask(domain, exchange):
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    one_time = rsa.generate_private_key(65537, 3072).public_key()

    def make(register, run_class="drill", **occasion):
        given = {"combiner": "Olga", "witnesses": ("Wanda",), **occasion}
        return make_request(
            Occasion(run_class, "drill 7", "contoso-dr", valid_ms=MINUTE, **given),
            domain=domain.data,
            exchange_certificate=exchange.certificate_pem,
            register=register,
            combiner_key=one_time.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            combiner_signs=bytes(32),
            host="offline",
            now_ms=NOW,
            tool={"version": "0", "files_sha256": "0" * 64},
        )

    return make


def test_an_incident_wants_everybody_enrolled_or_a_word(ask, people, keys):
    register = Register((entry(people[0], keys[0]), entry(people[1], keys[1], name="Ben")))
    assert [one.name for one in ask(register).custodians] == ["Ada", "Ben", ""]
    with pytest.raises(QuorumError, match="1 of 3 custodians are not enrolled") as refused:
        ask(register, "incident")
    assert people[2].x5t in refused.value.message
    assert "--accept-unenrolled" in refused.value.hint
    assert ask(register, "incident", accept_unenrolled=True).custodians[2].key == b""


@pytest.mark.parametrize("run_class", ["drill", "incident"])
def test_nobody_is_invited_by_a_contested_entry(ask, people, keys, run_class):
    forged = entry(people[0], keys[1], 0, "Mallory")
    with pytest.raises(QuorumError, match="two signing keys"):
        ask(Register((entry(people[0], keys[0]), forged)), run_class, accept_unenrolled=True)


# Names

NFC = unicodedata.normalize("NFC", "José Núñez")
NFD = unicodedata.normalize("NFD", NFC)


def test_one_name_typed_on_two_keyboards_is_one_person(ask, people, keys):
    register = Register((entry(people[0], keys[0], name=NFC),))
    with pytest.raises(CeremonyError, match="is one of the custodians"):
        ask(register, combiner=NFD)
    with pytest.raises(CeremonyError, match="a witness is also combiner or custodian"):
        ask(register, witnesses=(NFD.upper(),))


HIDDEN = ["\u3164", "\ufe0f", "\u034f", "\U000e0101", "\u2800", "\u200d"]
HIDDEN += ["\U0001d159", "\U00016fe4", "\U00013441", "\U00013442"]


@pytest.mark.parametrize("hidden", HIDDEN)
def test_a_name_with_characters_that_do_not_show_is_refused(ask, hidden):
    with pytest.raises(CeremonyError, match="hides some"):
        ask(Register(), combiner=f"Olga{hidden}")


def test_names_are_compared_as_people_read_them():
    from drengine.ceremony.request import same_person

    assert same_person(NFC) == same_person(f"  {NFD.upper()} ") == same_person(f"{NFD}\u3164")
    assert same_person("\uff2f\uff4c\uff47\uff41\u3000\uff2d") == same_person("olga  m")
    assert same_person("\u2121 Ada") == same_person("tel ada")  # a compatibility capital
    assert same_person("Olga\U0001d159") == same_person("Olga\U00016fe4") == same_person("olga")
    assert same_person("Straße") == same_person("STRASSE")
    assert same_person("José") != same_person("Jose")


# The folder


def test_a_folder_in_which_nobody_is_enrolled_checks_nothing(write, ada, keys, tmp_path):
    write(entry(ada, keys[0]))
    for wrong in (tmp_path, tmp_path / "register" / "inside"):
        wrong.mkdir(exist_ok=True)
        with pytest.raises(InputFileError, match="nobody is enrolled in") as refused:
            read_register(wrong)
        assert f"Entries are in {tmp_path / 'register'}:" in refused.value.hint
    assert read_register(tmp_path, may_be_empty=True).enrolments == ()
    assert read_register(tmp_path / "new", may_be_empty=True).enrolments == ()


def test_a_register_is_readable_by_everybody_whatever_the_umask(write, ada, keys, tmp_path):
    before = os.umask(0o077)
    try:
        write(entry(ada, keys[0]), proof(ada, keys[0]))
    finally:
        os.umask(before)
    folder = tmp_path / "register"
    assert folder.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
