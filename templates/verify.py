"""Verify a sealed evidence bundle with Python's standard library and openssl, nothing else.

    python3 verify.py BUNDLE TRUST [EARLIER ...] [--unsigned-decisions]

BUNDLE is the folder that holds manifest.json, or disclosure.json where it shows only some
records of a sealed run; TRUST is your own folder of keys (trust.json), EARLIER bundles that
you were given before, for the chain of bundles; --unsigned-decisions takes a run that was held
without signatures of approvers, though your trust folder names people.
Prints every failure; ends with 0 where there is none, 9 where there is one, 3 where the trust
folder cannot be read. Keys in the bundle are never looked at. One file on purpose: it can be
read in one sitting, and takes no import of the program that made the bundle. It does not fold
the lifecycle of steps anew; `drengine verify` does that too.
"""

import base64
import datetime
import difflib
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

OUTSIDE = {
    "SHA256SUMS",
    "attestation.dsse.json",
    "stamps.json",
    "hsm-signature.json",
    "openssl/attestation.pae",
    "openssl/engine.sig",
}
DISCLOSED = {"disclosure.json", "attestation.dsse.json", "README.txt", "verify.py"}
STAMP = re.compile(r"attestation(\.[0-9]{1,2})?\.tsr", re.ASCII)
PART = r"[A-Za-z0-9_~][A-Za-z0-9._~-]*"
NAME = re.compile(rf"{PART}(/{PART})*", re.ASCII)
SUM = re.compile(r"([0-9a-f]{64})  ([^\n\r\\]+)", re.ASCII)
ZEROS = "0" * 64
MAX_FILE, MAX_LINE, MAX_DOCUMENT, MAX_SUMS = 1 << 30, 1 << 20, 64 << 20, 32 << 20
MAX_ENVELOPE, MAX_TOKEN = 8 << 20, 1 << 20
MAX_SHOWN, MAX_DEPTH = 400, 40
BACK_MS, SKEW_MS, LATE_MS = 5_000, 300_000, 900_000
KEYS = {"actor", "at", "body", "mono", "prev", "run", "seq", "type"}
DECISIONS = {"gate.approved": "approve", "gate.rejected": "reject", "gate.voided": "withdraw"}
NEW_PROCESS = ("run.opened", "run.handed_over", "run.imported", "run.cancelled", "note")

INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff]"
)

failures: list[str] = []
notes: list[str] = []


def visible(text):
    """Return a text with whatever a terminal could obey, or would hide, written out."""
    shown = INVISIBLE.sub(lambda found: f"<U+{ord(found[0]):04X}>", str(text))
    return shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]} ..."


def tell(text):
    print(
        visible(text)
        .encode(sys.stdout.encoding or "ascii", "backslashreplace")
        .decode(sys.stdout.encoding or "ascii")
    )


def fail(where, why):
    failures.append(f"{where}: {why}")


def sha(data):
    return hashlib.sha256(data).hexdigest()


def once(pairs):
    if len(dict(pairs)) != len(pairs):
        raise ValueError("has a key twice")
    return dict(pairs)


def no_float(text):
    raise ValueError(f"holds the number {text[:20]}")


def parse(data):
    text = data.decode("utf-8")
    return json.loads(text, object_pairs_hook=once, parse_float=no_float, parse_constant=no_float)


def canonical(value):
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8")


def parse_canonical(data):
    value = parse(data)
    if canonical(value) != data:
        raise ValueError("is not in canonical form")
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH and depth_of(value) > MAX_DEPTH:
        raise ValueError(f"is nested deeper than {MAX_DEPTH} levels")
    return value


def depth_of(value):
    if not isinstance(value, (dict, list)) or not value:
        return 0
    inside = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth_of, inside), default=0)


def parse_line(data):
    if not data.endswith(b"\n"):
        raise ValueError("does not end with a newline")
    return parse_canonical(data[:-1])


def safe(item):
    return re.sub(r"[^A-Za-z0-9._-]", "-", item)


def millis(text):
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(text), re.ASCII):
        raise ValueError(f"{text!r} is not a time")
    moment = datetime.datetime.fromisoformat(text[:-1] + "+00:00")
    epoch = datetime.datetime.fromtimestamp(0, datetime.timezone.utc)
    return (moment - epoch) // datetime.timedelta(milliseconds=1)


# ---- files


def list_files(root):
    found, lower = {}, {}
    for place, folders, names in os.walk(root):
        for name in folders + names:
            path = Path(place) / name
            short = path.relative_to(root).as_posix()
            if path.is_symlink():
                fail(short, "is a symbolic link")
            elif not NAME.fullmatch(short) or len(short) > 240:
                fail(repr(short), "is not a name that evidence uses")
            elif path.is_dir():
                continue
            elif not path.is_file():
                fail(short, "is not a plain file")
            elif path.stat().st_nlink > 1:
                fail(short, "is a hard link")
            elif path.stat().st_size > MAX_FILE:
                fail(short, "is too large")
            else:
                found[short] = path
                other = lower.setdefault(short.lower(), short)
                if other != short:
                    fail(short, f"differs from {other} only in upper and lower case")
        if not folders and not names and Path(place) != root:
            fail(Path(place).relative_to(root).as_posix(), "is an empty folder")
        folders[:] = [name for name in folders if not (Path(place) / name).is_symlink()]
    return found


def read_file(files, name, most=MAX_DOCUMENT):
    """Return a file's bytes, where it is here and not larger than such a file can be."""
    if name not in files:
        raise ValueError(f"{name} is missing")
    if files[name].stat().st_size > most:
        raise ValueError(f"{name} is larger than {most:,} bytes")
    return files[name].read_bytes()


def file_sha(path):
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def is_outside(name):
    return name in OUTSIDE or STAMP.fullmatch(name) is not None


def check_sums(files):
    data = read_file(files, "SHA256SUMS", MAX_SUMS)
    named = {}
    for line in data.decode("ascii").removesuffix("\n").split("\n"):
        match = SUM.fullmatch(line)
        if not match or not NAME.fullmatch(match[2]) or match[2] in named or is_outside(match[2]):
            raise ValueError(f"has the line {line[:80]!r}")
        named[match[2]] = match[1]
    if "".join(f"{named[name]}  {name}\n" for name in sorted(named)).encode() != data:
        raise ValueError("is not in order of names")
    for name in sorted(named.keys() - files.keys()):
        fail(name, "is missing")
    for name in sorted(files.keys() - named.keys()):
        if not is_outside(name):
            fail(name, "is not named in SHA256SUMS")
    for name in sorted(named.keys() & files.keys()):
        if file_sha(files[name]) != named[name]:
            fail(name, "does not have the digest in SHA256SUMS")


def check_manifest(files):
    doc = parse_canonical(read_file(files, "manifest.json").removesuffix(b"\n"))
    if doc.get("format") != "drengine/evidence-bundle/v1":
        raise ValueError("is of another format")
    listed = {row["path"]: row for row in doc["files"]}
    if len(listed) != len(doc["files"]):
        fail("manifest.json", "lists a file twice")
    here = {name for name in files if not is_outside(name) and name != "manifest.json"}
    for name in sorted(listed.keys() ^ here):
        fail(name, "stands in the manifest or in the folder, but not in both")
    for name in sorted(listed.keys() & here):
        has = (file_sha(files[name]), files[name].stat().st_size)
        if (listed[name]["sha256"], listed[name]["size"]) != has:
            fail(name, "does not have the digest and size in manifest.json")
    return doc


# ---- signatures


def run(command, data=None):
    return subprocess.run(command, input=data, capture_output=True, timeout=60, check=False)


def verifies(kind, public, signature, data, options=()):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "key").write_bytes(public)
        (folder / "sig").write_bytes(signature)
        (folder / "data").write_bytes(data)
        key, sig, content = (str(folder / name) for name in ("key", "sig", "data"))
        if kind == "p256":
            command = ["openssl", "dgst", "-sha256", *options, "-verify", key]
            done = run([*command, "-signature", sig, content])
        elif kind == "ssh":
            line = b'approver namespaces="drengine" ' + b" ".join(public.split()[:2]) + b"\n"
            (folder / "allowed").write_bytes(line)
            command = ["ssh-keygen", "-Y", "verify", "-f", str(folder / "allowed")]
            done = run([*command, "-I", "approver", "-n", "drengine", "-s", sig], data)
            if done.returncode == 0 and public.startswith(b"sk-"):
                return was_touched(signature)
        else:
            command = ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", sig]
            command += ["-content", content, "-out", os.devnull, "-nointern", "-certfile", key]
            command += ["-CAfile", key, "-partial_chain", "-purpose", "any", "-no_check_time"]
            done = run(command)
        return done.returncode == 0


def was_touched(signature):
    """A security key says whether a finger touched it; ssh-keygen does not ask for that."""
    rest = base64.b64decode(b"".join(signature.split(b"-----")[2].split()))[10:]
    for _ in range(4):  # key, namespace, reserved, hash: each a length and so many bytes
        rest = rest[4 + int.from_bytes(rest[:4], "big") :]
    rest = rest[4:]
    for _ in range(2):  # kind and signature, before the flags
        rest = rest[4 + int.from_bytes(rest[:4], "big") :]
    return bool(rest[0] & 1)


def key_id(kind, public):
    if kind == "ssh":
        return sha(base64.b64decode(public.split()[1]))
    body = re.search(rb"-----BEGIN [A-Z ]+-----(.+?)-----END", public, re.DOTALL)[1]
    return sha(base64.b64decode(b"".join(body.split())))


KEY_FIELDS = {"kind", "keyid", "file", "not_before", "not_after", "revoked"}
PERSON_FIELDS = {"name", "roles", "accounts", "simulated", "keys"}
LIMITS = ("not_before", "not_after", "revoked")


def require_known(entry, fields, what):
    """Refuse a field that nobody reads: a misspelt `revoked` would revoke nothing."""
    if not isinstance(entry, dict):
        raise ValueError(f"{what} is not an object")
    for name in sorted(entry.keys() - fields):
        close = difflib.get_close_matches(name, sorted(fields), n=1)
        meant = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"{what} has an unknown field {name!r}{meant}")


class Trust:
    """What the verifier's own folder of keys says: sealers, people, and the root of stamps."""

    def __init__(self, folder):
        self.folder = folder
        doc = parse((folder / "trust.json").read_bytes())
        require_known(doc, {"schema", "people", "sealers", "tsa"}, "the list")
        if doc.get("schema") != "drengine/trust/v1":
            raise ValueError("its schema is not drengine/trust/v1")
        listed = list(self.keys(doc.get("sealers", [])))
        self.sealers = dict(listed)
        if len(self.sealers) != len(listed):
            raise ValueError("a sealing key stands twice: a revocation in one entry would not hold")
        if any(key["kind"] != "p256" for key in self.sealers.values()):
            raise ValueError("a bundle is sealed with a P-256 key only")
        self.owner, self.people = {}, len(doc.get("people", []))
        for person in doc.get("people", []):
            require_known(person, PERSON_FIELDS, "a person")
            for keyid, key in self.keys(person["keys"]):
                if keyid in self.owner:
                    raise ValueError("one key stands under two names")
                self.owner[keyid] = (person, key)
        self.tsa = self.member(doc["tsa"]) if doc.get("tsa") else None
        self.takes_unsigned = False

    def member(self, name):
        if not NAME.fullmatch(name) or not (self.folder / name).is_file():
            raise ValueError(f"{name!r} is not a file of this folder")
        return self.folder / name

    def keys(self, rows):
        for row in rows:
            require_known(row, KEY_FIELDS, "a key")
            public = self.member(row["file"]).read_bytes()
            keyid = key_id(row["kind"], public)
            if row.get("keyid", keyid) != keyid:
                raise ValueError(f"a key says its id is {row['keyid']}, but it is {keyid}")
            limits = {name: millis(row[name]) for name in LIMITS if row.get(name) is not None}
            yield keyid, {"kind": row["kind"], "public": public, **limits}


def out_of_time(key, moment):
    """Say why a key does not count at a time; empty where it does."""
    if moment < key.get("not_before", moment):
        return "its key was not valid yet"
    if moment > key.get("not_after", moment):
        return "its key was not valid any more"
    if moment >= key.get("revoked", moment + 1):
        return "its key was revoked"
    return ""


def read_envelope(doc):
    if doc.keys() != {"payloadType", "payload", "signatures"} or len(doc["signatures"]) != 1:
        raise ValueError("is not an envelope with one signature")
    if doc["payloadType"] != "application/vnd.in-toto+json":
        raise ValueError("holds another kind of payload")
    payload = base64.b64decode(doc["payload"], validate=True)
    signature = base64.b64decode(doc["signatures"][0]["sig"], validate=True)
    if base64.b64encode(payload).decode() != doc["payload"]:
        raise ValueError("is not in the one form of base64")
    if base64.b64encode(signature).decode() != doc["signatures"][0]["sig"]:
        raise ValueError("is not in the one form of base64")
    kind = doc["payloadType"].encode()
    pae = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    return payload, pae, signature, doc["signatures"][0]["keyid"]


def open_seal(files, sealers):
    data = read_file(files, "attestation.dsse.json", MAX_ENVELOPE)
    payload, pae, signature, keyid = read_envelope(parse_line(data))
    key = sealers.get(keyid)
    if key is None:
        fail("attestation.dsse.json", f"is signed by {keyid[:16]}, which is not trusted")
    elif "revoked" in key:
        fail("attestation.dsse.json", "is signed with a revoked key")
    elif not verifies("p256", key["public"], signature, pae):
        fail("attestation.dsse.json", "its signature does not verify")
    return parse_canonical(payload), pae, signature


def check_attestation(files, sealers):
    statement, pae, signature = open_seal(files, sealers)
    if read_file(files, "openssl/attestation.pae", MAX_ENVELOPE) != pae:
        fail("openssl/attestation.pae", "is not what was signed")
    if read_file(files, "openssl/engine.sig", MAX_ENVELOPE) != signature:
        fail("openssl/engine.sig", "is not the signature")
    named = {row["name"]: row["digest"]["sha256"] for row in statement["subject"]}
    for name in ("manifest.json", "SHA256SUMS"):
        if named.get(name) != file_sha(files[name]):
            fail(name, "is not the one that was signed")
    if len(statement["subject"]) != 2 or statement["predicateType"] != "urn:drengine:dr-run:v1":
        fail("attestation.dsse.json", "says other things than a sealed run does")
    return statement["predicate"]


def sealed_in_time(files, sealers, newest, stamps):
    """Judge the sealing key by the newest record, which is older than the seal, and by stamps."""
    keyid = read_envelope(parse_line(read_file(files, "attestation.dsse.json", MAX_ENVELOPE)))[3]
    key = sealers.get(keyid, {})
    why = [why for why in (out_of_time(key, at) for at in (newest, *stamps)) if why]
    if why and "revoked" not in key:
        fail("attestation.dsse.json", f"when it was sealed, {why[0]}")
    elif "not_after" in key and not stamps:
        notes.append("the sealing key counts for a time; judged by the newest record, not a stamp")


# ---- journals


class Tree:
    """A Merkle tree as RFC 6962 has it, over the hashes of the lines."""

    def __init__(self):
        self.peaks = []

    def add(self, data):
        size, top = 1, hashlib.sha256(b"\x00" + data).digest()
        while self.peaks and self.peaks[-1][0] == size:
            top = hashlib.sha256(b"\x01" + self.peaks.pop()[1] + top).digest()
            size *= 2
        self.peaks.append((size, top))

    def root(self):
        top = self.peaks[-1][1]
        for _, peak in reversed(self.peaks[:-1]):
            top = hashlib.sha256(b"\x01" + peak + top).digest()
        return top.hex()


class Chain:
    """One journal while it is followed."""

    def __init__(self, run_id, trust, plan):
        self.run, self.trust, self.plan = run_id, trust, plan
        self.genesis, self.requests, self.newest = {}, {}, {}
        self.last, self.heads, self.envelopes, self.children = None, [], {}, {}
        self.anchored, self.ended, self.times = -1, False, {}
        self.born, self.closed, self.by_hand, self.pauses = {}, set(), set(), set()
        self.cancelled, self.shown, self.lists, self.items = False, [], {}, None
        self.openings, self.probes, self.attached = 0, {}, set()

    def say(self, seq, why):
        fail(self.run, f"record {seq}: {why}")

    def follow(self, path, tree, nonces):
        prev, seq = ZEROS, -1
        with path.open("rb") as stream:
            while line := stream.readline(MAX_LINE + 1):
                seq += 1
                if not line.endswith(b"\n"):
                    self.say(seq, "has no newline")
                    return
                record = parse_canonical(line[:-1])
                if record.keys() - {"wall"} != KEYS or record["run"] != self.run:
                    self.say(seq, "is not a record of this run")
                    return
                if (record["seq"], record["prev"]) != (seq, prev):
                    self.say(seq, "does not follow from the record before")
                    return
                if (record["type"] == "run.created") != (seq == 0):
                    self.say(seq, "is of a type that does not belong there")
                prev = sha(line)
                self.heads.append(prev)
                tree.add(bytes.fromhex(prev))
                self.take(record, nonces)
        if seq < 0:
            self.say(0, "there is none")

    def take(self, record, nonces):
        seq, kind, body = record["seq"], record["type"], record["body"]
        at = millis(record["at"])
        self.clock(record, at)
        if seq == 0:
            self.genesis = body
            self.check_genesis(body)
        elif kind == "gate.requested":
            self.check_register()
            rest = {k: v for k, v in body.items() if k not in ("digest", "exchanges")}
            if body["digest"] != sha(canonical(rest)):
                self.say(seq, "the digest of what the gate shows is not its own")
            self.requests[seq] = {**body, "sha256": self.heads[seq], "by": set(), "urgent": False}
            self.newest[body["step"]] = seq
        elif kind in DECISIONS:
            self.decided(record, at, nonces)
        elif kind == "step.succeeded":
            self.times.setdefault(at, seq)
            self.succeeded(record)
        elif kind in ("run.finished", "run.cancelled"):
            self.times.setdefault(at, seq)
            self.ended = True
        self.kin(seq, kind, body)
        self.kept(seq, kind, body)

    def clock(self, record, at):
        shown = millis(record["wall"]) if "wall" in record else at
        if self.last and record["type"] not in NEW_PROCESS and self.last[0] not in NEW_PROCESS:
            if shown - self.last[1] < -BACK_MS and record["mono"] >= self.last[2]:
                self.say(record["seq"], "the clock was set back while the process ran")
        self.last = (record["type"], shown, record["mono"])
        self.shown.append(shown)

    def check_register(self):
        """Refuse unsigned decisions where the verifier knows whose signature to expect."""
        people = 0 if self.trust.takes_unsigned else self.trust.people
        if people and not self.genesis.get("approvers") and not self.requests:
            what = f"the trust folder names {people} who approve; where that is as it was meant"
            why = "was asked for decisions with no register of approvers, so that none is signed"
            fail(self.run, f"{why}, but {what}, verify with --unsigned-decisions")

    def kin(self, seq, kind, body):
        if kind == "child.started":
            self.begun(seq, body)
        elif kind == "child.finished":
            self.children[body["run"]] = (seq, body["seq"], body["sha256"])
            self.closed.add(body["run"])
        elif kind == "generation.ended":
            self.closed -= {run for run, birth in self.born.items() if birth[1] in body["steps"]}
            self.newest = {s: seq for s, seq in self.newest.items() if s not in body["steps"]}
        elif kind == "step.marked":
            self.by_hand.add(body["step"])
        elif kind == "step.begun":
            self.by_hand.discard(body["step"])
        elif kind in NEW_PROCESS:
            self.pauses.add(seq)
            self.cancelled |= kind == "run.cancelled"

    def kept(self, seq, kind, body):
        """Note what a bundle keeps of a record beside the journals."""
        if kind == "run.opened":
            self.openings += 1
        elif kind == "step.succeeded" and isinstance(body.get("evidence"), dict):
            name = f"artifacts/probes/{self.run.replace('/', '~')}.{seq}.{body['step']}.json"
            after = ["artifacts/keys/inventory.after.json"] if "keys" in body["evidence"] else []
            data = sha(canonical(body["evidence"]) + b"\n")
            self.probes.update(dict.fromkeys([name, *after], data))
        elif kind == "step.marked":
            self.attached.add(body["evidence"])
        elif kind == "note" and "attached" in body:
            self.attached.add(body.get("sha256"))

    def part(self):
        part = self.plan["root"]
        for name in self.genesis["path"]:
            part = part["children"][name]
        return part

    def planned(self, name):
        """Child run -> item name, as the plan lists them for a step that runs a sub-runbook."""
        if name not in self.lists:
            self.lists[name] = self.read_planned(name)
        return self.lists[name]

    def read_planned(self, name):
        if name not in self.part()["children"]:
            return {}
        fans = self.plan["summary"].get("foreach", {})
        fan = fans.get("/".join([*self.genesis["path"], name]))
        under = f"{self.run}/{safe(name)}"
        return {f"{under}/{safe(each)}": each for each in fan["items"]} if fan else {under: name}

    def named_items(self):
        """Name -> what discovery found under it, frozen in the plan."""
        if self.items is None:
            self.items = {}
            for rows in self.part()["discovery"].values():
                for row in rows if isinstance(rows, list) else []:
                    if isinstance(row, dict):
                        self.items.setdefault(row.get("name"), []).append(row)
        return self.items

    def begun(self, seq, body):
        name, item, run_id = body["name"], body["item"], body["run"]
        self.closed.discard(run_id)
        self.born[run_id] = (seq, body["step"], item)
        listed = self.named_items().get(name, [])
        if self.planned(body["step"]).get(run_id) != name or item.get("name") != name:
            self.say(seq, f"child {name} is not one that the plan lists")
        elif name != body["step"] and listed and item not in listed:
            self.say(seq, f"child {name} is given another item than the plan's")

    def check_genesis(self, body):
        if body["plan"] != self.plan["digest"]:
            self.say(0, "names another plan")
        if body["class"] != self.plan["class"] or body["cloud"] != self.plan["cloud"]:
            self.say(0, "is of another class or cloud than the plan")
        if body["inputs_digest"] != sha(canonical(body["inputs"])):
            self.say(0, "the digest of the inputs is not theirs")

    def decided(self, record, at, nonces):
        seq, kind, body = record["seq"], record["type"], record["body"]
        newest = self.newest.get(body["step"], -1)
        if kind != "gate.approved":
            self.newest.pop(body["step"], None)  # what was asked is void: it is asked anew
        voided = kind == "gate.voided"
        if voided and "envelope" not in body:
            return
        asked_seq = newest if voided else body["request_seq"]
        asked = self.requests.get(asked_seq)
        if asked is None or asked["step"] != body["step"]:
            self.say(seq, "decides on a request that is not before it")
        elif not voided and asked["digest"] != body["digest"]:
            self.say(seq, "decides on other facts than were shown")
        elif "envelope" in body:
            self.signed(record, at, asked, asked_seq, nonces)
        elif self.genesis.get("approvers"):
            self.say(seq, f"the decision of {record['actor']} is not signed")
        elif kind == "gate.approved":
            notes.append(f"{self.run} record {seq}: the approval is not signed")
            asked["by"].add(record["actor"])
            asked["urgent"] |= body.get("break_glass") is True

    def signed(self, record, at, asked, asked_seq, nonces):
        seq, body = record["seq"], record["body"]
        person = re.sub(r"[^A-Za-z0-9._-]", "-", record["actor"].rpartition(":")[2]).lstrip(".-")
        name = f"approvals/{self.run.replace('/', '~')}.{seq}.{person or 'x'}.dsse.json"
        self.envelopes[name] = canonical(body["envelope"]) + b"\n"
        try:
            why = self.judge(record, at, asked, asked_seq, nonces)
        except (ValueError, KeyError, TypeError) as error:
            why = f"cannot be read: {error}"
        if why:
            self.say(seq, f"the decision of {record['actor']} does not count: {why}")

    def judge(self, record, at, asked, asked_seq, nonces):
        payload, pae, signature, keyid = read_envelope(record["body"]["envelope"])
        if keyid not in self.trust.owner:
            return "its key is not trusted"
        person, key = self.trust.owner[keyid]
        if not verifies(key["kind"], key["public"], signature, pae):
            return "its signature does not verify"
        statement = parse_canonical(payload)
        said, expected = statement["predicate"], self.expected(asked, asked_seq)
        subject = [row["digest"]["sha256"] for row in statement["subject"]]
        if said["asked"] != expected or subject != [self.genesis["plan"], asked["sha256"]]:
            return "it was given for another request, plan or run, or for other facts"
        played = "simulated:" if person.get("simulated") else ""
        if record["actor"] != f"{played}approver:{person['name']}" or said["by"] != person["name"]:
            return "it is another person's"
        if said["decision"] != DECISIONS[record["type"]]:
            return f"it is signed as {said['decision']}"
        if played and not (expected["lab"] and expected["class"] == "drill"):
            return "the person is played by drills"
        if nonces.setdefault(said["nonce"], (self.run, record["seq"])) != (self.run, record["seq"]):
            return "its nonce was used before"
        why = self.allowed(said, person, asked) or in_time(said, key, at)
        if not why:
            self.anchored = max(self.anchored, asked_seq)
            if record["type"] == "gate.approved":
                asked["by"].add(person["name"])
                asked["urgent"] |= said["break_glass"]
        return why

    def expected(self, asked, asked_seq):
        request = {"seq": asked_seq, "digest": asked["digest"], "sha256": asked["sha256"]}
        return {
            "run": self.run,
            "plan": self.genesis["plan"],
            "class": self.genesis["class"],
            "lab": self.genesis["cloud"].get("lab") is True,
            "step": asked["step"],
            "request": request,
            "facts": asked["facts"],
        }

    def allowed(self, said, person, asked):
        if said["decision"] == "withdraw":
            return ""
        if said["break_glass"]:
            good = asked.get("break_glass") is True and said["reason"].strip()
            return "" if good else "break-glass is not allowed there, or has no reason"
        began = self.genesis["initiator"].rpartition(":")[2]
        mine = began == person["name"] or began in person.get("accounts", [])
        if mine and said["decision"] == "approve":
            return "the person started the run"
        if said["role"] and said["role"] not in person.get("roles", []):
            return "the person does not hold the role"
        if asked.get("roles") and said["role"] not in asked["roles"]:
            return "the gate asks for another role"
        return ""

    def succeeded(self, record):
        body = record["body"]
        for run_id, name in self.planned(body["step"]).items():
            if run_id not in self.closed and body["step"] not in self.by_hand:
                why = "is not recorded as ended" if run_id in self.born else "was never begun"
                what = f"step {body['step']} is said to have succeeded, but its child {name}"
                self.say(record["seq"], f"{what}, which the plan lists, {why}")
        asked = self.requests.get(self.newest.get(body["step"], -1))
        if asked is not None:
            need = 1 if asked["urgent"] else asked["approvals"]
            if len(asked["by"]) < need:
                self.say(record["seq"], f"gate {body['step']} passed without valid approvals")
        elif "approvers" in body.get("outputs", {}):
            self.say(record["seq"], "a gate passed that had asked nobody")
        elif not body.get("findings") and body["step"] not in self.part()["children"]:
            what = f"step {body['step']} is said to have succeeded"
            self.say(record["seq"], f"{what}, but nothing was read back")


def in_time(said, key, at):
    issued, expires = millis(said["issued"]), millis(said["expires"])
    if issued > at + SKEW_MS:
        return "it is dated after its use"
    if expires < at:
        return "it had expired"
    return out_of_time(key, issued) or out_of_time(key, at)


def check_journals(files, trust):
    plan = parse_canonical(read_file(files, "inputs/plan.json").removesuffix(b"\n"))
    if plan["digest"] != sha(canonical({k: v for k, v in plan.items() if k != "digest"})):
        fail("inputs/plan.json", "its digest is not its own")
    names = {}
    for name in files:
        if name.startswith("journals/"):
            names[name[len("journals/") : -len(".jsonl")].replace("~", "/")] = files[name]
    tree, nonces, chains = Tree(), {}, {}
    for run_id in sorted(names):
        chains[run_id] = chain = Chain(run_id, trust, plan)
        try:
            chain.follow(names[run_id], tree, nonces)
        except ODD as error:
            fail(run_id, f"record {len(chain.heads)}: {type(error).__name__} {error}")
    check_children(chains)
    check_decisions(files, chains)
    return chains, tree


def check_children(chains):
    roots = [run_id for run_id in chains if "/" not in run_id]
    if len(roots) != 1:
        fail("journals", f"hold {len(roots)} root runs, expected one")
    told, born = {}, {}
    for chain in chains.values():
        told.update(chain.children)
        born.update({run_id: (chain, *birth) for run_id, birth in chain.born.items()})
    for run_id in sorted(born.keys() | {run_id for run_id in chains if "/" in run_id}):
        check_child(run_id, chains, born)
    for run_id, (_, seq, head) in told.items():
        child = chains.get(run_id)
        if child is None or len(child.heads) != seq + 1 or child.heads[seq] != head:
            fail(run_id, "is not the chain whose end its parent recorded")


def check_child(run_id, chains, born):
    """A child's journal is here, a record of its parent names it, and both say the same."""
    if run_id not in born:
        fail(run_id, "is a child's journal that no record of a parent names")
        return
    parent, seq, name, item = born[run_id]
    if run_id not in chains:
        root = chains.get(run_id.partition("/")[0])
        # The process may have ended between the two records; only a cancelled run stays so.
        cut = seq + 1 in parent.pauses or seq + 1 == len(parent.heads)
        if not (root and root.cancelled and cut):
            fail(run_id, f"its journal is missing, but record {seq} of {parent.run} began it")
        return
    said, register = chains[run_id].genesis, parent.genesis.get("approvers")
    expected = {"parent": parent.run, "path": [*parent.genesis["path"], name], "item": item}
    for key, value in {**expected, "approvers": register}.items():
        if said.get(key) != value:
            fail(run_id, f"record 0 has another `{key}` than record {seq} of {parent.run}")


def check_decisions(files, chains):
    held = {}
    for chain in chains.values():
        held.update(chain.envelopes)
    here = {name for name in files if name.startswith("approvals/")}
    for name in sorted(held.keys() ^ here):
        fail(name, "stands in the journals or in approvals, but not in both")
    for name in sorted(held.keys() & here):
        if read_file(files, name) != held[name]:
            fail(name, "is not the decision that the journal holds")


# ---- what stands in the bundle beside the journals

REPORTS = ("executive.html", "report.md", "timeline.svg", "oscal-ar.json", "junit.xml")
RENDERED = {"README.txt", "verify.py", "actions.json", *(f"reports/{name}" for name in REPORTS)}
PAGES = {"reports/report.pdf", "reports/executive.pdf"}
FIXED = {"manifest.json", "inputs/plan.json", "facts.json", "reports/report.html"}
CHECKPOINT = re.compile(r"checkpoints/[0-9]{2,3}\.(json|tsr)", re.ASCII)
INVENTORY = "artifacts/keys/inventory.before.json"


def runbooks(part):
    out = {part["runbook"]["name"]: part["runbook"]["text"]}
    for child in part["children"].values():
        out.update(runbooks(child))
    return out


def redacted(inputs):
    out = {}
    for name, value in inputs.items():
        if isinstance(value, dict) and value.keys() == {"path", "sha256", "size"}:
            out[name] = {"redacted": True, "sha256": value["sha256"], "size": value["size"]}
        elif isinstance(value, str) and value.partition(":")[0] in REFERENCES:
            out[name] = {"redacted": True, "reference": value.partition(":")[0]}
        else:
            out[name] = value
    return out


REFERENCES = ("env", "file", "fd", "prompt", "mint")


def given(plan, chains):
    """File name -> digest of what plan and journals give."""
    (root,) = [chain for run_id, chain in chains.items() if "/" not in run_id]
    genesis, part = root.genesis, plan["root"]
    environment = {
        "schema": "drengine/environment/v1",
        "cloud": genesis["cloud"],
        "tool": genesis["tool"],
        "initiator": genesis["initiator"],
        "openings": {run_id: chain.openings for run_id, chain in chains.items()},
    }
    files = {f"inputs/{name}.yaml": sha(text.encode()) for name, text in runbooks(part).items()}
    files["inputs/inputs.redacted.json"] = sha(canonical(redacted(part["inputs"])) + b"\n")
    files["inputs/environment.json"] = sha(canonical(environment) + b"\n")
    if isinstance(part["discovery"].get("domain"), dict):
        domain = canonical(part["discovery"]["domain"]) + b"\n"
        files["artifacts/sd/fingerprints.json"] = sha(domain)
    for run_id in sorted(chains):
        files.update(chains[run_id].probes)
    return files


def check_contents(files, chains):
    """Compare every file with what plan and journals give; refuse names that no bundle has."""
    plan = parse(read_file(files, "inputs/plan.json"))
    made = given(plan, chains)
    for name in sorted((made.keys() | RENDERED) - files.keys()):
        fail(name, "is missing: sealing makes it")
    for name in sorted(made.keys() & files.keys()):
        if file_sha(files[name]) != made[name]:
            fail(name, "is not what plan and journals give")
    inventory = plan["root"]["inputs"].get("inventory")
    named = {INVENTORY: inventory.get("sha256")} if isinstance(inventory, dict) else {}
    for chain in chains.values():
        named.update({f"artifacts/attached/{digest}": digest for digest in chain.attached})
    for name in sorted(named.keys() & files.keys()):
        if file_sha(files[name]) != named[name]:
            fail(name, "does not have the digest that the plan or a record names")
    register = (
        {"inputs/approvers.json"}
        if any(c.genesis.get("approvers") for c in chains.values())
        else set()
    )
    known = made.keys() | RENDERED | PAGES | FIXED | named.keys() | register
    for name in sorted(files.keys() - known):
        if not is_of_a_bundle(name, files):
            fail(name, "is not a file that a sealed bundle has")
    check_actions(files, chains)


def is_of_a_bundle(name, files):
    if CHECKPOINT.fullmatch(name):
        return name.endswith(".json") or f"{name[:-4]}.json" in files
    return name.startswith(("journals/", "approvals/")) or is_outside(name)


def check_actions(files, chains):
    doc, (root, *_) = parse(read_file(files, "actions.json")), sorted(chains)
    if (
        doc.keys() - {"schema", "run", "actions", "reviews"}
        or doc["schema"] != "drengine/actions/v1"
    ):
        raise ValueError("actions.json is not a list of corrective actions")
    if doc.get("run", root) != root or not all(row["id"] for row in doc.get("actions", [])):
        raise ValueError("actions.json is of another run, or has an action without an id")


def say_what_was_not_compared(files):
    """Say what only a renderer can make again, and what no journal gives."""
    mine = Path(__file__)
    if "verify.py" in files and mine.is_file() and file_sha(mine) != file_sha(files["verify.py"]):
        notes.append("verify.py in the bundle is not the file that runs here")
    pages = ", ".join(sorted(name for name in files if name.startswith("reports/")))
    notes.append(
        "not computed again here: the verdict, how RTO and RPO were measured, and everything else"
        " in facts.json; 'drengine verify' does that"
    )
    notes.append(f"not rendered again here, so not compared: README.txt, {pages}")
    notes.append("actions.json is the sealer's word: no journal gives it")


# ---- numbers, stamps, and what nothing anchors


def check_numbers(files, predicate, manifest, chains, tree):
    facts = json.loads(read_file(files, "facts.json"))
    (root,) = [chain for run_id, chain in chains.items() if "/" not in run_id]
    heads = [
        {"run": run_id, "records": len(chains[run_id].heads), "sha256": chains[run_id].heads[-1]}
        for run_id in sorted(chains)
    ]
    genesis = root.genesis
    if "approvers" in genesis:
        if sha(read_file(files, "inputs/approvers.json")[:-1]) != genesis["approvers"]:
            fail("inputs/approvers.json", "is not the register that record 0 names")
    same = {
        "run": root.run,
        "class": genesis["class"],
        "lab": genesis["cloud"].get("lab") is True,
        "plan": genesis["plan"],
        "journals": heads,
        "merkle_root": tree.root(),
    }
    for key, value in same.items():
        for where, doc in (("manifest.json", manifest), ("attestation.dsse.json", predicate)):
            if doc.get(key) != value:
                fail(where, f"{key} is not what the journals give")
    if manifest.get("previous_bundle") != predicate.get("previous_bundle"):
        fail("manifest.json", "names another bundle before it than what was signed")
    if facts["verdict"] != predicate["verdict"]:
        fail("facts.json", "its verdict is not the one that was signed")
    if facts["status"] == "finished" and not root.ended:
        fail(root.run, "is said to be finished, and its journal does not end")
    page = read_file(files, "reports/report.html").decode("utf-8", "replace")
    version = re.search(r'data-version="([^"]*)"', page)
    if not version or version[1] != manifest.get("sealed_by"):
        fail("reports/report.html", "names another version of drengine than the one that sealed it")
    for name in ("rto", "rpo"):
        check_objective(name, facts[name], predicate[name], page)
    check_ends(facts["rto"], root, chains)


def check_objective(name, said, signed, page):
    if said["from_ms"] is not None and said["to_ms"] is not None:
        if said["actual_ms"] != said["to_ms"] - said["from_ms"]:
            fail("facts.json", f"{name} is not the time between its two ends")
    if said["reached"] in ("met", "missed"):
        if (said["actual_ms"] <= said["target_ms"]) != (said["reached"] == "met"):
            fail("facts.json", f"{name} is not {said['reached']}")
    for key in ("target_ms", "actual_ms", "reached"):
        if said[key] != signed[key]:
            fail("attestation.dsse.json", f"{name} {key} is not that of facts.json")
    if f'data-{name}-actual-ms="{said["actual_ms"]}"' not in page:
        fail("reports/report.html", f"does not show the {name} of facts.json")


def check_ends(rto, root, chains):
    if rto["to_ms"] is not None:
        if not any(rto["to_ms"] in chain.times for chain in chains.values()):
            fail("facts.json", "the RTO ends at a time at which no record says so")
    incident = root.genesis["inputs"].get("incident_at")
    if incident is None and rto["from_ms"] is not None:
        first = rto["from_ms"]
        if first > min(min(chain.times, default=first) for chain in chains.values()):
            fail("facts.json", "the RTO begins after work had been done")


def check_stamps(files, tsa, chains):
    """A stamp shows that records were there at its time; made late, it covers none of them."""
    check_attempts(files)
    newest = max((chain.last[1] for chain in chains.values() if chain.last), default=0)
    sealed = []
    for token in sorted(name for name in files if STAMP.fullmatch(name)):
        at = step(token, lambda token=token: stamped(files, "attestation.dsse.json", token, tsa))
        if at is not None:
            sealed.append(at)
            if newest - at > SKEW_MS:
                fail(token, "is from before the newest record")
    for name in sorted(files):
        if name.startswith("checkpoints/") and name.endswith(".json"):
            step(name, lambda name=name: check_checkpoint(files, name, tsa, chains))
    return newest, sealed


def stamped(files, data, token, tsa):
    """Return the time of a stamp that verifies, in milliseconds."""
    if tsa is None:
        notes.append(f"{token}: the trust folder has no root for time stamps")
        return None
    read_file(files, token, MAX_TOKEN)
    said = run(["openssl", "ts", "-reply", "-in", str(files[token]), "-text"]).stdout.decode()
    if not re.search(r"^Hash Algorithm: sha(256|384|512)$", said, re.MULTILINE):
        fail(token, "is no time stamp with a good hash")
        return None
    command = ["openssl", "ts", "-verify", "-data", str(files[data]), "-in", str(files[token])]
    if run([*command, "-CAfile", str(tsa)]).returncode:
        fail(token, f"is not a time stamp over {data}, by an authority that is trusted")
        return None
    time = re.search(r"^Time stamp: (.+)$", said, re.MULTILINE)[1]
    notes.append(f"{token}: Time stamp: {time}")
    whole = re.sub(r"\.[0-9]+", "", time)
    moment = datetime.datetime.strptime(whole, "%b %d %H:%M:%S %Y GMT")
    return int(moment.replace(tzinfo=datetime.timezone.utc).timestamp()) * 1000


def check_attempts(files):
    if "stamps.json" not in files:
        return
    doc = parse(read_file(files, "stamps.json", MAX_ENVELOPE))
    if doc.keys() != {"schema", "attempts"} or doc["schema"] != "drengine/stamps/v1":
        raise ValueError("stamps.json is not a list of attempts of schema drengine/stamps/v1")
    for row in doc["attempts"]:
        token = row["token"]
        if row.keys() != {"tsa", "token", "why"} or not (token is None or STAMP.fullmatch(token)):
            raise ValueError("stamps.json has an attempt of another form")
        if token is not None and token not in files:
            fail(token, "is missing, but stamps.json names it")


def check_checkpoint(files, name, tsa, chains):
    doc, token = parse(read_file(files, name, MAX_ENVELOPE)), name[:-5] + ".tsr"
    heads = doc.get("heads")
    if doc["schema"] != "drengine/checkpoint/v1":
        fail(name, "is not a checkpoint")
    elif not isinstance(heads, list) or not all(is_head(head) for head in heads):
        fail(name, "has heads that name no run, record and SHA-256")
    elif token not in files:
        notes.append(f"{name} was not stamped: {doc.get('unstamped', 'no reason')}")
    else:
        at = stamped(files, name, token, tsa)
        if at is not None:
            anchor(name, token, doc, at, chains)


def is_head(head):
    kinds = {"run": str, "seq": int, "sha256": str}
    return isinstance(head, dict) and all(type(head.get(k)) is kinds[k] for k in kinds)


def anchor(name, token, doc, at, chains):
    newest = []
    for head in doc["heads"]:
        chain, seq = chains.get(head["run"]), head["seq"]
        if chain is None or chain.heads[seq : seq + 1] != [head["sha256"]]:
            fail(name, f"names record {seq} of {head['run']} with another digest")
            continue
        shown = chain.shown[seq]
        newest.append((shown, f"record {seq} of {head['run']}"))
        if shown - at > SKEW_MS:
            fail(name, f"was stamped before record {seq} of {head['run']} is said to be made")
        elif at - shown < LATE_MS:
            chain.anchored = max(chain.anchored, seq)
    if newest and at - max(newest)[0] > LATE_MS:
        gap = f"was made {(at - max(newest)[0]) // 60_000} min after the newest record"
        what = f"that it covers, {max(newest)[1]}"
        notes.append(f"{token} {gap} {what}: it does not show that these are as they were made")


# ---- some records of a sealed run


def root_from(content, index, size, path):
    """The root that a leaf and its audit path lead to (RFC 9162, 2.1.3.2)."""
    last, top = size - 1, hashlib.sha256(b"\x00" + content).digest()
    if not 0 <= index <= last:
        raise ValueError(f"there is no record {index} among {size}")
    for other in map(bytes.fromhex, path):
        if last == 0:
            raise ValueError("the path is too long")
        if index & 1 or index == last:
            top = hashlib.sha256(b"\x01" + other + top).digest()
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            top = hashlib.sha256(b"\x01" + top + other).digest()
        index, last = index >> 1, last >> 1
    return top.hex() if last == 0 else ""


def is_disclosure(folder):
    """A folder that holds anything of a bundle is checked as one, whatever lies beside it."""
    if any(os.path.lexists(folder / name) for name in ("manifest.json", "SHA256SUMS", "journals")):
        return False
    return os.path.lexists(folder / "disclosure.json")


def check_disclosure(folder, sealers):
    files = list_files(folder)
    for name in sorted(files.keys() - DISCLOSED):
        fail(name, "is not a file that a disclosure has")
    statement, _, _ = open_seal(files, sealers)
    if statement["predicateType"] != "urn:drengine:dr-run:v1":
        fail("attestation.dsse.json", "says other things than a sealed run does")
    said, doc = statement["predicate"], parse_line(read_file(files, "disclosure.json", MAX_FILE))
    if doc.keys() != {"schema", "profile", "size", "records"}:
        fail("disclosure.json", "has other keys than a disclosure has")
    if doc["schema"] != "drengine/disclosure/v1":
        fail("disclosure.json", "is of another kind")
    if doc["size"] != sum(journal["records"] for journal in said["journals"]):
        fail("disclosure.json", "counts other records than were sealed")
    for row in doc["records"]:
        content = hashlib.sha256(row["line"].encode() + b"\n").digest()
        if root_from(content, row["index"], doc["size"], row["path"]) != said["merkle_root"]:
            fail("disclosure.json", f"the record at place {row['index']} is not of that run")
            continue
        record = parse(row["line"].encode())
        shown = [record[key] for key in ("run", "seq", "at", "type")]
        notes.append(json.dumps([*shown, record["body"].get("step", "")]))
    count = len({row["index"] for row in doc["records"]})
    notes.append(f"{count} of {doc['size']} records are here, the rest withheld")
    if files.keys() & {"README.txt", "verify.py"}:
        notes.append("README.txt and verify.py beside them were not compared with anything")
    return said


# ---- the recovered HSM's signature over the manifest


def der(tag, content):
    size = len(content)
    length = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")
    return bytes([tag]) + length + content


def integer(data):
    data = data.lstrip(b"\0")
    return der(2, b"\0" + data if not data or data[0] > 127 else data)


def hsm_public(key):
    part = {}
    for name in "nexy":
        text = key.get(name) or ""
        part[name] = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if key.get("crv"):
        kind = bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")
        bits = b"\4" + part["x"].rjust(32, b"\0") + part["y"].rjust(32, b"\0")
    else:
        kind = bytes.fromhex("300d06092a864886f70d0101010500")
        bits = der(0x30, integer(part["n"]) + integer(part["e"]))
    body = base64.encodebytes(der(0x30, kind + der(3, b"\0" + bits))).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{body}-----END PUBLIC KEY-----\n".encode()


def check_hsm(files):
    """The key's public half stands in the inventory from before, which the plan names."""
    name, where = "hsm-signature.json", "artifacts/keys/inventory.before.json"
    if name not in files:
        return
    doc, plan = parse_line(read_file(files, name)), parse(read_file(files, "inputs/plan.json"))
    before, manifest = read_file(files, where), read_file(files, "manifest.json")
    inputs = plan["root"]["inputs"]
    if inputs["inventory"]["sha256"] != sha(before):
        fail(where, "is not the inventory that the plan names")
    signature = base64.b64decode(doc["signature"], validate=True)
    expected = {
        "schema": "drengine/hsm-signature/v1",
        "hsm": inputs["target_hsm"],
        "manifest_sha256": sha(manifest),
        "inventory_sha256": sha(before),
        "signature": base64.b64encode(signature).decode(),
        **{field: doc[field] for field in ("key", "version", "algorithm")},
    }
    if doc != expected:
        fail(name, "is about another bundle")
    keys = {(key["name"], key["version"]): key for key in parse(before)["keys"]}
    key = keys.get((doc["key"], doc["version"]))
    if key is None or not hsm_verifies(key, doc["algorithm"], signature, manifest):
        fail(name, "was not made with the key that was there before")
    else:
        notes.append(f"{name}: made with {doc['hsm']}/{doc['key']}/{doc['version']}")


def hsm_verifies(key, algorithm, signature, data):
    if (algorithm == "ES256") != (key.get("crv") == "P-256"):
        return False
    options = []
    if algorithm == "ES256" and len(signature) == 64:
        signature = der(0x30, integer(signature[:32]) + integer(signature[32:]))
    elif algorithm == "PS256":
        options = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"]
    elif algorithm != "RS256":
        return False
    return verifies("p256", hsm_public(key), signature, data, options)


# ---- the chain of bundles


def believed(other, trust):
    """Return files and manifest of a bundle from before, where its own seal holds."""
    mark = len(failures)
    if other.is_symlink() or not other.is_dir():
        fail(other, "is not a sealed bundle to compare with: it is no folder")
        return None
    files = list_files(other)
    step("SHA256SUMS", lambda: check_sums(files))
    manifest = step("manifest.json", lambda: check_manifest(files))
    step("attestation.dsse.json", lambda: check_attestation(files, trust.sealers))
    told = [f"{other}: is not a sealed bundle to compare with: {line}" for line in failures[mark:]]
    failures[mark:] = told
    return None if told else (files, manifest)


def check_history(files, manifest, earlier, trust):
    known = {}
    for other in earlier:
        found = believed(other, trust)
        if found is not None:
            known[file_sha(found[0]["manifest.json"])] = (other, *found)
    before = (manifest.get("previous_bundle") or {}).get("manifest_sha256")
    if before is None:
        fail("manifest.json", "names no bundle before it, but there is one")
        return
    if before not in known:
        fail("manifest.json", f"names a bundle before it ({before[:16]}) that was not given")
    mine = file_sha(files["manifest.json"])
    for digest, (other, _, doc) in known.items():
        if digest != mine:
            if (doc.get("previous_bundle") or {}).get("manifest_sha256") == before:
                fail("manifest.json", f"is a fork: {other} names the same bundle before it")
    if before in known:
        check_dropped(files, *known[before][:2])


def check_dropped(files, other, before):
    was, now = (parse(read_file(each, "actions.json")) for each in (before, files))
    kept = {row["id"] for row in now.get("actions", [])}
    for row in was.get("actions", []):
        if row.get("status") != "closed" and row["id"] not in kept:
            fail("actions.json", f"lacks corrective action {row['id']}, open in {other}")


def spans(chains):
    def anchored(run_id):
        found = chains[run_id].anchored
        for name, chain in chains.items():
            place = chain.children.get(run_id)
            if place and name != run_id and place[0] <= anchored(name):
                found = max(found, place[1])
        return found

    for run_id in sorted(chains):
        first, last = anchored(run_id) + 1, len(chains[run_id].heads) - 1
        if first <= last:
            what = f"{last + 1 - first} of {last + 1} records: {first} to {last}"
            notes.append(f"{run_id}: no approver's signature or time stamp covers {what}")


ODD = (ValueError, KeyError, TypeError, OSError, IndexError, AttributeError, RecursionError)
"""What an edited file may lead to: a failure to be listed, not a traceback."""


def step(where, action):
    try:
        return action()
    except ODD as error:
        fail(where, f"{type(error).__name__} {error}")
        return None


def main(bundle, trust, earlier=()):
    if bundle.is_symlink() or not bundle.is_dir():
        fail(bundle, "is not a folder of evidence")
        return verdict(bundle, None)
    if is_disclosure(bundle):
        return verdict(bundle, step(bundle, lambda: check_disclosure(bundle, trust.sealers)))
    files = list_files(bundle)
    step("SHA256SUMS", lambda: check_sums(files))
    manifest = step("manifest.json", lambda: check_manifest(files))
    predicate = step("attestation.dsse.json", lambda: check_attestation(files, trust.sealers))
    found = step("journals", lambda: check_journals(files, trust))
    if manifest and predicate and found:
        step("facts.json", lambda: check_numbers(files, predicate, manifest, *found))
        step("the bundle", lambda: check_contents(files, found[0]))
    times = step("stamps", lambda: check_stamps(files, trust.tsa, found[0] if found else {}))
    if predicate and found and times:
        step("attestation.dsse.json", lambda: sealed_in_time(files, trust.sealers, *times))
    if found:
        step("journals", lambda: spans(found[0]))
    step("hsm-signature.json", lambda: check_hsm(files))
    if manifest and earlier:
        step("the chain of bundles", lambda: check_history(files, manifest, earlier, trust))
    elif manifest and manifest.get("previous_bundle") is not None:
        notes.append("the bundle before this one was not given: not compared with it")
    say_what_was_not_compared(files)
    return verdict(bundle, predicate)


def verdict(bundle, predicate):
    for line in notes:
        tell(f"  {line}")
    for line in failures:
        tell(f"FAILED  {line}")
    if failures:
        tell(f"{bundle} does not verify: {len(failures)} failure(s)")
        return 9
    lab = " in a LAB" if predicate["lab"] else ""
    said = f"{predicate['class'].upper()}{lab} {predicate['run']}: {predicate['verdict']}"
    tell(f"OK  {said} (as the sealer says; not computed again here)")
    return 0


def begin(arguments):
    places = [Path(each) for each in arguments if not each.startswith("--")]
    if len(places) < 2 or {each for each in arguments if each.startswith("--")} - OPTIONS:
        usage = "usage: verify.py BUNDLE TRUST [EARLIER ...] [--unsigned-decisions]"
        print(usage, file=sys.stderr)
        return 2
    if not (places[1] / "trust.json").is_file():
        sys.exit(f"{visible(places[1])} is no trust folder: there is no trust.json in it")
    try:
        trust = Trust(places[1])
    except ODD as error:
        tell(f"{places[1]} cannot be read as a trust folder: {type(error).__name__} {error}")
        return 3
    trust.takes_unsigned = "--unsigned-decisions" in arguments
    return main(places[0], trust, places[2:])


OPTIONS = {"--trust", "--unsigned-decisions"}

if __name__ == "__main__":
    sys.exit(begin(sys.argv[1:]))
