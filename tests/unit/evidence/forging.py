"""People with keys, sealed bundles, and everything that a forger can do to one.

Loaded by conftest under one name. A forger may hold the sealing key: `rebuild` makes every
file anew from changed journals, exactly as drengine would.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from copy import copy
from dataclasses import replace
from pathlib import Path

import drengine
from drengine.evidence import bundle as b
from drengine.evidence.collect import collect
from drengine.evidence.folder import Sources, facts_bytes
from drengine.evidence.reports import reports_of
from drengine.evidence.sums import SUMS, write_sums
from drengine.model.canonical import canonical, sha256_hex
from drengine.trust.approval import Approval, Asked
from drengine.trust.enrolling import Entry, enrol
from drengine.trust.keys import make_key, public_pem
from drengine.trust.register import read_trust
from drengine.trust.signers import KeySigner, signed

HOUR = 3_600_000
NAMES = ("alice", "bob")


class Cast:
    """Played approvers with keys, the sealing key, and the folder that trusts them."""

    def __init__(self, folder: Path, accounts=None, roles=(), *, simulated=True) -> None:
        self.trust = folder
        accounts = accounts or {}
        self.keys = {name: KeySigner(make_key()) for name in NAMES}
        self.sealer = KeySigner(make_key())
        enrol(
            folder,
            Entry("engine", "p256", public_pem(self.sealer.key), sealer=True),
            *(
                Entry(
                    name,
                    "p256",
                    public_pem(key.key),
                    roles=roles,
                    accounts=accounts.get(name, ()),
                    simulated=simulated,
                )
                for name, key in self.keys.items()
            ),
        )
        self.register = read_trust(folder).register
        self.number = 0

    def sign(self, story, gate, step, actor, reason, said, **other):
        name = actor.rpartition(":")[2]
        self.number += 1
        asked = Asked(
            run=str(story.run),
            plan=story.plan.digest,
            run_class=str(story.plan.run_class),
            lab=story.plan.cloud.lab,
            step=step,
            seq=gate.seq,
            digest=gate.digest,
            sha256=gate.sha256,
            facts=gate.facts,
        )
        fields = {
            "decision": "approve" if said.value == "gate.approved" else "reject",
            "by": name,
            "role": "",
            "reason": reason,
            "issued_ms": story.now,
            "expires_ms": story.now + 8 * HOUR,
            "nonce": f"{self.number:032x}",
        }
        approval = Approval(asked=asked, **{**fields, **other})
        signer = self.keys[name]
        return {
            "envelope": signed(approval.to_bytes(), signer).to_json(),
            "signer": signer.keyid,
            "expires": approval.expires_ms,
        }


class Forger:
    """Changes a copy of a sealed bundle."""

    def __init__(self, honest: Path, place: Path, cast: Cast, make=None) -> None:
        self.cast, self.make = cast, make
        self.path = place / honest.name
        shutil.copytree(honest, self.path)
        self.run = honest.name
        self.journal = self.path / "journals" / f"{self.run}.jsonl"

    # single files

    def edit(self, name: str, old: bytes, new: bytes) -> None:
        file = self.path / name
        data = file.read_bytes()
        assert old in data, old
        file.write_bytes(data.replace(old, new, 1))

    def document(self, name: str):
        return json.loads((self.path / name).read_bytes())

    def put(self, name: str, doc) -> None:
        (self.path / name).write_bytes(canonical(doc) + b"\n")

    # journals

    def records(self, file: Path | None = None) -> list[dict]:
        return [json.loads(line) for line in (file or self.journal).read_bytes().splitlines()]

    def rechain(self, records: list[dict], file: Path | None = None) -> None:
        prev, lines = "0" * 64, []
        for seq, doc in enumerate(records):
            line = canonical({**doc, "seq": seq, "prev": prev}) + b"\n"
            prev = hashlib.sha256(line).hexdigest()
            lines.append(line)
        (file or self.journal).write_bytes(b"".join(lines))

    def unsign(self) -> None:
        """Leave out the register of approvers and all that they signed, children first."""
        files = sorted((self.path / "journals").iterdir(), reverse=True)
        heads: dict[str, dict] = {}
        for file in files:
            records = self.records(file)
            records[0]["body"].pop("approvers")
            for doc in records:
                for name in ("envelope", "signer", "expires"):
                    doc["body"].pop(name, None)
                if doc["type"] == "child.finished":
                    doc["body"] |= heads[doc["body"]["run"]]
            self.rechain(records, file)
            heads = self.heads()
        (self.path / "inputs" / "approvers.json").unlink()

    def heads(self) -> dict[str, dict]:
        """Return run -> seq and SHA-256 of the last record of its journal."""
        out = {}
        for file in (self.path / "journals").iterdir():
            lines = file.read_bytes().splitlines(keepends=True)
            head = {"seq": len(lines) - 1, "sha256": sha256_hex(lines[-1])}
            out[file.name.removesuffix(".jsonl").replace("~", "/")] = head
        return out

    # everything anew

    def resum(self, signer=None, *, sign=True, predicate=None, extra_rows=()) -> None:
        """Make manifest, sums and, with a key, the attestation fit the files."""
        old = self.document(b.MANIFEST)
        files = {
            path.relative_to(self.path).as_posix(): path.read_bytes()
            for path in sorted(self.path.rglob("*"))
            if path.is_file()
        }
        files = {n: d for n, d in files.items() if not b.is_outside(n) and n != b.MANIFEST}
        rows = [
            {
                "path": name,
                "sha256": sha256_hex(data),
                "size": len(data),
                "media": b.media_of(name),
                "role": b.role_of(name),
                "redacted": name == "inputs/inputs.redacted.json",
            }
            for name, data in sorted(files.items())
        ]
        manifest = canonical({**old, "files": [*rows, *extra_rows]}) + b"\n"
        sums = write_sums(
            {name: sha256_hex(data) for name, data in {**files, b.MANIFEST: manifest}.items()}
        )
        (self.path / b.MANIFEST).write_bytes(manifest)
        (self.path / SUMS).write_bytes(sums)
        if sign:
            said = json.loads(self.payload())["predicate"] if predicate is None else predicate
            self.attest(b.statement_of(manifest, sums, said), signer or self.cast.sealer)

    def payload(self) -> bytes:
        import base64

        return base64.b64decode(self.document(b.ATTESTATION)["payload"])

    def attest(self, statement: bytes, signer) -> None:
        envelope = signed(statement, signer)
        self.put(b.ATTESTATION, envelope.to_json())
        (self.path / b.PAE).write_bytes(envelope.covered)
        (self.path / b.SIGNATURE).write_bytes(envelope.signatures[0].sig)

    def rebuild(self, signer=None, *, change=None, facts_doc=None) -> None:
        """Make every derived file anew from the journals, and sign with `signer`."""
        lines = {}
        for file in sorted((self.path / "journals").iterdir()):
            run = file.name.removesuffix(".jsonl").replace("~", "/")
            lines[run] = file.read_bytes().splitlines(keepends=True)
        register = self.document(b.APPROVERS) if (self.path / b.APPROVERS).exists() else None
        sources = Sources(self.document("inputs/plan.json"), lines, register)
        records = sources.records()
        facts = collect(sources.plan, records, register)
        if change is not None:
            facts = change(facts)
        shutil.rmtree(self.path / "approvals", ignore_errors=True)
        for chain in records.values():
            for name, data in b.approvals_of(chain).items():
                (self.path / name).parent.mkdir(exist_ok=True)
                (self.path / name).write_bytes(data)
        (self.path / "facts.json").write_bytes(facts_doc or facts_bytes(facts))
        for name, data in reports_of(facts).items():
            (self.path / "reports" / name).write_bytes(data)
        root = b.merkle_root(lines.items())
        previous = self.document(b.MANIFEST).get("previous_bundle")
        (self.path / b.MANIFEST).write_bytes(
            b.manifest_of(facts, root, {}, previous, drengine.__version__)
        )
        self.resum(signer, predicate=b.predicate_of(facts, root, previous))

    # signatures of people who go along

    def resign(self, records, place: int, **other) -> None:
        """Sign the decision in a record again, as the chain before it is now."""
        from drengine.trust.approval import read_approval

        self.rechain(records)
        fresh = self.records()
        doc = fresh[place]
        _, said = read_approval(doc["body"]["envelope"])
        line = self.journal.read_bytes().splitlines(keepends=True)[doc["body"]["request_seq"]]
        asked = replace(said.asked, sha256=hashlib.sha256(line).hexdigest())
        said = replace(said, asked=asked, **other)
        envelope = signed(said.to_bytes(), self.cast.keys[said.by])
        records[place]["body"]["envelope"] = envelope.to_json()

    def resign_after(self, records, place: int) -> None:
        """Sign every decision behind a record again: all approvers go along."""
        for number in range(place, len(records)):
            if "envelope" in records[number]["body"]:
                self.resign(records, number)
        self.rechain(records)

    def trust(self, change) -> None:
        """Verify with a trust folder in which something stands otherwise."""
        place = self.path.parent / "trust"
        shutil.copytree(self.cast.trust, place)
        doc = json.loads((place / "trust.json").read_bytes())
        change(doc)
        (place / "trust.json").write_text(json.dumps(doc))
        self.cast = copy(self.cast)
        self.cast.trust = place

    def other(self) -> Forger:
        """Another run of the same people."""
        return Forger(self.make(self.path.parent / "other"), self.path.parent / "more", self.cast)

    # what verifiers say

    def alone(self, *more) -> subprocess.CompletedProcess:
        return alone(self.path, self.cast.trust, *more)


def alone(*arguments: Path | str) -> subprocess.CompletedProcess:
    """Run the single file that ships in bundles."""
    script = Path(__file__).resolve().parents[3] / "templates" / "verify.py"
    return subprocess.run(
        [sys.executable, "-I", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
