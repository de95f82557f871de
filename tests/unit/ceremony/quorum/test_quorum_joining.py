"""Combining in-process: lying shares, expiry, wrong certificates, and mutations of every byte."""

from __future__ import annotations

import dataclasses
import json
import os

import pytest
from ceremonyfire.mutations import Scene, campaign, readers

from drengine.ceremony.contributing import ContributeOrder
from drengine.ceremony.contributing import perform as contribute
from drengine.ceremony.contribution import Contribution, parse_contribution
from drengine.ceremony.joining import JoinOrder
from drengine.ceremony.joining import perform as join
from drengine.ceremony.messages import KeySource, decode_bytes
from drengine.ceremony.opening import Occasion, make_request
from drengine.ceremony.register import Register
from drengine.ceremony.sealing import seal_share
from drengine.ceremony.shamir import Share
from drengine.errors import CeremonyError, DrError, QuorumError, ShareError

NOW = 1_790_000_000_000


class Room:
    """Everything of a ceremony in one process, so that single bytes can be turned."""

    def __init__(self, domain, exchange, one_time_key, folder):
        self.domain, self.exchange, self.key, self.folder = (
            domain,
            exchange,
            one_time_key[0],
            folder,
        )
        self.request = make_request(
            Occasion("drill", "p", "t", "Olga", (), 3_600_000),
            domain=domain.data,
            exchange_certificate=exchange.certificate_pem,
            register=Register(),
            combiner_key=one_time_key[1],
            combiner_signs=bytes(32),
            host="host 1",
            now_ms=NOW,
            tool={"version": "0", "files_sha256": "0" * 64},
        )

    def share(self, number):
        order = ContributeOrder(
            request=self.request.to_bytes(),
            domain=self.domain.data,
            holder=KeySource(self.folder / f"{number}.key"),
            signing=None,
            custodian=f"Custodian {number}",
            host="host 2",
            at_ms=NOW,
            tool_version="0",
            tool_sha256="0" * 64,
        )
        return contribute(order).to_bytes()

    def lie(self, data):
        """The same contribution with another share in it: what a dishonest custodian can make."""
        honest = parse_contribution(data)
        false = Share("liar", 1, tuple(range(32)))
        sealed = seal_share(false, self.request, honest.statement, os.urandom)
        return Contribution(honest.statement, sealed, b"").to_bytes()

    def join(self, *shares, **changed):
        return decode_bytes(self.answer(*shares, **changed)["blob"])

    def answer(self, *shares, now=NOW, **changed):
        order = {
            "request": self.request.to_bytes(),
            "domain": self.domain.data,
            "exchange_certificate": self.exchange.certificate_pem,
            "contributions": list(shares),
            "now_ms": now,
            **changed,
        }
        return join(JoinOrder(**order), self.key)


@pytest.fixture
def room(domain, exchange, one_time_key, key_folder):
    return Room(domain, exchange, one_time_key, key_folder)


def test_every_quorum_gives_the_same_domain(room, writer):
    shares = {number: room.share(number) for number in (1, 2, 3)}
    for chosen in ((1, 2), (1, 3), (2, 3), (3, 1), (1, 2, 3)):
        blob = room.join(*(shares[number] for number in chosen))
        assert writer.open_blob(blob, room.exchange) == room.domain.parts


def test_a_lying_share_with_exactly_m_is_noticed(room):
    with pytest.raises(QuorumError, match="no 2 of them give a key"):
        room.join(room.lie(room.share(1)), room.share(2))


def test_a_lying_share_with_one_more_is_named_and_left_out(room, writer):
    answer = room.answer(room.lie(room.share(1)), room.share(2), room.share(3))
    people = room.domain.people
    assert list(answer["misfits"]) == [people[0].x5t]
    assert "Custodian 1 (" in answer["misfits"][people[0].x5t]
    assert answer["custodians"] == [people[1].x5t, people[2].x5t]
    blob = decode_bytes(answer["blob"])
    assert writer.open_blob(blob, room.exchange) == room.domain.parts


def test_an_expired_request_is_refused(room):
    share = room.share(1), room.share(2)
    with pytest.raises(CeremonyError, match="expired"):
        room.join(*share, now=NOW + 3_600_000)


def test_another_exchange_certificate_is_refused(room, people):
    with pytest.raises(CeremonyError, match="exchange certificate is not the one"):
        room.join(room.share(1), room.share(2), exchange_certificate=people[3].certificate_pem)


def test_another_domain_is_refused(room, writer, people):
    other = writer.write_domain(people[:3], 2)
    with pytest.raises(DrError, match="is not the one that the request names"):
        room.join(room.share(1), room.share(2), domain=other.data)


def test_a_statement_that_was_put_on_another_share_is_refused(room):
    one, two = json.loads(room.share(1)), json.loads(room.share(2))
    one["share"], two["share"] = two["share"], one["share"]
    swapped = [json.dumps(x, sort_keys=True, separators=(",", ":")).encode() for x in (one, two)]
    with pytest.raises(ShareError, match="bound to another request, custodian or statement"):
        room.join(*swapped)


def test_another_statement_about_the_same_share_is_refused(room):
    contribution = parse_contribution(room.share(1))
    statement = dataclasses.replace(contribution.statement, host="another")
    changed = dataclasses.replace(contribution, statement=statement)
    with pytest.raises(ShareError, match="bound to another"):
        room.join(changed.to_bytes(), room.share(2))


@pytest.fixture(scope="module")
def scene():
    return Scene()


def test_no_changed_byte_of_request_share_or_domain_gives_a_wrong_blob(scene):
    """Every hundredth of the changes; all of them: `make ceremony-mutations`."""
    result = campaign(scene, every=100)
    assert result.wrong == []
    assert result.escaped == []
    assert set(result.refused) == set(readers(scene))
    assert set(result.harmless) <= {"domain, keys in one place"}


def test_the_campaign_would_see_a_wrong_blob_and_a_foreign_error(scene, monkeypatch):
    other = scene.writer.write_domain(scene.people, 2, dict.fromkeys(scene.domain.parts, b"?"))

    def careless(data):
        if data[0] != 0x7B:
            raise KeyError("parts")
        return scene.one_machine(other.data)

    found = {"domain": (scene.domain.data[:2], careless)}
    monkeypatch.setattr("ceremonyfire.mutations.readers", lambda _: found)
    result = campaign(scene)
    assert (len(result.escaped), len(result.wrong), result.refused.total()) == (3, 3, 0)


@pytest.mark.parametrize("at", range(96, 112))
def test_a_one_time_key_of_an_unknown_algorithm_is_refused_by_name(scene, at):
    data = bytearray(scene.request.to_bytes())
    data[at] ^= 0x20
    with pytest.raises(DrError):
        scene.custodian(request=bytes(data))
