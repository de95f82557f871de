"""Time stamps by a real (openssl) authority on the loopback: good, lying, wrong and absent."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from drengine.errors import InputError, InputFileError
from drengine.evidence.checkpoints import kept_checkpoints, stamp_bundle, stamp_run
from drengine.evidence.reports import reports_of
from drengine.evidence.seal import SealRequest, seal
from drengine.evidence.sealed import verify_bundle
from drengine.evidence.stamps import request_stamp
from drengine.journal.memory import MemoryStore
from drengine.model.canonical import canonical
from drengine.trust.enrolling import add_tsa
from drengine.trust.register import read_trust

CONFIG = """
[tsa]
default_tsa = one
[one]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/{name}.crt
signer_key = {folder}/{name}.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha1, sha256
accuracy = secs:1
ess_cert_id_alg = sha256
"""


def openssl(*arguments, check=True):
    return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, check=check)


class Authority:
    """A root, a stamping certificate, and replies made by `openssl ts`."""

    def __init__(self, folder: Path, name: str = "tsa", usage: str = "critical,timeStamping"):
        self.folder, self.name = folder, name
        (folder / "serial").write_text("01\n")
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30")
        openssl(
            *("req", "-x509", *curve, "-keyout", folder / "root.key"),
            *("-out", folder / "root.crt", "-subj", "/CN=root"),
        )
        openssl(
            *("req", *curve[:-2], "-keyout", folder / f"{name}.key"),
            *("-out", folder / f"{name}.csr", "-subj", f"/CN={name}"),
        )
        extension = f"keyUsage=critical,digitalSignature\nextendedKeyUsage={usage}\n"
        (folder / "ext").write_text(extension)
        openssl(
            *("x509", "-req", "-in", folder / f"{name}.csr", "-CA", folder / "root.crt"),
            *("-CAkey", folder / "root.key", "-CAcreateserial", "-days", "30"),
            *("-extfile", folder / "ext", "-out", folder / f"{name}.crt"),
        )
        (folder / "config").write_text(CONFIG.format(folder=folder, name=name))

    @property
    def root(self) -> str:
        return (self.folder / "root.crt").read_text()

    def reply(self, query: bytes) -> bytes:
        (self.folder / "query").write_bytes(query)
        arguments = ("-queryfile", self.folder / "query", "-out", self.folder / "reply")
        openssl("ts", "-reply", "-config", self.folder / "config", *arguments, check=False)
        return (self.folder / "reply").read_bytes()

    def stamp(self, file: Path, algorithm: str = "sha256") -> bytes:
        query = openssl("ts", "-query", "-data", file, f"-{algorithm}", "-cert").stdout
        return self.reply(query)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tsa"))


@pytest.fixture
def serve():
    """Serve what a function makes of a query; return the address."""
    servers = []

    def start(answer):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                made = answer(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", str(len(made)))
                self.end_headers()
                self.wfile.write(made)

            def log_message(self, *_):
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def now_ms():
    """The authority stamps by the machine's clock: what it stamps must be as new as that."""
    return int(time.time()) * 1000


@pytest.fixture(scope="module")
def fresh(make_bundle, tmp_path_factory):
    """A sealed bundle of a run of a minute ago."""
    return make_bundle(tmp_path_factory.mktemp("fresh"), start=now_ms() - 180_000)


@pytest.fixture
def forger(fresh, forging, tmp_path, cast):
    return forging.Forger(fresh, tmp_path, cast)


@pytest.fixture
def trusting(forger, authority):
    """The forger's copy, and a trust folder that knows the authority."""
    forger.trust(lambda doc: doc)
    add_tsa(forger.cast.trust, authority.root)
    return forger


def told(forger):
    report = verify_bundle(forger.path, read_trust(forger.cast.trust))
    return report, "\n".join(str(problem) for problem in report.problems)


def test_a_bundle_is_stamped_and_both_verifiers_and_openssl_agree(trusting, authority, serve):
    done = stamp_bundle(trusting.path, serve(authority.reply))
    assert done.token == "attestation.tsr"
    report, problems = told(trusting)
    assert not problems
    assert [name for name, _ in report.stamps] == ["attestation.tsr"]
    alone = trusting.alone()
    assert alone.returncode == 0, alone.stdout
    assert "attestation.tsr: Time stamp: " in alone.stdout
    checked = openssl(
        *("ts", "-verify", "-data", trusting.path / "attestation.dsse.json"),
        *("-in", trusting.path / "attestation.tsr"),
        *("-CAfile", trusting.cast.trust / "tsa-ca.pem"),
    )
    assert b"Verification: OK" in checked.stdout + checked.stderr


def test_an_authority_that_cannot_be_reached_is_recorded_and_asked_later(
    trusting, authority, serve
):
    done = stamp_bundle(trusting.path, "http://127.0.0.1:9/")
    assert done.token == ""
    assert "cannot be reached" in done.told
    assert told(trusting)[1] == ""
    stamp_bundle(trusting.path, serve(authority.reply))
    attempts = json.loads((trusting.path / "stamps.json").read_bytes())["attempts"]
    assert [attempt["token"] for attempt in attempts] == [None, "attestation.tsr"]
    assert told(trusting)[1] == ""


def test_a_later_stamp_leaves_every_earlier_one_as_it_is(trusting, authority, serve):
    url = serve(authority.reply)
    assert stamp_bundle(trusting.path, url).token == "attestation.tsr"
    assert stamp_bundle(trusting.path, url).token == "attestation.2.tsr"
    second = (trusting.path / "attestation.2.tsr").read_bytes()
    (trusting.path / "attestation.tsr").unlink()
    assert stamp_bundle(trusting.path, url).token == "attestation.3.tsr"
    assert (trusting.path / "attestation.2.tsr").read_bytes() == second
    # A name that the list knows is not given again even where the file is gone.
    (trusting.path / "attestation.3.tsr").unlink()
    assert stamp_bundle(trusting.path, url).token == "attestation.4.tsr"
    assert told(trusting)[1].splitlines() == [
        "attestation.tsr: is missing, but stamps.json names it",
        "attestation.3.tsr: is missing, but stamps.json names it",
    ]


@pytest.mark.parametrize("broken", [b"{", b"{}", b'{"attempts":5}'])
def test_a_list_that_cannot_be_read_is_said_before_anything_is_asked_or_written(
    trusting, serve, broken
):
    asked = []
    (trusting.path / "stamps.json").write_bytes(broken)
    with pytest.raises(InputFileError, match="nothing was asked for and nothing written"):
        stamp_bundle(trusting.path, serve(lambda query: asked.append(query) or b""))
    assert asked == []
    assert not list(trusting.path.glob("attestation*.tsr"))
    assert (trusting.path / "stamps.json").read_bytes() == broken


def test_a_list_that_cannot_be_written_does_not_hide_the_stamp(
    trusting, authority, serve, monkeypatch
):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("drengine.evidence.checkpoints.write_whole", full)
    with pytest.raises(InputFileError, match=r"the stamp itself is in attestation\.tsr"):
        stamp_bundle(trusting.path, serve(authority.reply))
    assert (trusting.path / "attestation.tsr").exists()


def test_more_stamps_than_names_are_refused_before_anything_is_asked(trusting, serve):
    (trusting.path / "attestation.99.tsr").write_bytes(b"")
    with pytest.raises(InputError, match="99 time stamps already"):
        stamp_bundle(trusting.path, serve(lambda _: b""))


def test_an_authority_that_lies_gives_no_stamp(trusting, serve):
    done = stamp_bundle(trusting.path, serve(lambda _: b"certainly"))
    assert done.token == ""
    assert "gave no time stamp" in done.told
    assert not (trusting.path / "attestation.tsr").exists()


def test_an_address_that_is_none_is_refused(trusting):
    with pytest.raises(InputError, match="not an http"):
        stamp_bundle(trusting.path, "file:///etc/passwd")


@pytest.mark.parametrize("kind", ["10 other document", "25 sha1", "25 no use", "25 stranger"])
def test_tampering_with_stamps_is_caught_by_both(trusting, authority, tmp_path, kind):
    data, by, algorithm = trusting.path / "attestation.dsse.json", authority, "sha256"
    if kind == "10 other document":
        data = trusting.path / "facts.json"
    elif kind == "25 sha1":
        algorithm = "sha1"
    else:
        folder = tmp_path / "other"
        folder.mkdir()
        by = Authority(folder)
    if kind == "25 no use":
        # openssl refuses to stamp so; the root is trusted, and the token is the stranger's.
        (trusting.cast.trust / "tsa-ca.pem").write_text((by.folder / "tsa.crt").read_text())
        by = authority
    (trusting.path / "attestation.tsr").write_bytes(by.stamp(data, algorithm))
    words = {
        "10 other document": "another document",
        "25 sha1": "sha1",
        "25 no use": "not signed by an authority",
        "25 stranger": "not signed by an authority",
    }[kind]
    _, problems = told(trusting)
    assert words in problems, problems
    assert trusting.alone().returncode == 9


def der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")
    return bytes([tag]) + length + content


def forge(good: Authority, careless: Authority, data: Path) -> bytes:
    """Take what a good authority says and have it signed by a certificate that may not."""
    folder = careless.folder
    (folder / "good").write_bytes(good.stamp(data))
    openssl("ts", "-reply", "-in", folder / "good", "-token_out", "-out", folder / "token")
    openssl(
        *("cms", "-verify", "-noverify", "-inform", "DER", "-in", folder / "token"),
        *("-out", folder / "said"),
    )
    openssl(
        *("cms", "-sign", "-nodetach", "-binary", "-cades", "-md", "sha256", "-outform", "DER"),
        *("-econtent_type", "1.2.840.113549.1.9.16.1.4", "-in", folder / "said"),
        *("-signer", folder / "tsa.crt", "-inkey", folder / "tsa.key", "-out", folder / "forged"),
    )
    granted = der(0x30, b"\x02\x01\x00")
    return der(0x30, granted + (folder / "forged").read_bytes())


@pytest.mark.parametrize(
    ("usage", "good"),
    [("critical,timeStamping", True), ("timeStamping", False), ("emailProtection", False)],
)
def test_25_a_certificate_that_may_not_stamp_is_refused(trusting, authority, tmp_path, usage, good):
    folder = tmp_path / "careless"
    folder.mkdir()
    careless = Authority(folder, usage=usage)
    made = forge(authority, careless, trusting.path / "attestation.dsse.json")
    (trusting.path / "attestation.tsr").write_bytes(made)
    add_tsa(trusting.cast.trust, careless.root)
    problems = told(trusting)[1]
    # The first row shows that the forged form itself is sound.
    assert ("may not stamp" in problems) is not good, problems
    assert trusting.alone().returncode == (0 if good else 9)


def test_checkpoints_of_a_run_that_goes_on_are_stamped_and_anchor_it(
    tell, cast, authority, serve, tmp_path
):
    cast.number = 0
    store = MemoryStore()
    begun = now_ms() - 180_000
    story = tell.recover(tell.Story(store, tell.make_plan(), cast=cast, start=begun))
    before = [store.head(row.run) for row in store.runs()]
    assert stamp_run(store, story.run, "http://127.0.0.1:9/").token == ""
    assert stamp_run(store, story.run, serve(authority.reply)).token == "checkpoint-02"
    assert [store.head(row.run) for row in store.runs()] == before
    kept = kept_checkpoints(store, story.run)
    assert sorted(kept) == ["01.json", "02.json", "02.tsr"]
    path = seal(
        store, SealRequest(story.run, tmp_path / "b", cast.sealer, reports_of, checkpoints=kept)
    )
    trust = tmp_path / "trust"
    shutil.copytree(cast.trust, trust)
    add_tsa(trust, authority.root)
    report = verify_bundle(path, read_trust(trust))
    assert [str(problem) for problem in report.problems] == []
    assert report.unanchored == ()
    assert any("was not stamped" in note for note in report.notes)


def stamped_at(place, start, tell, cast, authority):
    """Seal a run whose heads were stamped now; return bundle and a trust folder for it."""
    cast.number = 0
    store = MemoryStore()
    plan = tell.make_plan(target_hsm="contoso-s")
    story = tell.recover(tell.Story(store, plan, cast=cast, start=start))
    heads = [(row.run, store.head(row.run)) for row in store.runs()]
    rows = [{"run": run, "seq": head.seq, "sha256": head.sha256} for run, head in heads]
    doc = canonical({"schema": "drengine/checkpoint/v1", "heads": rows}) + b"\n"
    (place / "heads").write_bytes(doc)
    kept = {"01.json": doc, "01.tsr": authority.stamp(place / "heads")}
    out = place / story.run
    seal(store, SealRequest(story.run, out, cast.sealer, reports_of, checkpoints=kept))
    shutil.copytree(cast.trust, place / "trust")
    add_tsa(place / "trust", authority.root)
    return out, place / "trust"


@pytest.fixture(scope="module")
def stamped(tell, cast, authority, tmp_path_factory):
    """A bundle whose run was stamped when it had ended, and a trust folder for it."""
    place = tmp_path_factory.mktemp("stamped")
    return stamped_at(place, now_ms() - 180_000, tell, cast, authority)


def test_an_insider_is_caught_up_to_the_last_stamp_by_both(stamped, forging, cast, tmp_path):
    bundle, trust = stamped
    forger = forging.Forger(bundle, tmp_path, cast)
    records = forger.records()
    place = next(
        i
        for i, doc in enumerate(records)
        if doc["type"] == "step.succeeded" and doc["body"]["step"] == "prove-databases"
    )
    records[place]["body"]["outputs"] = {"note": "made up"}
    forger.rechain(records)
    forger.rebuild()
    report = verify_bundle(forger.path, read_trust(trust))
    problems = "\n".join(str(problem) for problem in report.problems)
    assert f"names record {len(records) - 1} of {forger.run}" in problems, problems
    alone = forging.alone(forger.path, trust)
    assert alone.returncode == 9
    assert "with another digest" in alone.stdout


def test_what_a_stamp_covers_needs_no_later_signature_for_both(stamped, forging):
    bundle, trust = stamped
    assert verify_bundle(bundle, read_trust(trust)).unanchored == ()
    alone = forging.alone(bundle, trust)
    assert alone.returncode == 0, alone.stdout
    assert "signature or time stamp covers" not in alone.stdout


def test_an_authority_that_stamps_something_else_gives_no_stamp(trusting, authority, serve):
    other = authority.stamp(trusting.path / "facts.json")
    done = stamp_bundle(trusting.path, serve(lambda _: other))
    assert done.token == ""
    assert "stamped something else" in done.told
    assert not (trusting.path / "attestation.tsr").exists()


def test_an_authority_that_keeps_silent_ends_in_time(serve):
    never = threading.Event()
    address = serve(lambda _: b"x" * never.wait(30))
    with pytest.raises(InputFileError, match="cannot be reached"):
        request_stamp(address, b"heads", seconds=0.2)
    never.set()


def test_a_stamp_that_came_late_covers_nothing_and_says_so_by_both(
    tell, cast, authority, tmp_path, forging
):
    """An insider may rewrite a tail and have it stamped afterwards: that shows nothing of it."""
    bundle, trust = stamped_at(tmp_path, now_ms() - 3_600_000, tell, cast, authority)
    report = verify_bundle(bundle, read_trust(trust))
    assert [str(problem) for problem in report.problems] == []
    assert len(report.unanchored) == 3
    (gap,) = [note for note in report.notes if "after the newest record" in note]
    assert gap.startswith("checkpoints/01.tsr was made 58m")
    alone = forging.alone(bundle, trust)
    assert alone.returncode == 0, alone.stdout
    assert "01.tsr was made 58 min after the newest record" in alone.stdout
    for span in report.unanchored:
        assert f"signature or time stamp covers {span.partition(': ')[2]}" in alone.stdout


def test_a_stamp_from_before_its_record_is_refused_by_both(
    tell, cast, authority, tmp_path, forging
):
    bundle, trust = stamped_at(tmp_path, now_ms() + 3_600_000, tell, cast, authority)
    problems = "\n".join(map(str, verify_bundle(bundle, read_trust(trust)).problems))
    assert re.search(r"was stamped 1h01m before record \d+ of \S+ is said to be made", problems)
    alone = forging.alone(bundle, trust)
    assert alone.returncode == 9
    assert re.search(r"was stamped before record \d+ of \S+ is said to be made", alone.stdout)


def test_a_seal_stamped_before_its_newest_record_is_refused_by_both(
    make_bundle, forging, authority, serve, tmp_path, cast
):
    ahead = make_bundle(tmp_path / "ahead", start=now_ms() + 3_600_000)
    forger = forging.Forger(ahead, tmp_path / "copy", cast)
    forger.trust(lambda doc: doc)
    add_tsa(forger.cast.trust, authority.root)
    stamp_bundle(forger.path, serve(authority.reply))
    assert "attestation.tsr: is from before the newest record" in told(forger)[1]
    assert "attestation.tsr: is from before the newest record" in forger.alone().stdout


def test_a_stamp_that_was_taken_away_again_is_missed_by_both(trusting, authority, serve):
    stamp_bundle(trusting.path, serve(authority.reply))
    (trusting.path / "attestation.tsr").unlink()
    assert "attestation.tsr: is missing, but stamps.json names it" in told(trusting)[1]
    alone = trusting.alone()
    assert alone.returncode == 9
    assert "attestation.tsr: is missing, but stamps.json names it" in alone.stdout


@pytest.mark.parametrize(
    "doc",
    [
        7,
        {"schema": "drengine/stamps/v1", "attempts": "none"},
        {"schema": "another/v1", "attempts": []},
        {"schema": "drengine/stamps/v1", "attempts": [{"tsa": "x", "token": None, "more": "y"}]},
        {"schema": "drengine/stamps/v1", "attempts": [{"tsa": "x", "token": "../a", "why": ""}]},
    ],
)
def test_a_list_of_stamps_holds_attempts_and_nothing_else(trusting, doc):
    (trusting.path / "stamps.json").write_bytes(canonical(doc) + b"\n")
    assert "stamps.json: is not a list of attempts" in told(trusting)[1]
    alone = trusting.alone()
    assert alone.returncode == 9
    assert "Traceback" not in alone.stderr


def test_a_stamp_larger_than_any_stamp_is_not_given_to_openssl(trusting):
    with (trusting.path / "attestation.tsr").open("wb") as file:
        file.truncate((1 << 20) + 1)
    assert "attestation.tsr: is larger than 1,048,576 bytes" in told(trusting)[1]
    assert "attestation.tsr is larger than 1,048,576 bytes" in trusting.alone().stdout


@pytest.mark.parametrize(("limit", "word"), [("not_after", "been valid"), ("not_before", "before")])
def test_a_seal_outside_the_time_of_its_key_is_refused_by_both(trusting, limit, word):
    at = {"not_after": "2020-01-01T00:00:00.000Z", "not_before": "2999-01-01T00:00:00.000Z"}[limit]
    change_trust(trusting, lambda doc: doc["sealers"][0].update({limit: at}))
    report, problems = told(trusting)
    assert re.search(f"is sealed at .* or later, but the key .*{word}", problems), problems
    assert report.sealed_by == ""
    assert "when it was sealed, its key was not valid" in trusting.alone().stdout


def test_a_key_that_counts_for_a_time_is_judged_by_the_stamp_where_there_is_one(
    trusting, authority, serve
):
    change_trust(
        trusting, lambda doc: doc["sealers"][0].update(not_after="2999-01-01T00:00:00.000Z")
    )
    report, problems = told(trusting)
    assert problems == ""
    assert any("The sealing key counts until 2999" in note for note in report.notes)
    assert "the sealing key counts for a time" in trusting.alone().stdout
    stamp_bundle(trusting.path, serve(authority.reply))
    assert not any("counts until" in note for note in told(trusting)[0].notes)
    assert "counts for a time" not in trusting.alone().stdout


def change_trust(forger, change):
    file = forger.cast.trust / "trust.json"
    doc = json.loads(file.read_bytes())
    change(doc)
    file.write_text(json.dumps(doc))
