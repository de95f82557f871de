"""Evidence in blobs that cannot be changed, over HTTPS; and every way in which it cannot be put there."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobServiceClient

from drengine.azure.archive import BlobArchive, Retention
from drengine.cli.main import run
from drengine.errors import NotAuthorized
from drengine.evidence.bundle import ATTESTATION, MANIFEST, PAE, SIGNATURE
from drengine.evidence.reports import reports_of
from drengine.evidence.seal import SealRequest, seal
from drengine.journal.memory import MemoryStore
from drengine.lab import commands
from drengine.model.records import RecordType as R

STORIES = Path(__file__).parents[2] / "unit/evidence/conftest.py"


@pytest.fixture(scope="session")
def stories():
    """What tells stories to a journal and signs them: the evidence tests' own."""
    spec = importlib.util.spec_from_file_location("evidence_stories", STORIES)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return SimpleNamespace(
        **{
            **vars(module.load("story")),
            **vars(module.load("tales")),
            **vars(module.load("forging")),
        }
    )


@pytest.fixture(scope="session")
def cast(stories, tmp_path_factory):
    return stories.Cast(tmp_path_factory.mktemp("cast") / "trust")


@pytest.fixture
def bundle(stories, cast, tmp_path):
    """Seal a short run into a folder of that name."""

    def make(name, reason="enough"):
        store = MemoryStore()
        story = stories.Story(store, stories.make_plan(), cast=cast)
        story.create().gate("approve-create")
        story.say(R.RUN_CANCELLED, actor="operator:dana", reason=reason)
        out = tmp_path / name
        shutil.rmtree(out, ignore_errors=True)
        return seal(store, SealRequest(story.run, out, cast.sealer, reports_of))

    return make


def content(folder):
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.fixture
def archive(lab, monkeypatch, capsys):
    """Give the command line as the operator in the lab; return exit code, stdout, stderr."""
    for name, value in {**commands.env(lab.home), "DRENGINE_AUTH": "environment"}.items():
        monkeypatch.setenv(name, value)
    storage = lab.status["storage"]

    def call(folder, *options, container=storage["container"]):
        capsys.readouterr()
        place = f"azblob://{storage['account']}/{container}/kept"
        code = run(["evidence", "archive", str(folder), "--to", place, *options])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def blobs(lab):
    """An SDK client of its own, to look and to try what must not work."""
    storage = lab.status["storage"]
    with BlobServiceClient(
        f"https://{storage['account']}.blob.core.windows.net",
        credential=lab.credential(),
        retry_total=0,
        **lab.client_options,
    ) as service:
        yield service.get_container_client(storage["container"])


def uploads(lab):
    return [row for row in commands.log(lab.home) if row["effect"] == "blob.put"]


def test_a_bundle_is_kept_and_can_neither_be_deleted_nor_overwritten(archive, blobs, bundle):
    folder = bundle("b1")
    files = content(folder)
    code, out, err = archive(folder, "--retain", "30d", "--legal-hold", "-o", "json")
    assert code == 0, err
    told = json.loads(out)
    assert (told["blobs"], told["legal_hold"], told["prefix"]) == (len(files), True, "kept/b1/")
    assert told["verified"] == "seal"
    soon = datetime.now(UTC) + timedelta(days=29)
    assert datetime.fromisoformat(told["until"]) > soon
    for name, data in files.items():
        blob = blobs.get_blob_client(f"kept/b1/{name}")
        assert blob.download_blob().readall() == data
        found = blob.get_blob_properties()
        assert found.has_legal_hold
        assert found.immutability_policy.expiry_time > soon
        for attempt in (blob.delete_blob, lambda b=blob: b.upload_blob(b"other", overwrite=True)):
            with pytest.raises(HttpResponseError) as refused:
                attempt()
            assert refused.value.status_code == 409
            assert "Immutable" in refused.value.error_code
        blob.set_legal_hold(False)
        with pytest.raises(HttpResponseError, match="immutable"):
            blob.delete_blob()


def test_the_same_again_protects_longer_and_never_shorter(archive, lab, bundle):
    folder = bundle("b2")
    first = json.loads(archive(folder, "--retain", "30d", "-o", "json")[1])["until"]
    count = len(uploads(lab))
    again = json.loads(archive(folder, "--retain", "1d", "-o", "json")[1])["until"]
    longer = json.loads(archive(folder, "--retain", "60d", "--lock", "-o", "json")[1])["until"]
    assert again == first < longer
    assert len(uploads(lab)) == count
    code, _, err = archive(folder, "--retain", "1d", "--lock")
    assert code == 0, err


def test_another_content_under_the_same_name_is_refused_and_not_touched(archive, blobs, bundle):
    folder = bundle("b3")
    facts = (folder / "facts.json").read_bytes()
    archive(folder, "--retain", "1d")
    folder = bundle("b3", "another reason")
    code, _, err = archive(folder, "--retain", "1d")
    assert (code, "with other content; it was not touched" in err) == (8, True)
    assert blobs.get_blob_client("kept/b3/facts.json").download_blob().readall() == facts


def test_an_archive_that_was_interrupted_is_completed_by_the_same_command(archive, lab, bundle):
    folder = bundle("b4")
    path = f".*/kept/b4/{MANIFEST}"
    commands.add_fault(lab.home, kind="reset-after", method="PUT", path=path, count=1)
    before = len(uploads(lab))
    code, _, err = archive(folder, "--retain", "1d")
    assert code == 12
    count = len(content(folder))
    done = sorted(content(folder)).index(MANIFEST)
    assert f"{done} of {count} blobs are kept and protected" in err
    assert "The same command again" in err
    code, out, err = archive(folder, "--retain", "1d")
    assert (code, f"✓ {count} blobs" in out) == (0, True), err
    assert "whose key sealed it was not checked" in out
    assert len(uploads(lab)) - before == count


def test_a_container_that_is_not_there_is_said_with_what_to_make(archive, bundle):
    code, _, err = archive(bundle("b5"), "--retain", "1d", container="nothere")
    assert code == 4
    assert "ContainerNotFound" in err
    assert "0 of " in err
    assert "--enable-vlw" in err


def test_what_is_not_as_it_was_sealed_is_not_sent(archive, lab, bundle):
    before = len(uploads(lab))
    for name, harm in (
        ("cut", lambda folder: (folder / "facts.json").unlink()),
        ("changed", lambda folder: (folder / "facts.json").write_bytes(b"[]")),
        ("more", lambda folder: (folder / "extra.txt").write_bytes(b"")),
        ("none", lambda folder: (folder / MANIFEST).unlink()),
        ("link", lambda folder: (folder / "stamps.json").symlink_to("/etc/hostname")),
    ):
        folder = bundle(name)
        harm(folder)
        code, _, err = archive(folder, "--retain", "1d")
        assert code == 3, err
        assert "sealed" in err
    assert archive(bundle("b6"), "--retain", "0s")[0] == 3
    assert len(uploads(lab)) == before


def test_a_bundle_without_its_own_valid_seal_is_not_locked_away(
    archive, lab, bundle, cast, stories, tmp_path
):
    before, other = len(uploads(lab)), bundle("other", "another reason")
    for name, harm in (
        ("unsigned", lambda folder: (folder / SIGNATURE).unlink()),
        ("bare", lambda folder: (folder / PAE).unlink()),
        ("unattested", lambda folder: (folder / ATTESTATION).unlink()),
        ("exchanged", lambda folder: shutil.copy(other / ATTESTATION, folder / ATTESTATION)),
    ):
        folder = bundle(name)
        harm(folder)
        for options in ((), ("--trust", str(cast.trust))):
            code, _, err = archive(folder, "--retain", "1d", *options)
            assert (code, "does not verify" in err) == (9, True), err
    whole = bundle("strange")
    code, _, err = archive(
        whole, "--retain", "1d", "--trust", str(stories.Cast(tmp_path / "strangers").trust)
    )
    assert (code, "does not verify" in err) == (9, True), err
    assert len(uploads(lab)) == before


def test_a_bundle_is_verified_by_the_keys_that_are_named(archive, bundle, cast):
    code, out, err = archive(bundle("b7"), "--retain", "1d", "--trust", str(cast.trust))
    assert (code, "✓ verified by the keys of" in out) == (0, True), err


def test_without_the_right_nothing_is_written(lab, sign_in):
    class Stranger:
        async def get_token(self, *_scopes, **_options):
            return AccessToken(lab.token("https://storage.azure.com", str(uuid.uuid4())), 1 << 33)

        def forget(self):
            pass

    async def attempt():
        session = sign_in(lab)
        pipeline = session.pipeline()
        pipeline.credential = Stranger()
        storage = lab.status["storage"]
        url = f"https://{storage['account']}.blob.core.windows.net/{storage['container']}"
        try:
            await BlobArchive(pipeline, url).keep(
                {"a": b"x"}, "no/", Retention(1 << 42, False, False)
            )
        finally:
            await session.close()

    before = len(uploads(lab))
    with pytest.raises(NotAuthorized, match="AuthorizationPermissionMismatch"):
        asyncio.run(attempt())
    assert len(uploads(lab)) == before
