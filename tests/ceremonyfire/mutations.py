"""Every byte of a request, a sealed share and a domain, changed by three masks.

All in one process: the functions that the custodian's and the combiner's children run,
on real keys and real sealed shares. A changed document is read by everybody who reads
such a document, with nothing left out behind it; a blob that is made is opened as the new
HSM would, and must hold the domain's own parts.

Not exercised: pipes, key files, passphrases, tokens, the session's socket. Reused
between cases: the keys in memory, the two other contributions, the parsed certificate.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ceremonyfire.contributions import NOW, contribution
from drengine.ceremony.contribute import look_at, require_code
from drengine.ceremony.domain import parse_security_domain
from drengine.ceremony.joining import JoinOrder
from drengine.ceremony.joining import perform as join
from drengine.ceremony.messages import decode_bytes
from drengine.ceremony.opening import Occasion, make_request
from drengine.ceremony.register import Register
from drengine.ceremony.rewrap import make_restore_blob
from drengine.ceremony.unseal import open_domain, open_share
from drengine.errors import DrError

MASKS = (0x01, 0x20, 0x80)
_TOOL = {"version": "0", "files_sha256": "0" * 64}
_WRITER = Path(__file__).parents[1] / "unit" / "ceremony" / "domain_writer.py"


def load_writer() -> ModuleType:
    """Return the tests' own writer of domains, which shares no line with drengine."""
    name = "ceremony_domain_writer"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, _WRITER)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


class Scene:
    """A 2-of-3 ceremony in one process, with two signed contributions."""

    def __init__(self) -> None:
        self.writer = load_writer()
        self.people = [self.writer.person(number) for number in (1, 2, 3)]
        self.exchange = self.writer.person(99)
        self.domain = self.writer.write_domain(self.people, 2)
        self.one_time_key = rsa.generate_private_key(65537, 3072)
        self.request = make_request(
            Occasion(
                *("incident", "4711", "t", "Olga", ("Wanda",), 3_600_000), accept_unenrolled=True
            ),
            domain=self.domain.data,
            exchange_certificate=self.exchange.certificate_pem,
            register=Register(),
            combiner_key=self.one_time_key.public_key().public_bytes(
                Encoding.DER, PublicFormat.SubjectPublicKeyInfo
            ),
            combiner_signs=bytes(32),
            host="host 1",
            now_ms=NOW,
            tool=_TOOL,
        )

    @cached_property
    def shares(self) -> list[bytes]:
        """Two contributions, of the first two custodians."""
        return [self._contribution(one, f"Custodian {n}") for n, one in enumerate(self.people[:2])]

    def _contribution(self, person: Any, name: str) -> bytes:
        key = ed25519.Ed25519PrivateKey.generate()
        parsed = parse_security_domain(self.domain.data)
        share = open_share(parsed, person.certificate, person.key)
        return contribution(self.request, share, x5t_256=share.holder, name=name, key=key)

    def join(
        self,
        request: bytes | None = None,
        domain: bytes | None = None,
        share: bytes | None = None,
    ) -> bytes:
        """What the combiner's child does; returns the blob."""
        order = JoinOrder(
            request=request or self.request.to_bytes(),
            domain=domain or self.domain.data,
            exchange_certificate=self.exchange.certificate_pem,
            contributions=[share or self.shares[0], self.shares[1]],
            now_ms=NOW,
        )
        return decode_bytes(join(order, self.one_time_key)["blob"])

    def custodian(self, request: bytes | None = None, domain: bytes | None = None) -> None:
        """What a custodian's process does before a key is opened; the code is the right one's."""
        found = look_at(request or self.request.to_bytes(), domain or self.domain.data, now_ms=NOW)
        require_code(found, self.request.code)

    def one_machine(self, domain: bytes) -> bytes:
        """What the child does that has all keys; nothing tells it the domain's digest."""
        parsed = parse_security_domain(domain)
        shares = [open_share(parsed, one.certificate, one.key) for one in self.people[:2]]
        return make_restore_blob(open_domain(parsed, shares), self.exchange.certificate, os.urandom)

    def is_right(self, blob: bytes) -> bool:
        """Whether the new HSM would find the domain's own parts in a blob."""
        found: dict[str, bytes] = self.writer.open_blob(blob, self.exchange)
        return found == self.domain.parts


@dataclass
class Result:
    """How often each reader refused, let through what is right, or did neither."""

    refused: Counter[str] = field(default_factory=Counter)
    harmless: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    escaped: list[str] = field(default_factory=list)
    slowest_ms: float = 0.0

    def add(self, other: Result) -> None:
        """Take in another part's counts."""
        self.refused += other.refused
        self.harmless += other.harmless
        self.wrong += other.wrong
        self.escaped += other.escaped
        self.slowest_ms = max(self.slowest_ms, other.slowest_ms)


Reader = Callable[[bytes], bytes | None]


def readers(scene: Scene) -> dict[str, tuple[bytes, Reader]]:
    """Return who reads what: a document whole, and what is done with a changed one."""
    request, domain = scene.request.to_bytes(), scene.domain.data
    return {
        "request, custodian": (request, lambda data: scene.custodian(request=data)),
        "request, combiner": (request, lambda data: scene.join(request=data)),
        "share, combiner": (scene.shares[0], lambda data: scene.join(share=data)),
        "domain, custodian": (domain, lambda data: scene.custodian(domain=data)),
        "domain, combiner": (domain, lambda data: scene.join(domain=data)),
        "domain, keys in one place": (domain, scene.one_machine),
    }


def cases(size: int, *, every: int, first: int) -> Iterable[tuple[int, int]]:
    """Return (byte, mask): all of them, or every n-th, so that no mask and no stretch is left."""
    number = 0
    for at in range(size):
        for mask in MASKS:
            if number % every == first:
                yield at, mask
            number += 1


def campaign(scene: Scene, *, every: int = 1, first: int = 0) -> Result:
    """Change bytes and let every reader read."""
    result = Result()
    for name, (whole, read) in readers(scene).items():
        for at, mask in cases(len(whole), every=every, first=first):
            changed = bytearray(whole)
            changed[at] ^= mask
            began = time.perf_counter()
            _try(result, scene, name, f"{name}: byte {at} ^ {mask:#04x}", read, bytes(changed))
            result.slowest_ms = max(result.slowest_ms, (time.perf_counter() - began) * 1000)
    return result


def _try(result: Result, scene: Scene, name: str, case: str, read: Reader, changed: bytes) -> None:
    try:
        blob = read(changed)
    except DrError:
        result.refused[name] += 1
        return
    except Exception as error:
        result.escaped.append(f"{case}: {type(error).__name__}: {error}")
        return
    if blob is not None and scene.is_right(blob):
        result.harmless[name] += 1
    else:
        result.wrong.append(case)
