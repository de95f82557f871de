"""Sealing and stamping when something is missing, full or cut: clear words, nothing by halves."""

from __future__ import annotations

import resource
import shutil
from contextlib import contextmanager

import pytest

from drengine.cli.main import run
from drengine.errors import InputError, InputFileError
from drengine.evidence.checkpoints import stamp_bundle
from drengine.evidence.reports import reports_of
from drengine.evidence.seal import SealRequest, seal
from drengine.evidence.sealed import verify_bundle
from drengine.journal.memory import MemoryStore
from drengine.journal.sqlite import SqliteStore
from drengine.trust.keys import make_key, save_key
from drengine.trust.register import read_trust


@pytest.fixture
def home(tell, cast, tmp_path, monkeypatch):
    """A home with a recovered run, its sealing key, and the passphrase in the environment."""
    cast.number = 0
    with SqliteStore(tmp_path / "home") as store:
        tell.recover(tell.Story(store, tell.make_plan(), cast=cast))
    save_key(make_key(), tmp_path / "engine.key", b"correct horse battery")
    monkeypatch.setenv("DRENGINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PASS", "correct horse battery")
    monkeypatch.delenv("DRENGINE_SEALING_KEY", raising=False)
    return tmp_path


def sealing(home, *more, key="engine.key"):
    given = ("--key", str(home / key), "--passphrase", "env:PASS", "--out", str(home / "out"))
    return run(["evidence", "seal", "@latest", *given, *more])


@contextmanager
def disk_for(size):
    """No file may grow beyond `size` bytes: what a full disk does to whoever writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_command_seals_what_verifies(home, capfd):
    assert sealing(home) == 0
    assert "sealed with" in capfd.readouterr().out


def test_a_missing_key_seals_nothing(home, capfd):
    assert sealing(home, key="no.key") == 3
    said = capfd.readouterr().err
    assert "no.key" in said
    assert "Traceback" not in said
    assert not (home / "out").exists()


def test_no_key_at_all_is_a_question_of_usage(home, capfd):
    assert run(["evidence", "seal", "@latest", "--out", str(home / "out")]) == 2
    assert "--key" in capfd.readouterr().err


def test_a_wrong_passphrase_seals_nothing(home, capfd, monkeypatch):
    monkeypatch.setenv("PASS", "battery staple horse")
    assert sealing(home) == 3
    said = capfd.readouterr().err
    assert "passphrase is wrong" in said
    assert "battery staple" not in said
    assert not (home / "out").exists()


@pytest.mark.parametrize("size", [0, 600, 20_000])
def test_a_full_disk_while_sealing_leaves_nothing(tell, cast, tmp_path, size):
    cast.number = 0
    store = MemoryStore()
    story = tell.recover(tell.Story(store, tell.make_plan(), cast=cast))
    place = tmp_path / "evidence"
    request = SealRequest(story.run, place / story.run, cast.sealer, reports_of)
    with (
        disk_for(size),
        pytest.raises(InputError, match="File too large; nothing was left there"),
    ):
        seal(store, request)
    assert list(place.iterdir()) == []
    assert verify_bundle(seal(store, request), read_trust(cast.trust)).holds


def test_a_full_disk_while_stamping_leaves_the_bundle_as_it_was(forger, monkeypatch):
    monkeypatch.setattr(
        "drengine.evidence.checkpoints.request_stamp", lambda _, __: b"token" * 1000
    )
    before = sorted(path.name for path in forger.path.iterdir())
    with disk_for(1000), pytest.raises(InputFileError, match="nothing was left there"):
        stamp_bundle(forger.path, "http://tsa/")
    assert sorted(path.name for path in forger.path.iterdir()) == before
    assert verify_bundle(forger.path, read_trust(forger.cast.trust)).holds


@pytest.mark.parametrize(
    ("name", "part"),
    [("facts.json", 0.0), ("manifest.json", 0.5), ("SHA256SUMS", 0.5), ("journals", 0.999)],
)
def test_a_file_cut_in_transfer_is_named_by_both(forger, name, part):
    file = forger.journal if name == "journals" else forger.path / name
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * part)])
    told = [
        str(problem)
        for problem in verify_bundle(forger.path, read_trust(forger.cast.trust)).problems
    ]
    assert any(file.stem in text for text in told), told
    if part == 0.5:
        alone = forger.alone()
        assert alone.returncode == 9
        assert "Traceback" not in alone.stderr


@pytest.mark.parametrize("name", ["journals", "reports", "inputs", "openssl", "approvals"])
def test_a_folder_lost_in_transfer_is_told_without_a_traceback(forger, name):
    shutil.rmtree(forger.path / name)
    told = [
        str(problem)
        for problem in verify_bundle(forger.path, read_trust(forger.cast.trust)).problems
    ]
    assert any(name in text and "missing" in text for text in told), told
    alone = forger.alone()
    assert (alone.returncode, alone.stderr) == (9, "")


def test_a_bundle_before_this_one_must_be_a_sealed_bundle(home, capfd, honest, tmp_path):
    """A folder with a copied manifest alone is none."""
    before = tmp_path / "before"
    before.mkdir()
    for name in ("manifest.json", "actions.json"):
        shutil.copy(honest / name, before / name)
    assert sealing(home, "--previous", str(before)) == 3
    assert "it is not a sealed bundle (" in capfd.readouterr().err
    assert not (home / "out").exists()
    assert sealing(home, "--previous", str(honest)) == 0
