"""A ceremony's session in this process, with a keeper whose key lies in the test's own memory."""

from __future__ import annotations

import dataclasses
import json

from cryptography.hazmat.primitives.asymmetric import ed25519

from ceremonyfire.contributions import NOW, contribution
from drengine.ceremony.domain import parse_security_domain
from drengine.ceremony.joining import perform as join
from drengine.ceremony.keeper import _made
from drengine.ceremony.messages import decode_bytes, encode_bytes
from drengine.ceremony.opening import Occasion, make_request
from drengine.ceremony.register import Register
from drengine.ceremony.request import Invited
from drengine.ceremony.session import Session
from drengine.ceremony.shamir import Share
from drengine.ceremony.signing import public_bytes
from drengine.ceremony.unseal import open_share

HOUR = 3_600_000
FALSE = Share("liar", 3, (7,) * 32)


class Key:
    """What the session asks of a keeper; `before` runs when a blob is to be made."""

    def __init__(self, key, public):
        self.key, self.public_key = key, public
        self.signing = ed25519.Ed25519PrivateKey.generate()
        self.signs = public_bytes(self.signing)
        self.memory_locked, self.swap_active, self.is_alive = True, False, True
        self.before = self.at_close = lambda: None

    def combine(self, order, head):
        self.before()
        facts = {"memory_locked": self.memory_locked, "swap_active": self.swap_active}
        found = {**join(order, self.key), **facts, "since_ns": 0}
        made = _made({**order.to_json(), "head": head}, found, 9_000_000)
        return decode_bytes(found["blob"]), made, self.signing.sign(made.signed_bytes())

    def how_it_ended(self):
        return "was ended by SIGKILL"

    def close(self):
        self.at_close()
        self.is_alive = False


class Hall:
    """A 2-of-3 ceremony; `now` is its clock, `screen` what the combiner saw."""

    def __init__(self, folder, domain, exchange, key, *, enrolled=(), run_class="drill"):
        folder.mkdir(mode=0o700)
        self.folder, self.domain, self.exchange, self.key = folder, domain, exchange, key
        self.now, self.screen = NOW, []
        witnesses = ("Wanda",) if run_class == "incident" else ()
        request = make_request(
            Occasion(run_class, "p", "t", "Olga", witnesses, HOUR, accept_unenrolled=True),
            domain=domain.data,
            exchange_certificate=exchange.certificate_pem,
            register=Register(),
            combiner_key=key.public_key,
            combiner_signs=key.signs,
            host="host 1",
            now_ms=NOW,
            tool={"version": "0", "files_sha256": "0" * 64},
        )
        names = dict(enrolled)
        self.signing = {name: ed25519.Ed25519PrivateKey.generate() for name in names.values()}
        invited = (
            Invited(one.x5t_256, names[at], public_bytes(self.signing[names[at]]))
            if at in names
            else one
            for at, one in enumerate(request.custodians, start=1)
        )
        self.request = dataclasses.replace(request, custodians=tuple(invited))

    def open(self, **options):
        self.session = Session(
            self.folder,
            self.request,
            self.key,
            domain=self.domain.data,
            exchange_certificate=self.exchange.certificate_pem,
            now_ms=lambda: self.now,
            listener=lambda kind, told: self.screen.append(f"{kind}: {told}"),
            **options,
        )
        return self

    def share(self, number, *, name="", host="host 2", share=None, key=None, garble=False):
        """A contribution with custodian `number`'s certificate; in it what is asked for."""
        person = self.domain.people[number - 1]
        if share is None:
            parsed = parse_security_domain(self.domain.data)
            share = open_share(parsed, person.certificate, person.key)
        return contribution(
            self.request,
            share,
            x5t_256=person.x5t,
            name=name or f"Custodian {number}",
            key=key,
            host=host,
            garble=garble,
        )

    def ask(self, act, **members):
        """What a command would be answered, a refusal too."""
        return self.session._answer_or_refuse({"do": act, **members})

    def add(self, *shares):
        for data in shares:
            answer = self.ask("add", contribution=encode_bytes(data))
        return answer

    @property
    def transcript(self):
        return (self.folder / "transcript.json").read_bytes()

    @property
    def entries(self):
        return json.loads(self.transcript)["entries"]

    @property
    def kinds(self):
        return [entry["kind"] for entry in self.entries]
