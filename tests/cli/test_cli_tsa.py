"""`drengine key trust-tsa`: whose time stamps count is entered by a command, and only then do they."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from drengine.evidence.checkpoints import stamp_bundle
from drengine.evidence.reports import reports_of
from drengine.evidence.seal import SealRequest, seal
from drengine.journal.memory import MemoryStore
from drengine.trust.register import read_trust

HERE = Path(__file__).parents[1] / "unit/evidence"


def load(name):
    spec = importlib.util.spec_from_file_location(f"tsa_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


stamps = load("test_evidence_stamps")
authority, serve = stamps.authority, stamps.serve


@pytest.fixture
def root(authority, tmp_path):
    file = tmp_path / "root.pem"
    file.write_text(authority.root)
    return file


@pytest.fixture
def sealed(tmp_path):
    """A sealed bundle and the folder that trusts its people, without a root for stamps."""
    stories = load("conftest")
    story, tales, forging = (stories.load(name) for name in ("story", "tales", "forging"))
    cast = forging.Cast(tmp_path / "trust")
    store = MemoryStore()
    told = tales.recover(story.Story(store, story.make_plan(), cast=cast))
    return seal(store, SealRequest(told.run, tmp_path / "bundle", cast.sealer, reports_of))


def test_a_stamp_counts_once_its_root_was_entered_and_not_before(
    command, authority, serve, sealed, root, tmp_path
):
    stamp_bundle(sealed, serve(authority.reply))
    before = command("verify", sealed, "--trust", tmp_path / "trust")
    assert (before.code, "has no root for time stamps" in before.out) == (0, True)
    entered = command("key", "trust-tsa", tmp_path / "trust", "--root", root)
    assert (entered.code, "CN=root" in entered.out) == (0, True), entered.err
    after = command("verify", sealed, "--trust", tmp_path / "trust")
    assert (after.code, "attestation.tsr: stamped" in after.out) == (0, True)
    assert "has no root" not in after.out


def test_a_second_authority_does_not_put_the_first_one_out(command, authority, root, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    second = stamps.Authority(other)
    for file in (root, other / "root.crt"):
        ended = command("key", "trust-tsa", tmp_path / "trust", "--root", file, "-o", "json")
        assert [row["anchor"] for row in ended.document["entered"]] == [True]
    again = command("key", "trust-tsa", tmp_path / "trust", "--root", root, "-o", "json")
    assert again.document["entered"] == []
    kept = read_trust(tmp_path / "trust").tsa.read_text()
    assert kept == authority.root + second.root


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tsa.crt", "no certificate in the file signed itself"),
        ("root.key", "a private key"),
        ("ext", "no certificate in PEM"),
    ],
)
def test_what_is_no_root_is_refused_and_changes_nothing(command, authority, tmp_path, name, words):
    shutil.copy(authority.folder / name, tmp_path / name)
    ended = command("key", "trust-tsa", tmp_path / "trust", "--root", tmp_path / name)
    assert (ended.code, words in ended.err) == (3, True), ended.err
    assert not (tmp_path / "trust").exists()


def test_a_sealing_key_that_is_revoked_later_does_not_count_any_more(command, sealed, tmp_path):
    trust = tmp_path / "trust"
    told = ("key", "trust", trust, "engine", "--public", trust / "engine.pem", "--sealer")
    assert command(*told).code == 0
    again = command("verify", sealed, "--trust", trust)
    assert (again.code, "too many values" in again.out + again.err) == (0, False), again.out
    assert command(*told, "--revoked", "2020-01-01T00:00:00Z").code == 0
    ended = command("verify", sealed, "--trust", trust)
    assert (ended.code, "revoked" in ended.out) == (9, True), ended.out
    keyid = command("key", "show", trust / "engine.pem", "-o", "json").document["keyid"]
    gone = command("key", "trust", trust, "engine", "--remove", keyid, "--sealer")
    assert (gone.code, f"{keyid} seals no more" in gone.out) == (0, True), gone.err
