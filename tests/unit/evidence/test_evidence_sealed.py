"""The sealed bundle: honest ones pass all three ways, and seal to the same bytes twice."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from drengine.cli.main import run
from drengine.errors import InputError
from drengine.evidence.bundle import SIGNATURE
from drengine.evidence.folder import write_files
from drengine.evidence.sealed import is_bundle, verify_bundle
from drengine.model.records import RecordType as R
from drengine.trust.register import read_trust

HERE = Path(__file__).parent
FREE = {"attestation.dsse.json", SIGNATURE}


def files(path):
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_the_honest_bundle_passes_the_command(honest, cast):
    report = verify_bundle(honest, read_trust(cast.trust))
    assert [str(problem) for problem in report.problems] == []
    assert report.sealed_by == cast.sealer.keyid
    assert {name for name, *_ in report.signers} == {"alice", "bob"}
    assert str(report.facts.verdict) == "recovered"
    assert is_bundle(honest)


def test_good_evidence_with_break_glass_is_not_told_without_it(make_bundle, cast, tmp_path, capsys):
    def alone(story):
        story.create().ask("approve-create", 2, break_glass=True)
        story.break_glass("approve-create", "simulated:approver:bob").passed("approve-create")
        return story.say(R.RUN_CANCELLED, actor="operator:dana", reason="enough")

    folder = make_bundle(tmp_path, alone)
    assert run(["verify", str(folder), "--trust", str(cast.trust)]) == 0
    said = capsys.readouterr().out
    assert "BREAK-GLASS was used once" in said
    assert "gate approve-create" in said
    assert "for 2 approval(s): nobody else can be reached" in said
    assert run(["verify", str(folder), "--trust", str(cast.trust), "-o", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["break_glass"]
    assert (row["gate"], row["asked"], row["by_initiator"]) == ("approve-create", 2, False)


def test_what_was_signed_is_told_with_the_decision(honest, cast, make_bundle, tmp_path, capsys):
    def refused(story):
        story.create().ask("approve-create").approve(
            "approve-create", "simulated:approver:bob", "no", R.GATE_REJECTED
        )
        return story.say(R.RUN_CANCELLED, actor="operator:dana", reason="enough")

    folder = make_bundle(tmp_path, refused)
    for bundle, words in ((folder, "bob signed: reject"), (honest, "alice signed: approve")):
        assert run(["verify", str(bundle), "--trust", str(cast.trust)]) == 0
        assert f"  {words}, at approve-create of " in capsys.readouterr().out


def test_the_honest_bundle_passes_the_single_file(forger):
    done = forger.alone()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DRILL in a LAB" in done.stdout
    assert (forger.path / "verify.py").read_bytes().startswith(b'"""Verify a sealed')


def test_the_single_file_takes_the_trust_folder_as_the_command_does(forger, cast, alone, tmp_path):
    done = alone(forger.path, "--trust", cast.trust)
    assert done.returncode == 0, done.stdout + done.stderr
    lost = alone(forger.path, tmp_path / "nowhere")
    assert lost.returncode == 1
    assert lost.stderr.strip().endswith("is no trust folder: there is no trust.json in it")
    for given in ((), (forger.path,)):
        bare = alone(*given)
        assert (bare.returncode, bare.stdout) == (2, "")
        assert bare.stderr.startswith("usage: verify.py BUNDLE TRUST")


def test_the_honest_bundle_passes_the_commands_of_its_readme(forger, cast):
    text = (forger.path / "README.txt").read_text()
    commands = [line.strip() for line in text.splitlines() if line.startswith("     ")]
    (forger.path.parent / "trust").symlink_to(cast.trust)
    outs = [
        subprocess.run(
            ["bash", "-c", command], cwd=forger.path, capture_output=True, text=True, check=False
        )
        for command in commands[:6]
    ]
    assert outs[0].returncode == 0
    assert "Verified OK" in outs[1].stdout
    assert outs[2].stdout == outs[3].stdout == "1\n"
    assert outs[5].stdout.count("journals/") == 3
    assert "BROKEN" not in outs[5].stdout


def test_sealing_twice_gives_the_same_bytes_but_the_signature(make_bundle, tmp_path):
    first = files(make_bundle(tmp_path / "first", again=tmp_path / "again"))
    again = files(tmp_path / "again")
    assert first.keys() == again.keys()
    assert {name for name in first if first[name] != again[name]} <= FREE


def test_every_file_of_the_layout_is_there(honest):
    names = set(files(honest))
    assert {
        "README.txt",
        "SHA256SUMS",
        "manifest.json",
        "attestation.dsse.json",
        "openssl/attestation.pae",
        "openssl/engine.sig",
        "verify.py",
        "facts.json",
        "actions.json",
        "inputs/plan.json",
        "inputs/approvers.json",
        "inputs/environment.json",
        "inputs/inputs.redacted.json",
        "inputs/mhsm-full-recovery.yaml",
        "reports/report.html",
        "artifacts/keys/inventory.after.json",
    } <= names
    assert sum(name.startswith("approvals/") for name in names) == 4


def test_a_disk_that_fills_up_leaves_nothing(tmp_path, monkeypatch):
    written = []

    def full(path, data, **_):
        written.append(path)
        if len(written) > 1:
            raise OSError(28, "No space left on device")
        path.write_bytes(data)

    monkeypatch.setattr("drengine.evidence.folder.write_whole", full)
    with pytest.raises(InputError, match="No space left"):
        write_files(tmp_path / "out", {"a": b"1", "b": b"2"})
    assert list(tmp_path.iterdir()) == []


def test_what_no_signature_covers_is_said(honest, cast):
    spans = verify_bundle(honest, read_trust(cast.trust)).unanchored
    assert len(spans) == 3
    last = json.loads((honest / "journals" / f"{honest.name}.jsonl").read_bytes().splitlines()[-1])
    assert spans[0].startswith(f"{honest.name}: ")
    assert f" of {last['seq'] + 1} records: " in spans[0]
    assert spans[0].endswith(f" to {last['seq']}")


def test_every_command_of_the_report_works_as_written_from_the_bundles_folder(
    honest, cast, tmp_path
):
    page = (honest / "reports/report.html").read_text()
    blocks = re.findall(r"<pre>(.*?)</pre>", page.partition("How to verify")[2], re.DOTALL)
    lines = [html.unescape(line) for block in blocks for line in block.splitlines() if line]
    assert [line for line in lines if line.startswith("drengine verify")]
    shutil.copytree(honest, tmp_path / "bundle")
    shutil.copytree(cast.trust, tmp_path / "trust")
    (tmp_path / "drengine").write_text(f'#!/bin/sh\nexec {sys.executable} -m drengine "$@"\n')
    (tmp_path / "drengine").chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(HERE.parents[2])}
    for line in lines:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=tmp_path / "bundle",
            env=path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (line, done.stderr)
    heads = [line for line in lines if line.startswith("tail")]
    assert len(heads) == 3
