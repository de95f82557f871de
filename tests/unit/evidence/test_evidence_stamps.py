"""Time stamps by a real (openssl) authority on the loopback: good, lying, wrong and absent."""

from __future__ import annotations

import http.server
import json
import shutil
import subprocess
import threading
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
    assert told(trusting)[1] == ""


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
    story = tell.recover(tell.Story(store, tell.make_plan(), cast=cast))
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


@pytest.fixture(scope="module")
def stamped(tell, cast, authority, tmp_path_factory):
    """A bundle whose run was stamped when it had ended, and a trust folder for it."""
    place = tmp_path_factory.mktemp("stamped")
    cast.number = 0
    store = MemoryStore()
    story = tell.recover(tell.Story(store, tell.make_plan(target_hsm="contoso-s"), cast=cast))
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
