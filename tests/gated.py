"""A run that waits at a gate, and people with keys: the cheapest place to decide something.

Used by the tests of `drengine.trust`, over memory, and of the command line, over SQLite.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from drengine.actions.registry import CATALOGUE, KIT
from drengine.engine.chain import Chain
from drengine.engine.genesis import create_run
from drengine.engine.inbox import absorb
from drengine.engine.world import World
from drengine.journal.memory import MemoryDisk, MemoryStore
from drengine.model.canonical import digest, sha256_hex
from drengine.model.plan import CloudIdentity, Plan, PlanPart
from drengine.model.records import RecordType as R
from drengine.model.records import Signal
from drengine.model.runbook import RunClass
from drengine.runbook.loader import load_runbook
from drengine.trust.approval import Approval, Asked
from drengine.trust.judging import judge
from drengine.trust.keys import keyid_of, make_key, public_pem
from drengine.trust.people import Approver, TrustedKey
from drengine.trust.register import Register
from drengine.trust.signers import KeySigner, signed

NOW = 1_795_341_600_000
HOUR = 3_600_000
RUNBOOK = """\
apiVersion: drengine/v1
kind: Runbook
name: small
title: A gate and a look
inputs:
  target_hsm: {type: hsm_name}
steps:
  - id: agree
    title: Agree
    gate: {approvals: 2, roles: [security-officer], ask: "Shall it be?", break_glass: %s}
  - id: look
    title: Look
    needs: [agree]
    action: %s
"""


class StillClock:
    """A clock that a test sets."""

    def __init__(self, now: int) -> None:
        self.now = self._began = now

    def now_ms(self) -> int:
        return self.now

    def mono_ms(self) -> int:
        return self.now - self._began

    def wall_ms(self) -> None:
        return None


class Person:
    def __init__(self, name: str, *roles: str, simulated: bool = False, accounts=()) -> None:
        self.signer = KeySigner(make_key())
        public = public_pem(self.signer.key)
        self.key = TrustedKey("p256", keyid_of(public), public)
        self.entry = Approver(name, roles, (self.key,), accounts, simulated)
        self.name = name


class Place:
    """A run at its gate, and everything to decide on it."""

    def __init__(
        self,
        *people: Person,
        break_glass: bool = False,
        run_class=RunClass.INCIDENT,
        store=None,
        register: Register | None = None,
        now: int = NOW,
    ) -> None:
        self.people = people
        self.register = register or Register(tuple(person.entry for person in people))
        self.clock = StillClock(now)
        self.store = store or MemoryStore(MemoryDisk())
        action = "securitydomain.exchange_key"
        text = RUNBOOK % ("true" if break_glass else "false", action)
        self.runbook = load_runbook(text, "small", CATALOGUE)
        part = PlanPart("small", text, sha256_hex(text.encode()), {"target_hsm": "contoso"})
        cloud = CloudIdentity("AzureCloud", "t", "s", "p", lab=run_class is RunClass.DRILL)
        plan = Plan(run_class, "2026-11-22T09:58:00.000Z", "0", cloud, part, {})
        self.world = World(
            plan=plan,
            store=self.store,
            cloud=None,
            clock=self.clock,
            kit=KIT,
            load=lambda _: self.runbook,
            collect=None,
            secret=None,
            owner="test",
            listener=lambda *_: None,
            judge=lambda doc, terms: judge(doc, terms, self.register),
            approvers=self.register.digest,
        )
        create_run(
            self.world,
            plan.run_id,
            self.runbook,
            part=part,
            inputs=part.inputs,
            initiator="operator:ines",
            tool={},
        )
        self.store.put_document(plan.run_id, "plan", plan.to_json())
        self.chain = Chain.open(self.world, plan.run_id)
        self.ask()

    def ask(self) -> None:
        gate = self.runbook.step("agree").gate
        shown = {"step": "agree", "ask": gate.ask, "facts": {"hsm": "gone"}, "findings": []}
        shown |= {"generation": 0, "approvals": 2, "roles": list(gate.roles)}
        if gate.break_glass:
            shown["break_glass"] = True
        self.chain.append(R.GATE_REQUESTED, {**shown, "digest": digest(shown)})

    @property
    def gate(self):
        return self.chain.state.steps["agree"].gate

    def asked(self, **other) -> Asked:
        state, gate = self.chain.state, self.gate
        fields = {
            "run": str(state.run),
            "plan": state.genesis["plan"],
            "run_class": str(state.run_class),
            "lab": state.genesis["cloud"]["lab"],
            "step": "agree",
            "seq": gate.seq,
            "digest": gate.digest,
            "sha256": gate.sha256,
            "facts": gate.facts,
        }
        return Asked(**{**fields, **other})

    def say(self, person: Person, decision="approve", *, signer=None, asked=None, **other):
        fields = {
            "decision": decision,
            "by": person.name,
            "role": "security-officer",
            "reason": "checked",
            "issued_ms": self.clock.now,
            "expires_ms": self.clock.now + HOUR,
            "nonce": f"{self.chain.state.head.seq:032x}",
        }
        said = Approval(asked=asked or self.asked(), **{**fields, **other})
        return said, signed(said.to_bytes(), signer or person.signer).to_json()

    def send(self, person: Person, said: Approval, envelope, *, id_=None, actor=None):
        """Put a decision into the inbox, absorb it, and return the last record."""
        body = {
            "step": "agree",
            "request_seq": said.asked.seq,
            "digest": said.asked.digest,
            "reason": said.reason,
            "role": said.role,
            "envelope": envelope,
        }
        if said.break_glass:
            body["break_glass"] = True
        who = actor or person.entry.actor
        self.store.put_signal(
            Signal(id_ or said.nonce, self.chain.run, said.decision, who, body, self.clock.now)
        )
        return self.absorb()

    def absorb(self):
        """Let the engine judge what lies in the inbox, and return the last record."""
        absorb(self.world, self.chain, self.runbook)
        return list(self.store.read(self.chain.run))[-1]

    def decide(self, person: Person, decision="approve", **other):
        said, envelope = self.say(person, decision, **other)
        return self.send(person, said, envelope)


class Token:
    """A security key as OpenSSH sees one (sk-ecdsa): made of a P-256 key and a counter."""

    KIND, CURVE, APPLICATION = b"sk-ecdsa-sha2-nistp256@openssh.com", b"nistp256", b"ssh:"

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        point = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self.blob = b"".join(map(_text, (self.KIND, self.CURVE, point, self.APPLICATION)))

    @property
    def public(self):
        return f"{self.KIND.decode()} {b64encode(self.blob).decode()} token\n"

    def sign(self, data, *, touched=True):
        hashed = (
            _text(b"drengine")
            + _text(b"")
            + _text(b"sha512")
            + _text(hashlib.sha512(data).digest())
        )
        told = bytes([touched]) + (7).to_bytes(4, "big")
        covered = hashlib.sha256(self.APPLICATION).digest() + told
        covered += hashlib.sha256(b"SSHSIG" + hashed).digest()
        r, s = decode_dss_signature(self.key.sign(covered, ec.ECDSA(hashes.SHA256())))
        made = _text(self.KIND) + _text(_text(_number(r)) + _text(_number(s))) + told
        whole = (
            b"SSHSIG" + (1).to_bytes(4, "big") + _text(self.blob) + _text(b"drengine") + _text(b"")
        )
        whole += _text(b"sha512") + _text(made)
        lines = b64encode(whole).decode()
        return f"-----BEGIN SSH SIGNATURE-----\n{lines}\n-----END SSH SIGNATURE-----\n".encode()


def _text(data):
    return len(data).to_bytes(4, "big") + data


def _number(value):
    return value.to_bytes(value.bit_length() // 8 + 1, "big")
