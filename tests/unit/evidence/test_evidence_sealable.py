"""What is refused while sealing, because nobody could verify it afterwards."""

from __future__ import annotations

import subprocess

import pytest

import drengine
from drengine.errors import InputError
from drengine.evidence import sealable
from drengine.evidence.reports import reports_of
from drengine.evidence.seal import SealRequest, seal
from drengine.evidence.sealable import require_verifiable
from drengine.evidence.sealed import verify_bundle
from drengine.evidence.sums import MAX_SUMS_BYTES, read_sums, write_sums
from drengine.journal.memory import MemoryStore
from drengine.model.records import RecordType as R
from drengine.trust.enrolling import Entry, enrol
from drengine.trust.keys import make_key, public_pem
from drengine.trust.register import read_trust
from drengine.trust.signers import KeySigner


def begun_without_a_journal(tell, store, cast):
    """A run whose process ended between a child's beginning and its first record."""
    story = tell.Story(store, tell.make_plan(), cast=cast)

    def begin_and_die(step, item):
        run = f"{story.run}/{step}/{item['name']}"
        story.say(R.CHILD_STARTED, step, name=item["name"], run=run, item=item)
        raise KeyboardInterrupt

    story.child = begin_and_die
    with pytest.raises(KeyboardInterrupt):
        tell.recover(story)
    return story


def request(story, cast, out):
    return SealRequest(story.run, out, cast.sealer, reports_of)


def test_a_child_that_has_no_journal_yet_is_waited_for(tell, cast, tmp_path):
    cast.number = 0
    store = MemoryStore()
    story = begun_without_a_journal(tell, store, cast)
    with pytest.raises(InputError, match=r"fog-weu: its journal is missing.*nothing was sealed"):
        seal(store, request(story, cast, tmp_path / "b"))
    assert not (tmp_path / "b").exists()


def test_a_run_that_was_cancelled_in_that_moment_is_sealed_and_verifies(
    tell, cast, alone, tmp_path
):
    cast.number = 0
    store = MemoryStore()
    story = begun_without_a_journal(tell, store, cast).open()
    story.say(R.RUN_CANCELLED, actor="operator:dana", reason="no more", signal="c-1")
    out = seal(store, request(story, cast, tmp_path / "b"))
    report = verify_bundle(out, read_trust(cast.trust))
    assert [str(problem) for problem in report.problems] == []
    done = alone(out, cast.trust)
    assert done.returncode == 0, done.stdout


def test_a_run_of_an_earlier_version_is_sealed_by_the_next(tell, cast, tmp_path, monkeypatch):
    cast.number = 0
    store = MemoryStore()
    story = tell.recover(tell.Story(store, tell.make_plan(), cast=cast))
    made = drengine.__version__
    monkeypatch.setattr("drengine.__version__", "9.9.9")
    bundle = seal(store, request(story, cast, tmp_path / "b"))
    report = verify_bundle(bundle, read_trust(cast.trust))
    assert [str(problem) for problem in report.problems] == []
    assert not any("not compared were" in note for note in report.notes)
    monkeypatch.setattr("drengine.__version__", made)
    report = verify_bundle(bundle, read_trust(cast.trust))
    assert [str(problem) for problem in report.problems] == []
    assert any("Made by drengine 9.9.9" in note for note in report.notes)


def test_what_is_larger_than_what_is_read_is_refused(monkeypatch):
    monkeypatch.setattr(sealable, "MAX_FILE_BYTES", 10)
    monkeypatch.setattr(sealable, "MAX_FILES", 1)
    with pytest.raises(InputError, match=r"journals/r\.jsonl would have 11 bytes"):
        require_verifiable("r", {"journals/r.jsonl": b"x" * 11})
    with pytest.raises(InputError, match="it has 2 files, more than 1"):
        require_verifiable("r", {"a": b"", "b": b""})
    with pytest.raises(InputError, match="is not a name that evidence uses"):
        require_verifiable("r", {"../a": b""})


def test_a_list_of_as_many_files_as_are_verified_can_be_read_again():
    """A bundle of 9,000 files once sealed well and could not be verified."""
    names = {f"artifacts/probes/{number:06}{'x' * 200}.json": "0" * 64 for number in range(9_000)}
    data = write_sums(names)
    assert 1 << 20 < len(data) < MAX_SUMS_BYTES
    assert read_sums(data) == names


def test_the_readme_finds_the_key_of_whoever_sealed(make_bundle, cast, tmp_path):
    """A second sealer's key does not stand in engine.pem."""
    second = KeySigner(make_key())
    folder = tmp_path / "bundles"
    bundle = make_bundle(folder, signer=second)
    for name, key in (("engine", cast.sealer.key), ("other", second.key)):
        enrol(folder / "trust", Entry(name, "p256", public_pem(key), sealer=True))
    text = (bundle / "README.txt").read_text()
    (command,) = [line.strip() for line in text.splitlines() if "openssl dgst" in line]
    done = subprocess.run(
        ["bash", "-c", command], cwd=bundle, capture_output=True, text=True, check=False
    )
    assert done.stdout == "Verified OK\n"
    (folder / "trust" / "sealers" / "other.pem").unlink()
    done = subprocess.run(
        ["bash", "-c", command], cwd=bundle, capture_output=True, text=True, check=False
    )
    assert done.stdout == ""
