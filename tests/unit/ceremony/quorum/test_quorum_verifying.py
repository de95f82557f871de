"""`verify --register` of a ceremony in which somebody was not enrolled, and knew so."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ceremonyfire.hall import HOUR, NOW, Hall, Key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from drengine.ceremony.contribution import HolderFacts
from drengine.ceremony.proving import prove
from drengine.ceremony.register import Enrolment, Register
from drengine.ceremony.signing import public_bytes
from drengine.errors import VerificationError


@pytest.fixture
def hall(tmp_path, domain, exchange, one_time_key):
    """An incident to which Ada and Ben are enrolled, and the third is not."""
    made = Hall(
        *(tmp_path / "session", domain, exchange, Key(*one_time_key)),
        enrolled=((1, "Ada"), (2, "Ben")),
        run_class="incident",
    ).open()
    made.add(made.share(1, name="Ada", key=made.signing["Ada"]), made.share(3, name="Cleo"))
    assert "blob" in made.ask("combine")
    return made


def entry(person, key, name, at_ms=NOW - HOUR):
    held = HolderFacts("pem", encrypted=True)
    made = Enrolment(name, person.x5t, person.der, held, "-", "-", public_bytes(key), at_ms)
    return replace(made, signature=key.sign(made.signed_bytes()))


def known(hall, *more):
    people, keys = hall.domain.people, hall.signing
    return Register(
        (entry(people[0], keys["Ada"], "Ada"), entry(people[1], keys["Ben"], "Ben"), *more)
    )


def test_who_was_accepted_though_not_enrolled_is_shown_and_not_refused(hall):
    """The proof of the review: rightly held with --accept-unenrolled, and verify said no."""
    found = prove(hall.transcript, register=known(hall))
    assert found.outcome == "combined"
    assert found.unsigned == ("Cleo",)
    assert found.to_json()["not_enrolled"] == [hall.domain.people[2].x5t]


def test_who_enrols_later_does_not_undo_it(hall):
    later = entry(hall.domain.people[2], Ed25519PrivateKey.generate(), "Cleo", NOW + 1)
    assert prove(hall.transcript, register=known(hall, later)).outcome == "combined"


def test_who_was_enrolled_and_was_invited_without_a_key_is_held_against_the_register(hall):
    """Leaving a key out of the request must not make its custodian's contribution anybody's."""
    third = entry(hall.domain.people[2], Ed25519PrivateKey.generate(), "Cleo")
    with pytest.raises(VerificationError, match=r"Cleo .* signed with a key that is not"):
        prove(hall.transcript, register=known(hall, third))


def test_who_was_invited_with_a_key_is_held_against_the_register(hall):
    other = Register((entry(hall.domain.people[0], Ed25519PrivateKey.generate(), "Ada"),))
    with pytest.raises(VerificationError, match=r"Ada .* signed with a key that is not"):
        prove(hall.transcript, register=other)


def test_a_register_that_knows_nobody_of_the_ceremony_proves_nothing(hall, people):
    stranger = Register((entry(people[3], Ed25519PrivateKey.generate(), "Dora"),))
    with pytest.raises(VerificationError, match="it is another domain's"):
        prove(hall.transcript, register=stranger)
