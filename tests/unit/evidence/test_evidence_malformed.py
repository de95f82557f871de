"""Files that no engine writes: every one an ordinary problem of both verifiers, no traceback."""

from __future__ import annotations

import json
import time

import pytest

from drengine.cli.main import run
from drengine.errors import InputFileError
from drengine.evidence.sealed import verify_bundle
from drengine.trust.register import read_trust

DEEP = b"[" * 200_000
NAMES = (
    "manifest.json",
    "attestation.dsse.json",
    "facts.json",
    "inputs/plan.json",
    "inputs/approvers.json",
    "inputs/environment.json",
    "checkpoints/01.json",
    "stamps.json",
    "hsm-signature.json",
    "actions.json",
)


def assert_listed(forger, *words):
    report = verify_bundle(forger.path, read_trust(forger.cast.trust))
    told = "\n".join(str(problem) for problem in report.problems)
    assert told
    done = forger.alone()
    assert (done.returncode, done.stderr) == (9, ""), done.stdout + done.stderr
    for word in words:
        assert word in told, told
        assert word in done.stdout, done.stdout
    return told


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "data",
    [DEEP, b"7\n", b"{}\n", b"[]\n", b"null\n", b'{"schema":null,"files":7}\n', b"\xff\n"],
    ids=["deep", "number", "object", "list", "null", "wrong", "bytes"],
)
def test_a_document_of_another_shape_is_a_problem(forger, name, data):
    (forger.path / name).parent.mkdir(exist_ok=True)
    (forger.path / name).write_bytes(data)
    assert_listed(forger)


SEALED = [name for name in NAMES if name not in ("manifest.json", "attestation.dsse.json")]


@pytest.mark.parametrize("name", SEALED)
def test_a_document_of_another_shape_is_a_problem_though_it_is_sealed(forger, name):
    (forger.path / name).parent.mkdir(exist_ok=True)
    (forger.path / name).write_bytes(DEEP)
    forger.resum()
    assert_listed(forger)


def test_a_manifest_without_files_is_a_problem(forger):
    doc = forger.document("manifest.json")
    del doc["files"]
    forger.put("manifest.json", doc)
    assert "manifest.json: has no list of files" in assert_listed(forger)


@pytest.mark.parametrize(
    "head", [{"run": "r", "seq": 3}, {"run": "r", "seq": "3", "sha256": "0"}, 7, {}]
)
def test_a_checkpoint_with_a_head_that_is_none_is_a_problem(forger, head):
    (forger.path / "checkpoints").mkdir()
    forger.put("checkpoints/01.json", {"schema": "drengine/checkpoint/v1", "heads": [head]})
    forger.resum()
    assert "01.json: has heads that name no run, record and SHA-256" in assert_listed(forger)


def test_a_record_nested_too_deep_is_a_problem(forger):
    inside: object = "x"
    for _ in range(41):
        inside = [inside]
    records = forger.records()
    records[3]["body"]["deep"] = inside
    text = json.dumps(records[3], sort_keys=True, separators=(",", ":"))
    lines = forger.journal.read_bytes().splitlines(keepends=True)
    forger.journal.write_bytes(b"".join([*lines[:3], text.encode() + b"\n", *lines[4:]]))
    forger.resum()
    assert_listed(forger, "nested deeper than 40 levels")


def test_thirty_thousand_rows_too_many_are_told_in_time(forger):
    row = {"sha256": "0" * 64, "size": 1, "media": "text/plain", "role": "x", "redacted": False}
    forger.resum(extra_rows=[{**row, "path": f"reports/{number}"} for number in range(30_000)])
    began = time.process_time()
    report = verify_bundle(forger.path, read_trust(forger.cast.trust))
    assert len(report.problems) >= 30_000
    assert time.process_time() - began < 3
    assert forger.alone().returncode == 9


@pytest.mark.parametrize(
    "name", ["manifest.json", "inputs/plan.json", "SHA256SUMS", "attestation.dsse.json"]
)
def test_a_file_larger_than_any_such_file_is_not_read(forger, name):
    with (forger.path / name).open("r+b") as file:
        file.truncate((64 << 20) + 1)
    assert_listed(forger, "is larger than")


def test_a_bundle_behind_a_link_is_refused_by_both(forger, alone, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(forger.path)
    report = verify_bundle(link, read_trust(forger.cast.trust))
    assert [problem.reason for problem in report.problems] == ["is not a folder of evidence"]
    done = alone(link, forger.cast.trust)
    assert done.returncode == 9
    assert "is not a folder of evidence" in done.stdout


def person(doc):
    return doc["people"][0]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda doc: doc["sealers"][0].update(revokd="x"), "did you mean 'revoked'?"),
        (lambda doc: person(doc)["keys"][0].update(notafter="x"), "did you mean 'not_after'?"),
        (lambda doc: person(doc).update(role=["x"]), "did you mean 'roles'?"),
        (lambda doc: doc.update(sealer=[]), "did you mean 'sealers'?"),
        (lambda doc: doc["sealers"][0].update(revoked="yesterday"), ""),
        (lambda doc: doc["sealers"][0].update(revoked=False), ""),
        (lambda doc: doc["sealers"][0].update(file="../engine.pem"), "not a file of this folder"),
        (lambda doc: doc.update(schema="drengine/trust/v9"), "schema is not drengine/trust/v1"),
        (lambda doc: doc.update(people=7), ""),
        (lambda doc: doc.update(sealers=[7]), "is not an object"),
    ],
)
def test_a_trust_folder_that_cannot_be_taken_at_its_word_is_an_error_of_input(forger, change, told):
    forger.trust(change)
    with pytest.raises(InputFileError, match=r"reading .*trust\.json") as refused:
        read_trust(forger.cast.trust)
    done = forger.alone()
    assert (done.returncode, done.stderr) == (3, "")
    assert told in refused.value.message
    assert told in done.stdout


@pytest.mark.parametrize("data", [DEEP, b"{", b"7", b"\xff"])
def test_a_trust_folder_that_cannot_be_read_is_an_error_of_input(forger, data, capfd):
    forger.trust(lambda doc: doc)
    (forger.cast.trust / "trust.json").write_bytes(data)
    done = forger.alone()
    assert (done.returncode, done.stderr) == (3, "")
    assert run(["verify", str(forger.path), "--trust", str(forger.cast.trust)]) == 3
    assert "Traceback" not in capfd.readouterr().err


def test_a_key_that_is_revoked_at_no_time_is_not_revoked_for_both(forger):
    forger.trust(lambda doc: doc["sealers"][0].update(revoked=None, not_after=None))
    assert verify_bundle(forger.path, read_trust(forger.cast.trust)).holds
    assert forger.alone().returncode == 0
